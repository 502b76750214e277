//! What is measured, and one measurement: an `eddy bench` process whose report is read.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::Context;
use eddy_config::{Config, Paths};
use eddy_models::folder::{ModelFolder, Role, Wanted};
use eddy_store::Catalogue;
use serde_json::{Value, json};

use super::choice::Choice;
use super::machine::{Setting, available_memory};
use crate::cli::models::mib;
use crate::engine::{self, catalog};

/// Positions of the prompt whose reply is waited for, and of the context that tokens are made behind.
const POSITIONS: [u64; 2] = [128, 512];
/// Seconds of the question whose answer is waited for.
const QUESTION: u64 = 3;
/// Pairs of runs between the two fastest settings at most; there are no more than runs of each measurement.
const MOST_PAIRS: u16 = 5;
/// Weights take about so much more memory than room on the disk while they are read.
const ROOM: f64 = 1.5;

/// What a model is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Task {
    /// Written answers.
    Text,
    /// Speech in and out.
    Speech,
}

impl Task {
    /// The key of `[models]`.
    #[must_use]
    pub fn key(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Speech => "speech",
        }
    }
}

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
    /// Bytes of its weights, where they are known.
    pub bytes: Option<u64>,
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
    /// Seconds until a reply begins: the first sound after a question of three seconds, or the first token after a prompt
    /// of 512 positions.
    pub latency: f64,
    /// Seconds for a token behind a context of 512 positions.
    pub token: f64,
    /// Seconds for a frame of 80 ms of sound, where there is sound.
    pub frame: Option<f64>,
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
        let frame = self.frame.map_or_else(String::new, |frame| format!(", a frame in {:.0} ms", frame * 1e3));
        format!(
            "{}, {}: begins after {:.2} s, {:.1} tokens a second{frame}, {}",
            self.subject.label(),
            self.setting.label(),
            self.latency,
            1.0 / self.token,
            mib(self.memory),
        )
    }

    /// For programs.
    #[must_use]
    pub fn json(&self) -> Value {
        json!({
            "model": self.subject.name, "precision": self.subject.precision, "task": self.subject.task.key(),
            "random_weights": !self.subject.is_installed(), "threads": self.setting.threads,
            "pinned": self.setting.pinned, "latency_s": self.latency, "token_s": self.token, "frame_s": self.frame,
            "memory_bytes": self.memory, "frontier": self.frontier, "bench": self.report,
        })
    }

    /// Whether sound is made as fast as it is heard.
    #[must_use]
    pub fn keeps_up(&self) -> bool {
        self.frame.is_none_or(|frame| frame < 0.08)
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
        let task = match folder.task {
            Some(engine::Task::Text) => Task::Text,
            Some(engine::Task::Speech) => Task::Speech,
            Some(engine::Task::Vision | engine::Task::Retrieval) | None => continue,
        };
        if folder.remote.is_some() || folder.problem.is_some() {
            continue;
        }
        let decoders = ModelFolder::open(&folder.path)?.files().get(&Role::Decoder).cloned().unwrap_or_default();
        found.extend(decoders.into_keys().map(|precision| Subject {
            name: folder.name.clone(),
            task,
            precision: precision.to_string(),
            bytes: Some(folder.bytes),
            source: Source::Installed(folder.path.clone()),
        }));
    }
    let catalogue = Catalogue::load(&paths.catalogue())?;
    let here: Vec<String> = found.iter().map(|subject: &Subject| subject.name.clone()).collect();
    for entry in catalogue.entries().iter().filter(|_| !installed) {
        let (Some(shapes), false) = (&entry.shapes, here.iter().any(|name| entry.repository.ends_with(name))) else {
            continue;
        };
        let task = if entry.family == "speech" { Task::Speech } else { Task::Text };
        found.extend(shapes.precisions.iter().map(|precision| Subject {
            name: entry.name.clone(),
            task,
            precision: precision.clone(),
            bytes: entry.precisions.get(precision).and_then(|variant| variant.bytes),
            source: Source::Random(shapes.name.clone()),
        }));
    }
    if let Some(name) = only.iter().find(|name| found.iter().all(|subject| subject.name != **name)) {
        let known: Vec<&str> = found.iter().map(|subject| subject.name.as_str()).collect();
        anyhow::bail!("--only {name}: there is nothing of this name to measure; there is {}", known.join(", "));
    }
    found.retain(|subject| tasks.contains(&subject.task) && (only.is_empty() || only.contains(&subject.name)));
    found.sort_by_key(|subject| subject.bytes.unwrap_or(u64::MAX));
    Ok(found)
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
        if let Some(bytes) = subject.bytes {
            let (needed, free) = ((bytes as f64 * ROOM) as u64, available_memory());
            anyhow::ensure!(needed <= free, "it needs about {} of memory and {} are free", mib(needed), mib(free));
            anyhow::ensure!(bytes <= budget, "its weights alone are {}, more than --memory allows", mib(bytes));
        }
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
        if let Some(bytes) = subject.bytes {
            eddy_store::check_space(&self.weights, bytes)?;
        }
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
        let threads = setting.threads.to_string();
        let fixed =
            ["--model", &folder, "--precision", &subject.precision, "--threads", &threads, "--runs", &runs, "--only"];
        let amounts = POSITIONS.map(|positions| positions.to_string());
        let written = ["prefill", "decode", "--amount", &amounts[0], "--amount", &amounts[1]];
        let mut report = setting.hold(|| self.bench(&[&fixed[..], &written].concat()))?;
        let mut memory = figure(&report, &["memory", "peak_mib"])?;
        let prefill = rate(&report, "prefill", "positions", POSITIONS[1])?;
        let token = 1.0 / rate(&report, "decode", "context", POSITIONS[1])?;
        let (mut latency, mut frame) = (POSITIONS[1] as f64 / prefill + token, None);
        if subject.task == Task::Speech {
            let question = QUESTION.to_string();
            let spoken = ["frame", "first", "--amount", &question];
            let sound = setting.hold(|| self.bench(&[&fixed[..], &spoken].concat()))?;
            latency = listed(&sound, "first_sound", "question_s", &QUESTION.into(), "s")?;
            let part = |name: &str| listed(&sound, "frame", "part", &name.into(), "ms");
            frame = Some((part("backbone, frame")? + part("depthformer")? + part("detokenizer by 6")?) / 1e3);
            memory = memory.max(figure(&sound, &["memory", "peak_mib"])?);
            for key in ["frame", "first_sound"] {
                if let (Some(fields), Some(value)) = (report.as_object_mut(), sound.get(key)) {
                    fields.insert(key.into(), value.clone());
                }
            }
        }
        Ok(Measured {
            subject: subject.clone(),
            setting: setting.clone(),
            latency,
            token,
            frame,
            memory: (memory * f64::from(1 << 20)) as u64,
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
        others.sort_by(|one, other| one.latency.total_cmp(&other.latency));
        let Some(second) = others.first() else { return Ok(choice) };
        let folder = self.weights_of(&choice.best.subject)?;
        let mut pairs = Vec::new();
        for _ in 0..self.runs.min(MOST_PAIRS) {
            let first = self.at(&choice.best.subject, &choice.best.setting, &folder)?;
            let other = self.at(&choice.best.subject, &second.setting, &folder)?;
            pairs.push((first.latency, other.latency));
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

fn figure(report: &Value, keys: &[&str]) -> anyhow::Result<f64> {
    let value = keys.iter().try_fold(report, |value, key| value.get(key)).and_then(Value::as_f64);
    value.with_context(|| format!("eddy bench reports no {}", keys.join(".")))
}

/// The median of the entry of `list` whose `key` is `at`.
fn listed(report: &Value, list: &str, key: &str, at: &Value, unit: &str) -> anyhow::Result<f64> {
    let entries = report.get(list).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let entry = entries.iter().find(|entry| entry.get(key) == Some(at));
    let entry = entry.with_context(|| format!("eddy bench reports no {list} at {at}"))?;
    figure(entry, &[unit, "median"])
}

fn rate(report: &Value, list: &str, key: &str, at: u64) -> anyhow::Result<f64> {
    listed(report, list, key, &at.into(), "tok_s")
}
