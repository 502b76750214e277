//! The model that comes with Eddy, through the daemon, by what its answers mean: the text that it says it speaks, and what a
//! recogniser that is not ours hears.

#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::Command;

use eddy_ipc::client::{AssistantProxy, ConversationProxy};
use eddy_ipc::{Options, RequestState, Token};
use eddy_tests::bus::{Daemon, Listening, samples};
use eddy_tests::eddy::built;
use eddy_tests::fixtures::runtime_folder;
use serde_json::Value;

fn embedded() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/embedded")
}

fn questions() -> Vec<Value> {
    let text = std::fs::read(embedded().join("questions/questions.json")).unwrap();
    serde_json::from_slice(&text).unwrap()
}

fn demo(arguments: &[&str], answers: &Path) -> Value {
    let output = Command::new(built("eddy"))
        .args(["demo", "--json", "-o", answers.to_str().unwrap()])
        .args(arguments)
        .env("XDG_CONFIG_HOME", "/nonexistent")
        .env("ORT_DYLIB_PATH", runtime_folder().join("libonnxruntime.so.1.32.0"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// What Whisper hears in each file.
fn judged(files: &[PathBuf]) -> Vec<Vec<String>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python = root.join("../target/judge/bin/python");
    assert!(python.is_file(), "{} is missing; `make judge` makes it", python.display());
    let output = Command::new(python).arg(root.join("clients/judge.py")).args(files).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The words of a sentence as the judge writes them.
fn words(sentence: &str) -> Vec<String> {
    let plain: String =
        sentence.to_lowercase().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { ' ' }).collect();
    plain.split_whitespace().map(str::to_owned).collect()
}

/// Of the demo's answers the word that no other answer could have in its place.
const DISTINGUISHING: [(&str, &str); 3] = [("sum.wav", "8"), ("capital.wav", "tokyo"), ("day.wav", "tuesday")];

/// Numbers are written either way.
fn numerals(words: &[String]) -> Vec<String> {
    let names = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"];
    let numeral =
        |word: &String| names.iter().position(|name| name == word).map_or_else(|| word.clone(), |n| n.to_string());
    words.iter().map(numeral).collect()
}

#[test]
fn the_demos_answers_are_right_to_read_and_to_hear() {
    let out = tempfile::tempdir().unwrap();
    let report = demo(&[], out.path());
    let asked: Vec<Value> = questions().into_iter().filter(|question| question["demo"] == true).collect();
    let answers = report["answers"].as_array().unwrap();
    assert_eq!((asked.len(), answers.len()), (3, 3));
    let mut files = Vec::new();
    for (question, answer) in asked.iter().zip(answers) {
        assert_eq!(answer["text"].as_str().unwrap().trim(), question["answer"].as_str().unwrap());
        assert_eq!(answer["finish_reason"], "stop");
        files.push(PathBuf::from(answer["answer"].as_str().unwrap()));
        let sound = answer["samples"].as_u64().unwrap() as f64 / 24_000.0;
        assert!((0.5..6.0).contains(&sound), "{sound} s");
    }
    for (question, heard) in asked.iter().zip(judged(&files)) {
        let said = words(question["answer"].as_str().unwrap());
        // A sentence may be heard in a word otherwise; what distinguishes it may not.
        let (said, heard) = (numerals(&said), numerals(&heard));
        let (_, word) = DISTINGUISHING.iter().find(|(file, _)| question["file"] == *file).unwrap();
        assert!(heard.iter().any(|heard| heard == word), "{said:?} was heard as {heard:?}");
        let missing: Vec<&String> = said.iter().filter(|word| !heard.contains(word)).collect();
        assert!(missing.len() <= said.len() / 4, "{said:?} was heard as {heard:?}");
    }
}

#[test]
fn what_is_outside_is_not_understood_and_a_timer_is_a_call() {
    let out = tempfile::tempdir().unwrap();
    let wav = |name: &str| embedded().join("questions").join(name).to_str().unwrap().to_owned();
    let report = demo(&[&wav("outside.wav"), &wav("timer.wav")], out.path());
    let text = |index: usize| report["answers"][index]["text"].as_str().unwrap().to_owned();
    let outside = &questions().into_iter().find(|question| question["file"] == "outside.wav").unwrap()["answer"];
    assert_eq!(text(0).trim(), outside.as_str().unwrap());
    assert!(text(1).contains("set_timer(minutes=10)"), "{}", text(1));
    assert_eq!(report["answers"][1]["finish_reason"], "tool_calls");
}

#[tokio::test]
async fn a_dialogue_goes_on_from_what_was_said() {
    let daemon = Daemon::start_with(&embedded(), &[], |_| {});
    let client = daemon.client().await;
    let assistant = AssistantProxy::new(&client).await.unwrap();
    let path = assistant.open_conversation(&Options::default()).await.unwrap();
    let conversation = ConversationProxy::builder(&client).path(path).build().await.unwrap();
    for (token, name) in [("one", "sum.wav"), ("two", "sum-more.wav")] {
        let bytes = std::fs::read(embedded().join("questions").join(name)).unwrap();
        let wav = eddy_ipc::fd::seal(name, &bytes).unwrap();
        let listening = Listening::to(&client, token).await;
        let options = Options { handle_token: Token::new(token).ok(), ..Options::default() };
        let (_, sound) = conversation.ask_spoken((&wav).into(), &options).await.unwrap();
        let sound = samples(sound).await;
        let heard = listening.end().await;
        assert_eq!(heard.state, RequestState::Done, "{heard:?}");
        let expected = questions().into_iter().find(|question| question["file"] == name).unwrap();
        assert_eq!(heard.outcome.text.unwrap().trim(), expected["answer"].as_str().unwrap());
        assert!(sound.len() > 12_000);
    }
    println!("at its peak {} MiB", daemon.peak() >> 20);
    assert!(daemon.peak() < 200 << 20, "{} MiB", daemon.peak() >> 20);
}
