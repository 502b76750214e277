//! The interfaces as their files promise them, asked for by clients that are not ours.

#![allow(clippy::unwrap_used)]

use std::process::Command;

use eddy_ipc::client::{AssistantProxy, RetrievalProxy};
use eddy_ipc::{Bus, Collection, INTERFACES, Options, Token, differences, path};
use eddy_tests::bus::{Daemon, converse, greedy, models};
use eddy_tests::fixtures::fixture;

/// A model of each kind.
const FAMILY: [&str; 4] =
    ["models.speech=speech-a", "models.text=text-a", "models.retrieval=colbert-causal", "models.vision=vision-a"];

/// The introspection data of an object.
async fn introspect(client: &zbus::Connection, bus: Bus, path: &str) -> String {
    let proxy =
        zbus::fdo::IntrospectableProxy::builder(client).destination(bus.name()).path(path).build().await.unwrap();
    proxy.introspect().await.unwrap()
}

#[tokio::test]
async fn every_interface_is_what_its_file_says() {
    let daemon = Daemon::start_with(&models(), &FAMILY, |_| {});
    let client = daemon.client().await;
    converse(&client, &greedy("q")).await;
    let retrieval = RetrievalProxy::new(&client).await.unwrap();
    let index = retrieval.create_index("i", &Options::default()).await.unwrap();
    let assistant = AssistantProxy::new(&client).await.unwrap();
    let conversation = assistant.open_conversation(&Options::default()).await.unwrap();
    let sender = client.unique_name().unwrap().to_string();
    let token = Token::new("q").unwrap();
    let request = path(Bus::Assistant, Collection::Request { sender: Some(&sender), token: &token });
    let model = path(Bus::Admin, Collection::Model("speech-a"));
    let mut seen = String::new();
    for (bus, path) in [
        (Bus::Assistant, Bus::Assistant.root()),
        (Bus::Admin, Bus::Admin.root()),
        (Bus::Assistant, request.as_str()),
        (Bus::Assistant, conversation.as_str()),
        (Bus::Admin, model.as_str()),
        (Bus::Assistant, index.as_str()),
    ] {
        let data = introspect(&client, bus, path).await;
        assert_eq!(differences(&data), [""; 0], "{path}");
        seen.push_str(&data);
    }
    for (name, _) in INTERFACES {
        assert!(seen.contains(&format!("\"{name}\"")), "{name} is nowhere");
    }
}

#[test]
fn busctl_and_gdbus_see_and_call_everything() {
    let daemon = Daemon::start(&[]);
    let busctl = |arguments: &[&str]| {
        let address = format!("--address={}", daemon.bus.address);
        daemon.run("busctl", &[&[address.as_str(), "--no-pager"], arguments].concat())
    };
    let gdbus = |arguments: &[&str]| {
        let address = daemon.bus.address.clone();
        daemon.run("gdbus", &[&arguments[..1], &["--address", &address], &arguments[1..]].concat())
    };
    let (name, root) = (Bus::Assistant.name(), Bus::Assistant.root());
    let (admin, admin_root) = (Bus::Admin.name(), Bus::Admin.root());
    let shown = busctl(&["introspect", name, root]);
    for member in [".OpenConversation", ".Transcribe", ".Converse", ".Generate", ".Ask", ".Encode", ".StateChanged"] {
        assert!(shown.contains(member), "{member}:\n{shown}");
    }
    assert!(
        gdbus(&["introspect", "--dest", admin, "--object-path", admin_root, "--recurse"])
            .contains("interface org.eddy.Model1")
    );
    assert!(busctl(&["tree", admin]).contains("/org/eddy/Admin1/model/speech_2da"));

    assert_eq!(
        busctl(&["get-property", name, root, name, "Version"]).trim(),
        format!("s \"{}\"", env!("CARGO_PKG_VERSION"))
    );
    assert_eq!(busctl(&["get-property", name, root, name, "State"]).trim(), "s \"unavailable\"");
    busctl(&["set-property", name, root, name, "Muted", "b", "true"]);
    assert_eq!(busctl(&["get-property", name, root, name, "Muted"]).trim(), "b true");
    assert_eq!(busctl(&["call", name, root, "org.eddy.Retrieval1", "Indexes"]).trim(), "ao 0");
    busctl(&["call", name, root, name, "Interrupt"]);
    let opened = busctl(&["call", name, root, name, "OpenConversation", "a{sv}", "1", "handle_token", "s", "mine"]);
    assert!(opened.contains("/conversation/") && opened.trim().ends_with("/mine\""), "{opened}");

    // With the option types of a dictionary, and a path to predict.
    let call = |method: &str, arguments: &[&str]| {
        let method = format!("org.eddy.{method}");
        gdbus(&[&["call", "--dest", name, "--object-path", root, "--method", &method], arguments].concat())
    };
    let said =
        call("Speech1.Synthesize", &["hello", "{'handle_token': <'t1'>, 'max_tokens': <uint32 8>, 'greedy': <true>}"]);
    assert!(said.contains("/t1'") && said.contains("handle 0"), "{said}");

    let budget = busctl(&["get-property", admin, admin_root, "org.eddy.Models1", "MemoryBudget"]);
    assert!(budget.trim().strip_prefix("t ").unwrap().parse::<u64>().unwrap() > 1 << 26, "{budget}");
    let model = "/org/eddy/Admin1/model/speech_2da";
    assert_eq!(busctl(&["get-property", admin, model, "org.eddy.Model1", "Family"]).trim(), "s \"speech\"");
    busctl(&["call", admin, model, "org.eddy.Model1", "Load", "a{sv}", "0"]);
    assert_eq!(busctl(&["call", admin, admin_root, "org.eddy.Daemon1", "Reload", "a{sv}", "0"]).trim(), "a(sss) 0");
    let report = gdbus(&[
        "call",
        "--dest",
        admin,
        "--object-path",
        admin_root,
        "--method",
        "org.freedesktop.DBus.Properties.Get",
        "org.eddy.Daemon1",
        "Report",
    ]);
    assert!(report.contains("'model_loads'") && report.contains("'steps_by_ms'"), "{report}");
}

