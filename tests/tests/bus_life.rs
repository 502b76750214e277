//! The daemon's life and its callers': cancelling, leaving, reloading, the supervisor, the end.

#![allow(clippy::unwrap_used)]

use std::collections::HashMap;
use std::io::Read;
use std::process::Stdio;
use std::time::{Duration, Instant};

use eddy_ipc::client::{AssistantProxy, DaemonProxy, ModelProxy, ModelsProxy, SpeechProxy, TextProxy};
use eddy_ipc::{Bus, Collection, Error, FinishReason, ModelState, Options, RequestState, Token, path};
use eddy_tests::bus::{
    Daemon, Listening, PATIENCE, PrivateBus, converse, greedy, models, question_fd, samples, within,
};
use eddy_tests::fixtures::composed;
use futures_util::StreamExt;
use rustix::process::Signal;
use zbus::Connection;

/// A reply that goes on for long: drawn so freely that the model does not end it soon.
fn long(token: &str) -> Options {
    Options {
        handle_token: Token::new(token).ok(),
        seed: Some(1),
        temperature: Some(2.0),
        max_tokens: Some(30_000),
        ..Options::default()
    }
}

/// Requests and conversations on the bus.
async fn objects(client: &Connection) -> usize {
    let manager = zbus::fdo::ObjectManagerProxy::builder(client)
        .destination(Bus::Assistant.name())
        .path(Bus::Assistant.root())
        .build()
        .await
        .unwrap();
    let all = manager.get_managed_objects().await.unwrap();
    all.values().filter(|interfaces| interfaces.keys().any(|name| name.as_str().starts_with("org.eddy."))).count()
}

async fn number(client: &Connection, name: &str) -> u64 {
    let daemon = DaemonProxy::new(client).await.unwrap();
    let mut report: HashMap<String, zbus::OwnedVariant> = daemon.report().await.unwrap();
    report.remove(name).unwrap().try_into().unwrap()
}

#[tokio::test]
async fn a_cancelled_request_ends_at_the_next_step_with_what_there_was() {
    let daemon = Daemon::start(&[]);
    let client = daemon.client().await;
    let speech = SpeechProxy::new(&client).await.unwrap();
    let mut listening = Listening::to(&client, "long").await;
    let wav = question_fd();
    let (_, audio) = speech.converse((&wav).into(), &long("long")).await.unwrap();
    let first = listening.first().await;
    let begun = Instant::now();
    listening.request.cancel().await.unwrap();
    let sound = samples(audio).await;
    let silent = begun.elapsed();
    let heard = listening.end().await;
    // A step of this model takes a few milliseconds.
    assert!(silent < Duration::from_millis(100), "{silent:?}");
    assert_eq!(heard.state, RequestState::Cancelled);
    assert_eq!(heard.outcome.finish_reason, Some(FinishReason::Cancelled));
    let eddy_ipc::Delta::Text(first) = first else { panic!("{first:?}") };
    assert!(heard.outcome.text.unwrap().starts_with(&first));
    assert!(heard.outcome.samples.unwrap() >= sound.len() as u64);
    assert!(sound.len() < 30_000 * 1_920 / 100, "it went on: {}", sound.len());
    within(PATIENCE, "the engine is idle", async || number(&client, "queue").await == 0).await;
    // Closing the pipe is the other way to cancel.
    let listening = Listening::to(&client, "closed").await;
    let (_, audio) = speech.converse((&wav).into(), &long("closed")).await.unwrap();
    drop(audio);
    assert_eq!(listening.end().await.state, RequestState::Cancelled);
}

