//! A private sound server without hardware: a virtual microphone that tests speak into, a virtual loudspeaker that
//! they listen to.
//!
//! Needs the system packages `pulseaudio` and `pulseaudio-utils` (pactl, pacat, parec). Each test runs in a process
//! of its own, because the server is found through the environment and devices are told apart by process.

#![allow(dead_code, reason = "each test file uses its part")]

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

const MARK: &str = "EDDY_TEST_SERVER";

/// Polls until `found` gives something; fails the test after `limit`.
#[track_caller]
pub fn within<T>(limit: Duration, what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(value) = found() {
            return value;
        }
        assert!(Instant::now() < deadline, "not within {limit:?}: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

/// What the streams of listeners are named, before their source.
const LISTENS: &str = "listens to ";

/// How often a test is tried: it runs in real time, sound server included, and a machine that is busy with something else
/// makes one fail that would not otherwise.
const TRIES: usize = 3;

/// Runs `body` with a server of its own, in a process of its own: the named test is started again by itself.
pub fn with_server(test: &str, body: impl FnOnce(&mut Server)) {
    if let Some(folder) = std::env::var_os(MARK) {
        let mut server = Server { folder: folder.into(), process: None };
        server.start();
        body(&mut server);
        return;
    }
    let arguments = ["--exact", test, "--nocapture", "--include-ignored", "--test-threads=1"].map(String::from);
    for left in (0..TRIES).rev() {
        if again(&format!("{test}-{left}"), &arguments) {
            return;
        }
        assert!(left > 0, "{test} failed in its own process, {TRIES} times");
        println!("{test} is tried again");
    }
}

/// Runs `body` with a server of its own, for a program that is no test; says whether it went well.
pub fn with_server_for_program(name: &str, body: impl FnOnce(&mut Server)) -> bool {
    if let Some(folder) = std::env::var_os(MARK) {
        let mut server = Server { folder: folder.into(), process: None };
        server.start();
        body(&mut server);
        return true;
    }
    again(name, &std::env::args().skip(1).collect::<Vec<_>>())
}

/// Whether this process is the one with the server.
pub fn is_inside() -> bool {
    std::env::var_os(MARK).is_some()
}

/// This program once more, in an environment in which its server is found; whether it succeeded.
fn again(name: &str, arguments: &[String]) -> bool {
    // What was fetched once is found from there too.
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or_else(|| {
        let home = std::env::var_os("HOME")?;
        Some(Path::new(&home).join(".cache"))
    });
    let folder = std::env::temp_dir().join(format!("eddy-pulse-{}-{name}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder for the server");
    let status = Command::new(std::env::current_exe().expect("this program"))
        .args(arguments)
        .env(MARK, &folder)
        .env("PULSE_SERVER", format!("unix:{}", folder.join("pulse.sock").display()))
        .env("PULSE_RUNTIME_PATH", &folder)
        .env("XDG_RUNTIME_DIR", &folder)
        .env("HOME", &folder)
        .envs(cache.iter().map(|cache| ("XDG_CACHE_HOME", cache)))
        .env_remove("DBUS_SESSION_BUS_ADDRESS")
        .status();
    let _ = std::fs::remove_dir_all(&folder);
    status.expect("it starts").success()
}

/// The server, and the means to disturb it.
pub struct Server {
    folder: PathBuf,
    process: Option<Child>,
}

impl Server {
    /// Starts the server with the microphone `vmic` (fed by the sink `vmic_sink`) and the loudspeaker `vspk`.
    pub fn start(&mut self) {
        let socket = self.folder.join("pulse.sock");
        let _ = std::fs::remove_file(&socket);
        let script = self.folder.join("test.pa");
        let modules = format!(
            "load-module module-native-protocol-unix auth-anonymous=1 socket={}\n\
             load-module module-null-sink sink_name=vmic_sink rate=48000 channels=1\n\
             load-module module-remap-source master=vmic_sink.monitor source_name=vmic\n\
             load-module module-null-sink sink_name=vspk rate=48000 channels=2\n\
             set-default-sink vspk\nset-default-source vmic\n",
            socket.display()
        );
        std::fs::write(&script, modules).expect("the server's script");
        let process = Command::new("pulseaudio")
            .args(["-n", "-F"])
            .arg(&script)
            .args(["--daemonize=no", "--use-pid-file=no", "--exit-idle-time=-1", "--disable-shm=no"])
            .args(["--realtime=no", "--high-priority=no", "--log-level=error"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        self.process = Some(process.expect("pulseaudio runs: install the packages pulseaudio and pulseaudio-utils"));
        within(Duration::from_secs(20), "the server answers", || {
            self.try_control(&["info"]).filter(|text| text.contains("Default Source: vmic\n"))
        });
    }

    /// Ends the server as a crash would.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().expect("the server was running");
            process.wait().expect("the server ends");
        }
    }

    /// Lets the server stand still, or go on.
    pub fn stand_still(&self, still: bool) {
        let process = self.process.as_ref().expect("the server was started");
        let pid = rustix::process::Pid::from_child(process);
        let signal = if still { rustix::process::Signal::STOP } else { rustix::process::Signal::CONT };
        rustix::process::kill_process(pid, signal).expect("it can be signalled");
    }

    fn try_control(&self, arguments: &[&str]) -> Option<String> {
        let output = Command::new("pactl").args(arguments).output().expect("pactl runs: install pulseaudio-utils");
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Runs a pactl command and gives what it prints.
    #[track_caller]
    pub fn control(&self, arguments: &[&str]) -> String {
        self.try_control(arguments).unwrap_or_else(|| panic!("pactl {arguments:?} failed"))
    }

    /// Loads a module; gives its number.
    #[track_caller]
    pub fn load(&self, arguments: &[&str]) -> String {
        self.control(&[&["load-module"], arguments].concat()).trim().to_string()
    }

    /// Unloads the modules whose line in the list has `word` in it.
    #[track_caller]
    pub fn unload(&self, word: &str) {
        let list = self.control(&["list", "short", "modules"]);
        let mut numbers: Vec<&str> =
            list.lines().filter(|line| line.contains(word)).filter_map(|line| line.split('\t').next()).collect();
        assert!(!numbers.is_empty(), "no module with {word}");
        numbers.reverse();
        for number in numbers {
            self.control(&["unload-module", number]);
        }
    }

    /// Puts listeners back where they began: the server takes a new default for an order to move them there.
    pub fn reseat_listeners(&self) {
        // The server may have been killed.
        let Some(list) = self.try_control(&["list", "source-outputs"]) else { return };
        for stream in list.split("Source Output #").skip(1) {
            let number = stream.lines().next().unwrap_or_default();
            let name = stream.lines().find_map(|line| line.trim().strip_prefix("media.name = \""));
            if let Some(source) = name.and_then(|name| name.strip_suffix('"')?.strip_prefix(LISTENS)) {
                // Its source may have gone.
                self.try_control(&["move-source-output", number, source]);
            }
        }
    }

    /// Lets someone speak into the microphone; mono samples at 48 kHz.
    pub fn speak(&self, samples: Vec<f32>) -> Speaker {
        Speaker::start("vmic_sink", samples)
    }

    /// Lets somebody record a source and forget it at once: one that nobody uses takes two seconds to wake up.
    pub fn keep_awake(&self, source: &str) -> Speaker {
        let process = Command::new("parec")
            .args(["--raw", "--latency-msec=20", &format!("--device={source}")])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        Speaker(process.expect("parec runs: install pulseaudio-utils"))
    }

    /// Records what comes out of a loudspeaker (`vspk.monitor`), from now on.
    pub fn listen(&self, source: &str) -> Listener {
        Listener::start(source)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Someone who speaks until the samples end, or who only listens.
pub struct Speaker(Child);

impl Speaker {
    fn start(sink: &str, samples: Vec<f32>) -> Speaker {
        let mut process = Command::new("pacat")
            .args(["--playback", "--raw", "--format=float32le", "--rate=48000", "--channels=1", "--latency-msec=40"])
            .arg(format!("--device={sink}"))
            .stdin(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("pacat runs: install pulseaudio-utils");
        let mut pipe = process.stdin.take().expect("a pipe");
        thread::spawn(move || {
            let bytes: Vec<u8> = samples.iter().flat_map(|sample| sample.to_le_bytes()).collect();
            // The server may be killed meanwhile.
            let _ = pipe.write_all(&bytes);
        });
        Speaker(process)
    }
}

impl Drop for Speaker {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A microphone at the loudspeaker: everything it has heard so far, first channel, 48 kHz.
pub struct Listener {
    process: Child,
    heard: Arc<Mutex<Vec<f32>>>,
    /// When how many samples had come.
    clock: Arc<Mutex<Vec<(Instant, usize)>>>,
}

impl Listener {
    fn start(source: &str) -> Listener {
        let mut process = Command::new("parec")
            .args(["--raw", "--format=float32le", "--rate=48000", "--channels=2", "--latency-msec=20"])
            .args([format!("--device={source}"), format!("--stream-name={LISTENS}{source}")])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("parec runs: install pulseaudio-utils");
        let mut pipe = process.stdout.take().expect("a pipe");
        let heard = Arc::new(Mutex::new(vec![]));
        let target = heard.clone();
        let clock = Arc::new(Mutex::new(vec![]));
        let ticks = clock.clone();
        thread::spawn(move || {
            let mut bytes = vec![];
            let mut block = [0u8; 4_096];
            while let Ok(count @ 1..) = pipe.read(&mut block) {
                bytes.extend_from_slice(&block[..count]);
                let whole = bytes.len() / 8 * 8;
                let frames = bytes[..whole].chunks_exact(8);
                let samples = frames.map(|frame| f32::from_le_bytes([frame[0], frame[1], frame[2], frame[3]]));
                let count = {
                    let mut target = target.lock().expect("no panic");
                    target.extend(samples);
                    target.len()
                };
                ticks.lock().expect("no panic").push((Instant::now(), count));
                bytes.drain(..whole);
            }
        });
        let listener = Listener { process, heard, clock };
        within(Duration::from_secs(5), "the recorder runs", || (listener.count() > 0).then_some(()));
        listener
    }

    /// How many samples were heard.
    pub fn count(&self) -> usize {
        self.heard.lock().expect("no panic").len()
    }

    /// When the sample with this number was recorded, but for what every listener is late: the earliest that the pieces
    /// around it say, because a piece may come late and never early.
    pub fn time_of(&self, sample: usize) -> Option<Instant> {
        let clock = self.clock.lock().expect("no panic");
        let near = |count: usize| count.abs_diff(sample) < 2 * 48_000;
        let at = |(when, count): &(Instant, usize)| {
            let off = Duration::from_secs_f64(count.abs_diff(sample) as f64 / 48_000.0);
            if *count > sample { when.checked_sub(off) } else { when.checked_add(off) }
        };
        clock.iter().filter(|(_, count)| near(*count)).filter_map(at).min()
    }

    /// All that was heard.
    pub fn samples(&self) -> Vec<f32> {
        self.heard.lock().expect("no panic").clone()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Open files of this process, and its threads.
pub fn belongings() -> (usize, usize) {
    let count = |folder: &str| std::fs::read_dir(Path::new(folder)).map(|entries| entries.count()).unwrap_or(0);
    (count("/proc/self/fd"), count("/proc/self/task"))
}
