//! `eddy models` and `Models1.Pull` as processes: killed, two at once, on a full disk, through the daemon.

#![allow(clippy::unwrap_used)]

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use eddy_ipc::client::{ModelProxy, ModelsProxy, RequestProxy};
use eddy_ipc::{Delta, Options, RequestState};
use eddy_tests::bus::{Daemon, Listening, PATIENCE, PrivateBus, within};
use eddy_tests::eddy::built;
use eddy_tests::fixtures::fixture;
use eddy_tests::hub::{COMMIT, Fault, Hub, Sent};
use serde_json::Value;

const WEIGHTS: &str = "onnx/model.onnx_data";
const FETCH: [&str; 5] = ["models", "pull", "me/model", "--precision", "fp32"];

/// A hub, and a home folder of somebody who pulls from it.
struct Desk {
    hub: Hub,
    home: tempfile::TempDir,
}

impl Desk {
    fn start() -> Self {
        Self { hub: Hub::of_folder(&fixture("text-a")), home: tempfile::tempdir().unwrap() }
    }

    fn environment(&self, command: &mut Command) {
        command
            .env("HOME", self.home.path())
            .env("XDG_CONFIG_HOME", self.home.path().join("config"))
            .env("XDG_STATE_HOME", self.home.path().join("state"))
            .env("XDG_DATA_HOME", self.home.path().join("data"))
            .env("XDG_CACHE_HOME", self.home.path().join("cache"))
            .env("HF_ENDPOINT", &self.hub.base)
            .env("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/nonexistent")
            .env("NO_PROXY", "*");
        for name in ["HF_HOME", "HF_TOKEN", "HF_HUB_OFFLINE", "INVOCATION_ID"] {
            command.env_remove(name);
        }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(built("eddy"));
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.env("DBUS_SESSION_BUS_ADDRESS", "unix:path=/nonexistent");
        self.environment(&mut command);
        command
    }

    fn output(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    fn shown(&self, arguments: &[&str]) -> String {
        let output = self.output(arguments);
        assert!(output.status.success(), "eddy {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.shown(&[arguments, &["--json"]].concat())).unwrap()
    }

    /// The one line that a command fails with.
    fn error(&self, arguments: &[&str]) -> String {
        let output = self.output(arguments);
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), errors.lines().count()), (Some(1), 1), "{arguments:?}: {errors}");
        errors
    }

    fn models(&self) -> PathBuf {
        self.home.path().join("data/eddy/models")
    }

    fn part(&self) -> PathBuf {
        self.models().join(format!(".store/model/fetching-{}/{WEIGHTS}.part", &COMMIT[..12]))
    }
}

#[test]
fn a_killed_pull_goes_on_where_it_was_without_a_byte_twice() {
    let desk = Desk::start();
    let whole = desk.hub.file(WEIGHTS).len();
    let until = whole / 2;
    desk.hub.faults(WEIGHTS, [Fault::HoldAt(until)]);
    let mut child = desk.command(&FETCH).spawn().unwrap();
    let begun = std::time::Instant::now();
    // The smallest file is the last.
    let arrived = || std::fs::metadata(desk.part()).is_ok_and(|part| part.len() == until as u64);
    while !arrived() || !desk.part().ancestors().nth(2).unwrap().join("generation_config.json").exists() {
        assert!(begun.elapsed() < PATIENCE, "{until} bytes do not arrive");
        std::thread::sleep(Duration::from_millis(2));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!desk.models().join("model").exists());

    let pulled = desk.json(&FETCH);
    assert_eq!(desk.hub.sent(WEIGHTS), [Sent { from: 0, count: until }, Sent { from: until, count: whole - until }]);
    assert_eq!((&pulled["was_here"], pulled["bytes"].as_u64()), (&false.into(), Some(desk.hub.sent_bytes() as u64)));
    assert_eq!(desk.shown(&["models", "verify"]).lines().count(), 1);
    let listed = desk.json(&["models", "list"]);
    let row = listed["models"].as_array().unwrap().iter().find(|row| row["name"] == "model").unwrap();
    assert_eq!((&row["state"], &row["version"], &row["fits"]), (&"unloaded".into(), &1.into(), &true.into()));
}