#[tokio::test]
async fn a_killed_client_leaves_nothing_behind() {
    let daemon = Daemon::start(&[]);
    let watcher = daemon.client().await;
    converse(&watcher, &greedy("warm")).await;
    let before = (objects(&watcher).await, daemon.descriptors());
    let rule = zbus::MatchRule::builder()
        .sender("org.freedesktop.DBus")
        .member("NameOwnerChanged")
        .arg(2, "")
        .build()
        .unwrap();
    let mut worst = Duration::ZERO;
    for _ in 0..5 {
        let client = daemon.client().await;
        let speech = SpeechProxy::new(&client).await.unwrap();
        let assistant = AssistantProxy::new(&client).await.unwrap();
        assistant.open_conversation(&Options::default()).await.unwrap();
        let mut pipes = Vec::new();
        for number in 0..6 {
            let wav = question_fd();
            pipes.push(speech.converse((&wav).into(), &long(&format!("n{number}"))).await.unwrap().1);
        }
        // And one whose recording never comes.
        let (reader, never) = rustix::pipe::pipe().unwrap();
        speech.transcribe((&reader).into(), &Options::default()).await.unwrap();
        drop(reader);
        assert_eq!(objects(&watcher).await, before.0 + 8);
        let mut gone = zbus::MessageStream::for_match_rule(rule.clone(), &watcher, None).await.unwrap();
        // As a kill does it: the socket closes, and nothing is said.
        client.close().await.unwrap();
        gone.next().await.unwrap().unwrap();
        let took =
            within(Duration::from_millis(100), "its objects go", async || objects(&watcher).await == before.0).await;
        worst = worst.max(took);
        within(Duration::from_millis(500), "its jobs go", async || number(&watcher, "queue").await == 0).await;
        drop((pipes, never));
    }
    within(PATIENCE, "its descriptors go", async || daemon.descriptors() <= before.1 + 2).await;
    println!("objects of a killed client were gone within {worst:?}");
    assert_eq!(number(&watcher, "callers").await, 1);
}

#[tokio::test]
async fn a_client_process_that_is_killed_leaves_nothing_behind() {
    let daemon = Daemon::start(&[]);
    let watcher = daemon.client().await;
    let python = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/bus-client/bin/python");
    let client = "\
import asyncio, sys
from dbus_fast import Message, Variant
from dbus_fast.aio import MessageBus
async def main():
    bus = await MessageBus(bus_address=sys.argv[1], negotiate_unix_fd=True).connect()
    for _ in range(4):
        reply = await bus.call(Message(destination='org.eddy.Assistant1', path='/org/eddy/Assistant1',
            interface='org.eddy.Speech1', member='Synthesize', signature='sa{sv}',
            body=['hello', {'max_tokens': Variant('u', 30000), 'temperature': Variant('d', 2.0)}]))
        assert reply.message_type.name == 'METHOD_RETURN', reply.body
    print('ready', flush=True)
    await asyncio.sleep(60)
asyncio.run(main())
";
    let mut child = std::process::Command::new(python)
        .args(["-c", client, &daemon.bus.address])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut ready = [0; 6];
    child.stdout.as_mut().unwrap().read_exact(&mut ready).unwrap();
    assert_eq!(objects(&watcher).await, 4);
    child.kill().unwrap();
    let took = within(Duration::from_millis(100), "its objects go", async || objects(&watcher).await == 0).await;
    child.wait().unwrap();
    println!("objects of a killed process were gone within {took:?}");
}

#[tokio::test]
async fn files_that_are_changed_under_a_model_do_not_end_the_daemon() {
    let copy = composed("text-a", None);
    let name = copy.path().file_name().unwrap().to_str().unwrap().to_owned();
    let mut daemon = Daemon::start_with(copy.path(), &["models.precision=q4"], |_| {});
    let client = daemon.client().await;
    let text = TextProxy::new(&client).await.unwrap();
    let generate = async |token: &str| {
        let listening = Listening::to(&client, token).await;
        let options = Options { max_tokens: Some(8), ..greedy(token) };
        text.generate(&[("user", "hello")], &options).await.unwrap();
        listening.end().await
    };
    assert_eq!(generate("before").await.state, RequestState::Done, "{}", daemon.log());

    // As `rsync --inplace` would, or a download into the folder.
    let weights = files_below(copy.path()).into_iter().filter(|path| std::fs::metadata(path).unwrap().len() > 50_000);
    let weights: Vec<(std::path::PathBuf, Vec<u8>)> =
        weights.map(|path| (path.clone(), std::fs::read(path).unwrap())).collect();
    assert!(weights.len() > 2, "{weights:?}");
    let paths: Vec<std::path::PathBuf> = weights.iter().map(|(path, _)| path.clone()).collect();
    let cut = tokio::task::spawn_blocking(move || {
        let begun = Instant::now();
        for path in &paths {
            std::fs::File::options().write(true).truncate(true).open(path).unwrap();
        }
        begun.elapsed()
    });
    let waited = cut.await.unwrap();
    assert!(waited < Duration::from_secs(20), "the writer waits {waited:?}");
    let at = path(Bus::Admin, Collection::Model(&name));
    let model = ModelProxy::builder(&client).path(at).build().await.unwrap();
    within(PATIENCE, "it goes", async || model.state().await.unwrap() == ModelState::Failed.as_str()).await;
    assert!(model.state_reason().await.unwrap().contains("changed"));
    let failure = generate("meanwhile").await.outcome.failure.unwrap();
    assert!(failure.name.ends_with("ModelFailed"), "{failure:?}");

    for (path, bytes) in &weights {
        std::fs::write(path, bytes).unwrap();
    }
    model.load(&Options::default()).await.unwrap();
    within(PATIENCE, "it is back", async || model.state().await.unwrap() == ModelState::Loaded.as_str()).await;
    assert_eq!(generate("after").await.state, RequestState::Done, "{}", daemon.log());
    assert!(daemon.child.try_wait().unwrap().is_none(), "it lives");
}

