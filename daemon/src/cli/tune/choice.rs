//! From measurements to a recommendation.

use std::time::Duration;

use serde_json::{Value, json};

use super::machine::Setting;
use super::task::Task;
use super::trial::Measured;
use crate::cli::models::mib;

/// What may be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Until a reply begins.
    pub latency: Duration,
    /// Bytes of memory.
    pub memory: u64,
}

impl Budget {
    fn admits(&self, one: &Measured) -> bool {
        one.pace.latency <= self.latency.as_secs_f64() && one.memory <= self.memory && one.keeps_up()
    }
}

/// What is recommended for a task.
#[derive(Debug, Clone)]
pub struct Choice {
    /// The model and how to run it.
    pub best: Measured,
    /// Whether it is within the budget.
    pub within: bool,
    /// The setting that it was run against by turns.
    pub runner_up: Option<Setting>,
    /// Seconds until a reply began, in pairs of the one that was faster at first and the other.
    pub pairs: Vec<(f64, f64)>,
}

impl Choice {
    /// For people.
    #[must_use]
    pub fn sentence(&self, budget: &Budget) -> String {
        let Measured { subject, setting, pace, memory, .. } = &self.best;
        let latency = pace.latency;
        let verdict = match self.within {
            true => "recommended".to_owned(),
            false => {
                format!("nothing is within {:.1} s and {}; nearest", budget.latency.as_secs_f64(), mib(budget.memory))
            }
        };
        let get = match subject.is_installed() {
            true => String::new(),
            false => format!("; `eddy models pull {} --precision {}` fetches it", subject.name, subject.precision),
        };
        let (label, setting) = (subject.label(), setting.label());
        format!("{} {verdict}: {label}, {setting}: {latency:.2} s, {}{get}", subject.task.key(), mib(*memory))
    }

    /// For programs.
    #[must_use]
    pub fn json(&self, budget: &Budget) -> Value {
        let Measured { subject, setting, .. } = &self.best;
        json!({
            "task": subject.task.key(), "model": subject.name, "precision": subject.precision,
            "installed": subject.is_installed(), "within_budget": self.within,
            "settings": {
                "runtime.threads": setting.threads, "runtime.spin": spin(setting), "CPUAffinity": setting.pinned,
            },
            "latency_s": self.best.pace.latency, "memory_bytes": self.best.memory, "budget_s": budget.latency.as_secs_f64(),
            "paired_with": self.runner_up.as_ref().map(Setting::label), "paired_latency_s": self.pairs,
        })
    }
}

/// The value of `runtime.spin`, as the configuration writes it.
#[must_use]
pub fn spin(setting: &Setting) -> String {
    match setting.spin_us {
        0 => "0s".to_owned(),
        microseconds => format!("{microseconds}us"),
    }
}

/// The two settings at which replies began soonest.
#[must_use]
pub fn two_fastest(measured: &[Measured]) -> Vec<Setting> {
    let mut sorted: Vec<&Measured> = measured.iter().collect();
    sorted.sort_by(|one, other| one.pace.latency.total_cmp(&other.pace.latency));
    sorted.into_iter().take(2).map(|one| one.setting.clone()).collect()
}

/// Marks what nothing else of its task is both faster and smaller than.
pub fn mark_frontier(measured: &mut [Measured]) {
    let all: Vec<(Task, f64, u64)> =
        measured.iter().map(|one| (one.subject.task, one.pace.latency, one.memory)).collect();
    for one in measured {
        let beats = |(task, latency, memory): &(Task, f64, u64)| {
            let better = *latency < one.pace.latency || *memory < one.memory;
            *task == one.subject.task && *latency <= one.pace.latency && *memory <= one.memory && better
        };
        one.frontier = !all.iter().any(beats);
    }
}

/// The largest model within the budget at its fastest setting; the fastest one where nothing is within it.
#[must_use]
pub fn choose(measured: &[&Measured], budget: &Budget) -> Option<Choice> {
    let fastest = |one: &&&Measured, other: &&&Measured| one.pace.latency.total_cmp(&other.pace.latency);
    let within: Vec<&&Measured> = measured.iter().filter(|one| budget.admits(one)).collect();
    // Weights are what a model knows; of equal ones the faster setting.
    let largest = within.iter().map(|one| one.subject.bytes).max();
    let best = match largest {
        Some(bytes) => within.into_iter().filter(|one| one.subject.bytes == bytes).min_by(fastest)?,
        None => measured.iter().min_by(fastest)?,
    };
    Some(Choice { best: (*best).clone(), within: largest.is_some(), runner_up: None, pairs: Vec::new() })
}