#[test]
fn two_processes_at_once_fetch_once() {
    let desk = Desk::start();
    desk.hub.faults(WEIGHTS, [Fault::Slowly(Duration::from_millis(3))]);
    let children: Vec<_> = (0..2).map(|_| desk.command(&FETCH).spawn().unwrap()).collect();
    for child in children {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    assert_eq!(desk.hub.sent(WEIGHTS), [Sent { from: 0, count: desk.hub.file(WEIGHTS).len() }]);
    desk.shown(&["models", "verify", "model"]);
}

#[test]
fn a_full_disk_leaves_the_store_as_it_was() {
    let desk = Desk::start();
    desk.shown(&FETCH);
    let before = desk.json(&["models", "verify"]);
    let mut bytes = desk.hub.file(WEIGHTS);
    bytes.extend_from_slice(&[0; 400_000]);
    desk.hub.release("fedcba9876543210", [(WEIGHTS, bytes)]);
    // No file may grow beyond 256 KiB, which the disk tells as it tells that it is full.
    let script = r#"trap "" XFSZ; ulimit -f 256; exec "$0" "$@""#;
    let mut limited = Command::new("bash");
    limited.args(["-c", script]).arg(built("eddy")).args(FETCH).stdin(Stdio::null());
    limited.env("DBUS_SESSION_BUS_ADDRESS", "unix:path=/nonexistent");
    desk.environment(&mut limited);
    let output = limited.output().unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), errors.lines().count()), (Some(1), 1), "{errors}");
    assert!(errors.contains("make room on the disk") && errors.contains("model.onnx_data.part"), "{errors}");
    assert_eq!(desk.json(&["models", "verify"]), before);
    let listed = desk.json(&["models", "list"]);
    assert_eq!(listed["models"].as_array().unwrap().iter().find(|row| row["name"] == "model").unwrap()["version"], 1);
    // With room it goes on, and not from the beginning.
    desk.hub.forget_sent();
    desk.shown(&FETCH);
    assert!(desk.hub.sent(WEIGHTS)[0].from > 100_000, "{:?}", desk.hub.sent(WEIGHTS));
}

