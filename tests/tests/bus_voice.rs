//! The live voice of the daemon, by its bus and by what is heard in the room.

#![allow(clippy::unwrap_used, missing_docs)]

use std::time::{Duration, Instant};

use eddy_ipc::client::{AssistantProxy, DaemonProxy, RequestProxy};
use eddy_ipc::{Bus, FinishReason, Options, RequestState, Token};
use eddy_tests::bus::{Daemon, Listening, within};
use eddy_tests::room::spoken;
use eddy_tests::server::{Server, with_server};
use futures_util::StreamExt;

fn live(test: &str, settings: &[&str], body: impl AsyncFnOnce(&mut Server, Daemon)) {
    with_server(test, |server| {
        let _recorder = server.listen("vmic");
        let daemon = Daemon::start(settings);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(body(server, daemon));
    });
}

/// The model that comes with Eddy: what a random one says to a recording, and whether it says anything, differs with every
/// sample that was heard.
fn shipped() -> String {
    format!("models.directories=[\"{}\"]", embedded().display())
}

fn embedded() -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("models/embedded")
}

/// What the random model has sound for.
const TEXT: &str = "The kettle is on, and the rain will come before noon.";

fn named(token: &str) -> Options {
    Options { handle_token: Some(Token::new(token).unwrap()), ..Options::default() }
}

#[test]
fn a_turn_is_told_to_the_one_who_asked_for_it() {
    let settings = ["generation.greedy=true", &shipped()];
    live("a_turn_is_told_to_the_one_who_asked_for_it", &settings, async |server, daemon| {
        let (client, other) = (daemon.client().await, daemon.client().await);
        let assistant = AssistantProxy::new(&client).await.unwrap();
        within(Duration::from_secs(5), "the devices are known", async || assistant.state().await.unwrap() == "idle")
            .await;
        let mut states = assistant.receive_voice_state_changed().await.unwrap();
        let rule = zbus::MatchRule::builder().interface("org.eddy.Request1").build().unwrap();
        let mut overheard = zbus::MessageStream::for_match_rule(rule, &other, None).await.unwrap();
        assert!(!assistant.microphone_in_use().await.unwrap(), "nobody has asked it to listen");

        let turn = Listening::to(&client, "turn").await;
        assistant.listen(&named("turn")).await.unwrap();
        within(Duration::from_secs(2), "the microphone is open", async || assistant.microphone_in_use().await.unwrap())
            .await;
        let _person = server.speak(spoken("What is the tallest mountain in the world?"));
        let heard = tokio::time::timeout(Duration::from_secs(20), turn.end()).await.unwrap();
        assert_eq!(heard.state, RequestState::Done, "{heard:?}");
        assert!(heard.outcome.text.is_some() && heard.outcome.samples > Some(0), "{heard:?}");
        for stage in ["wait", "think", "hear", "prefill", "rtf", "held_back", "ran_dry"] {
            assert!(heard.outcome.latency.contains_key(stage), "{stage}: {heard:?}");
        }
        let mut report = DaemonProxy::new(&client).await.unwrap().report().await.unwrap();
        let rtf = f64::try_from(report.remove("speech_rtf").unwrap()).unwrap();
        assert!((rtf - heard.outcome.latency["rtf"]).abs() < 1e-9, "{rtf} of the last answer: {heard:?}");
        assert!(!bool::try_from(report.remove("speech_written").unwrap()).unwrap());
        let status = daemon.run(eddy_tests::eddy::binary().to_str().unwrap(), &["status"]);
        assert!(status.contains(&format!("speech    takes {rtf:.2} times its length")), "{status}");
        let whole = |name: &str| u64::try_from(report[name].clone()).unwrap();
        let (begun, wanted) = (whole("answers_begun_ahead"), whole("answers_ahead_wanted"));
        assert!(wanted == 1 && begun >= 1, "{wanted} of {begun}");
        // The least pause that is noticed and the least wait for its end lie between the two.
        let saved = f64::try_from(report["answers_ahead_saved"].clone()).unwrap();
        assert!(saved > 0.0 && saved < heard.outcome.latency["wait"], "{saved} s of {heard:?}");
        assert!(status.contains(&format!("ahead     1 of {begun} answers")), "{status}");
        let mut words = Vec::new();
        while words.last().is_none_or(|word| word != "idle") {
            let change = tokio::time::timeout(Duration::from_secs(5), states.next()).await.unwrap().unwrap();
            let change = change.args().unwrap();
            assert!(!change.reason.is_empty());
            words.push(change.new.to_owned());
        }
        // A pause may have been taken back on the way.
        let (begin, end) = words.split_at(words.len() - 3);
        assert!(begin.chunks(2).all(|pair| pair == ["listening", "endpointing"]), "{words:?}");
        assert_eq!(end, ["thinking", "speaking", "idle"]);
        assert!(!assistant.microphone_in_use().await.unwrap(), "the turn is over");
        // Another client hears nothing that was meant for the owner alone.
        let pause = tokio::time::timeout(Duration::from_millis(300), overheard.next()).await;
        assert!(pause.is_err(), "{pause:?}");
    });
}

