//! The live voice of a daemon with full-size models, alone and beside callers that never pause: one indexes, one chats.
//!
//! Turns with and without the callers alternate, so that both meet the same machine. The weights are random, which costs the
//! same as others; what is answered means nothing.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use eddy_ipc::client::{AssistantProxy, DaemonProxy, RequestProxy, RetrievalProxy, TextProxy};
use eddy_ipc::{Bus, Collection, Options, Priority, Token, path};
use eddyd::voice::Foresight;
use futures_util::StreamExt;

use super::{Report, quantile, spread};
use crate::bus::{Daemon, Listening, PATIENCE, within};
use crate::room::{ROOM, spoken};
use crate::server::Server;

const QUESTION: &str = "Could you please tell me a little about how the weather will be tomorrow in the mountains?";
/// Tokens and frames of an answer: about ten seconds.
const ITEMS: &str = "generation.max_items=190";

/// Requests whose names are taken until they have ended.
static TURNS: AtomicUsize = AtomicUsize::new(0);

/// What one turn told.
struct Turn {
    /// Seconds from the last word to the first sample, and of these from the decision on.
    first: f64,
    think: f64,
    factor: f64,
    /// How often its sound paused because there was no more yet.
    pauses: u64,
    /// How long the answer sounded, pauses included.
    sounded: f64,
}

/// So many turns alone, and as many beside the callers, with the models of `make bench-models`.
pub fn run(count: usize, server: &mut Server) -> Report {
    let mut report = Report::new("beside");
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| std::env::home_dir().map(|home| home.join(".cache"))).unwrap();
    let _recorder = server.listen("vmic");
    let settings = [
        "models.speech=speech-1.5b-c",
        "models.text=text-350m",
        "models.retrieval=colbert-350m",
        "generation.greedy=true",
        "log.level=info",
        ITEMS,
    ];
    let daemon = Daemon::start_with(&cache.join("eddy/bench"), &settings, |_| {});
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let client = daemon.client().await;
        let assistant = AssistantProxy::new(&client).await.unwrap();
        let admin = DaemonProxy::new(&client).await.unwrap();
        within(Duration::from_secs(20), "the devices are known", async || assistant.state().await.unwrap() == "idle")
            .await;
        // Every model is in memory, and the cache holds the instructions.
        turn(server, &admin, &assistant).await;
        tokio::join!(chat(&client), index(&client));
        let (mut alone, mut beside) = (Vec::new(), Vec::new());
        for _ in 0..count {
            alone.push(turn(server, &admin, &assistant).await);
            let (chats, indexing) = (
                async {
                    loop {
                        chat(&client).await
                    }
                },
                async {
                    loop {
                        index(&client).await
                    }
                },
            );
            tokio::select! {
                told = turn(server, &admin, &assistant) => beside.push(told),
                never = chats => never,
                never = indexing => never,
            }
        }
        tell(&mut report, &alone, &beside);
        let mut figures = admin.report().await.unwrap();
        let mut whole = |name: &str| u64::try_from(figures.remove(name).unwrap()).unwrap();
        let foresight = Foresight {
            begun: whole("answers_begun_ahead"),
            right: whole("answers_ahead_wanted"),
            saved: Duration::from_secs_f64(f64::try_from(figures.remove("answers_ahead_saved").unwrap()).unwrap()),
        };
        report.line(&foresight.sentence().unwrap_or_default());
    });
    report
}

