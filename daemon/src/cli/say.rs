//! `eddy say`: a text in, speech out.

use std::path::PathBuf;

use eddy_audio::wav::WavSink;
use eddy_models::speech::{Mode, Parts, Prompt, Reply, ReplyOptions};

use super::Outcome;
use super::model::{ModelArguments, load};
use super::output::Output;
use super::speaking::{Ending, tell};

/// The voices of the published model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Voice {
    /// British, female.
    UkFemale,
    /// British, male.
    UkMale,
    /// American, female.
    UsFemale,
    /// American, male.
    UsMale,
}

impl Voice {
    /// The published prompt of reading aloud in this voice.
    #[must_use]
    pub fn instructions(self) -> String {
        let voice = match self {
            Self::UkFemale => "UK female",
            Self::UkMale => "UK male",
            Self::UsFemale => "US female",
            Self::UsMale => "US male",
        };
        format!("Perform TTS. Use the {voice} voice.")
    }
}

/// Arguments of the verb.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The text.
    text: String,
    /// Where the speech goes.
    #[arg(short, long, value_name = "OUT.wav")]
    output: PathBuf,
    /// The voice.
    #[arg(long, value_enum, default_value = "uk-female")]
    voice: Voice,
    #[command(flatten)]
    model: ModelArguments,
}

/// Runs the verb.
///
/// # Errors
/// One line about what went wrong.
pub fn run(arguments: Arguments) -> anyhow::Result<Outcome> {
    anyhow::ensure!(!arguments.text.trim().is_empty(), "the text is empty; give the words to say");
    let mut loaded = load(&arguments.model.model, &arguments.model.load, Parts::SPEAKING)?;
    let speech = &mut loaded.speech;
    speech.depthformer()?;
    let mut output = Output::new(arguments.model.json);

    let prompt = Prompt::instructed(&arguments.voice.instructions()).words(&arguments.text).awaiting_reply();
    let rows = speech.embed(&prompt)?;
    let mut sink = WavSink::create(&arguments.output, speech.settings().stft.sample_rate)?;
    let mut reply = Reply::new(speech, rows, arguments.model.reply(ReplyOptions::new(Mode::Sequential)));
    let told = tell(speech, &mut reply, Some(&mut sink), &mut output, &loaded.engine.interrupt)?;
    sink.finish()?;
    output.finish(told.report(&reply, loaded.loading, None))?;
    match told.ending {
        Ending::Interrupted => Ok(Outcome::Interrupted),
        Ending::Finished(_) => Ok(Outcome::Done),
    }
}