#[test]
fn a_turn_ends_when_the_one_who_asked_for_it_cancels_or_leaves() {
    let settings = ["generation.greedy=true", &shipped()];
    live("a_turn_ends_when_the_one_who_asked_for_it_cancels_or_leaves", &settings, async |server, daemon| {
        let (client, leaver) = (daemon.client().await, daemon.client().await);
        let assistant = AssistantProxy::new(&client).await.unwrap();
        let is = async |state: &str| assistant.state().await.unwrap() == state;
        within(Duration::from_secs(5), "the devices are known", async || is("idle").await).await;
        // While nobody has spoken.
        let turn = Listening::to(&client, "silent").await;
        assistant.listen(&named("silent")).await.unwrap();
        assert!(is("listening").await);
        turn.cancel().await;
        assert_eq!(turn.end().await.state, RequestState::Cancelled);
        within(Duration::from_secs(1), "nobody listens", async || !assistant.microphone_in_use().await.unwrap()).await;
        // While the answer sounds.
        let turn = Listening::to(&client, "answered").await;
        assistant.listen(&named("answered")).await.unwrap();
        // The server wakes a microphone that was closed a moment ago for up to two seconds; who is not heard says it again.
        let mut tries = 0;
        loop {
            let _person = server.speak(spoken("What is the tallest mountain in the world?"));
            let begun = Instant::now();
            while begun.elapsed() < Duration::from_secs(7) && !is("speaking").await {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            tries += 1;
            if is("speaking").await {
                break;
            }
            assert!(tries < 3, "it answers: {}", daemon.log());
        }
        turn.cancel().await;
        let heard = turn.end().await;
        assert_eq!(
            (heard.state, heard.outcome.finish_reason),
            (RequestState::Cancelled, Some(FinishReason::Cancelled))
        );
        within(Duration::from_secs(1), "it is quiet", async || is("idle").await).await;
        // Whoever leaves the bus wants nothing any more.
        AssistantProxy::new(&leaver).await.unwrap().listen(&named("left")).await.unwrap();
        assert!(is("listening").await);
        leaver.close().await.unwrap();
        within(Duration::from_secs(1), "nobody listens", async || is("idle").await).await;
    });
}

#[test]
fn locks_hold_the_microphone_shut() {
    live("locks_hold_the_microphone_shut", &["voice.mode=open"], async |_, daemon| {
        let client = daemon.client().await;
        let assistant = AssistantProxy::new(&client).await.unwrap();
        let open = async || assistant.microphone_in_use().await.unwrap();
        within(Duration::from_secs(5), "the microphone is open", open).await;
        let lock = assistant.acquire_mute().await.unwrap();
        assert!(!open().await, "it was closed before the lock was given");
        assert_eq!(assistant.state().await.unwrap(), "muted");
        assert!(matches!(assistant.listen(&Options::default()).await, Err(eddy_ipc::Error::Muted(_))));
        let begun = Instant::now();
        drop(lock);
        within(Duration::from_secs(5), "the microphone is open again", open).await;
        println!("open again after {:?}", begun.elapsed());
        assistant.set_muted(true).await.unwrap();
        assert!(!open().await);
        assistant.set_muted(false).await.unwrap();
        within(Duration::from_secs(5), "the microphone is open again", open).await;
    });
}

#[test]
fn a_conversation_at_a_terminal_has_the_room_to_itself() {
    live("a_conversation_at_a_terminal_has_the_room_to_itself", &["voice.mode=open"], async |_, daemon| {
        let client = daemon.client().await;
        let assistant = AssistantProxy::new(&client).await.unwrap();
        let open = async || assistant.microphone_in_use().await.unwrap();
        within(Duration::from_secs(5), "the microphone is open", open).await;
        let mut talk = daemon
            .command(eddy_tests::eddy::binary().to_str().unwrap(), &["talk"])
            .env("ORT_DYLIB_PATH", eddy_tests::fixtures::runtime_folder().join("libonnxruntime.so.1.32.0"))
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        within(Duration::from_secs(10), "the daemon listens no more", async || !open().await).await;
        assert_eq!(assistant.state().await.unwrap(), "muted");
        std::io::Write::write_all(&mut talk.stdin.take().unwrap(), b"q").unwrap();
        let told = talk.wait_with_output().unwrap();
        let said = String::from_utf8(told.stdout).unwrap();
        assert!(told.status.success() && said.contains("eddyd keeps its microphone closed"), "{}: {said}", told.status);
        within(Duration::from_secs(5), "the daemon listens again", open).await;
    });
}

#[test]
fn texts_are_said_one_after_the_other_and_can_be_cut() {
    let settings = ["models.precision=fp32"];
    live("texts_are_said_one_after_the_other_and_can_be_cut", &settings, async |server, daemon| {
        let ear = server.listen("vspk.monitor");
        let client = daemon.client().await;
        let assistant = AssistantProxy::new(&client).await.unwrap();
        let options = |token: &str| Options { greedy: Some(true), ..named(token) };
        let first = Listening::to(&client, "first").await;
        let second = Listening::to(&client, "second").await;
        assistant.say(TEXT, &options("first")).await.unwrap();
        assistant.say(TEXT, &options("second")).await.unwrap();
        within(Duration::from_secs(10), "it sounds", async || assistant.speaker_in_use().await.unwrap()).await;
        let (first, second) = (first.end().await, second.end().await);
        assert_eq!((first.state, second.state), (RequestState::Done, RequestState::Done), "{first:?} {second:?}");
        let samples = first.outcome.samples.unwrap() + second.outcome.samples.unwrap();
        let loud = ear.samples().iter().filter(|sample| sample.abs() > 1e-5).count() as u64;
        assert!(loud >= samples, "{loud} samples at 48 kHz were heard of {samples} at 24 kHz");
        assert!(!assistant.speaker_in_use().await.unwrap());

        let third = Listening::to(&client, "third").await;
        let path = assistant.say(TEXT, &options("third")).await.unwrap();
        let request = RequestProxy::builder(&client).path(path).build().await.unwrap();
        within(Duration::from_secs(10), "it sounds", async || assistant.speaker_in_use().await.unwrap()).await;
        request.cancel().await.unwrap();
        assert_eq!(third.end().await.state, RequestState::Cancelled);
        within(Duration::from_secs(1), "it is quiet", async || !assistant.speaker_in_use().await.unwrap()).await;
        assert_eq!(Bus::Assistant.name(), "org.eddy.Assistant1");
    });
}

#[test]
fn a_conversation_at_a_terminal_that_is_none() {
    with_server("a_conversation_at_a_terminal_that_is_none", |server| {
        use std::io::{BufRead, BufReader, Write};
        let _recorder = server.listen("vmic");
        let model = embedded().join("eddy-small");
        let mut talk = eddy_tests::eddy::command(&["talk", "--greedy", "--json", "--model", model.to_str().unwrap()])
            .env("ORT_DYLIB_PATH", eddy_tests::fixtures::runtime_folder().join("libonnxruntime.so.1.32.0"))
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut events = BufReader::new(talk.stdout.take().unwrap()).lines();
        // What never comes must not be waited for: it is ended, and so are its lines.
        let process = rustix::process::Pid::from_child(&talk);
        let (over, late) = std::sync::mpsc::channel::<()>();
        let clock = std::thread::spawn(move || {
            if late.recv_timeout(Duration::from_secs(40)) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
                let _ = rustix::process::kill_process(process, rustix::process::Signal::KILL);
            }
        });
        let mut until = |event: &str, value: &str| {
            let mut seen = Vec::new();
            loop {
                let line = events.next().unwrap_or_else(|| panic!("it ended: {seen:?}")).unwrap();
                let found: serde_json::Value = serde_json::from_str(&line).unwrap();
                seen.push(line);
                if found["event"] == event && (value.is_empty() || found["state"] == value) {
                    return seen;
                }
            }
        };
        until("state", "idle");
        let _person = server.speak(spoken("What is the tallest mountain in the world?"));
        // An answer that was made ahead is told before it sounds.
        let mut rest = until("answering", "");
        rest.extend(until("ended", ""));
        let rest = rest.join("\n");
        println!("{rest}");
        assert!(rest.contains("\"event\":\"eddy\""), "{rest}");
        let mut keys = talk.stdin.take().unwrap();
        keys.write_all(b"m").unwrap();
        until("state", "muted");
        keys.write_all(b"q").unwrap();
        assert!(talk.wait().unwrap().success());
        drop(over);
        clock.join().unwrap();
    });
}
