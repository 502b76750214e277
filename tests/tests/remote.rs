//! Models that another engine serves: llama.cpp's own server with a tiny random LFM2 model, and one that fails on purpose.

#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use eddy_ipc::client::{TextProxy, VisionProxy};
use eddy_ipc::{Delta, FinishReason, Options, RequestState, Token};
use eddy_tests::bus::{Daemon, Heard, Listening};
use eddy_tests::eddy::built;
use eddy_tests::fixtures::fixture;
use serde_json::{Value, json};
use zbus::Connection;

/// llama.cpp's server, which ends with this.
struct Llama {
    child: Child,
    address: String,
    _folder: tempfile::TempDir,
}

impl Llama {
    fn start(key: Option<&str>) -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let python = root.join("../target/llama/bin/python");
        assert!(python.is_file(), "{} is missing; `make llama` makes it", python.display());
        let folder = tempfile::tempdir().unwrap();
        let mut child = Command::new(python)
            .arg(root.join("clients/llama.py"))
            .arg(folder.path())
            .args(key)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut address = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut address).unwrap();
        assert!(address.starts_with("http://"), "llama.cpp's server did not start");
        Self { child, address: address.trim().to_owned(), _folder: folder }
    }

    fn url(&self) -> String {
        format!("{}/v1", self.address)
    }

    /// The answer of one request that is not streamed, asked without any of Eddy's code.
    fn direct(&self, body: &Value) -> Value {
        let mut stream = TcpStream::connect(self.address.trim_start_matches("http://")).unwrap();
        let body = body.to_string();
        let head = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap()).unwrap()
    }
}

impl Drop for Llama {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A daemon with one model folder, `far`, that another engine serves.
struct Desk {
    daemon: Daemon,
    _models: tempfile::TempDir,
}

impl Desk {
    fn start(description: &str, settings: &[&str], change: impl FnOnce(&mut Command)) -> Self {
        let models = tempfile::tempdir().unwrap();
        let folder = models.path().join("far");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("remote.toml"), description).unwrap();
        let daemon = Daemon::start_with(models.path(), settings, |command| {
            command.env("NO_PROXY", "*").env_remove("INVOCATION_ID").env_remove("EDDY_NETWORK");
            change(command);
        });
        Self { daemon, _models: models }
    }

    fn allowed(url: &str, further: &str) -> Self {
        Self::start(&format!("url = \"{url}\"\n{further}"), &["models.remote=true"], |_| {})
    }
}

fn options(token: &str) -> Options {
    Options {
        handle_token: Some(Token::new(token).unwrap()),
        model: Some("far".into()),
        greedy: Some(true),
        max_tokens: Some(24),
        ..Options::default()
    }
}

async fn ask(client: &Connection, options: &Options) -> Heard {
    let listening = Listening::to(client, options.handle_token.as_ref().unwrap().as_str()).await;
    let text = TextProxy::new(client).await.unwrap();
    text.generate(&[("system", "be brief"), ("user", "hello")], options).await.unwrap();
    listening.end().await
}

fn failure(heard: &Heard) -> &str {
    assert_eq!(heard.state, RequestState::Failed, "{heard:?}");
    &heard.outcome.failure.as_ref().unwrap().message
}

