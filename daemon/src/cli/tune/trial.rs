//! What is measured, and one measurement: an `eddy bench` process whose report is read.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::Context;
use eddy_config::{Config, Paths};
use eddy_models::folder::{ModelFolder, Role, Wanted};
use eddy_store::Catalogue;
use serde_json::{Map, Value, json};

use super::choice::Choice;
use super::machine::{Setting, available_memory};
use super::task::{Pace, Task, figure};
use crate::cli::bench::mapped_bytes;
use crate::cli::models::mib;
use crate::engine::catalog;

/// Pairs of runs between the two fastest settings at most; there are no more than runs of each measurement.
const MOST_PAIRS: u16 = 5;
/// Weights take about so much more memory than room on the disk while they are read.
const ROOM: f64 = 1.5;

/// Where a subject's weights come from.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Source {
    /// From the folder of an installed model.
    Installed(PathBuf),
    /// They are drawn at random in the shapes that `eddy bench --make` knows by this name.
    Random(String),
}

/// A model in a precision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// What it is called: the folder's name, or the catalogue's.
    pub name: String,
    /// What it is to do.
    pub task: Task,
    /// The precision of its weights.
    pub precision: String,
    /// Bytes of its weights.
    pub bytes: u64,
    source: Source,
}

impl Subject {
    /// For tables.
    #[must_use]
    pub fn label(&self) -> String {
        format!("{} {}", self.name, self.precision)
    }

    /// Whether its weights are here.
    #[must_use]
    pub fn is_installed(&self) -> bool {
        matches!(self.source, Source::Installed(_))
    }
}

/// A subject at one setting.
#[derive(Debug, Clone)]
pub struct Measured {
    /// The model.
    pub subject: Subject,
    /// How it was run.
    pub setting: Setting,
    /// Seconds that it took.
    pub pace: Pace,
    /// Bytes of memory at its peak.
    pub memory: u64,
    /// Whether nothing that was measured is both faster and smaller.
    pub frontier: bool,
    /// What `eddy bench` reported.
    pub report: Value,
}

impl Measured {
    /// For people.
    #[must_use]
    pub fn line(&self) -> String {
        let Pace { latency, token, frame, passage } = self.pace;
        let rate = |seconds: Option<f64>, what: &str| {
            seconds.map_or_else(String::new, |seconds| format!(", {:.1} {what} a second", 1.0 / seconds))
        };
        let frame = frame.map_or_else(String::new, |frame| format!(", a frame in {:.0} ms", frame * 1e3));
        format!(
            "{}, {}: {} after {latency:.2} s{}{}{frame}, {}",
            self.subject.label(),
            self.setting.label(),
            self.subject.task.waited_for(),
            rate(token, "tokens"),
            rate(passage, "passages"),
            mib(self.memory),
        )
    }

    /// For programs.
    #[must_use]
    pub fn json(&self) -> Value {
        json!({
            "model": self.subject.name, "precision": self.subject.precision, "task": self.subject.task.key(),
            "random_weights": !self.subject.is_installed(), "threads": self.setting.threads, "spin_us": self.setting.spin_us,
            "pinned": self.setting.pinned, "latency_s": self.pace.latency, "token_s": self.pace.token,
            "frame_s": self.pace.frame, "passage_s": self.pace.passage, "memory_bytes": self.memory,
            "frontier": self.frontier, "bench": self.report,
        })
    }

    /// Whether sound is made as fast as it is heard.
    #[must_use]
    pub fn keeps_up(&self) -> bool {
        self.pace.frame.is_none_or(|frame| frame < 0.08)
    }
}

