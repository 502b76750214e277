//! A private bus with a daemon of its own, watched as systemd would watch it, and a client to talk to it.

use std::io::{BufRead, BufReader, Read};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use eddy_ipc::client::{DeltaStream, FinishedStream, RequestProxy, SpeechProxy};
use eddy_ipc::{Bus, Collection, Delta, Options, Outcome, RequestState, Token, path};
use futures_util::{FutureExt, StreamExt};
use zbus::Connection;

use crate::eddy::built;
use crate::fixtures::{fixture, runtime_folder};

/// How long anything here may take before a test gives up.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A bus daemon that nobody else uses.
pub struct PrivateBus {
    child: Option<Child>,
    pub address: String,
    _folder: Option<tempfile::TempDir>,
}

impl PrivateBus {
    pub fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("bus");
        let config = folder.path().join("bus.conf");
        std::fs::write(
            &config,
            format!(
                r#"<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
                   "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
                   <busconfig><type>session</type><listen>unix:path={}</listen><auth>EXTERNAL</auth>
                   <policy context="default"><allow send_destination="*" eavesdrop="true"/>
                   <allow eavesdrop="true"/><allow own="*"/></policy></busconfig>"#,
                socket.display()
            ),
        )
        .unwrap();
        let mut child = Command::new("dbus-daemon")
            .args(["--nofork", "--print-address=1", "--config-file"])
            .arg(&config)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("dbus-daemon is installed; `make test` installs it");
        let mut address = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut address).unwrap();
        Self { child: Some(child), address: address.trim().to_owned(), _folder: Some(folder) }
    }

    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Drop for PrivateBus {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A running daemon.
pub struct Daemon {
    pub bus: PrivateBus,
    pub child: Child,
    /// Its configuration, state and log; the first is `config/eddy/eddy.toml`.
    pub folder: tempfile::TempDir,
    notified: UnixDatagram,
}

impl Daemon {
    /// With the fixture speech-a, and these `section.key=value` on top.
    pub fn start(settings: &[&str]) -> Self {
        Self::start_with(&fixture("speech-a"), settings, |_| {})
    }

    /// With another folder of models, and what `change` does to the command.
    pub fn start_with(models: &Path, settings: &[&str], change: impl FnOnce(&mut Command)) -> Self {
        Self::start_on(PrivateBus::start(), models, settings, change)
    }

    /// The same on a bus that is there.
    pub fn start_on(bus: PrivateBus, models: &Path, settings: &[&str], change: impl FnOnce(&mut Command)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("notify");
        let notified = UnixDatagram::bind(&socket).unwrap();
        notified.set_read_timeout(Some(PATIENCE)).unwrap();
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        let mut command = Command::new(built("eddyd"));
        command
            .args(["--bus-address", &bus.address, "--set"])
            .arg(format!("models.directories=[\"{}\"]", models.display()))
            .args(["--set", "log.output=\"stderr\"", "--set", "log.level=\"debug\""])
            .env("XDG_CONFIG_HOME", folder.path().join("config"))
            .env("XDG_STATE_HOME", folder.path().join("state"))
            .env("ORT_DYLIB_PATH", runtime_folder().join("libonnxruntime.so.1.32.0"))
            .env("NOTIFY_SOCKET", &socket)
            .env_remove("EDDY_LOG")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        for setting in settings {
            command.args(["--set", setting]);
        }
        change(&mut command);
        let child = command.spawn().unwrap();
        let daemon = Self { bus, child, folder, notified };
        daemon.wait_notified("READY=1");
        daemon
    }

    /// Waits until the daemon tells its supervisor this.
    pub fn wait_notified(&self, wanted: &str) -> String {
        let begun = Instant::now();
        let mut buffer = [0; 4096];
        while begun.elapsed() < PATIENCE {
            let Ok(length) = self.notified.recv(&mut buffer) else { break };
            let told = String::from_utf8_lossy(&buffer[..length]).into_owned();
            if told.lines().any(|line| line == wanted || line.starts_with(wanted)) {
                return told;
            }
        }
        panic!("the daemon never told {wanted}:\n{}", self.log());
    }

    /// Whether the daemon feeds its watchdog before `time` is over.
    pub fn is_heard_within(&self, time: Duration) -> bool {
        let begun = Instant::now();
        let mut buffer = [0; 4096];
        let mut heard = false;
        while let Some(left) = time.checked_sub(begun.elapsed()).filter(|left| !left.is_zero() && !heard) {
            self.notified.set_read_timeout(Some(left)).unwrap();
            let told =
                self.notified.recv(&mut buffer).map(|length| String::from_utf8_lossy(&buffer[..length]).into_owned());
            heard = told.is_ok_and(|told| told.lines().any(|line| line == "WATCHDOG=1"));
        }
        self.notified.set_read_timeout(Some(PATIENCE)).unwrap();
        heard
    }

    /// Its bus, once it has ended.
    pub fn leave_bus(mut self) -> PrivateBus {
        let gone = PrivateBus { child: None, address: String::new(), _folder: None };
        std::mem::replace(&mut self.bus, gone)
    }

    /// Forgets what the daemon has told so far.
    pub fn forget_notified(&self) {
        self.notified.set_nonblocking(true).unwrap();
        let mut buffer = [0; 4096];
        while self.notified.recv(&mut buffer).is_ok() {}
        self.notified.set_nonblocking(false).unwrap();
        self.notified.set_read_timeout(Some(PATIENCE)).unwrap();
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Writes the user's configuration.
    pub fn write_config(&self, text: &str) {
        let file = self.folder.path().join("config/eddy/eddy.toml");
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, text).unwrap();
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> std::process::ExitStatus {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(begun.elapsed() < PATIENCE, "it does not end:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// A further client.
    pub async fn client(&self) -> Connection {
        zbus::connection::Builder::address(self.bus.address.as_str()).build().await.unwrap()
    }

    /// `PROGRAM ARGUMENTS` on this bus; its standard output.
    pub fn run(&self, program: &str, arguments: &[&str]) -> String {
        let output = self.command(program, arguments).output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{program} {arguments:?}: {}\n{errors}\n{}", output.status, self.log());
        String::from_utf8(output.stdout).unwrap()
    }

    pub fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(arguments).env("DBUS_SESSION_BUS_ADDRESS", &self.bus.address);
        command
    }

    /// Descriptors that the daemon has open.
    pub fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).unwrap().count()
    }

    /// Bytes of the daemon's memory that are resident.
    pub fn resident(&self) -> u64 {
        self.memory("VmRSS:")
    }

    /// The most that ever were.
    pub fn peak(&self) -> u64 {
        self.memory("VmHWM:")
    }

    fn memory(&self, name: &str) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.split_whitespace().next().unwrap().parse::<u64>().unwrap() * 1024
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The recorded question as a sealed memory file.
pub fn question_fd() -> OwnedFd {
    let bytes = std::fs::read(fixture("questions/question.wav")).unwrap();
    eddy_ipc::fd::seal("question", &bytes).unwrap()
}

/// Options that make every answer the same.
pub fn greedy(token: &str) -> Options {
    Options { handle_token: Some(Token::new(token).unwrap()), greedy: Some(true), ..Options::default() }
}

/// A request whose signals are listened to from before it exists.
pub struct Listening {
    pub request: RequestProxy<'static>,
    deltas: DeltaStream,
    ends: FinishedStream,
}

/// How a request ended and what it sent on the way.
#[derive(Debug, Clone, PartialEq)]
pub struct Heard {
    pub state: RequestState,
    pub outcome: Outcome,
    pub deltas: Vec<Delta>,
}

impl Heard {
    /// The pieces of text in one.
    pub fn streamed(&self) -> String {
        let piece = |delta: &Delta| match delta {
            Delta::Text(text) | Delta::Transcript(text) => Some(text.clone()),
            Delta::Progress { .. } | Delta::Queued(_) | Delta::Other(_) => None,
        };
        self.deltas.iter().filter_map(piece).collect()
    }
}

impl Listening {
    pub async fn to(client: &Connection, token: &str) -> Self {
        Self::on(Bus::Assistant, client, token).await
    }

    /// The same for a request of either connection.
    pub async fn on(bus: Bus, client: &Connection, token: &str) -> Self {
        let sender = client.unique_name().unwrap().to_string();
        let token = Token::new(token).unwrap();
        let path = path(bus, Collection::Request { sender: Some(&sender), token: &token });
        let request = RequestProxy::builder(client).destination(bus.name()).path(path).build().await.unwrap();
        let deltas = request.receive_delta_signal().await.unwrap();
        let ends = request.receive_finished().await.unwrap();
        Self { request, deltas, ends }
    }

    /// Takes the request back.
    pub async fn cancel(&self) {
        self.request.cancel().await.unwrap();
    }

    /// Waits for the first piece.
    pub async fn first(&mut self) -> Delta {
        let signal = tokio::time::timeout(PATIENCE, self.deltas.next()).await.unwrap().unwrap();
        let args = signal.args().unwrap();
        Delta::from_signal(args.kind, &args.value)
    }

    pub async fn end(mut self) -> Heard {
        let end = tokio::time::timeout(PATIENCE, self.ends.next()).await.expect("it ends").unwrap();
        let args = end.args().unwrap();
        let state = RequestState::from_word(args.state).unwrap();
        let told = args.result.iter().map(|(key, value)| ((*key).to_owned(), value.try_to_owned().unwrap()));
        let outcome = Outcome::from_dictionary(told.collect()).unwrap();
        // Signals come in the order in which they were sent: what is here now is all there was.
        let mut deltas = Vec::new();
        while let Some(Some(signal)) = self.deltas.next().now_or_never() {
            let args = signal.args().unwrap();
            deltas.push(Delta::from_signal(args.kind, &args.value));
        }
        Heard { state, outcome, deltas }
    }
}

/// Reads a pipe of samples to its end, on a thread.
pub async fn samples(pipe: impl Into<OwnedFd>) -> Vec<i16> {
    let pipe = pipe.into();
    let read = move || {
        let mut bytes = Vec::new();
        std::fs::File::from(pipe).read_to_end(&mut bytes).unwrap();
        bytes.chunks_exact(2).map(|pair| i16::from_le_bytes([pair[0], pair[1]])).collect()
    };
    tokio::task::spawn_blocking(read).await.unwrap()
}

/// Answers the recorded question; what was heard, and the samples.
pub async fn converse(client: &Connection, options: &Options) -> (Heard, Vec<i16>) {
    let token = options.handle_token.as_ref().unwrap().as_str();
    let listening = Listening::to(client, token).await;
    let wav = question_fd();
    let speech = SpeechProxy::new(client).await.unwrap();
    let (_, audio) = speech.converse((&wav).into(), options).await.unwrap();
    let samples = samples(audio).await;
    (listening.end().await, samples)
}

/// Waits until `seen`, at most `limit`; how long it took.
pub async fn within(limit: Duration, what: &str, mut seen: impl AsyncFnMut() -> bool) -> Duration {
    let begun = Instant::now();
    while !seen().await {
        assert!(begun.elapsed() < limit, "not within {limit:?}: {what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    begun.elapsed()
}

/// Where a model folder with this name is, below the fixtures.
pub fn models() -> PathBuf {
    fixture("speech-a").parent().unwrap().to_path_buf()
}
