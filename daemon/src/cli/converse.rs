//! `eddy converse`: a recorded question in, a spoken answer out.

use std::path::{Path, PathBuf};

use eddy_audio::wav::WavSink;
use eddy_ipc::client::SpeechProxy;
use eddy_models::speech::{Mode, Parts, ReplyOptions};

use super::Outcome;
use super::daemon::{BusArguments, Daemon};
use super::model::{ModelArguments, Place, load};
use super::output::Output;
use super::speaking::{Recording, ask, report_of, tell, tell_by_daemon};
use crate::speech::CONVERSE;

/// Arguments of the verb.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    recording: Recording,
    /// Where the spoken answer goes.
    #[arg(short, long, value_name = "OUT.wav")]
    output: PathBuf,
    /// Instructions to the model [default: those of the published interleaved mode].
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
    #[command(flatten)]
    model: ModelArguments,
}

/// Runs the verb.
///
/// # Errors
/// One line about what went wrong.
pub fn run(arguments: Arguments, bus: &BusArguments) -> anyhow::Result<Outcome> {
    let same =
        std::fs::canonicalize(&arguments.output).ok().zip(std::fs::canonicalize(&arguments.recording.input).ok());
    anyhow::ensure!(
        same.is_none_or(|(output, input)| output != input),
        "{}: the answer would overwrite the question; give -o another file",
        arguments.output.display()
    );
    match arguments.model.place()? {
        Place::Here(folder) => here(&arguments, &folder),
        Place::Daemon(name) => by_daemon(&arguments, name, bus),
    }
}

fn here(arguments: &Arguments, folder: &Path) -> anyhow::Result<Outcome> {
    let mut loaded = load(folder, &arguments.model.load, Parts::ALL)?;
    let speech = &mut loaded.speech;
    let mut output = Output::new(arguments.model.json);

    let instructions = arguments.system.as_deref().unwrap_or(CONVERSE);
    let (rows, hearing) = ask(speech, instructions, &arguments.recording.input)?;

    // A folder that cannot speak still answers in text; that no file is written is said, and is the verb's failure.
    let mut sink = match speech.can_speak() {
        true => Some(WavSink::create(&arguments.output, speech.settings().stft.sample_rate)?),
        false => None,
    };
    let options = arguments.model.reply(ReplyOptions::new(Mode::Interleaved));
    let told = tell(speech, rows, options, sink.as_mut(), &mut output, &loaded.engine.interrupt)?;
    if let Some(sink) = sink {
        sink.finish()?;
    }
    output.finish(told.report(loaded.loading, Some(hearing)))?;
    match (told.outcome(), speech.depthformer()) {
        (Outcome::Interrupted, _) => Ok(Outcome::Interrupted),
        (Outcome::Done, Ok(_)) => Ok(Outcome::Done),
        (Outcome::Done, Err(lacking)) => Err(lacking.into()),
    }
}

fn by_daemon(arguments: &Arguments, model: Option<String>, bus: &BusArguments) -> anyhow::Result<Outcome> {
    let wav = arguments.recording.sealed()?;
    let daemon = Daemon::connect(bus)?;
    let mut output = Output::new(arguments.model.json);
    let options = arguments.model.options(model);
    let options = eddy_ipc::Options { instructions: arguments.system.clone(), ..options };
    let ended = tell_by_daemon(
        &daemon,
        options,
        async |connection, options| {
            let (_, sound) = SpeechProxy::new(connection).await?.converse((&wav).into(), options).await?;
            Ok(Some(sound.into()))
        },
        Some(&arguments.output),
        &mut output,
    )?;
    output.finish(report_of(&ended))?;
    ended.verdict()
}
