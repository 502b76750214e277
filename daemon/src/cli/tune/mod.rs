//! `eddy tune`: what this machine can do with the models that are here and with those that are to be had, and what to
//! set. What is not here is measured with random weights of its shapes, so that nothing is fetched.
//!
//! Every measurement is an `eddy bench` of its own: threads and cores are settled when a process starts, and the memory
//! of one model must not be counted as another's.

mod choice;
mod machine;
mod picture;
mod task;
mod trial;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use eddy_config::{Bytes, Paths, Sources};
use serde_json::{Map, Value, json};

use super::Outcome;
use super::models::edit_setting;
use super::output::Output;
use choice::{Budget, Choice};
use task::Task;
use trial::{Measured, Subject};

/// Bytes of weights from which on a model's best settings are those of larger ones too.
const TELLING: u64 = 100 << 20;

/// Arguments of the verb.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// What models are to do [default: all of it].
    #[arg(long = "for", value_enum, num_args = 1..)]
    tasks: Vec<Task>,
    /// Seconds that may pass until a reply begins.
    #[arg(long, value_name = "SECONDS", default_value_t = 1.0)]
    latency: f64,
    /// Memory that a model may take, such as 2GiB [default: half of what is available].
    #[arg(long, value_name = "SIZE")]
    memory: Option<String>,
    /// Measure these alone: installed models, or names of the catalogue.
    #[arg(long, value_name = "NAME", num_args = 1..)]
    only: Vec<String>,
    /// Measure installed models alone, and write no random weights.
    #[arg(long)]
    installed: bool,
    /// Runs of each measurement.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=100))]
    runs: u16,
    /// Folder for the report: tune.json and tune.svg [default: tune in Eddy's cache folder].
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Write the recommended settings into the user's configuration.
    #[arg(long)]
    write_config: bool,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// Runs the verb.
///
/// # Errors
/// When nothing could be measured, or the report cannot be written.
pub fn run(arguments: &Arguments) -> anyhow::Result<Outcome> {
    let sensible = arguments.latency > 0.0 && arguments.latency <= 3600.0;
    anyhow::ensure!(sensible, "--latency {}: give seconds above 0, 3600 at most", arguments.latency);
    let paths = Paths::from_environment()?;
    let config = Sources::standard(&paths).load()?.config;
    let memory = match &arguments.memory {
        Some(size) => {
            size.parse::<Bytes>().map_err(|expected| anyhow::anyhow!("--memory {size}: expected {expected}"))?.0
        }
        None => machine::available_memory() / 2,
    };
    let budget = Budget { latency: Duration::from_secs_f64(arguments.latency), memory };
    let tasks = if arguments.tasks.is_empty() { Task::ALL.to_vec() } else { arguments.tasks.clone() };
    let folder = arguments.output.clone().unwrap_or_else(|| paths.cache.join("tune"));
    std::fs::create_dir_all(&folder).with_context(|| format!("{}: cannot be made", folder.display()))?;

    let mut output = Output::new(arguments.json);
    let subjects = trial::subjects(&paths, &config, &tasks, &arguments.only, arguments.installed)?;
    let bench = trial::Bench { runs: arguments.runs, weights: trial::weights(&paths.cache), quiet: arguments.json };
    let mut measured: Vec<Measured> = Vec::new();
    let mut passed_over = Vec::new();
    for task in tasks {
        let of_task: Vec<&Subject> = subjects.iter().filter(|subject| subject.task == task).collect();
        let mut settings = machine::settings();
        for subject in of_task {
            match bench.measure(subject, &settings, budget.memory) {
                Ok(of_subject) => {
                    for one in &of_subject {
                        output.line(&one.line())?;
                    }
                    // What was slow for the smallest model is not tried for the others; one that fits the processor's
                    // caches says nothing about those.
                    if subject.bytes >= TELLING {
                        settings = choice::two_fastest(&of_subject);
                    }
                    measured.extend(of_subject);
                }
                Err(error) => {
                    output.line(&format!("{}: not measured: {error:#}", subject.label()))?;
                    passed_over.push(json!({ "model": subject.label(), "reason": format!("{error:#}") }));
                }
            }
            bench.forget(subject);
        }
    }
    if measured.is_empty() {
        let reasons: Vec<String> =
            passed_over.iter().map(|one| format!("{}: {}", words(&one["model"]), words(&one["reason"]))).collect();
        match reasons.is_empty() {
            true => anyhow::bail!(
                "there is no model for this to measure; `eddy models list --available` says which there are"
            ),
            false => anyhow::bail!("nothing could be measured: {}", reasons.join("; ")),
        }
    }
    choice::mark_frontier(&mut measured);

    let mut choices = Vec::new();
    for task in Task::ALL {
        let of_task: Vec<&Measured> = measured.iter().filter(|one| one.subject.task == task).collect();
        if let Some(choice) = choice::choose(&of_task, &budget) {
            choices.push(bench.confirm(choice, &measured)?);
        }
    }
    let report = report(arguments, &budget, &measured, &choices, passed_over);
    let (text, svg) = (folder.join("tune.json"), folder.join("tune.svg"));
    std::fs::write(&text, format!("{:#}\n", Value::Object(report.clone())))
        .and_then(|()| std::fs::write(&svg, picture::draw(&measured, &budget, &choices)))
        .with_context(|| format!("{}: the report cannot be written", folder.display()))?;
    for choice in &choices {
        output.line(&choice.sentence(&budget))?;
    }
    output.line(&format!("report: {} and {}", text.display(), svg.display()))?;
    if arguments.write_config {
        write_config(&paths, &choices, &mut output)?;
    }
    output.finish(report)?;
    Ok(Outcome::Done)
}

