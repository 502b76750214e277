//! Eight callers at once: two converse, four chat, one indexes, one is killed every second. Nobody starves, and the daemon
//! is afterwards as large as before.

use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use eddy_ipc::client::{AssistantProxy, ConversationProxy, DaemonProxy, IndexProxy, RetrievalProxy, TextProxy};
use eddy_ipc::{Options, Priority, RequestState, Token};

use crate::bus::{Daemon, Listening, PATIENCE, models, question_fd, samples};
use crate::eddy::built;

/// What came of it.
#[derive(Debug, Clone)]
pub struct Account {
    /// Turns of each of the two that converse.
    pub conversing: [u64; 2],
    /// Answers to each of the four that chat.
    pub chatting: [u64; 4],
    /// Documents that were indexed.
    pub indexed: u64,
    /// Callers that were killed.
    pub killed: u64,
    /// The longest that any of the six waited from one answer to the next.
    pub longest_pause: Duration,
    /// Most jobs in the engine at a time.
    pub deepest_queue: u64,
    /// Descriptors and resident bytes of the daemon, a while after the start and at the end.
    pub before: (usize, u64),
    pub after: (usize, u64),
    /// Steps by the upper end of their bucket in milliseconds.
    pub steps: Vec<(u64, u64)>,
}

/// One caller's progress.
#[derive(Default)]
struct Progress {
    count: AtomicU64,
    /// Milliseconds.
    longest: AtomicU64,
}

impl Progress {
    fn done(&self, since: &mut Instant) {
        self.count.fetch_add(1, Ordering::Relaxed);
        self.longest.fetch_max(u64::try_from(since.elapsed().as_millis()).unwrap(), Ordering::Relaxed);
        *since = Instant::now();
    }
}

/// Runs the eight for `time`.
pub async fn eight_callers(time: Duration) -> Account {
    // What is kept of the prompts is bounded, and at its bound before the daemon is measured.
    let settings = [
        "models.speech=speech-a",
        "models.text=text-a",
        "models.retrieval=colbert-causal",
        "models.prefix_cache=\"4MiB\"",
        "log.level=info",
    ];
    let daemon = Daemon::start_with(&models(), &settings, |_| {});
    let over = Arc::new(AtomicBool::new(false));
    let progress: Vec<Arc<Progress>> = (0..7).map(|_| Arc::default()).collect();
    let killed = Arc::new(AtomicU64::new(0));
    let tasks = tokio::task::LocalSet::new();
    tasks
        .run_until(async {
            let mut running = Vec::new();
            for (number, progress) in progress.iter().enumerate() {
                let (client, progress, over) = (daemon.client().await, Arc::clone(progress), Arc::clone(&over));
                running.push(tokio::task::spawn_local(async move {
                    match number {
                        0 | 1 => converse(&client, &progress, &over).await,
                        2..6 => chat(&client, number, &progress, &over).await,
                        _ => index(&client, &progress, &over).await,
                    }
                }));
            }
            let (address, count, ended) = (daemon.bus.address.clone(), Arc::clone(&killed), Arc::clone(&over));
            let killer = tokio::task::spawn_blocking(move || kill_callers(&address, &count, &ended));

            let watcher = daemon.client().await;
            let admin = DaemonProxy::new(&watcher).await.unwrap();
            let begun = Instant::now();
            let (mut deepest, mut before) = (0, None);
            while begun.elapsed() < time {
                tokio::time::sleep(Duration::from_millis(50)).await;
                let report = admin.report().await.unwrap();
                deepest = deepest.max(u64::try_from(report["queue"].clone()).unwrap());
                // Caches and models have grown to what they need after a third of the time.
                if before.is_none() && begun.elapsed() > time / 3 {
                    before = Some((daemon.descriptors(), daemon.resident()));
                }
            }
            let at_end = daemon.resident();
            over.store(true, Ordering::Release);
            killer.await.unwrap();
            for task in running {
                tokio::time::timeout(PATIENCE, task).await.expect("a caller ends").unwrap();
            }
            let steps = admin.report().await.unwrap()["steps_by_ms"].clone();
            let count = |number: usize| progress[number].count.load(Ordering::Relaxed);
            Account {
                conversing: [count(0), count(1)],
                chatting: [count(2), count(3), count(4), count(5)],
                indexed: count(6) * DOCUMENTS as u64,
                killed: killed.load(Ordering::Relaxed),
                longest_pause: Duration::from_millis(
                    progress[..6].iter().map(|progress| progress.longest.load(Ordering::Relaxed)).max().unwrap(),
                ),
                deepest_queue: deepest,
                before: before.unwrap(),
                after: (daemon.descriptors(), at_end),
                steps: Vec::try_from(steps).unwrap(),
            }
        })
        .await
}