fn files_below(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files_below(&path) } else { vec![path] }).collect()
}

#[tokio::test]
async fn models_come_and_go_and_a_bad_one_says_why() {
    let damaged = composed("speech-a", None);
    let folder = tempfile::tempdir().unwrap();
    let (good, bad) = (folder.path().join("good"), folder.path().join("bad"));
    std::fs::rename(damaged.path(), &bad).unwrap();
    let graph = bad.join("onnx/audio_encoder_q4.onnx");
    let length = std::fs::metadata(&graph).unwrap().len();
    let copy = composed("speech-a", None);
    std::fs::rename(copy.path(), &good).unwrap();
    let daemon = Daemon::start_with(folder.path(), &[], |_| {});
    let client = daemon.client().await;
    // Damaged after it was listed: the load fails, and the other serves.
    std::fs::File::options().write(true).open(&graph).unwrap().set_len(length / 2).unwrap();
    let at = |name: &str| path(Bus::Admin, Collection::Model(name));
    let proxy = async |name: &str| ModelProxy::builder(&client).path(at(name)).build().await.unwrap();
    let (good_model, bad_model) = (proxy("good").await, proxy("bad").await);
    assert_eq!(good_model.state().await.unwrap(), "unloaded");
    let estimated = good_model.bytes().await.unwrap();
    assert!((4 << 20..8 << 20).contains(&estimated), "{estimated}");
    let speech = SpeechProxy::new(&client).await.unwrap();
    let listening = Listening::to(&client, "bad").await;
    let options = Options { model: Some("bad".into()), ..greedy("bad") };
    speech.synthesize("hello", &options).await.unwrap();
    let heard = listening.end().await;
    assert_eq!(heard.state, RequestState::Failed);
    let failure = heard.outcome.failure.unwrap();
    assert!(failure.name.ends_with("ModelFailed") && failure.message.contains("audio_encoder_q4.onnx"), "{failure:?}");
    within(PATIENCE, "it failed", async || bad_model.state().await.unwrap() == ModelState::Failed.as_str()).await;
    assert!(bad_model.state_reason().await.unwrap().contains("audio_encoder_q4.onnx"));
    // Without a name the one that works is taken.
    let (heard, _) = converse(&client, &greedy("ok")).await;
    assert_eq!(heard.state, RequestState::Done, "{heard:?}");
    within(PATIENCE, "announced", async || good_model.state().await.unwrap() == "loaded").await;

    // A budget that it cannot fit: refused with the figures, and what is there and unused goes.
    let models = ModelsProxy::new(&client).await.unwrap();
    models.set_memory_budget(1 << 20).await.unwrap();
    assert_eq!(models.memory_budget().await.unwrap(), 1 << 20);
    within(PATIENCE, "it goes", async || good_model.state().await.unwrap() == "unloaded").await;
    let refused = good_model.load(&Options::default()).await.unwrap_err();
    assert!(matches!(&refused, Error::TooLarge(line) if line.contains("1.0 MiB")), "{refused:?}");
    models.set_memory_budget(1 << 30).await.unwrap();
    good_model.load(&Options::default()).await.unwrap();
    within(PATIENCE, "it is loaded", async || good_model.state().await.unwrap() == "loaded").await;
    good_model.unload().await.unwrap();

    // Swapped under the running daemon, and gone.
    std::fs::remove_dir_all(&good).unwrap();
    let listening = Listening::to(&client, "gone").await;
    let options = Options { model: Some("good".into()), ..greedy("gone") };
    speech.synthesize("hello", &options).await.unwrap();
    let failure = listening.end().await.outcome.failure.unwrap();
    assert!(failure.name.ends_with("ModelFailed") && failure.message.contains("good"), "{failure:?}");
    DaemonProxy::new(&client).await.unwrap().reload(&Options::default()).await.unwrap();
    let options = Options { model: Some("good".into()), ..Options::default() };
    let error = speech.synthesize("hello", &options).await.unwrap_err();
    assert!(matches!(error, Error::NotFound(_)), "{error:?}");
}

