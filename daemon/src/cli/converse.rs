//! `eddy converse`: a recorded question in, a spoken answer out.

use std::path::PathBuf;

use eddy_audio::wav::WavSink;
use eddy_models::speech::{Mode, Parts, Reply, ReplyOptions};

use super::Outcome;
use super::model::{ModelArguments, load};
use super::output::Output;
use super::speaking::{Ending, Recording, ask, tell};

/// What the model is told to do; the published prompt of the interleaved mode.
pub const INSTRUCTIONS: &str = "Respond with interleaved text and audio.";

/// Arguments of the verb.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    recording: Recording,
    /// Where the spoken answer goes.
    #[arg(short, long, value_name = "OUT.wav")]
    output: PathBuf,
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
    let same =
        std::fs::canonicalize(&arguments.output).ok().zip(std::fs::canonicalize(&arguments.recording.input).ok());
    anyhow::ensure!(
        same.is_none_or(|(output, input)| output != input),
        "{}: the answer would overwrite the question; give -o another file",
        arguments.output.display()
    );
    let mut loaded = load(&arguments.model.model, &arguments.model.load, Parts::ALL)?;
    let speech = &mut loaded.speech;
    let mut output = Output::new(arguments.model.json);

    let (rows, hearing) = ask(speech, &arguments.system, &arguments.recording.input)?;

    // A folder that cannot speak still answers in text; that no file is written is said, and is the verb's failure.
    let mut sink = match speech.can_speak() {
        true => Some(WavSink::create(&arguments.output, speech.settings().stft.sample_rate)?),
        false => None,
    };
    let mut reply = Reply::new(speech, rows, arguments.model.reply(ReplyOptions::new(Mode::Interleaved)));
    let told = tell(speech, &mut reply, sink.as_mut(), &mut output, &loaded.engine.interrupt)?;
    if let Some(sink) = sink {
        sink.finish()?;
    }
    output.finish(told.report(&reply, loaded.loading, Some(hearing)))?;
    match (told.ending, speech.depthformer()) {
        (Ending::Interrupted, _) => Ok(Outcome::Interrupted),
        (Ending::Finished(_), Ok(_)) => Ok(Outcome::Done),
        (Ending::Finished(_), Err(lacking)) => Err(lacking.into()),
    }
}
