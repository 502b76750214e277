//! The command line through the daemon: every verb does what it does in its own process, and says how it went.

#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader, Read};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use eddy_tests::bus::{Daemon, models};
use eddy_tests::eddy::built;
use eddy_tests::fixtures::{fixture, runtime_folder};
use serde_json::Value;

const FAMILY: [&str; 4] =
    ["models.speech=speech-a", "models.text=text-a", "models.retrieval=colbert-causal", "models.precision=fp32"];

struct Desk(Daemon);

impl Desk {
    fn start() -> Self {
        Self(Daemon::start_with(&models(), &FAMILY, |_| {}))
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(built("eddy"));
        command
            .args(arguments)
            .env("DBUS_SESSION_BUS_ADDRESS", &self.0.bus.address)
            .env("XDG_CONFIG_HOME", self.0.folder.path().join("config"))
            .env("XDG_STATE_HOME", self.0.folder.path().join("state"))
            .env("ORT_DYLIB_PATH", runtime_folder().join("libonnxruntime.so.1.32.0"))
            .stdin(Stdio::null());
        command
    }

    fn output(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    fn shown(&self, arguments: &[&str]) -> String {
        let output = self.output(arguments);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "eddy {arguments:?}: {errors}\n{}", self.0.log());
        String::from_utf8(output.stdout).unwrap()
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let shown = self.shown(&[arguments, &["--json"]].concat());
        serde_json::from_str(&shown).unwrap_or_else(|error| panic!("{arguments:?}: {error}\n{shown}"))
    }

    fn error(&self, arguments: &[&str]) -> String {
        let output = self.output(arguments);
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), errors.lines().count()), (Some(1), 1), "{arguments:?}: {errors}");
        errors
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Without what differs from run to run.
fn lasting(mut report: Value, keys: &[&str]) -> Value {
    for key in keys {
        report.as_object_mut().unwrap().remove(*key);
    }
    report
}

#[test]
fn speech_and_text_are_those_of_a_model_in_this_process() {
    let desk = Desk::start();
    let out = tempfile::tempdir().unwrap();
    let question = fixture("questions/question.wav");
    let here =
        |family: &str| vec!["--model".to_owned(), text(&fixture(family)).to_owned(), "--precision=fp32".to_owned()];
    let both = |verb: &[&str], family: &str| {
        let there = desk.json(verb);
        let here = here(family);
        let local: Vec<&str> = verb.iter().copied().chain(here.iter().map(String::as_str)).collect();
        let local = desk.json(&local);
        assert_eq!(lasting(there.clone(), &["timings"]), lasting(local, &["timings"]), "{verb:?}");
        there
    };
    let (answer, said) = (out.path().join("answer.wav"), out.path().join("said.wav"));
    let converse = ["converse", text(&question), "-o", text(&answer), "--greedy", "--max-items", "40"];
    let report = both(&converse, "speech-a");
    assert_eq!(u64::from(hound::WavReader::open(&answer).unwrap().duration()), report["samples"].as_u64().unwrap());
    let words = "Ωthe we8";
    let report =
        both(&["say", words, "-o", text(&said), "--greedy", "--max-items", "20", "--voice", "us-male"], "speech-a");
    assert_eq!(u64::from(hound::WavReader::open(&said).unwrap().duration()), report["samples"].as_u64().unwrap());
    both(&["chat", "hello there", "--greedy", "--max-items", "20", "--system", "be brief"], "text-a");
    both(&["embed", "a kettle", "the harbour", "--query"], "colbert-causal");
    let heard = desk.json(&["transcribe", text(&question), "--max-items", "20"]);
    let plain = desk.shown(&["transcribe", text(&question), "--max-items", "20"]);
    assert_eq!(plain.trim_end(), heard["text"].as_str().unwrap().trim_end());

    let error = desk.error(&["chat", "hello", "--model", "nobody"]);
    assert!(error.contains("nobody"), "{error}");
    let error = desk.error(&["chat", "hello", "--precision", "q4"]);
    assert!(error.contains("--model DIR"), "{error}");
    let error = desk.error(&["say", "hello"]);
    assert!(!error.contains("panicked"), "{error}");
}

