//! `eddy doctor`: what this machine has for Eddy, what it lacks, and what to do about it.

use std::path::PathBuf;

use eddy_audio::device::{Backend, Direction, list};
use eddy_config::{Auto, Config, Paths, Sources};
use eddy_ipc::client::AssistantProxy;
use eddy_models::folder::Wanted;
use eddy_models::{Runtime, RuntimeOptions};
use serde_json::{Map, Value, json};

use super::Outcome;
use super::daemon::{BusArguments, Daemon};
use super::models::mib;
use super::output::Output;
use crate::engine::catalog;

/// Arguments of the verb.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// How a check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Good,
    /// It works, with less.
    Fair,
    Bad,
}

impl Verdict {
    fn word(self) -> &'static str {
        match self {
            Self::Good => "ok",
            Self::Fair => "note",
            Self::Bad => "BAD",
        }
    }
}

/// What was looked at, what was seen, and what to do.
struct Finding {
    what: &'static str,
    verdict: Verdict,
    seen: String,
    remedy: String,
}

impl Finding {
    fn good(what: &'static str, seen: impl Into<String>) -> Self {
        Self { what, verdict: Verdict::Good, seen: seen.into(), remedy: String::new() }
    }

    fn fair(what: &'static str, seen: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { what, verdict: Verdict::Fair, seen: seen.into(), remedy: remedy.into() }
    }

    fn bad(what: &'static str, seen: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { what, verdict: Verdict::Bad, seen: seen.into(), remedy: remedy.into() }
    }
}

/// Runs the verb; something that keeps Eddy from working is a failure.
///
/// # Errors
/// When a check came out badly, or standard output is closed.
pub fn run(arguments: Arguments, bus: &BusArguments) -> anyhow::Result<Outcome> {
    let paths = Paths::from_environment()?;
    let (config, configured) = configuration(&paths);
    let mut findings = vec![configured];
    findings.extend(daemon(bus));
    findings.push(runtime(&config, &paths));
    findings.extend([Direction::Capture, Direction::Playback].map(device));
    findings.push(real_time());
    findings.extend(models(&config, &paths));
    findings.push(memory(&config));
    findings.push(processor());

    let mut output = Output::new(arguments.json);
    for finding in &findings {
        output.line(&format!("{:4}  {:13}  {}", finding.verdict.word(), finding.what, finding.seen))?;
        if !finding.remedy.is_empty() {
            output.line(&format!("      {:13}  {}", "", finding.remedy))?;
        }
    }
    let bad = findings.iter().filter(|finding| finding.verdict == Verdict::Bad).count();
    let fields = findings.iter().map(|finding| {
        json!({
            "what": finding.what, "verdict": finding.verdict.word().to_lowercase(), "seen": finding.seen,
            "remedy": finding.remedy,
        })
    });
    output.finish(Map::from_iter([("findings".to_owned(), fields.collect::<Value>())]))?;
    anyhow::ensure!(bad == 0, "{bad} of {} checks came out badly", findings.len());
    Ok(Outcome::Done)
}

fn configuration(paths: &Paths) -> (Config, Finding) {
    match Sources::standard(paths).load() {
        Ok(loaded) => {
            let files: Vec<String> = loaded.files.iter().map(|file| file.display().to_string()).collect();
            let seen = if files.is_empty() { "built-in values".to_owned() } else { files.join(", ") };
            (loaded.config, Finding::good("configuration", seen))
        }
        Err(invalid) => {
            let first = invalid.to_string().lines().next().unwrap_or_default().to_owned();
            (Config::default(), Finding::bad("configuration", first, "`eddy config check` shows every mistake"))
        }
    }
}

fn daemon(bus: &BusArguments) -> Vec<Finding> {
    let connected = match Daemon::connect(bus) {
        Ok(daemon) => daemon,
        Err(_) => {
            let remedy = "log in to a desktop session, or run the command under `dbus-run-session`";
            return vec![Finding::fair("bus", "no bus answers", remedy)];
        }
    };
    let version = connected.call(async |connection| AssistantProxy::new(connection).await?.version().await);
    let daemon = match version {
        Ok(version) => Finding::good("daemon", format!("eddyd {version} answers")),
        Err(_) => Finding::fair("daemon", "it does not run", "start it with `systemctl --user enable --now eddy`"),
    };
    vec![Finding::good("bus", "there is one"), daemon]
}