/// All that is to be measured, the smallest first.
///
/// # Errors
/// For a name that stands for nothing.
pub fn subjects(
    paths: &Paths,
    config: &Config,
    tasks: &[Task],
    only: &[String],
    installed: bool,
) -> anyhow::Result<Vec<Subject>> {
    let mut found = Vec::new();
    for folder in catalog::scan(&paths.models(&config.models), Wanted::Auto) {
        let Some(task) = folder.task.map(Task::of) else { continue };
        if folder.remote.is_some() || folder.problem.is_some() {
            continue;
        }
        let opened = ModelFolder::open(&folder.path)?;
        for precision in opened.files().get(&Role::Decoder).into_iter().flat_map(|decoders| decoders.keys().copied()) {
            let wanted = Wanted::Exactly(precision);
            let Some(decoder) = opened.graph(Role::Decoder, wanted)? else { continue };
            found.push(Subject {
                name: folder.name.clone(),
                task,
                precision: precision.to_string(),
                bytes: mapped_bytes(&opened, wanted, &decoder)?,
                source: Source::Installed(folder.path.clone()),
            });
        }
    }
    let catalogue = Catalogue::load(&paths.catalogue())?;
    let here: Vec<String> = found.iter().map(|subject: &Subject| subject.name.clone()).collect();
    for entry in catalogue.entries().iter().filter(|_| !installed) {
        let (Some(shapes), false) = (&entry.shapes, here.iter().any(|name| entry.is_called(name))) else {
            continue;
        };
        found.extend(shapes.precisions.iter().map(|(precision, bytes)| Subject {
            name: entry.name.clone(),
            task: Task::of_family(&entry.family),
            precision: precision.clone(),
            bytes: *bytes,
            source: Source::Random(shapes.name.clone()),
        }));
    }
    if let Some(name) = only.iter().find(|name| found.iter().all(|subject| subject.name != **name)) {
        let mut known: Vec<&str> = found.iter().map(|subject| subject.name.as_str()).collect();
        known.dedup();
        anyhow::bail!("--only {name}: there is nothing of this name to measure; there is {}", known.join(", "));
    }
    found.retain(|subject| tasks.contains(&subject.task) && (only.is_empty() || only.contains(&subject.name)));
    found.sort_by_key(|subject| subject.bytes);
    Ok(found)
}

/// Where this process draws random weights; those of processes that were ended before they could take theirs away are
/// removed.
#[must_use]
pub fn weights(cache: &Path) -> PathBuf {
    const NAME: &str = "tune-weights-";
    for entry in std::fs::read_dir(cache).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let process = name.to_str().and_then(|name| name.strip_prefix(NAME)?.parse::<u32>().ok());
        if process.is_some_and(|process| !Path::new(&format!("/proc/{process}")).exists()) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
    cache.join(format!("{NAME}{}", std::process::id()))
}

/// How measurements are made.
#[derive(Debug)]
pub struct Bench {
    /// Runs of each.
    pub runs: u16,
    /// Where random weights are written to.
    pub weights: PathBuf,
    /// Nothing is shown on the way.
    pub quiet: bool,
}

impl Bench {
    /// Measures a subject at each of the settings.
    ///
    /// # Errors
    /// When it does not fit, or cannot be run.
    pub fn measure(&self, subject: &Subject, settings: &[Setting], budget: u64) -> anyhow::Result<Vec<Measured>> {
        let (bytes, free) = (subject.bytes, available_memory());
        let needed = (bytes as f64 * ROOM) as u64;
        anyhow::ensure!(needed <= free, "it needs about {} of memory and {} are free", mib(needed), mib(free));
        anyhow::ensure!(bytes <= budget, "its weights alone are {}, more than --memory allows", mib(bytes));
        let folder = self.weights_of(subject)?;
        settings.iter().map(|setting| self.at(subject, setting, &folder)).collect()
    }

    /// The folder of a subject's weights, which are drawn if they have to be.
    fn weights_of(&self, subject: &Subject) -> anyhow::Result<PathBuf> {
        let shapes = match &subject.source {
            Source::Installed(folder) => return Ok(folder.clone()),
            Source::Random(shapes) => shapes,
        };
        std::fs::create_dir_all(&self.weights).with_context(|| self.weights.display().to_string())?;
        eddy_store::check_space(&self.weights, subject.bytes)?;
        let to = self.weights.to_string_lossy().into_owned();
        self.say(&format!("writing random weights of {}", subject.label()));
        self.bench(&["--make", shapes, "--to", &to, "--precision", &subject.precision])?;
        Ok(self.weights.join(shapes))
    }

