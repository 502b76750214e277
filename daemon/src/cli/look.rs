//! `eddy look`: a question about images.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use eddy_ipc::client::VisionProxy;
use eddy_ipc::{Delta, FinishReason};
use eddy_models::Error;
use eddy_models::text::GenerationOptions;
use eddy_models::vision::{Limits, read_file};
use serde_json::{Value, json};

use super::Outcome;
use super::daemon::{BusArguments, Daemon};
use super::images::LookArguments;
use super::model::{ModelArguments, Place, warn_of_stand_in};
use super::output::{Output, seconds};
use crate::text::Draw;
use crate::vision::{LookTurn, Looked, Question, Viewer};

/// Arguments of the verb.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Images (PNG, JPEG, WebP, GIF), and the question as the last one.
    #[arg(value_names = ["IMAGE", "QUESTION"], num_args = 2.., required = true)]
    words: Vec<String>,
    #[command(flatten)]
    looking: LookArguments,
    #[command(flatten)]
    model: ModelArguments,
}

/// Runs the verb.
///
/// # Errors
/// One line about what went wrong.
pub fn run(arguments: Arguments, bus: &BusArguments) -> anyhow::Result<Outcome> {
    let Some((question, files)) = arguments.words.split_last() else {
        anyhow::bail!("nothing to look at; give images and a question");
    };
    let files: Vec<PathBuf> = files.iter().map(PathBuf::from).collect();
    match arguments.model.place()? {
        Place::Here(folder) => here(&arguments, &files, question, &folder),
        Place::Daemon(name) => by_daemon(&arguments, &files, question, name, bus),
    }
}

fn here(arguments: &Arguments, files: &[PathBuf], question: &str, folder: &Path) -> anyhow::Result<Outcome> {
    let wanted = arguments.model.load.wanted()?;
    let engine = arguments.model.load.engine()?;
    let mut viewer = Viewer::load(&engine.runtime, folder, wanted, engine.interrupt.stop())?;
    warn_of_stand_in(folder, wanted, viewer.model.identity().precision);
    let images = arguments.looking.read(&viewer.model, files)?;
    let question = Question {
        words: question.to_owned(),
        draw: Draw { greedy: arguments.model.greedy, ..Draw::default() },
        options: GenerationOptions {
            max_tokens: arguments.model.most_items(),
            seed: arguments.model.seed.unwrap_or_default(),
            ..GenerationOptions::default()
        },
    };
    let mut turn = LookTurn::begin(&mut viewer, images, question)?;
    let mut output = Output::new(arguments.model.json);
    let mut made = String::new();
    let mut reason = FinishReason::Cancelled;
    while !engine.interrupt.asked() {
        match turn.step(&mut viewer, &mut made) {
            Err(Error::Stopped) => break,
            Err(error) => return Err(error.into()),
            Ok(Looked::More | Looked::At(..)) => {}
            Ok(Looked::Complete(why)) => {
                reason = why;
                break;
            }
        }
        output.text(&made)?;
        made.clear();
    }
    turn.finish(&viewer, &mut made)?;
    output.text(&made)?;
    let seen = turn.close(None);
    let (prefill, decode) = seen.answer.times;
    let report = json!({
        "text": seen.answer.said,
        "finish_reason": reason.as_str(),
        "tokens": seen.answer.tokens,
        "prompt_tokens": seen.answer.prompt.0,
        "image_tokens": seen.image_tokens,
        "tiles": seen.tiles,
        "timings": { "look": seconds(seen.looking), "prefill": seconds(prefill), "decode": seconds(decode) },
    });
    if let Value::Object(report) = report {
        output.finish(report)?;
    }
    Ok(if reason == FinishReason::Cancelled { Outcome::Interrupted } else { Outcome::Done })
}

fn by_daemon(
    arguments: &Arguments,
    files: &[PathBuf],
    question: &str,
    name: Option<String>,
    bus: &BusArguments,
) -> anyhow::Result<Outcome> {
    let seal = |file: &PathBuf| -> anyhow::Result<OwnedFd> {
        Ok(eddy_ipc::fd::seal("image", &read_file(file, &Limits::default())?)?)
    };
    let images = files.iter().map(seal).collect::<anyhow::Result<Vec<_>>>()?;
    let daemon = Daemon::connect(bus)?;
    let options = arguments.looking.over(arguments.model.options(name));
    let mut output = Output::new(arguments.model.json);
    let begin = async |connection: &zbus::Connection, options: &eddy_ipc::Options| {
        let images: Vec<zbus::Fd<'_>> = images.iter().map(Into::into).collect();
        VisionProxy::new(connection).await?.ask(&images, question, options).await
    };
    let (_, ended) = daemon.follow(options, begin, |delta| {
        if let Delta::Text(text) = delta {
            output.text(text)?;
        }
        Ok(())
    })?;
    let outcome = &ended.outcome;
    let report = json!({
        "text": outcome.text,
        "finish_reason": outcome.finish_reason.map(FinishReason::as_str),
        "tokens": outcome.tokens,
        "timings": outcome.latency,
    });
    let verdict = ended.verdict()?;
    if let Value::Object(mut report) = report {
        super::chat::mark_remote(outcome.remote.as_deref(), &mut report);
        output.finish(report)?;
    }
    Ok(verdict)
}