#[tokio::test]
async fn idle_models_leave_memory() {
    let daemon = Daemon::start(&["models.idle_unload=1s"]);
    let client = daemon.client().await;
    converse(&client, &greedy("a")).await;
    let place = path(Bus::Admin, Collection::Model("speech-a"));
    let model = ModelProxy::builder(&client).path(place).build().await.unwrap();
    assert_eq!(model.state().await.unwrap(), "loaded");
    let took = within(PATIENCE, "it goes", async || model.state().await.unwrap() == "unloaded").await;
    assert!(took < Duration::from_secs(3), "{took:?}");
}

#[tokio::test]
async fn a_reload_applies_what_it_can_and_refuses_mistakes_whole() {
    let daemon = Daemon::start(&[]);
    let client = daemon.client().await;
    let admin = DaemonProxy::new(&client).await.unwrap();
    assert!(admin.reload(&Options::default()).await.unwrap().is_empty());

    daemon.write_config("[limits]\ntext_bytes = \"300B\"\n[runtime]\nthreads = 3\n");
    let changes = admin.reload(&Options::default()).await.unwrap();
    let told: Vec<(&str, &str)> = changes.iter().map(|(key, _, when)| (key.as_str(), when.as_str())).collect();
    assert_eq!(told, [("limits.text_bytes", "now"), ("runtime.threads", "restart")]);
    let speech = SpeechProxy::new(&client).await.unwrap();
    let error = speech.synthesize(&"long ".repeat(100), &Options::default()).await.unwrap_err();
    assert!(matches!(error, Error::TooLarge(_)), "{error:?}");

    daemon.write_config("[limits]\ntext_byte = \"300B\"\n");
    let error = admin.reload(&Options::default()).await.unwrap_err();
    let Error::InvalidConfiguration(lines) = &error else { panic!("{error:?}") };
    assert!(lines.contains("eddy.toml") && lines.contains("text_bytes"), "{lines}");
    let error = speech.synthesize(&"long ".repeat(100), &Options::default()).await.unwrap_err();
    assert!(matches!(error, Error::TooLarge(_)), "the old one stays: {error:?}");

    // The signal does the same, and the supervisor hears of its beginning and end.
    daemon.forget_notified();
    daemon.write_config("");
    daemon.signal(Signal::HUP);
    let told = daemon.wait_notified("RELOADING=1");
    assert!(told.contains("MONOTONIC_USEC="), "{told}");
    daemon.wait_notified("READY=1");
    let (heard, _) = converse(&client, &greedy("after")).await;
    assert_eq!(heard.state, RequestState::Done);
}

#[tokio::test]
async fn the_watchdog_is_fed_by_the_engine_idle_or_not() {
    let daemon = Daemon::start_with(&models(), &["models.speech=speech-a"], |command| {
        command.env("WATCHDOG_USEC", "400000");
    });
    daemon.forget_notified();
    let begun = Instant::now();
    for _ in 0..8 {
        daemon.wait_notified("WATCHDOG=1");
    }
    let idle = begun.elapsed();
    assert!(idle < Duration::from_millis(8 * 400), "too seldom while idle: {idle:?}");
    assert!(idle > Duration::from_millis(200), "too often while idle: {idle:?}");
    let client = daemon.client().await;
    let speech = SpeechProxy::new(&client).await.unwrap();
    let wav = question_fd();
    let (_, audio) = speech.converse((&wav).into(), &long("long")).await.unwrap();
    let reading = tokio::spawn(samples(audio));
    daemon.forget_notified();
    for _ in 0..4 {
        daemon.wait_notified("WATCHDOG=1");
    }
    assert!(!reading.is_finished(), "it was at work all the time");
    client.close().await.unwrap();
    reading.await.unwrap();
}