#[test]
fn an_index_is_filled_and_searched_with_the_daemons_model() {
    let desk = Desk::start();
    let notes = tempfile::tempdir().unwrap();
    std::fs::write(notes.path().join("one.md"), "# Tea\n\nThe kettle stands by the window.\n").unwrap();
    std::fs::write(notes.path().join("two.md"), "# Sea\n\nThe harbour is calm tonight.\n").unwrap();
    desk.shown(&["index", "create", "notes"]);
    let added = desk.json(&["index", "add", "notes", text(notes.path())]);
    assert_eq!((&added["documents"], &added["added"]), (&2.into(), &2.into()));
    let again = desk.json(&["index", "add", "notes", text(notes.path())]);
    assert_eq!((&again["added"], &again["kept"]), (&0.into(), &2.into()));
    let hits = desk.json(&["index", "search", "notes", "The kettle stands by the window."]);
    assert!(hits["hits"][0]["document"].as_str().unwrap().ends_with("one.md"), "{hits}");
    // Other callers of the bus find the same.
    let called = desk.0.run(
        "busctl",
        &[
            "--user",
            "--json=short",
            "call",
            "org.eddy.Assistant1",
            "/org/eddy/Assistant1/index/notes",
            "org.eddy.Index1",
            "Search",
            "sua{sv}",
            "The kettle stands by the window.",
            "1",
            "0",
        ],
    );
    assert!(called.contains("one.md") && called.contains("kettle"), "{called}");
    let listed = desk.json(&["index", "list"]);
    assert_eq!((&listed["notes"]["passages"], &listed["notes"]["model"]), (&2.into(), &"colbert-causal".into()));
}

#[test]
fn the_daemon_is_seen_and_managed() {
    let desk = Desk::start();
    let status = desk.json(&["status"]);
    assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
    assert!(desk.shown(&["status"]).contains("voice"));
    desk.shown(&["models", "load", "text-a"]);
    let state = |name: &str| {
        let listed = desk.json(&["models", "list"]);
        let models = listed["models"].as_array().unwrap();
        models.iter().find(|model| model["name"] == name).unwrap()["state"].as_str().unwrap().to_owned()
    };
    assert_eq!(state("text-a"), "loaded");
    desk.shown(&["models", "unload", "text-a"]);
    assert_eq!(state("text-a"), "unloaded");
    let error = desk.error(&["models", "load", "speech-a-faulty"]);
    assert!(error.contains("decoder"), "{error}");

    desk.shown(&["mute"]);
    assert_eq!(desk.json(&["status"])["muted"], true);
    desk.shown(&["unmute"]);
    assert_eq!(desk.json(&["status"])["muted"], false);
    desk.shown(&["interrupt"]);
    assert!(desk.error(&["models", "load", "nope"]).contains("eddy models list"));

    desk.shown(&["access", "grant", "org.example.Notes", "converse"]);
    desk.shown(&["access", "revoke", "org.example.Notes", "listen"]);
    let rules = desk.json(&["access", "list"]);
    let rules: Vec<(&str, &str)> = rules["rules"]
        .as_array()
        .unwrap()
        .iter()
        .map(|rule| (rule["capability"].as_str().unwrap(), rule["decision"].as_str().unwrap()))
        .collect();
    assert_eq!(rules, [("listen", "deny"), ("converse", "allow")]);
    desk.shown(&["access", "revoke", "org.example.Notes", "listen", "--forget"]);
    assert_eq!(desk.json(&["access", "list"])["rules"].as_array().unwrap().len(), 1);
    assert!(desk.error(&["access", "grant", "org.example.Notes", "fly"]).contains("one of"));
}