    /// Takes random weights away.
    pub fn forget(&self, subject: &Subject) {
        if let Source::Random(shapes) = &subject.source {
            let _ = std::fs::remove_dir_all(self.weights.join(shapes));
            let _ = std::fs::remove_dir(&self.weights);
        }
    }

    fn at(&self, subject: &Subject, setting: &Setting, folder: &Path) -> anyhow::Result<Measured> {
        self.say(&format!("measuring {}, {}", subject.label(), setting.label()));
        let (folder, runs) = (folder.to_string_lossy().into_owned(), self.runs.to_string());
        let (threads, spin) = (setting.threads.to_string(), setting.spin_us.to_string());
        let fixed = [
            "--model",
            &folder,
            "--precision",
            &subject.precision,
            "--threads",
            &threads,
            "--spin-us",
            &spin,
            "--runs",
            &runs,
        ];
        let (mut report, mut peak) = (Map::new(), 0.0f64);
        for run in subject.task.runs() {
            let arguments: Vec<&str> = fixed.iter().copied().chain(run.iter().map(String::as_str)).collect();
            let of_run = setting.hold(|| self.bench(&arguments))?;
            peak = peak.max(figure(&of_run, &["memory", "peak_mib"])?);
            let Value::Object(fields) = of_run else { continue };
            for (key, value) in fields {
                report.entry(key).or_insert(value);
            }
        }
        let report = Value::Object(report);
        Ok(Measured {
            pace: subject.task.pace(&report)?,
            subject: subject.clone(),
            setting: setting.clone(),
            memory: (peak * f64::from(1 << 20)) as u64,
            frontier: false,
            report,
        })
    }

    /// Runs the two fastest settings of a choice by turns, and keeps the one that won more of the pairs.
    ///
    /// # Errors
    /// When a run fails that succeeded before.
    pub fn confirm(&self, choice: Choice, measured: &[Measured]) -> anyhow::Result<Choice> {
        let of_model = measured.iter().filter(|one| one.subject == choice.best.subject);
        let mut others: Vec<&Measured> = of_model.filter(|one| one.setting != choice.best.setting).collect();
        others.sort_by(|one, other| one.pace.latency.total_cmp(&other.pace.latency));
        let Some(second) = others.first() else { return Ok(choice) };
        let folder = self.weights_of(&choice.best.subject)?;
        let mut pairs = Vec::new();
        for _ in 0..self.runs.min(MOST_PAIRS) {
            let first = self.at(&choice.best.subject, &choice.best.setting, &folder)?;
            let other = self.at(&choice.best.subject, &second.setting, &folder)?;
            pairs.push((first.pace.latency, other.pace.latency));
        }
        self.forget(&choice.best.subject);
        let won = pairs.iter().filter(|(first, other)| first <= other).count();
        let (best, runner_up) = match won * 2 > pairs.len() {
            true => (choice.best.clone(), second.setting.clone()),
            false => ((*second).clone(), choice.best.setting.clone()),
        };
        Ok(Choice { best, runner_up: Some(runner_up), pairs, ..choice })
    }

    fn say(&self, what: &str) {
        if !self.quiet {
            eprintln!("eddy: {what}");
        }
    }

    /// The report of `eddy bench ARGUMENTS`.
    fn bench(&self, arguments: &[&str]) -> anyhow::Result<Value> {
        let program = std::env::current_exe().context("this program cannot be found")?;
        let output = Command::new(program).arg("bench").args(arguments).arg("--json").stdin(Stdio::null()).output()?;
        if !output.status.success() {
            let errors = String::from_utf8_lossy(&output.stderr);
            let last = errors.lines().last().unwrap_or("it says nothing").trim_start_matches("eddy: ").to_owned();
            anyhow::bail!("{last}");
        }
        serde_json::from_slice(&output.stdout).context("the report of eddy bench is no JSON")
    }
}