#[test]
fn the_command_line_says_what_is_wrong_and_what_to_do() {
    let desk = Desk::start();
    let error = desk.error(&["models", "pull", "LFM2.5-350"]);
    assert!(error.contains("did you mean LFM2.5-350M?"), "{error}");
    let error = desk.error(&["models", "pull", "me/../model"]);
    assert!(error.contains("OWNER/NAME"), "{error}");
    let error = desk.error(&["models", "pull", "me/other"]);
    assert!(error.contains("no such repository"), "{error}");
    let error = desk.error(&["models", "pull", "me/model", "--precision", "q5"]);
    assert!(error.contains("unknown precision"), "{error}");
    let error = desk.error(&["models", "pull", "me/model", "--offline"]);
    assert!(error.contains("not on this machine"), "{error}");
    let error = desk.error(&["models", "remove", "nothing"]);
    assert!(error.contains("no model of this name"), "{error}");
    let error = desk.error(&["models", "use", "nothing"]);
    assert!(error.contains("no such model"), "{error}");
    desk.hub.license(serde_json::json!({ "license": "other", "license_name": "lfm1.0" }));
    let output = desk.output(&FETCH);
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    // The licence and what it asks are shown before anything is fetched.
    for words in ["LFM Open License v1.0", "10 million", "--accept-license"] {
        assert!(errors.contains(words), "{errors}");
    }
    desk.shown(&[&FETCH[..], &["--accept-license"]].concat());
    desk.shown(&FETCH);

    let available = desk.json(&["models", "list", "--available"]);
    let rows = available["catalogue"].as_array().unwrap();
    assert!(rows.iter().any(|row| row["name"] == "LFM2.5-350M" && row["precisions"]["q4"]["bytes"] == 276_000_000));
    std::fs::create_dir_all(desk.home.path().join("config/eddy")).unwrap();
    let own = "[[model]]\nname = \"mine\"\nrelease = \"x\"\nfamily = \"text\"\nrepository = \"me/model\"\n\
               license = \"mit\"\npurpose = \"tests\"\nstatus = \"untested\"\n";
    std::fs::write(desk.home.path().join("config/eddy/models.toml"), own).unwrap();
    let again = desk.json(&["models", "pull", "mine", "--precision", "fp32"]);
    assert_eq!((&again["name"], &again["was_here"]), (&"model".into(), &true.into()));

    desk.shown(&["models", "use", "model"]);
    let shown = desk.json(&["config", "show", "--set"]);
    assert_eq!(shown["settings"]["models.text"]["value"], "\"model\"");
    let error = desk.error(&["models", "use", "model", "--for", "speech"]);
    assert!(error.contains("cannot do speech"), "{error}");
    let error = desk.error(&["models", "rollback", "model"]);
    assert!(error.contains("no earlier version"), "{error}");

    let weights = desk.models().join("model").join(WEIGHTS);
    let mut bytes = std::fs::read(&weights).unwrap();
    bytes[5] ^= 1;
    std::fs::write(&weights, bytes).unwrap();
    let output = desk.output(&["models", "verify"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stdout).unwrap().contains("model.onnx_data has changed"));
    desk.shown(&["models", "prune"]);
    desk.shown(&["models", "remove", "model"]);
    assert!(!weights.exists());
}

/// A NetworkManager that says how the connection is.
struct Network(u32);

#[zbus::interface(name = "org.freedesktop.NetworkManager")]
impl Network {
    #[zbus(property)]
    fn metered(&self) -> u32 {
        self.0
    }
}

#[tokio::test]
async fn a_metered_connection_is_not_used_unasked() {
    let desk = Desk::start();
    let bus = PrivateBus::start();
    let serve = async |metered: u32| {
        let builder = zbus::connection::Builder::address(bus.address.as_str()).name("org.freedesktop.NetworkManager");
        builder.serve_at("/org/freedesktop/NetworkManager", Network(metered)).build().await.unwrap()
    };
    let pull = async |further: &[&str]| {
        let mut command = desk.command(&[&FETCH[..], further].concat());
        command.env("DBUS_SYSTEM_BUS_ADDRESS", &bus.address);
        tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
    };
    let metered = serve(1).await;
    let output = pull(&[]).await;
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(1) && errors.contains("--metered"), "{errors}");
    assert_eq!(desk.hub.sent_bytes(), 0);
    assert!(pull(&["--metered"]).await.status.success());
    metered.close().await.unwrap();
    desk.shown(&["models", "remove", "model"]);
    let _free = serve(4).await;
    assert!(pull(&[]).await.status.success());
}

/// A proxy that opens tunnels, and counts them.
#[test]
fn a_proxy_of_the_environment_is_used() {
    use std::io::{BufRead, BufReader, Write};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    let desk = Desk::start();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let counted = Arc::clone(&counted);
            std::thread::spawn(move || {
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                let mut line = String::new();
                reader.read_line(&mut line).unwrap();
                let target = line.strip_prefix("CONNECT ").unwrap().split(' ').next().unwrap().to_owned();
                while line.trim() != "" {
                    line.clear();
                    reader.read_line(&mut line).unwrap();
                }
                counted.fetch_add(1, Ordering::Relaxed);
                let mut onward = std::net::TcpStream::connect(target).unwrap();
                stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
                let (mut back, mut to) = (onward.try_clone().unwrap(), stream.try_clone().unwrap());
                std::thread::spawn(move || {
                    let _ = std::io::copy(&mut back, &mut to);
                    let _ = to.shutdown(std::net::Shutdown::Both);
                });
                let _ = std::io::copy(&mut reader, &mut onward);
            });
        }
    });
    let mut command = desk.command(&FETCH);
    command.env_remove("NO_PROXY").env("HTTP_PROXY", &address).env_remove("ALL_PROXY").env_remove("HTTPS_PROXY");
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(count.load(Ordering::Relaxed) >= 2, "hub and storage");
    // Where nobody listens, the error says where to look.
    desk.shown(&["models", "remove", "model"]);
    let mut command = desk.command(&FETCH);
    command.env_remove("NO_PROXY").env("HTTP_PROXY", "http://127.0.0.1:1");
    let child = command.spawn().unwrap();
    let pid = rustix::process::Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    assert!(!child.wait_with_output().unwrap().status.success());
}