#[test]
fn ctrl_c_cancels_in_the_daemon_too() {
    let desk = Desk::start();
    let mut child = desk
        .command(&["chat", "tell me everything", "--max-items", "100000"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = [0; 8];
    child.stdout.as_mut().unwrap().read_exact(&mut first).unwrap();
    let process = rustix::process::Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    rustix::process::kill_process(process, rustix::process::Signal::INT).unwrap();
    let mut rest = Vec::new();
    child.stdout.take().unwrap().read_to_end(&mut rest).unwrap();
    let end = child.wait_with_output().unwrap();
    // Small contexts end by themselves now and then, before the signal comes.
    assert!(matches!(end.status.code(), Some(130 | 0)), "{end:?}");
    let report = desk.json(&["status"])["report"].clone();
    assert_eq!(report["queue"], 0);
}

#[test]
fn without_a_daemon_the_way_to_one_is_told() {
    let bus = eddy_tests::bus::PrivateBus::start();
    let eddy = |arguments: &[&str], address: &str| {
        let output = Command::new(built("eddy")).args(arguments).env("DBUS_SESSION_BUS_ADDRESS", address).output();
        let output = output.unwrap();
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stderr).unwrap()
    };
    for verb in [&["status"][..], &["chat", "hello"], &["models", "load", "x"], &["index", "create", "x"]] {
        let error = eddy(verb, &bus.address);
        assert!(
            error.contains("no eddyd answers") && error.contains("systemctl --user start eddy"),
            "{verb:?}: {error}"
        );
    }
    assert!(eddy(&["status"], "unix:path=/nonexistent").contains("cannot connect"));
}

#[test]
fn configuration_and_machine_are_looked_at_without_a_daemon() {
    let home = tempfile::tempdir().unwrap();
    let eddy = |arguments: &[&str]| {
        Command::new(built("eddy"))
            .args(arguments)
            .env("XDG_CONFIG_HOME", home.path())
            .env("EDITOR", "true")
            .env("ORT_DYLIB_PATH", runtime_folder().join("libonnxruntime.so.1.32.0"))
            .env("EDDY_MODELS__DIRECTORIES", format!("[\"{}\"]", fixture("text-a").display()))
            .env("DBUS_SESSION_BUS_ADDRESS", "unix:path=/nonexistent")
            .output()
            .unwrap()
    };
    let shown = |arguments: &[&str]| {
        let output = eddy(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let file = home.path().join("eddy/eddy.toml");
    assert_eq!(shown(&["config", "path"]).trim(), text(&file));
    assert!(shown(&["config", "edit"]).contains("right"));
    assert!(std::fs::read_to_string(&file).unwrap().contains("[voice]"), "a new file explains every key");
    std::fs::write(&file, "[voice]\nbarge_in = false\n").unwrap();
    let set = shown(&["config", "show", "--set"]);
    assert!(set.contains("voice.barge_in = false") && set.contains("eddy.toml:2"), "{set}");
    let all: Value = serde_json::from_str(&shown(&["config", "show", "--json"])).unwrap();
    assert!(all["settings"].as_object().unwrap().len() > 50);
    let doctor: Value = serde_json::from_str(&shown(&["doctor", "--json"])).unwrap();
    let whats: Vec<&str> =
        doctor["findings"].as_array().unwrap().iter().map(|finding| finding["what"].as_str().unwrap()).collect();
    for what in ["configuration", "bus", "ONNX Runtime", "microphone", "speaker", "real time", "model", "memory"] {
        assert!(whats.contains(&what), "{what}: {whats:?}");
    }
    std::fs::write(&file, "[voice]\nbarge_inn = false\n").unwrap();
    let wrong = eddy(&["config", "check"]);
    let errors = String::from_utf8(wrong.stderr).unwrap();
    assert!(
        wrong.status.code() == Some(1) && errors.contains("eddy.toml:2") && errors.contains("barge_in"),
        "{errors}"
    );
    assert_eq!(eddy(&["doctor"]).status.code(), Some(1), "a wrong configuration is a bad finding");
}

#[test]
fn completions_and_manual_pages_name_every_verb() {
    let folder = tempfile::tempdir().unwrap();
    let verbs = ["converse", "transcribe", "say", "chat", "index", "models", "access", "config", "doctor", "status"];
    let run = |arguments: &[&str]| {
        let output = Command::new(built("eddy")).args(arguments).output().unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap()
    };
    for shell in ["bash", "zsh", "fish"] {
        let script = run(&["completions", shell]);
        assert!(verbs.iter().all(|verb| script.contains(verb)), "{shell}");
    }
    run(&["man", text(folder.path())]);
    for verb in verbs {
        assert!(folder.path().join(format!("eddy-{verb}.1")).is_file(), "{verb}");
    }
    assert!(folder.path().join("eddy.1").is_file() && folder.path().join("eddyd.8").is_file());
}

#[test]
fn numbers_are_read_from_a_socket() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("metrics.sock");
    let settings = ["models.speech=speech-a", "metrics.enabled=true", &format!("metrics.socket={}", socket.display())];
    let desk = Desk(Daemon::start_with(&models(), &settings, |_| {}));
    let question = fixture("questions/question.wav");
    desk.shown(&["transcribe", text(&question), "--max-items", "5"]);
    use std::os::unix::fs::PermissionsExt;
    assert_eq!(std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    let mut client = UnixStream::connect(&socket).unwrap();
    std::io::Write::write_all(&mut client, b"GET /metrics HTTP/1.0\r\n\r\n").unwrap();
    let lines: Vec<String> = BufReader::new(client).lines().map(Result::unwrap).collect();
    assert_eq!(lines[0], "HTTP/1.0 200 OK");
    let number = |name: &str| -> f64 {
        let line = lines.iter().find(|line| line.starts_with(&format!("{name} "))).unwrap_or_else(|| panic!("{name}"));
        line.rsplit(' ').next().unwrap().parse().unwrap()
    };
    assert_eq!(number("eddy_requests_done_total"), 1.0);
    assert!(number("eddy_resident_bytes") > 1e6 && number("eddy_loaded_bytes") > 1e5);
    assert_eq!(number("eddy_stage_seconds_count{stage=\"prefill\"}"), 1.0);
    assert_eq!(number("eddy_stage_seconds_bucket{stage=\"prefill\",le=\"+Inf\"}"), 1.0);
    assert!(number("eddy_step_seconds_count") >= 5.0);
}