#[test]
fn errors_have_their_names_and_say_what_to_do() {
    let daemon = Daemon::start(&["models.text=speech-a"]);
    let (name, root) = (Bus::Assistant.name(), Bus::Assistant.root());
    let refused = |bus: Bus, arguments: &[&str]| {
        let address = daemon.bus.address.clone();
        let fixed = ["call", "--address", &address, "--dest", bus.name(), "--object-path", bus.root(), "--method"];
        let output = Command::new("gdbus").args(fixed).args(arguments).output().unwrap();
        assert!(!output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stdout));
        String::from_utf8(output.stderr).unwrap()
    };
    for (bus, arguments, error, sentence) in [
        (Bus::Assistant, &["org.eddy.Assistant1.Listen", "{}"][..], "Unavailable", "microphone"),
        (Bus::Assistant, &["org.eddy.Assistant1.Say", "hello", "{}"], "Unavailable", "speaker"),
        (Bus::Assistant, &["org.eddy.Assistant1.Say", " ", "{}"], "InvalidArgument", "empty"),
        (
            Bus::Assistant,
            &["org.eddy.Text1.Generate", "[('user', 'x')]", "{}"],
            "Unsupported",
            "speech-a is for speech",
        ),
        (Bus::Assistant, &["org.eddy.Vision1.Ask", "@ah []", "x", "{}"], "InvalidArgument", "images"),
        (Bus::Assistant, &["org.eddy.Retrieval1.Encode", "['x']", "true", "{}"], "ModelMissing", "search"),
        (
            Bus::Assistant,
            &["org.eddy.Speech1.Synthesize", "x", "{'max_token': <uint32 1>}"],
            "InvalidOption",
            "did you mean \"max_tokens\"?",
        ),
        (
            Bus::Assistant,
            &["org.eddy.Speech1.Synthesize", "x", "{'seed': <int32 1>}"],
            "InvalidOption",
            "type i, expected t",
        ),
        (Bus::Assistant, &["org.eddy.Speech1.Synthesize", "x", "{'model': <'other'>}"], "NotFound", "\"other\""),
        (Bus::Assistant, &["org.eddy.Speech1.Synthesize", "", "{}"], "InvalidArgument", "text"),
        (Bus::Admin, &["org.eddy.Models1.Pull", "a/b/c", "{}"], "InvalidArgument", "OWNER/NAME"),
        (Bus::Admin, &["org.eddy.Access1.SetRule", "notes", "listen", "deny", "{}"], "InvalidArgument", "application"),
        (Bus::Admin, &["org.eddy.Access1.SetRule", "*", "hear", "deny", "{}"], "InvalidArgument", "listen, converse"),
        (Bus::Admin, &["org.eddy.Access1.RemoveRule", "*", "listen"], "NotFound", "* listen"),
    ] {
        let line = refused(bus, arguments);
        assert!(line.contains(&format!("org.eddy.Assistant1.Error.{error}")), "{arguments:?}: {line}");
        assert!(line.contains(sentence), "{arguments:?}: {line}");
    }
    // What is not in the interface at all is the bus's own error, and the daemon lives.
    let line = refused(Bus::Assistant, &["org.eddy.Speech1.Whistle"]);
    assert!(line.contains("UnknownMethod"), "{line}");
    let wrong = Command::new("busctl")
        .args([
            &format!("--address={}", daemon.bus.address),
            "call",
            name,
            root,
            "org.eddy.Speech1",
            "Synthesize",
            "u",
            "7",
        ])
        .output()
        .unwrap();
    assert!(!wrong.status.success());
    daemon.run("busctl", &[&format!("--address={}", daemon.bus.address), "status", name]);
}

/// A client in another language, with another implementation of the protocol, plays every part of a caller.
#[test]
fn a_python_client_runs_every_interface() {
    let daemon = Daemon::start_with(&models(), &FAMILY, |_| {});
    let python = std::env::var_os("EDDY_TEST_PYTHON").map_or_else(
        || std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/bus-client/bin/python"),
        Into::into,
    );
    assert!(python.is_file(), "{} is missing; `make bus-client` makes it", python.display());
    let script = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/every_interface.py");
    let output = Command::new(python)
        .arg(script)
        .arg(&daemon.bus.address)
        .args([fixture("questions/question.wav"), fixture("vision-reference/images/small.png")])
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}\n{errors}\n{}", output.status, daemon.log());
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    // What the other implementation got is what our own client gets.
    let expected = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
        let client = daemon.client().await;
        converse(&client, &greedy("ours")).await
    });
    assert_eq!(report["text"].as_str(), expected.0.outcome.text.as_deref());
    assert_eq!(report["streamed"], report["text"]);
    assert_eq!(report["samples"].as_u64(), Some(expected.1.len() as u64));
    let sum: i64 = expected.1.iter().map(|sample| i64::from(*sample)).sum();
    assert_eq!(report["sum"].as_i64(), Some(sum));
    assert_eq!(report["interfaces"].as_u64(), Some(12));
}