async fn converse(client: &zbus::Connection, progress: &Progress, over: &AtomicBool) {
    let assistant = AssistantProxy::new(client).await.unwrap();
    let mut since = Instant::now();
    while !over.load(Ordering::Acquire) {
        let path = assistant.open_conversation(&Options::default()).await.unwrap();
        let conversation = ConversationProxy::builder(client).path(path).build().await.unwrap();
        // The fixture's context has room for a few turns.
        for turn in 0..3 {
            let listening = Listening::to(client, &format!("turn{turn}")).await;
            let options = Options {
                max_tokens: Some(24),
                handle_token: Token::new(&format!("turn{turn}")).ok(),
                ..Options::default()
            };
            let wav = question_fd();
            let (_, sound) = conversation.ask_spoken((&wav).into(), &options).await.unwrap();
            samples(sound).await;
            let heard = listening.end().await;
            assert_eq!(heard.state, RequestState::Done, "{heard:?}");
            progress.done(&mut since);
        }
        conversation.close().await.unwrap();
    }
}

async fn chat(client: &zbus::Connection, number: usize, progress: &Progress, over: &AtomicBool) {
    let text = TextProxy::new(client).await.unwrap();
    let question = format!("caller {number} asks again");
    let mut since = Instant::now();
    while !over.load(Ordering::Acquire) {
        let listening = Listening::to(client, "q").await;
        let options = Options { max_tokens: Some(48), handle_token: Token::new("q").ok(), ..Options::default() };
        text.generate(&[("system", "be brief"), ("user", &question)], &options).await.unwrap();
        let heard = listening.end().await;
        assert_eq!(heard.state, RequestState::Done, "{heard:?}");
        progress.done(&mut since);
    }
}

/// Documents in one call.
const DOCUMENTS: usize = 256;

async fn index(client: &zbus::Connection, progress: &Progress, over: &AtomicBool) {
    let retrieval = RetrievalProxy::new(client).await.unwrap();
    let path = retrieval.create_index("load", &Options::default()).await.unwrap();
    let index = IndexProxy::builder(client).path(path).build().await.unwrap();
    let documents: Vec<(String, String)> =
        (0..DOCUMENTS).map(|number| (format!("d{number}"), format!("document {number} of many"))).collect();
    let documents: Vec<(&str, &str)> = documents.iter().map(|(id, text)| (id.as_str(), text.as_str())).collect();
    let mut since = Instant::now();
    while !over.load(Ordering::Acquire) {
        let listening = Listening::to(client, "add").await;
        let token = Token::new("add").ok();
        let options = Options { handle_token: token, priority: Some(Priority::Batch), ..Options::default() };
        index.add(&documents, &options).await.unwrap();
        let heard = listening.end().await;
        assert_eq!(heard.state, RequestState::Done, "{heard:?}");
        progress.done(&mut since);
    }
}

/// A caller in a process of its own, killed in the middle of its work, every second another one.
fn kill_callers(address: &str, killed: &AtomicU64, over: &AtomicBool) {
    while !over.load(Ordering::Acquire) {
        let mut caller = std::process::Command::new(built("eddy"))
            .args(["chat", "tell me everything", "--max-items", "100000", "--bus-address", address])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(900));
        caller.kill().unwrap();
        caller.wait().unwrap();
        killed.fetch_add(1, Ordering::Relaxed);
        std::thread::sleep(Duration::from_millis(100));
    }
}

impl Account {
    /// What must hold after any time.
    pub fn check(&self, time: Duration) {
        let seconds = time.as_secs().max(1);
        let least = |counts: &[u64]| *counts.iter().min().unwrap();
        assert!(least(&self.conversing) >= seconds / 4, "one of the two starves: {self:?}");
        assert!(least(&self.chatting) >= seconds / 4, "one of the four starves: {self:?}");
        assert!(self.indexed > 0, "nothing is indexed: {self:?}");
        assert!(self.killed >= seconds / 2, "{self:?}");
        assert!(self.longest_pause < Duration::from_secs(10), "{self:?}");
        assert!(self.deepest_queue <= 16, "{self:?}");
        assert!(self.after.0 <= self.before.0 + 16, "descriptors leak: {self:?}");
        // Allocators keep what they have had; what grows with time shows over the minutes.
        assert!(self.after.1 <= self.before.1 + self.before.1 / 4 + (16 << 20), "memory grows: {self:?}");
    }
}