fn runtime(config: &Config, paths: &Paths) -> Finding {
    let options = RuntimeOptions { threads: Some(1), ..crate::runtime::options(config, paths) };
    match Runtime::start(&options) {
        Ok(runtime) => Finding::good("ONNX Runtime", runtime.library().display().to_string()),
        Err(error) => {
            Finding::bad("ONNX Runtime", error.to_string(), "`make runtime` fetches it, the package brings it")
        }
    }
}

fn device(direction: Direction) -> Finding {
    let what = match direction {
        Direction::Capture => "microphone",
        Direction::Playback => "speaker",
    };
    match list(Backend::detect(), direction).map(|devices| devices.into_iter().next()) {
        Ok(Some(device)) => Finding::good(what, format!("{}, {} Hz", device.name, device.sample_rate)),
        Ok(None) => Finding::fair(what, "none", "plug one in; recordings and texts work without"),
        Err(error) => Finding::fair(what, error.to_string(), "recordings and texts work without"),
    }
}

fn real_time() -> Finding {
    use rustix::process::{Resource, getrlimit};
    let what = "real time";
    let limit = getrlimit(Resource::Rtprio).current;
    match limit {
        None => Finding::good(what, "audio threads may have any priority"),
        Some(priority) if priority > 0 => Finding::good(what, format!("audio threads may have priority {priority}")),
        Some(_)
            if std::path::Path::new("/usr/share/dbus-1/system-services/org.freedesktop.RealtimeKit1.service")
                .exists() =>
        {
            Finding::good(what, "rtkit grants audio threads their priority")
        }
        Some(_) => Finding::fair(
            what,
            "audio threads run at ordinary priority",
            "install rtkit, or give your user an rtprio limit, if sound stutters while the machine is busy",
        ),
    }
}

fn models(config: &Config, paths: &Paths) -> Vec<Finding> {
    let folders: Vec<PathBuf> = paths.models(&config.models);
    let found = catalog::scan(&folders, Wanted::Auto);
    if found.is_empty() {
        let names: Vec<String> = folders.iter().map(|folder| folder.display().to_string()).collect();
        let seen = format!("none in {}", names.join(", "));
        return vec![Finding::bad(
            "model",
            seen,
            "`eddy models pull` fetches one, `eddy models list --available` shows which there are",
        )];
    }
    let finding = |folder: &crate::engine::Folder| match (&folder.problem, folder.task) {
        (Some(problem), _) => Finding::fair("model", format!("{}: {problem}", folder.name), "fetch the folder again"),
        (None, task) => {
            let task = task.map_or("nothing known", crate::engine::Task::name);
            let (precision, size) = (&folder.precision, mib(folder.bytes));
            Finding::good("model", format!("{} for {task}, {precision}, {size}", folder.name))
        }
    };
    found.iter().map(finding).collect()
}

fn memory(config: &Config) -> Finding {
    let (Some(total), Some(free)) = (crate::memory::total(), crate::memory::available()) else {
        return Finding::fair("memory", "unknown: /proc/meminfo cannot be read", "");
    };
    let budget = match config.models.memory_budget {
        Auto::Set(bytes) => bytes.0,
        Auto::Auto => total / 2,
    };
    let seen = format!("{} of {} free; models may take {}", mib(free), mib(total), mib(budget));
    match free < budget {
        true => Finding::fair("memory", seen, "close something, or lower models.memory_budget"),
        false => Finding::good("memory", seen),
    }
}

fn processor() -> Finding {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let seen = format!("{cores} cores, {}", features());
    match cores {
        1 => Finding::fair("processor", seen, "large models will not keep up with speech on one core"),
        _ => Finding::good("processor", seen),
    }
}

#[cfg(target_arch = "x86_64")]
fn features() -> String {
    let known = [
        ("AVX2", std::arch::is_x86_feature_detected!("avx2")),
        ("FMA", std::arch::is_x86_feature_detected!("fma")),
        ("F16C", std::arch::is_x86_feature_detected!("f16c")),
        ("AVX-512", std::arch::is_x86_feature_detected!("avx512f")),
        ("VNNI", std::arch::is_x86_feature_detected!("avx512vnni")),
    ];
    let names: Vec<&str> = known.into_iter().filter(|(_, there)| *there).map(|(name, _)| name).collect();
    if names.is_empty() { "no vector instructions beyond SSE2: slow".to_owned() } else { names.join(", ") }
}

#[cfg(not(target_arch = "x86_64"))]
fn features() -> String {
    std::env::consts::ARCH.to_owned()
}