fn report(
    arguments: &Arguments,
    budget: &Budget,
    measured: &[Measured],
    choices: &[Choice],
    passed_over: Vec<Value>,
) -> Map<String, Value> {
    let first = measured.first().map(|one| &one.report);
    let of_first = |key: &str| first.and_then(|report| report.get(key)).cloned().unwrap_or_default();
    Map::from_iter([
        ("machine".to_owned(), of_first("machine")),
        ("versions".to_owned(), of_first("versions")),
        ("ceilings".to_owned(), of_first("ceilings")),
        ("command".to_owned(), std::env::args().skip(1).collect::<Vec<_>>().join(" ").into()),
        ("runs".to_owned(), arguments.runs.into()),
        ("budget".to_owned(), json!({ "latency_s": budget.latency.as_secs_f64(), "memory_bytes": budget.memory })),
        ("measured".to_owned(), measured.iter().map(Measured::json).collect()),
        ("not_measured".to_owned(), passed_over.into()),
        ("recommended".to_owned(), choices.iter().map(|choice| choice.json(budget)).collect()),
    ])
}

fn words(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// Writes what is recommended, as far as it is here and within the budget, and says what is left to do by hand.
fn write_config(paths: &Paths, choices: &[Choice], output: &mut Output) -> anyhow::Result<()> {
    let write = |section: &str, key: &str, value: String, output: &mut Output| -> anyhow::Result<()> {
        edit_setting(paths, section, key, &value)?;
        Ok(output.line(&format!("{section}.{key} = {value} in {}", paths.user_file().display()))?)
    };
    let here: Vec<&Choice> =
        choices.iter().filter(|choice| choice.within && choice.best.subject.is_installed()).collect();
    // All tasks share the threads; who listens waits for no one.
    let choice = choices.iter().filter(|choice| choice.within);
    let Some(choice) = choice.clone().find(|choice| choice.best.subject.task == Task::Speech).or(choice.clone().next())
    else {
        return Ok(output.line("nothing is within the budget, so the configuration stays as it is")?);
    };
    let setting = &choice.best.setting;
    write("runtime", "threads", setting.threads.to_string(), output)?;
    write("runtime", "spin", format!("\"{}\"", choice::spin(setting)), output)?;
    if !setting.pinned.is_empty() {
        let processors: Vec<String> = setting.pinned.iter().map(ToString::to_string).collect();
        output.line(&format!(
            "pinning is the unit's: `systemctl --user edit eddy` and CPUAffinity={} under [Service]",
            processors.join(" ")
        ))?;
    }
    for choice in &here {
        let subject = &choice.best.subject;
        write("models", subject.task.key(), format!("\"{}\"", subject.name), output)?;
    }
    // One precision is set for all models.
    let mut precisions: Vec<&str> = here.iter().map(|choice| choice.best.subject.precision.as_str()).collect();
    precisions.sort_unstable();
    precisions.dedup();
    match precisions.as_slice() {
        [] => {}
        [one] => write("models", "precision", format!("\"{one}\""), output)?,
        several => {
            let several = several.join(", ");
            output
                .line(&format!("models.precision stays as it is: {several} were measured, and one is set for all"))?;
        }
    }
    Ok(())
}