fn tell(report: &mut Report, alone: &[Turn], beside: &[Turn]) {
    let median = |turns: &[Turn], of: fn(&Turn) -> f64| quantile(&turns.iter().map(of).collect::<Vec<_>>(), 0.5);
    for (name, turns) in [("alone", alone), ("beside the others", beside)] {
        let first: Vec<f64> = turns.iter().map(|turn| turn.first).collect();
        let think: Vec<f64> = turns.iter().map(|turn| turn.think).collect();
        let factors: Vec<String> = turns.iter().map(|turn| format!("{:.2}", turn.factor)).collect();
        let sounded = median(turns, |turn| turn.sounded);
        report.line(&format!("{name}: real-time factors {}; an answer sounds for {sounded:.1} s", factors.join(" ")));
        let (first, think) = (spread(&first), spread(&think));
        report.line(&format!("{name}: from the last word to the first sample, {first}; from the decision, {think}"));
    }
    let pauses: u64 = alone.iter().chain(beside).map(|turn| turn.pauses).sum();
    report.promise("no gap in an answer once it has begun", &format!("{pauses} pauses"), pauses == 0);
    let (own, shared) = (median(alone, |turn| turn.factor), median(beside, |turn| turn.factor));
    let ratio = shared / own;
    let what = "the voice keeps its real-time factor within 10 % while one caller indexes and another chats";
    report.promise(what, &format!("medians {own:.2} and {shared:.2}, ratio {ratio:.2}"), ratio <= 1.10);
    let first = median(alone, |turn| turn.first);
    let what = "from the last word to the first sample at most 1.1 s, median, alone";
    report.promise(what, &format!("{:.0} ms", first * 1e3), first <= 1.1);
}

async fn turn(server: &Server, daemon: &DaemonProxy<'_>, assistant: &AssistantProxy<'_>) -> Turn {
    let mut states = assistant.receive_voice_state_changed().await.unwrap();
    let mut until = async |wanted: &str| loop {
        let change = tokio::time::timeout(PATIENCE, states.next()).await.expect(wanted).unwrap();
        if change.args().unwrap().new == wanted {
            return Instant::now();
        }
    };
    let token = format!("turn{}", TURNS.fetch_add(1, Ordering::Relaxed));
    let options = Options { handle_token: Token::new(&token).ok(), ..Options::default() };
    assistant.listen(&options).await.unwrap();
    until("listening").await;
    let question = spoken(QUESTION);
    let last = question.iter().rposition(|sample| sample.abs() > 0.01).unwrap_or_default();
    let person = server.speak(question);
    let said = Instant::now() + Duration::from_secs_f64(last as f64 / f64::from(ROOM));
    let decided = until("thinking").await;
    let began = until("speaking").await;
    let ended = until("idle").await;
    drop(person);
    // What random weights write down of a question has no end.
    let client = assistant.inner().connection();
    let sender = client.unique_name().unwrap().to_string();
    let token = options.handle_token.unwrap();
    let path = path(Bus::Assistant, Collection::Request { sender: Some(&sender), token: &token });
    let request = RequestProxy::builder(client).path(path).build().await.unwrap();
    request.cancel().await.unwrap();
    let mut report = daemon.report().await.unwrap();
    Turn {
        first: began.saturating_duration_since(said).as_secs_f64(),
        think: (began - decided).as_secs_f64(),
        factor: f64::try_from(report.remove("speech_rtf").unwrap()).unwrap(),
        pauses: u64::try_from(report.remove("speech_ran_dry").unwrap()).unwrap(),
        sounded: (ended - began).as_secs_f64(),
    }
}

async fn chat(client: &zbus::Connection) {
    let token = format!("chat{}", TURNS.fetch_add(1, Ordering::Relaxed));
    let chat = Listening::to(client, &token).await;
    let options = Options { max_tokens: Some(40), handle_token: Token::new(&token).ok(), ..Options::default() };
    let text = TextProxy::new(client).await.unwrap();
    text.generate(&[("user", "Tell me more about it, please, and leave nothing out.")], &options).await.unwrap();
    chat.end().await;
}

async fn index(client: &zbus::Connection) {
    let passages: Vec<String> = (0..8).map(|number| format!("{number}: {}", QUESTION.repeat(4))).collect();
    let passages: Vec<&str> = passages.iter().map(String::as_str).collect();
    let options = Options { priority: Some(Priority::Batch), ..Options::default() };
    let pipe = RetrievalProxy::new(client).await.unwrap().encode(&passages, false, &options).await.unwrap();
    let read = move || eddy_ipc::fd::vectors(&mut std::fs::File::from(std::os::fd::OwnedFd::from(pipe)));
    tokio::task::spawn_blocking(read).await.unwrap().unwrap();
}