#[tokio::test]
async fn llama_cpp_answers_in_pieces_and_every_result_says_so() {
    let llama = Llama::start(None);
    let desk = Desk::allowed(&llama.url(), "");
    let client = desk.daemon.client().await;
    // Long enough to come in pieces: what is made between two looks is told at once.
    let heard = ask(&client, &Options { max_tokens: Some(400), ..options("one") }).await;
    assert_eq!(heard.state, RequestState::Done, "{:?}", heard.outcome.failure);
    let messages = json!([{ "role": "system", "content": "be brief" }, { "role": "user", "content": "hello" }]);
    let body = json!({ "messages": messages, "temperature": 0, "max_tokens": 400 });
    let llama_url = llama.url();
    let (direct, llama) = tokio::task::spawn_blocking(move || (llama.direct(&body), llama)).await.unwrap();
    let outcome = &heard.outcome;
    assert_eq!(outcome.text.as_deref(), direct["choices"][0]["message"]["content"].as_str());
    assert_eq!(heard.streamed(), outcome.text.clone().unwrap());
    assert!(heard.deltas.iter().filter(|delta| matches!(delta, Delta::Text(_))).count() >= 2, "{:?}", heard.deltas);
    assert_eq!((outcome.tokens, outcome.finish_reason), (Some(400), Some(FinishReason::Length)));
    assert_eq!(outcome.prompt_tokens, direct["usage"]["prompt_tokens"].as_u64());
    assert_eq!(outcome.remote.as_deref(), Some(llama_url.as_str()));
    assert!(outcome.latency["first_text"] <= outcome.latency["reply"], "{:?}", outcome.latency);

    // Held to a schema by the engine that makes it, whatever the weights say.
    let schema = json!({ "type": "object", "properties": { "n": { "type": "boolean" } }, "required": ["n"],
                         "additionalProperties": false });
    let held = Options { schema: Some(schema.to_string()), max_tokens: Some(200), ..options("two") };
    let heard = ask(&client, &held).await;
    let text = heard.outcome.text.clone().unwrap();
    let answer: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text:?}"));
    assert!(answer["n"].is_boolean());
    // Tools are taken in the form that the daemon's own models take them in.
    let tools = json!([{ "name": "light", "description": "d", "parameters": { "type": "object", "properties": {} } }]);
    let heard = ask(&client, &Options { tools: Some(tools.to_string()), ..options("three") }).await;
    assert_eq!(heard.state, RequestState::Done, "{:?}", heard.outcome.failure);

    // Cancelled after its first piece; what came until then is there, and so is where it came from.
    let long = Options { max_tokens: Some(900), ..options("four") };
    let mut listening = Listening::to(&client, "four").await;
    TextProxy::new(&client).await.unwrap().generate(&[("user", "on and on")], &long).await.unwrap();
    while !matches!(listening.first().await, Delta::Text(_)) {}
    listening.request.cancel().await.unwrap();
    let heard = listening.end().await;
    assert_eq!(heard.state, RequestState::Cancelled);
    assert!(heard.outcome.remote.is_some() && !heard.outcome.text.unwrap().is_empty());

    // The command line says it too, beside the answer and in JSON.
    let mut command = Command::new(built("eddy"));
    command.args(["chat", "hello", "--model", "far", "--greedy", "--max-items", "5", "--json"]);
    command.env("DBUS_SESSION_BUS_ADDRESS", &desk.daemon.bus.address).env("XDG_CONFIG_HOME", "/nonexistent");
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let (report, errors) = (output.stdout, String::from_utf8(output.stderr).unwrap());
    assert!(output.status.success() && errors.contains("left this machine's daemon"), "{errors}");
    assert_eq!(serde_json::from_slice::<Value>(&report).unwrap()["remote"], llama_url);

    // It does not look at images; its own word on it comes back.
    let seeing = Desk::allowed(&llama.url(), "task = \"vision\"");
    let client = seeing.daemon.client().await;
    let listening = Listening::to(&client, "five").await;
    let image = std::fs::read(images().join("tiny.png")).unwrap_or_else(|_| png());
    let image = eddy_ipc::fd::seal("image", &image).unwrap();
    VisionProxy::new(&client).await.unwrap().ask(&[(&image).into()], "what?", &options("five")).await.unwrap();
    let heard = listening.end().await;
    assert!(failure(&heard).contains("image"), "{heard:?}");
    assert!(heard.outcome.remote.is_some());
}

fn images() -> PathBuf {
    fixture("vision-reference")
}

