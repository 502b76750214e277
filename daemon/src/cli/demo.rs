//! `eddy demo`: asks questions through a daemon of its own and shows what came of it.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;
use eddy_config::Paths;
use eddy_ipc::FinishReason;
use eddy_ipc::client::SpeechProxy;
use serde_json::{Map, Value};

use super::Outcome;
use super::daemon::{Daemon, Ended, SAMPLE_RATE};
use super::model::{LoadArguments, own_model};
use super::output::Output;
use super::private::PrivateDaemon;
use super::speaking::{Recording, report_of, tell_by_daemon};

/// Words that the transcript may take: nobody asks longer questions here.
const MOST_HEARD: u32 = 64;

/// Arguments of the verb.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Recorded questions [default: the three that come with Eddy].
    #[arg(value_name = "QUESTION.wav")]
    questions: Vec<PathBuf>,
    /// A question in words, which espeak-ng speaks; may be given several times.
    #[arg(long, value_name = "TEXT")]
    ask: Vec<String>,
    /// Model folder [default: the small model that comes with Eddy].
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
    /// Folder for the answers.
    #[arg(short, long, value_name = "DIR", default_value = "answers")]
    output: PathBuf,
    #[command(flatten)]
    load: LoadArguments,
    /// Always take the most probable.
    #[arg(long)]
    greedy: bool,
    /// Seed of the random choices.
    #[arg(long)]
    seed: Option<u64>,
    /// Text tokens and audio frames at most.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    max_items: Option<u32>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// Runs the verb.
///
/// # Errors
/// One line about what went wrong.
pub fn run(arguments: Arguments) -> anyhow::Result<Outcome> {
    let model = arguments.model.clone().map_or_else(own_model, Ok)?;
    std::fs::create_dir_all(&arguments.output)
        .with_context(|| format!("{}: cannot be made", arguments.output.display()))?;
    let spoken = tempfile::tempdir()?;
    let mut questions = arguments.questions.clone();
    for (number, words) in arguments.ask.iter().enumerate() {
        anyhow::ensure!(!words.trim().is_empty(), "--ask is given no words; say what to ask");
        questions.push(speak(words, &spoken.path().join(format!("asked-{}.wav", number + 1)))?);
    }
    if questions.is_empty() {
        questions = own_questions(&model)?;
    }

    let private = PrivateDaemon::start(&model, &arguments.load)?;
    let daemon = Daemon::connect(&private.bus())?;
    let mut output = Output::new(arguments.json);
    output.line(&format!("model     {}", model.display()))?;
    let mut answers = Vec::new();
    for question in &questions {
        match ask(&daemon, &arguments, question, &mut output)? {
            Some(report) => answers.push(Value::Object(report)),
            None => return Ok(Outcome::Interrupted),
        }
    }
    output.finish(Map::from_iter([("answers".to_owned(), Value::Array(answers))]))?;
    Ok(Outcome::Done)
}

/// The questions for the demo that lie beside the model.
fn own_questions(model: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let beside = model.parent().map(|parent| parent.join("questions")).filter(|folder| folder.is_dir());
    let shipped = Paths::from_environment()?.shipped().into_iter().map(|folder| folder.join("questions"));
    let folder = beside.into_iter().chain(shipped).find(|folder| folder.join("questions.json").is_file());
    let folder = folder.context("no recorded questions came with this Eddy; give a recording, or --ask TEXT")?;
    let list = folder.join("questions.json");
    let text = std::fs::read(&list).with_context(|| list.display().to_string())?;
    let listed: Vec<Value> = serde_json::from_slice(&text).with_context(|| list.display().to_string())?;
    let wanted = listed.iter().filter(|question| question["demo"] == true);
    Ok(wanted.filter_map(|question| Some(folder.join(question["file"].as_str()?))).collect())
}

/// Has espeak-ng speak `words` into a file.
fn speak(words: &str, path: &Path) -> anyhow::Result<PathBuf> {
    let status =
        Command::new("espeak-ng").args(["-v", "en-us", "-s", "150", "-w"]).arg(path).args(["--", words]).status();
    let status = status.context("espeak-ng cannot be run; install the package espeak-ng, or give a recording")?;
    anyhow::ensure!(status.success(), "espeak-ng could not speak {words:?}");
    Ok(path.to_path_buf())
}

/// Asks one question; `None` when the person has had enough.
fn ask(
    daemon: &Daemon,
    arguments: &Arguments,
    question: &Path,
    output: &mut Output,
) -> anyhow::Result<Option<Map<String, Value>>> {
    output.line(&format!("\nquestion  {}", question.display()))?;
    let wav = Recording { input: question.to_path_buf() }.sealed()?;

    // The recogniser's reading comes first and is not part of the answer's latency.
    output.text("heard     ")?;
    let options = eddy_ipc::Options { max_tokens: Some(MOST_HEARD), ..eddy_ipc::Options::default() };
    let begin = async |connection: &zbus::Connection, options: &eddy_ipc::Options| {
        SpeechProxy::new(connection).await?.transcribe((&wav).into(), options).await?;
        Ok(None)
    };
    let heard = tell_by_daemon(daemon, options, begin, None, output)?;
    if heard.verdict()? == Outcome::Interrupted {
        return Ok(None);
    }

    let stem = question.file_stem().unwrap_or(question.as_os_str()).to_string_lossy();
    let path = arguments.output.join(format!("{stem}-answer.wav"));
    output.line("")?;
    output.text("answer    ")?;
    let options = eddy_ipc::Options {
        greedy: arguments.greedy.then_some(true),
        seed: arguments.seed,
        max_tokens: arguments.max_items,
        ..eddy_ipc::Options::default()
    };
    let begin = async |connection: &zbus::Connection, options: &eddy_ipc::Options| {
        let (_, sound) = SpeechProxy::new(connection).await?.converse((&wav).into(), options).await?;
        Ok(Some(sound.into()))
    };
    let answered = tell_by_daemon(daemon, options, begin, Some(&path), output)?;
    if answered.verdict()? == Outcome::Interrupted {
        return Ok(None);
    }
    show(&answered, &path, output)?;
    let mut report = report_of(&answered);
    report.insert("question".into(), question.display().to_string().into());
    report.insert("heard".into(), heard.outcome.text.into());
    report.insert("answer".into(), path.display().to_string().into());
    Ok(Some(report))
}

fn show(answered: &Ended, path: &Path, output: &mut Output) -> anyhow::Result<()> {
    let stage = |name: &str| answered.outcome.latency.get(name).copied();
    let hear = stage("hear").unwrap_or_default();
    // From the end of the question, which the daemon has whole.
    let ms = |time: Option<f64>| time.map_or("none".to_owned(), |time| format!("{:.0} ms", 1000.0 * (hear + time)));
    output.line(&format!(
        "latency   heard after {:.0} ms · first text after {} · first sound after {}",
        1000.0 * hear,
        ms(stage("first_text")),
        ms(stage("first_sound")),
    ))?;
    if answered.outcome.finish_reason == Some(FinishReason::ToolCalls) {
        output.line(
            "called    in a live conversation (`eddy talk`, or the daemon's) this is done, and said; here it is shown",
        )?;
    }
    let spoken = answered.outcome.samples.unwrap_or_default() as f64 / f64::from(SAMPLE_RATE);
    if spoken > 0.0 {
        let took = stage("reply").unwrap_or_default();
        output.line(&format!(
            "sound     {spoken:.2} s in {took:.2} s (real-time factor {:.2}): {}",
            took / spoken,
            path.display()
        ))?;
    }
    Ok(())
}