/// What systemd does with a unit that has a watchdog and restarts on failure: a daemon that is not heard of for that long is
/// killed and started again.
#[tokio::test]
async fn an_engine_that_hangs_is_restarted_by_its_supervisor() {
    let folder = tempfile::tempdir().unwrap();
    let (hanging, good) = (composed("text-a", Some("text-a-hanging")), composed("speech-a", None));
    std::fs::rename(hanging.path(), folder.path().join("hanging")).unwrap();
    std::fs::rename(good.path(), folder.path().join("good")).unwrap();
    let watchdog = Duration::from_millis(1_500);
    let start = |bus| {
        Daemon::start_on(bus, folder.path(), &["models.precision=fp32"], |command| {
            command.env("WATCHDOG_USEC", watchdog.as_micros().to_string());
        })
    };
    let mut daemon = start(PrivateBus::start());
    let client = daemon.client().await;
    daemon.wait_notified("WATCHDOG=1");
    let text = TextProxy::new(&client).await.unwrap();
    // Fed until the step hangs, and then no more. On a busy machine what comes before the multiplication takes so long that
    // the step is ended there, as it should be; then it is asked for again.
    let mut hangs = false;
    for _ in 0..10 {
        text.generate(&[("user", "hello")], &Options::default()).await.unwrap();
        hangs = (0..4).any(|_| !daemon.is_heard_within(watchdog));
        if hangs {
            break;
        }
    }
    assert!(hangs, "{}", daemon.log());
    daemon.signal(Signal::KILL);
    daemon.wait();
    let bus = daemon.leave_bus();
    let daemon = start(bus);
    let (heard, _) = converse(&client, &greedy("again")).await;
    assert_eq!(heard.state, RequestState::Done, "{}", daemon.log());
}

#[tokio::test]
async fn it_ends_cleanly_and_tells_those_who_wait() {
    let mut daemon = Daemon::start(&[]);
    let client = daemon.client().await;
    let speech = SpeechProxy::new(&client).await.unwrap();
    let mut listening = Listening::to(&client, "long").await;
    let wav = question_fd();
    let (_, audio) = speech.converse((&wav).into(), &long("long")).await.unwrap();
    listening.first().await;
    daemon.forget_notified();
    let begun = Instant::now();
    daemon.signal(Signal::TERM);
    let heard = listening.end().await;
    assert_eq!(heard.state, RequestState::Cancelled);
    drop(audio);
    daemon.wait_notified("STOPPING=1");
    assert!(daemon.wait().success(), "{}", daemon.log());
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    let error = speech.synthesize("hello", &Options::default()).await.unwrap_err();
    assert!(error.to_string().contains("not running"), "{error}");
}

#[tokio::test]
async fn a_second_daemon_and_a_lost_bus_are_named() {
    let mut daemon = Daemon::start(&[]);
    let second = daemon
        .command(eddy_tests::eddy::built("eddyd").to_str().unwrap(), &["--bus-address", &daemon.bus.address])
        .env("XDG_STATE_HOME", daemon.folder.path())
        .output()
        .unwrap();
    assert!(!second.status.success());
    assert!(String::from_utf8_lossy(&second.stderr).contains("another eddyd"), "{second:?}");
    daemon.bus.stop();
    let status = daemon.wait();
    assert_eq!(status.code(), Some(1), "{}", daemon.log());
    assert!(daemon.log().contains("the bus has gone"), "{}", daemon.log());
}

#[test]
fn a_configuration_with_mistakes_keeps_it_from_starting() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("eddy.toml");
    std::fs::write(&file, "[limits]\nqueue = 0\n").unwrap();
    let output = std::process::Command::new(eddy_tests::eddy::built("eddyd"))
        .args(["--config", file.to_str().unwrap(), "--bus-address", "unix:path=/nonexistent"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let line = String::from_utf8(output.stderr).unwrap();
    assert!(line.contains("eddy.toml:2") && line.contains("limits.queue"), "{line}");
}
