//! A bus and a daemon that nobody else uses, for as long as this process lives: the demo's.

use std::io::{BufRead, BufReader};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::Context;

use super::daemon::BusArguments;
use super::model::LoadArguments;

/// How long the daemon may take until it answers.
const PATIENCE: Duration = Duration::from_secs(30);

const BUS_CONFIG: &str = r#"<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>session</type>
  <listen>unix:path=SOCKET</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow send_destination="*" eavesdrop="true"/>
    <allow eavesdrop="true"/>
    <allow own="*"/>
  </policy>
</busconfig>
"#;

/// A process that ends with this one.
struct Bound(Child);

impl Drop for Bound {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A daemon with a bus of its own. Both end, and their folder goes, when it is dropped.
pub struct PrivateDaemon {
    // The daemon first, or it would complain that its bus has gone.
    daemon: Bound,
    _bus: Bound,
    address: String,
    _folder: tempfile::TempDir,
}

impl PrivateDaemon {
    /// Starts both; the daemon serves the model in `model`.
    ///
    /// # Errors
    /// When the bus daemon is not installed, or eddyd does not come up; its own words are in the error.
    pub fn start(model: &Path, load: &LoadArguments) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let config = folder.path().join("bus.conf");
        std::fs::write(&config, BUS_CONFIG.replace("SOCKET", &folder.path().join("bus").to_string_lossy()))?;
        let mut bus = Command::new("dbus-daemon")
            .args(["--nofork", "--print-address=1", "--config-file"])
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map(Bound)
            .context("dbus-daemon cannot be run; install the package dbus, or dbus-daemon where that has it")?;
        let mut address = String::new();
        if let Some(told) = bus.0.stdout.take() {
            BufReader::new(told).read_line(&mut address)?;
        }
        let address = address.trim().to_owned();
        anyhow::ensure!(!address.is_empty(), "dbus-daemon did not start");

        let socket = folder.path().join("notify");
        let notified = UnixDatagram::bind(&socket)?;
        let log = folder.path().join("log");
        let mut command = Command::new(eddyd()?);
        let model = model.canonicalize().with_context(|| model.display().to_string())?;
        command
            .args(["--bus-address", &address, "--set"])
            .arg(format!("models.directories=[{:?}]", model.to_string_lossy()))
            .args(["--set", "log.output=\"stderr\"", "--set", "voice.mode=\"off\""])
            .env("XDG_STATE_HOME", folder.path().join("state"))
            .env("NOTIFY_SOCKET", &socket)
            .env_remove("WATCHDOG_USEC")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&log)?);
        if let Some(precision) = &load.precision {
            command.args(["--set", &format!("models.precision=\"{precision}\"")]);
        }
        if let Some(threads) = load.threads {
            command.args(["--set", &format!("runtime.threads={threads}")]);
        }
        if let Some(config) = &load.config {
            command.arg("--config").arg(config);
        }
        let daemon = command.spawn().map(Bound).context("eddyd cannot be run")?;
        let mut private = Self { daemon, _bus: bus, address, _folder: folder };
        private.wait(&notified, &log)?;
        Ok(private)
    }

    /// The way to it.
    #[must_use]
    pub fn bus(&self) -> BusArguments {
        BusArguments { system_bus: false, bus_address: Some(self.address.clone()) }
    }

    fn wait(&mut self, notified: &UnixDatagram, log: &Path) -> anyhow::Result<()> {
        let begun = std::time::Instant::now();
        notified.set_read_timeout(Some(Duration::from_millis(100)))?;
        let mut buffer = [0; 4096];
        while begun.elapsed() < PATIENCE {
            let told = notified.recv(&mut buffer).map(|length| String::from_utf8_lossy(&buffer[..length]).into_owned());
            if told.is_ok_and(|told| told.lines().any(|line| line == "READY=1")) {
                return Ok(());
            }
            if self.daemon.0.try_wait()?.is_some() {
                break;
            }
        }
        let told = std::fs::read_to_string(log).unwrap_or_default();
        let last = told.lines().last().unwrap_or("it said nothing");
        anyhow::bail!("eddyd did not start: {}", last.trim_start_matches("eddyd: "))
    }
}

/// The daemon's binary: beside this one, or wherever the shell finds it.
fn eddyd() -> anyhow::Result<std::path::PathBuf> {
    let beside = std::env::current_exe()?.with_file_name("eddyd");
    Ok(if beside.is_file() { beside } else { "eddyd".into() })
}