/// The smallest picture: one grey pixel.
fn png() -> Vec<u8> {
    let bytes = "89504e470d0a1a0a0000000d4948445200000001000000010800000000 3a7e9b550000000a49444154789c636000000002000148afa4710000000049454e44ae426082";
    let digits: Vec<u8> = bytes.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

#[tokio::test]
async fn an_engine_that_wants_a_key_gets_it_from_a_file() {
    let llama = Llama::start(Some("sesame"));
    let desk = Desk::allowed(&llama.url(), "model = \"tiny-lfm2\"");
    let heard = ask(&desk.daemon.client().await, &options("one")).await;
    assert!(failure(&heard).contains("401") && failure(&heard).contains("key_file"), "{heard:?}");
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("key");
    std::fs::write(&key, "sesame\n").unwrap();
    let desk = Desk::allowed(&llama.url(), &format!("key_file = \"{}\"", key.display()));
    let heard = ask(&desk.daemon.client().await, &options("one")).await;
    assert_eq!(heard.state, RequestState::Done, "{heard:?}");
    assert!(!desk.daemon.log().contains("sesame"));
}

#[tokio::test]
async fn it_is_off_unless_it_is_wanted_and_the_unit_lets_it() {
    let description = "url = \"http://127.0.0.1:1/v1\"";
    let refused = async |desk: &Desk, expected: &str| {
        let client = desk.daemon.client().await;
        let text = TextProxy::new(&client).await.unwrap();
        let listening = Listening::to(&client, "one").await;
        let sentence = match text.generate(&[("user", "hello")], &options("one")).await {
            Err(error) => error.to_string(),
            Ok(_) => {
                let heard = listening.end().await;
                assert_eq!(heard.outcome.remote, None, "nothing has left");
                failure(&heard).to_owned()
            }
        };
        assert!(sentence.contains(expected), "{sentence}");
    };
    refused(&Desk::start(description, &[], |_| {}), "models.remote = true").await;
    let unit = |command: &mut Command| {
        command.env("INVOCATION_ID", "1");
    };
    refused(&Desk::start(description, &["models.remote=true"], unit), "remote.conf").await;
    refused(&Desk::start("url = 5", &["models.remote=true"], |_| {}), "remote.toml").await;

    // Allowed by the drop-in, it is used: nobody is there, and that is another error, which says that it left.
    let allowed = |command: &mut Command| {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../systemd/remote.conf");
        let text = std::fs::read_to_string(root).unwrap();
        let (name, value) = text.lines().find_map(|line| line.strip_prefix("Environment=")?.split_once('=')).unwrap();
        command.env("INVOCATION_ID", "1").env(name, value);
    };
    let slow = format!("{description}\ntries = 2");
    let desk = Desk::start(&slow, &["models.remote=true"], allowed);
    let client = desk.daemon.client().await;
    let heard = ask(&client, &options("one")).await;
    assert!(failure(&heard).contains("no answer") && failure(&heard).contains("2 times"), "{heard:?}");
    assert!(heard.outcome.remote.is_some());
    // Who names no model never gets one that is elsewhere.
    let text = TextProxy::new(&client).await.unwrap();
    let error = text.generate(&[("user", "hello")], &Options::default()).await.expect_err("no model here");
    assert!(matches!(error, eddy_ipc::Error::ModelMissing(_)), "{error}");
}

/// An engine that answers each request with the next of these, and keeps what it was asked.
struct Scripted {
    url: String,
    bodies: Arc<Mutex<Vec<Value>>>,
}

enum Act {
    Status(u16, &'static str),
    Events(&'static str),
    /// Events, and then nothing while the connection stays open.
    Stall(&'static str),
    /// Events, and then the end of the connection.
    Break(&'static str),
}

impl Scripted {
    fn start(acts: Vec<Act>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/v1", listener.local_addr().unwrap());
        let bodies = Arc::<Mutex<Vec<Value>>>::default();
        let kept = Arc::clone(&bodies);
        std::thread::spawn(move || {
            let mut open = Vec::new();
            for act in acts {
                let (mut stream, _) = listener.accept().unwrap();
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                let (mut line, mut length) = (String::from("x"), 0);
                while !line.trim().is_empty() {
                    line.clear();
                    reader.read_line(&mut line).unwrap();
                    if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                        length = value.trim().parse().unwrap();
                    }
                }
                let mut body = vec![0; length];
                reader.read_exact(&mut body).unwrap();
                kept.lock().unwrap().push(serde_json::from_slice(&body).unwrap());
                let (status, text) = match &act {
                    Act::Status(status, text) => (*status, *text),
                    Act::Events(text) | Act::Stall(text) | Act::Break(text) => (200, *text),
                };
                let length = match act {
                    Act::Status(..) | Act::Events(_) => format!("Content-Length: {}\r\n", text.len()),
                    Act::Stall(_) | Act::Break(_) => String::new(),
                };
                let head = format!("HTTP/1.1 {status} X\r\nConnection: close\r\n{length}\r\n{text}");
                stream.write_all(head.as_bytes()).unwrap();
                if let Act::Stall(_) = act {
                    open.push(stream);
                }
            }
            std::thread::sleep(Duration::from_secs(20));
        });
        Self { url, bodies }
    }
}

const PIECE: &str = "data: {\"choices\":[{\"delta\":{\"content\":\"once \"}}]}\n\n";
const CALLED: &str = concat!(
    "data: {\"choices\":[{\"delta\":{\"tool_calls\":[{\"index\":0,\"id\":\"1\",\"function\":{\"name\":\"light\",",
    "\"arguments\":\"{\\\"on\\\":\"}}]}}]}\n\n",
    "data: {\"choices\":[{\"delta\":{\"tool_calls\":[{\"index\":0,\"function\":{\"arguments\":\"true}\"}}]}}]}\n\n",
    "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"tool_calls\"}]}\n\ndata: [DONE]\n\n",
);

#[tokio::test]
async fn an_engine_that_is_busy_is_asked_again_and_one_that_fails_is_named() {
    let named = "model = \"m\"\nanswer_timeout = 1\ntries = 3";
    let busy = || Act::Status(503, "{\"error\":{\"message\":\"loading the model\"}}");
    let engine = Scripted::start(vec![busy(), Act::Events(CALLED)]);
    let desk = Desk::allowed(&engine.url, named);
    let client = desk.daemon.client().await;
    let tools = json!([{ "name": "light", "parameters": {} }]).to_string();
    let heard = ask(&client, &Options { tools: Some(tools), ..options("one") }).await;
    assert_eq!(heard.outcome.tool_calls.as_deref(), Some("[{\"name\":\"light\",\"arguments\":{\"on\":true}}]"));
    assert_eq!((heard.state, heard.outcome.finish_reason), (RequestState::Done, Some(FinishReason::ToolCalls)));
    let bodies = engine.bodies.lock().unwrap().clone();
    assert_eq!((bodies.len(), &bodies[0], &bodies[1]["model"]), (2, &bodies[1], &json!("m")));
    assert_eq!((&bodies[1]["temperature"], &bodies[1]["max_tokens"]), (&json!(0.0), &json!(24)));
    assert_eq!(bodies[1]["messages"][0], json!({ "role": "system", "content": "be brief" }));

    for (number, (acts, expected, said)) in [
        (vec![busy(), busy(), busy()], "503 loading the model, 3 times", ""),
        (vec![Act::Status(400, "{\"error\":{\"message\":\"too long\"}}")], "400 too long", ""),
        (vec![Act::Status(302, "")], "302", ""),
        // An answer that has begun is not begun again.
        (vec![Act::Break(PIECE)], "broke off", "once "),
        (vec![Act::Stall(PIECE)], "broke off", "once "),
        (vec![Act::Events("data: <html>\n\n")], "no JSON", ""),
        (vec![Act::Events("data: {\"error\":{\"message\":\"out of memory\"}}\n\n")], "out of memory", ""),
    ]
    .into_iter()
    .enumerate()
    {
        let engine = Scripted::start(acts);
        let desk = Desk::allowed(&engine.url, named);
        let heard = ask(&desk.daemon.client().await, &options(&format!("t{number}"))).await;
        assert!(failure(&heard).contains(expected), "{expected}: {heard:?}");
        assert!(failure(&heard).contains(&engine.url), "{heard:?}");
        assert_eq!((heard.outcome.text.as_deref(), heard.outcome.remote.is_some()), (Some(said), true));
    }
}

#[tokio::test]
async fn images_go_as_they_are() {
    let engine = Scripted::start(vec![Act::Events(concat!(
        "data: {\"choices\":[{\"delta\":{\"content\":\"a cat\"}}]}\n\n",
        "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n",
    ))]);
    let desk = Desk::allowed(&engine.url, "model = \"m\"\ntask = \"vision\"");
    let client = desk.daemon.client().await;
    let listening = Listening::to(&client, "one").await;
    let image = eddy_ipc::fd::seal("image", &png()).unwrap();
    VisionProxy::new(&client).await.unwrap().ask(&[(&image).into()], "what?", &options("one")).await.unwrap();
    let heard = listening.end().await;
    assert_eq!((heard.outcome.text.as_deref(), heard.state), (Some("a cat"), RequestState::Done), "{heard:?}");
    assert_eq!(heard.outcome.remote.as_deref(), Some(engine.url.as_str()));
    let content = engine.bodies.lock().unwrap()[0]["messages"][0]["content"].clone();
    assert!(content[0]["image_url"]["url"].as_str().unwrap().starts_with("data:image/png;base64,iVBORw0KGgo"));
    assert_eq!(content[1]["text"], "what?");
}
