//! `eddy transcribe`: a recording in, its words out.

use eddy_models::speech::{Mode, Parts, Reply, ReplyOptions};

use super::Outcome;
use super::model::{ModelArguments, load};
use super::output::Output;
use super::speaking::{Ending, Recording, ask, tell};

/// The published prompt of speech recognition.
pub const INSTRUCTIONS: &str = "Perform ASR.";

/// Arguments of the verb.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    recording: Recording,
    /// Instructions to the model.
    #[arg(long, value_name = "TEXT", default_value = INSTRUCTIONS)]
    system: String,
    #[command(flatten)]
    model: ModelArguments,
}

/// Runs the verb.
///
/// # Errors
/// One line about what went wrong.
pub fn run(arguments: Arguments) -> anyhow::Result<Outcome> {
    let mut loaded = load(&arguments.model.model, &arguments.model.load, Parts::HEARING)?;
    let speech = &mut loaded.speech;
    let mut output = Output::new(arguments.model.json);

    let (rows, hearing) = ask(speech, &arguments.system, &arguments.recording.input)?;

    let options = ReplyOptions::new(Mode::Sequential).greedy();
    let mut reply = Reply::new(speech, rows, arguments.model.reply(options));
    let told = tell(speech, &mut reply, None, &mut output, &loaded.engine.interrupt)?;
    let mut report = told.report(&reply, loaded.loading, Some(hearing));
    for key in ["samples", "sample_rate"] {
        report.remove(key);
    }
    output.finish(report)?;
    match told.ending {
        Ending::Interrupted => Ok(Outcome::Interrupted),
        Ending::Finished(_) => Ok(Outcome::Done),
    }
}