/// A daemon whose models are those of the desk.
fn daemon(desk: &Desk, change: impl FnOnce(&mut Command)) -> Daemon {
    std::fs::create_dir_all(desk.models()).unwrap();
    Daemon::start_with(&desk.models(), &[], |command| {
        let state = command.get_envs().find(|(name, _)| *name == "XDG_STATE_HOME").and_then(|(_, value)| value);
        let state = state.unwrap().to_owned();
        let config = command.get_envs().find(|(name, _)| *name == "XDG_CONFIG_HOME").and_then(|(_, value)| value);
        let config = config.unwrap().to_owned();
        desk.environment(command);
        command.env("XDG_STATE_HOME", state).env("XDG_CONFIG_HOME", config);
        change(command);
    })
}

fn options(token: &str) -> Options {
    Options {
        handle_token: Some(eddy_ipc::Token::new(token).unwrap()),
        precision: Some("fp32".into()),
        ..Options::default()
    }
}

#[tokio::test]
async fn the_daemon_has_a_model_fetched_and_tells_how_it_goes() {
    let desk = Desk::start();
    let daemon = daemon(&desk, |_| {});
    let client = daemon.client().await;
    let models = ModelsProxy::new(&client).await.unwrap();
    desk.hub.faults(WEIGHTS, [Fault::Slowly(Duration::from_millis(8))]);
    let listening = Listening::on(eddy_ipc::Bus::Admin, &client, "one").await;
    models.pull("me/model", &options("one")).await.unwrap();
    let heard = listening.end().await;
    assert_eq!(heard.state, RequestState::Done, "{:?}\n{}", heard.outcome, daemon.log());
    let progress: Vec<(u64, u64)> = heard
        .deltas
        .iter()
        .filter_map(|delta| if let Delta::Progress { done, total } = delta { Some((*done, *total)) } else { None })
        .collect();
    assert!(progress.len() >= 2 && progress.windows(2).all(|pair| pair[0].0 <= pair[1].0), "{progress:?}");
    assert!(progress.iter().all(|(done, total)| done <= total));
    // Its object is there when the request has ended.
    let model = ModelProxy::builder(&client).path(heard.outcome.model.unwrap()).build().await.unwrap();
    assert_eq!(model.name().await.unwrap(), "model");
    assert_eq!(model.license().await.unwrap(), "mit");
    // Nothing is left for a path unit to see.
    assert_eq!(std::fs::read_dir(daemon.folder.path().join("state/eddy/fetch")).unwrap().count(), 0);

    let refused = models.pull("no such name", &options("two")).await.expect_err("refused");
    assert!(matches!(refused, eddy_ipc::Error::NotFound(_)), "{refused}");
    let refused = models.pull("me/model", &Options { precision: Some("q5".into()), ..options("three") }).await;
    assert!(matches!(refused, Err(eddy_ipc::Error::InvalidOption(_))));

    desk.hub.license(serde_json::json!({ "license": "lfm1.0" }));
    let listening = Listening::on(eddy_ipc::Bus::Admin, &client, "four").await;
    models.pull("me/model@v2", &options("four")).await.unwrap();
    let heard = listening.end().await;
    let failure = heard.outcome.failure.unwrap();
    assert_eq!((heard.state, failure.name.rsplit('.').next().unwrap()), (RequestState::Failed, "NotPermitted"));
    assert!(failure.message.contains("lfm1.0"), "{}", failure.message);
}

