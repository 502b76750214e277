//! `eddy transcribe`: a recording in, its words out.

use std::path::Path;

use eddy_ipc::client::SpeechProxy;
use eddy_models::speech::{Mode, Parts, ReplyOptions};

use super::Outcome;
use super::daemon::{BusArguments, Daemon};
use super::model::{ModelArguments, Place, load};
use super::output::Output;
use super::speaking::{Recording, ask, report_of, tell, tell_by_daemon};
use crate::speech::TRANSCRIBE;

/// Arguments of the verb.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    recording: Recording,
    #[command(flatten)]
    model: ModelArguments,
}

/// Runs the verb.
///
/// # Errors
/// One line about what went wrong.
pub fn run(arguments: Arguments, bus: &BusArguments) -> anyhow::Result<Outcome> {
    match arguments.model.place()? {
        Place::Here(folder) => here(&arguments, &folder),
        Place::Daemon(name) => by_daemon(&arguments, name, bus),
    }
}

fn here(arguments: &Arguments, folder: &Path) -> anyhow::Result<Outcome> {
    let mut loaded = load(folder, &arguments.model.load, Parts::HEARING)?;
    let speech = &mut loaded.speech;
    let mut output = Output::new(arguments.model.json);

    let (rows, hearing) = ask(speech, TRANSCRIBE, &arguments.recording.input)?;

    let options = arguments.model.reply(ReplyOptions::new(Mode::Sequential).greedy());
    let told = tell(speech, rows, options, None, &mut output, &loaded.engine.interrupt)?;
    let mut report = told.report(loaded.loading, Some(hearing));
    for key in ["samples", "sample_rate"] {
        report.remove(key);
    }
    output.finish(report)?;
    Ok(told.outcome())
}

fn by_daemon(arguments: &Arguments, model: Option<String>, bus: &BusArguments) -> anyhow::Result<Outcome> {
    let wav = arguments.recording.sealed()?;
    let daemon = Daemon::connect(bus)?;
    let mut output = Output::new(arguments.model.json);
    // Writing down what was said has one right answer; there is nothing to draw.
    let options = eddy_ipc::Options { seed: None, greedy: None, ..arguments.model.options(model) };
    let begin = async |connection: &zbus::Connection, options: &eddy_ipc::Options| {
        SpeechProxy::new(connection).await?.transcribe((&wav).into(), options).await?;
        Ok(None)
    };
    let ended = tell_by_daemon(&daemon, options, begin, None, &mut output)?;
    output.finish(report_of(&ended))?;
    ended.verdict()
}
