//! `eddy wake` as a user runs it, and where a turn begins that the wake word begins.

#![allow(clippy::unwrap_used, missing_docs)]

use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use eddy_audio::ear::FRAME;
use eddy_audio::realtime::AllocDisabler;
use eddy_audio::wav::WavSink;
use eddy_config::Sources;
use eddy_models::RuntimeOptions;
use eddy_tests::bus::Daemon;
use eddy_tests::eddy::{binary, command};
use eddy_tests::fixtures::runtime_folder;
use eddy_tests::room::{enrolled, said, spoken};
use eddy_tests::server::{with_server, within};
use eddyd::voice::{Attention, Echo, Frame, Hearing, Noticed};
use serde_json::Value;

#[global_allocator]
static ALLOCATOR: AllocDisabler = AllocDisabler;

/// `eddy wake ARGUMENTS` with a folder of states of its own, and the runtime that the tests have.
fn wake(state: &Path, arguments: &[&str]) -> std::process::Command {
    let mut command = command(&[&["wake"], arguments].concat());
    command.env("XDG_STATE_HOME", state).env("ORT_DYLIB_PATH", runtime_folder().join("libonnxruntime.so.1.32.0"));
    command
}

fn run(state: &Path, arguments: &[&str]) -> Result<Value, String> {
    let output = wake(state, arguments).arg("--json").output().unwrap();
    match output.status.success() {
        true => Ok(serde_json::from_slice(&output.stdout).unwrap()),
        false => Err(String::from_utf8(output.stderr).unwrap()),
    }
}

fn wav(folder: &Path, name: &str, samples: &[f32]) -> String {
    let path = folder.join(name);
    let mut sink = WavSink::create(&path, 16_000).unwrap();
    sink.write(samples).unwrap();
    sink.finish().unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn the_command_learns_tries_and_forgets() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let take = |voice| wav(path, voice, &said(voice, "Hey Eddy."));
    let takes = ["en-gb:150", "en-gb:142", "en-gb:160"].map(take);
    let called = wav(path, "called.wav", &said("en-gb:155", "Hey Eddy, how many days are there in a year?"));
    let not_called = wav(path, "other.wav", &said("en-gb:155", "How many days are there in a year?"));

    let error = run(path, &["test", &called]).unwrap_err();
    assert!(error.contains("no wake word is enrolled") && error.contains("eddy wake enroll"), "{error}");

    let learnt = run(path, &["enroll", "--from", &takes[0], &takes[1], &takes[2]]).unwrap();
    let file = Path::new(learnt["file"].as_str().unwrap());
    assert!(file.starts_with(path));
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let heard = run(path, &["test", &called]).unwrap();
    assert!(heard["heard"] == true && heard["score"].as_f64() > heard["threshold"].as_f64(), "{heard}");
    let heard = run(path, &["test", &not_called]).unwrap();
    assert!(heard["heard"] == false, "{heard}");

    std::fs::write(file, "{\"examples\":[],\"unrelated\":0.5,\"own\":0.9}").unwrap();
    let error = run(path, &["test", &called]).unwrap_err();
    assert!(error.contains("no examples of a wake word") && error.lines().count() == 1, "{error}");

    assert_eq!(run(path, &["forget"]).unwrap()["forgotten"], true);
    assert_eq!(run(path, &["forget"]).unwrap()["forgotten"], false);
    assert!(!file.exists());
}

#[test]
fn the_command_records_the_phrase() {
    with_server("the_command_records_the_phrase", |server| {
        let _recorder = server.listen("vmic");
        let folder = tempfile::tempdir().unwrap();
        let mut child = wake(folder.path(), &["enroll"]).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut people = Vec::new();
        for number in 1..=3 {
            let line = lines.next().unwrap().unwrap();
            assert_eq!(line, format!("say the phrase ({number} of 3)"));
            people.push(server.speak(spoken("Hey Eddy.")));
        }
        let rest: Vec<String> = lines.map(Result::unwrap).collect();
        assert!(child.wait().unwrap().success() && rest[0].starts_with("3 recordings are learnt"), "{rest:?}");
    });
}