#[tokio::test]
async fn a_pull_through_the_daemon_is_cancelled_and_gone_on_with() {
    let desk = Desk::start();
    let daemon = daemon(&desk, |_| {});
    let client = daemon.client().await;
    let models = ModelsProxy::new(&client).await.unwrap();
    let half = desk.hub.file(WEIGHTS).len() / 2;
    desk.hub.faults(WEIGHTS, [Fault::HoldAt(half)]);
    let listening = Listening::on(eddy_ipc::Bus::Admin, &client, "one").await;
    let path = models.pull("me/model", &options("one")).await.unwrap();
    let arrived = async || std::fs::metadata(desk.part()).is_ok_and(|part| part.len() == half as u64);
    within(PATIENCE, "half of it", arrived).await;
    let request = RequestProxy::builder(&client).destination("org.eddy.Admin1").path(path).build().await.unwrap();
    request.cancel().await.unwrap();
    assert_eq!(listening.end().await.state, RequestState::Cancelled);
    let fetch = daemon.folder.path().join("state/eddy/fetch");
    within(PATIENCE, "the order is gone", async || std::fs::read_dir(&fetch).unwrap().count() == 0).await;
    assert!(!desk.models().join("model").exists());
    // The process does not sit out the silence of the server.
    let queue = eddy_store::Queue::new(&daemon.folder.path().join("state/eddy"));
    within(Duration::from_secs(5), "the process has ended", async || !queue.is_served()).await;

    // The command line goes on through the daemon, from where it was.
    let mut command = desk.command(&["models", "pull", "me/model", "--precision", "fp32", "--daemon"]);
    command.env("DBUS_SESSION_BUS_ADDRESS", &daemon.bus.address);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    assert!(output.status.success(), "{}\n{}", String::from_utf8_lossy(&output.stderr), daemon.log());
    assert_eq!(desk.hub.sent(WEIGHTS)[1].from, half);
    // A caller that leaves takes its pull along.
    desk.hub.release("fedcba9876543210", [(WEIGHTS, vec![1; half])]);
    desk.hub.faults(WEIGHTS, [Fault::HoldAt(10)]);
    let leaving = daemon.client().await;
    ModelsProxy::new(&leaving).await.unwrap().pull("me/model", &options("two")).await.unwrap();
    desk.hub.wait_sent(WEIGHTS, half + half + 10);
    drop(leaving);
    within(PATIENCE, "the order is gone", async || std::fs::read_dir(&fetch).unwrap().count() == 0).await;
}

#[tokio::test]
async fn under_systemd_the_order_waits_for_the_unit() {
    let desk = Desk::start();
    let daemon = daemon(&desk, |command| {
        command.env("INVOCATION_ID", "1");
    });
    let client = daemon.client().await;
    let models = ModelsProxy::new(&client).await.unwrap();
    let listening = Listening::on(eddy_ipc::Bus::Admin, &client, "one").await;
    models.pull("me/model", &options("one")).await.unwrap();
    // What the path unit sees, and the command that its service runs.
    let fetch = daemon.folder.path().join("state/eddy/fetch");
    assert_eq!(std::fs::read_dir(&fetch).unwrap().count(), 1);
    let unit = std::fs::read_to_string(
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../systemd/user/eddy-fetch.service"),
    )
    .unwrap();
    let start = unit.lines().find_map(|line| line.strip_prefix("ExecStart=/usr/bin/eddy ")).unwrap();
    let mut command = desk.command(&start.split(' ').collect::<Vec<_>>());
    command.env("XDG_STATE_HOME", daemon.folder.path().join("state"));
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let heard = listening.end().await;
    assert_eq!(heard.state, RequestState::Done, "{:?}", heard.outcome);
    assert_eq!(std::fs::read_dir(&fetch).unwrap().count(), 0);
}
