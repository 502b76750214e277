//! `eddy say`: a text in, speech out.

use std::path::{Path, PathBuf};

use eddy_audio::wav::WavSink;
use eddy_ipc::SpeakerVoice;
use eddy_ipc::client::{AssistantProxy, SpeechProxy};
use eddy_models::speech::{Mode, Parts, Prompt, ReplyOptions};

use super::Outcome;
use super::daemon::{BusArguments, Daemon};
use super::model::{ModelArguments, Place, load};
use super::output::Output;
use super::speaking::{report_of, tell, tell_by_daemon};
use crate::speech::read_aloud;

/// Arguments of the verb.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The text.
    text: String,
    /// Where the speech goes; without it, to the speaker, through the daemon.
    #[arg(short, long, value_name = "OUT.wav")]
    output: Option<PathBuf>,
    /// The voice: us-male, us-female, uk-male or uk-female.
    #[arg(long, default_value = "uk-female", value_parser = voice)]
    voice: SpeakerVoice,
    #[command(flatten)]
    model: ModelArguments,
}

fn voice(word: &str) -> Result<SpeakerVoice, String> {
    let known: Vec<&str> = SpeakerVoice::ALL.iter().map(|voice| voice.as_str()).collect();
    SpeakerVoice::from_word(word).ok_or_else(|| format!("expected one of {}", known.join(", ")))
}

/// Runs the verb.
///
/// # Errors
/// One line about what went wrong.
pub fn run(arguments: Arguments, bus: &BusArguments) -> anyhow::Result<Outcome> {
    anyhow::ensure!(!arguments.text.trim().is_empty(), "the text is empty; give the words to say");
    match (arguments.model.place()?, &arguments.output) {
        (Place::Here(folder), Some(output)) => here(&arguments, &folder, output),
        (Place::Here(_), None) => anyhow::bail!("give -o OUT.wav; only the daemon plays what it says"),
        (Place::Daemon(name), output) => by_daemon(&arguments, name, output.as_deref(), bus),
    }
}

fn here(arguments: &Arguments, folder: &Path, path: &Path) -> anyhow::Result<Outcome> {
    let mut loaded = load(folder, &arguments.model.load, Parts::SPEAKING)?;
    let speech = &mut loaded.speech;
    speech.depthformer()?;
    let mut output = Output::new(arguments.model.json);

    let prompt = Prompt::instructed(&read_aloud(arguments.voice)).words(&arguments.text).awaiting_reply();
    let rows = speech.embed(&prompt)?;
    let mut sink = WavSink::create(path, speech.settings().stft.sample_rate)?;
    let options = arguments.model.reply(ReplyOptions::new(Mode::Sequential));
    let told = tell(speech, rows, options, Some(&mut sink), &mut output, &loaded.engine.interrupt)?;
    sink.finish()?;
    output.finish(told.report(loaded.loading, None))?;
    Ok(told.outcome())
}

fn by_daemon(
    arguments: &Arguments,
    model: Option<String>,
    path: Option<&Path>,
    bus: &BusArguments,
) -> anyhow::Result<Outcome> {
    let daemon = Daemon::connect(bus)?;
    let mut output = Output::new(arguments.model.json);
    let options = eddy_ipc::Options { voice: Some(arguments.voice), ..arguments.model.options(model) };
    let text = &arguments.text;
    let ended = match path {
        Some(_) => tell_by_daemon(
            &daemon,
            options,
            async |connection, options| {
                let (_, sound) = SpeechProxy::new(connection).await?.synthesize(text, options).await?;
                Ok(Some(sound.into()))
            },
            path,
            &mut output,
        ),
        None => tell_by_daemon(
            &daemon,
            eddy_ipc::Options { max_tokens: None, ..options },
            async |connection, options| {
                AssistantProxy::new(connection).await?.say(text, options).await?;
                Ok(None)
            },
            None,
            &mut output,
        ),
    }?;
    output.finish(report_of(&ended))?;
    ended.verdict()
}
