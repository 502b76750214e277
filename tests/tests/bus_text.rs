//! Text1 on the bus: the same words as in one process, streamed, constrained, cancelled, refused.

#![allow(clippy::unwrap_used)]

use std::io::Read;
use std::process::Command;

use eddy_ipc::client::{DaemonProxy, TextProxy};
use eddy_ipc::{Delta, Error, FinishReason, Options, RequestState};
use eddy_tests::bus::{Daemon, Heard, Listening, greedy, models};
use eddy_tests::eddy::built;
use eddy_tests::fixtures::{fixture, runtime_folder};
use serde_json::Value;
use zbus::Connection;

fn start() -> Daemon {
    Daemon::start_with(&models(), &["models.text=text-a", "models.precision=fp32"], |_| {})
}

async fn generate(client: &Connection, messages: &[(&str, &str)], options: &Options) -> Heard {
    let token = options.handle_token.as_ref().unwrap().as_str();
    let listening = Listening::to(client, token).await;
    TextProxy::new(client).await.unwrap().generate(messages, options).await.unwrap();
    listening.end().await
}

/// `eddy chat` with the model in its own process.
fn in_process(arguments: &[&str]) -> Value {
    let folder = fixture("text-a");
    let output = Command::new(built("eddy"))
        .arg("chat")
        .args(arguments)
        .args(["--json", "--greedy", "--precision", "fp32", "--model", folder.to_str().unwrap()])
        .env("ORT_DYLIB_PATH", runtime_folder().join("libonnxruntime.so.1.32.0"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[tokio::test]
async fn answers_are_those_of_the_model_streamed_on_every_way() {
    let daemon = start();
    let client = daemon.client().await;
    let (mut reader, writer) = std::io::pipe().unwrap();
    let options = Options { max_tokens: Some(24), stream: Some(writer.into()), ..greedy("a") };
    let messages = [("system", "be brief"), ("user", "hello there")];
    let heard = generate(&client, &messages, &options).await;
    drop(options);
    assert_eq!(heard.state, RequestState::Done, "{heard:?}\n{}", daemon.log());
    let mut streamed = String::new();
    reader.read_to_string(&mut streamed).unwrap();
    let text = heard.outcome.text.clone().unwrap();
    // A pipe carries what the bus cannot.
    assert_eq!((heard.streamed(), streamed.replace('\0', "\u{fffd}")), (text.clone(), text.clone()));
    assert_eq!((heard.outcome.tokens, heard.outcome.finish_reason), (Some(24), Some(FinishReason::Length)));
    for stage in ["wait", "prefill", "decode", "first_text", "reply"] {
        assert!(heard.outcome.latency.contains_key(stage), "{stage}: {:?}", heard.outcome.latency);
    }
    let expected = in_process(&["hello there", "--system", "be brief", "--max-items", "24"]);
    assert_eq!(expected["text"], streamed);

    // A second turn begins with what is in memory, and nobody else's conversation changes it.
    let turns = [messages.as_slice(), &[("assistant", &text), ("user", "and then?")]].concat();
    let on = generate(&client, &turns, &Options { max_tokens: Some(8), ..greedy("b") }).await;
    let other = generate(&client, &[("user", "something else")], &Options { max_tokens: Some(8), ..greedy("c") }).await;
    let again = generate(&client, &turns, &Options { max_tokens: Some(8), ..greedy("d") }).await;
    assert_eq!(on.outcome.text, again.outcome.text);
    assert_ne!(on.outcome.text, other.outcome.text);
    let report = DaemonProxy::new(&client).await.unwrap().report().await.unwrap();
    let number = |name: &str| u64::try_from(report[name].clone()).unwrap();
    assert!(number("prefix_hits") >= 2 && number("prefix_positions_reused") > 0, "{report:?}");
}

#[tokio::test]
async fn forms_are_kept_and_calls_are_told() {
    let daemon = start();
    let client = daemon.client().await;
    let schema = r#"{"type": "object", "properties": {"day": {"enum": ["mon", "tue"]}}, "required": ["day"],
                     "additionalProperties": false}"#;
    let options = Options { schema: Some(schema.into()), max_tokens: Some(100), ..greedy("schema") };
    let heard = generate(&client, &[("user", "which day?")], &options).await;
    let answer: Value = serde_json::from_str(&heard.outcome.text.unwrap()).unwrap();
    assert!(answer["day"] == "mon" || answer["day"] == "tue", "{answer}");

    let text = TextProxy::new(&client).await.unwrap();
    let wrong = [
        Options { tools: Some("[{".into()), ..Options::default() },
        Options { tools: Some("{}".into()), ..Options::default() },
        Options { schema: Some("nonsense".into()), ..Options::default() },
    ];
    for options in wrong {
        let error = text.generate(&[("user", "x")], &options).await.unwrap_err();
        assert!(matches!(error, Error::InvalidOption(_)), "{error:?}");
    }
    let options = Options { schema: Some(r#"{"type": "no such type"}"#.into()), ..greedy("odd") };
    let failure = generate(&client, &[("user", "x")], &options).await.outcome.failure.unwrap();
    assert!(failure.name.ends_with("InvalidArgument"), "{failure:?}");

    let stopped =
        generate(&client, &[("user", "hello there")], &Options { max_tokens: Some(24), ..greedy("whole") }).await;
    let whole: Vec<char> = stopped.outcome.text.unwrap().chars().collect();
    let stop: String = whole[4..7].iter().collect();
    let options = Options { stop: Some(vec![stop.clone()]), max_tokens: Some(24), ..greedy("stop") };
    let heard = generate(&client, &[("user", "hello there")], &options).await;
    let said = heard.outcome.text.unwrap();
    assert!(!said.contains(&stop) && whole.iter().collect::<String>().starts_with(&said), "{said:?}");
    assert_eq!(heard.outcome.finish_reason, Some(FinishReason::Stop));
}

#[tokio::test]
async fn what_cannot_be_answered_is_refused_with_its_reason() {
    let daemon = start();
    let client = daemon.client().await;
    let text = TextProxy::new(&client).await.unwrap();
    let refused =
        async |messages: &[(&str, &str)], options: Options| text.generate(messages, &options).await.unwrap_err();
    let none = Options::default;
    assert!(matches!(refused(&[], none()).await, Error::InvalidArgument(_)));
    assert!(matches!(refused(&[("robot", "x")], none()).await, Error::InvalidArgument(line) if line.contains("robot")));
    assert!(matches!(refused(&[("system", "x")], none()).await, Error::InvalidArgument(_)));
    let long = "x".repeat(2 << 20);
    assert!(matches!(refused(&[("user", &long)], none()).await, Error::TooLarge(line) if line.contains("text_bytes")));
    let speech = Options { model: Some("speech-a".into()), ..none() };
    assert!(matches!(refused(&[("user", "x")], speech).await, Error::Unsupported(_)));

    // Longer than the model's context: an error before any work, or the oldest turns go.
    let words = "again and again ".repeat(30);
    let long: Vec<(&str, &str)> = (0..8).flat_map(|_| [("user", words.as_str()), ("assistant", "yes")]).collect();
    let long = [&[("system", "be brief")], long.as_slice(), &[("user", "the last word")]].concat();
    let heard = generate(&client, &long, &Options { max_tokens: Some(4), ..greedy("long") }).await;
    assert!(heard.outcome.failure.unwrap().name.ends_with("TooLarge"));
    let folded = Options { max_tokens: Some(4), drop_oldest: Some(true), ..greedy("folded") };
    let heard = generate(&client, &long, &folded).await;
    assert_eq!(heard.state, RequestState::Done, "{heard:?}");
    let dropped = heard.outcome.dropped.unwrap();
    assert!(dropped >= 2 && dropped % 2 == 0, "whole turns: {dropped}");

    // Cancelled with what there was.
    let mut listening = Listening::to(&client, "cancelled").await;
    let options = Options { max_tokens: Some(100_000), temperature: Some(2.0), ..greedy("cancelled") };
    let options = Options { greedy: None, ..options };
    text.generate(&[("user", "tell me everything")], &options).await.unwrap();
    while !matches!(listening.first().await, Delta::Text(_)) {}
    listening.request.cancel().await.unwrap();
    let heard = listening.end().await;
    assert!(matches!(heard.state, RequestState::Cancelled | RequestState::Done), "{heard:?}");
    assert!(!heard.outcome.text.unwrap().is_empty());
}