#[test]
fn the_daemon_takes_the_phrase_as_it_is_learnt_and_forgotten() {
    with_server("the_daemon_takes_the_phrase_as_it_is_learnt_and_forgotten", |server| {
        let _recorder = server.listen("vmic");
        let folder = tempfile::tempdir().unwrap();
        let takes = ["en-gb:150", "en-gb:142", "en-gb:160"];
        let takes = takes.map(|voice| wav(folder.path(), voice, &said(voice, "Hey Eddy.")));
        let daemon = Daemon::start(&["voice.mode=wake-word"]);
        let eddy = |arguments: &[&str]| {
            let mut command = daemon.command(binary().to_str().unwrap(), arguments);
            command.env("ORT_DYLIB_PATH", runtime_folder().join("libonnxruntime.so.1.32.0"));
            command.env("XDG_STATE_HOME", daemon.folder.path().join("state"));
            let output = command.output().unwrap();
            assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8(output.stdout).unwrap()
        };
        let status = |what: &str, found: &dyn Fn(&Value) -> bool| {
            within(Duration::from_secs(5), what, || {
                let status: Value = serde_json::from_str(&eddy(&["status", "--json"])).unwrap();
                found(&status).then_some(status)
            })
        };
        let asks = |status: &Value| status.to_string().contains("run `eddy wake enroll`");
        let first = status("it says what is missing", &|status| asks(status) && status["state"] == "idle");
        assert_eq!(first["microphone_in_use"], false, "until then it listens when it is asked to: {first}");
        let said = eddy(&["wake", "enroll", "--json", "--from", &takes[0], &takes[1], &takes[2]]);
        assert!(said.contains("\"reloaded\":true"), "{said}");
        status("it listens", &|status| status["microphone_in_use"] == true && !asks(status));
        eddy(&["wake", "forget"]);
        status("it listens no more", &|status| status["microphone_in_use"] == false && asks(status));
    });
}

/// The turn that a call begins holds the question and not the phrase.
#[test]
fn the_turn_begins_behind_the_phrase() {
    let file = enrolled("Computer.");
    let overrides =
        vec!["voice.mode=\"wake-word\"".into(), format!("voice.wake_word_file=\"{}\"", file.path().display())];
    let config = Sources { overrides, ..Sources::default() }.load().unwrap().config;
    let mut hearing = Hearing::new(&config);
    let runtime = RuntimeOptions { cache: Some(runtime_folder()), threads: Some(2), ..RuntimeOptions::default() };
    hearing.load(&runtime).unwrap();

    let loud = |sound: Vec<f32>| {
        let heard = |sample: &f32| sample.abs() > 0.01;
        let (begin, end) = (sound.iter().position(heard).unwrap(), sound.iter().rposition(heard).unwrap());
        sound[begin..end].to_vec()
    };
    let (phrase, question) = (loud(said("en-gb:150", "Computer.")), loud(said("en-gb:150", "What is two plus two?")));
    // As short a stop as there is in one breath.
    let sound = [&vec![0.0; 16_000][..], &phrase, &[0.0; 1_280], &question, &[0.0; 8_000]].concat();
    let boundary = 16_000 + phrase.len();
    let mut called = None;
    for (number, frame) in sound.chunks_exact(FRAME).enumerate() {
        let frame: &[f32; FRAME] = frame.try_into().unwrap();
        let frame = Frame { recorded: frame, clean: frame, played: &[0.0; FRAME], echo: Echo::Absent };
        if let Some(noticed) = hearing.push(frame, Attention::Call, &[]).unwrap() {
            assert!(matches!(noticed, Noticed::Called { .. }) && called.is_none(), "{noticed:?}");
            let heard = (number + 1) * FRAME;
            called = Some((heard, heard - hearing.utterance().len()));
        }
    }
    let (noticed, begun) = called.unwrap();
    let seconds = |from: usize, to: usize| (to as f32 - from as f32) / 16_000.0;
    println!("noticed {} s and begun {} s behind the phrase", seconds(boundary, noticed), seconds(boundary, begun));
    assert!(seconds(boundary, noticed) < 0.6);
    // No more than the last sound of the phrase, and nothing lost of the question.
    assert!((-0.15..0.08).contains(&seconds(boundary, begun)));
}
