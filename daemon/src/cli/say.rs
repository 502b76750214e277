//! `eddy say`: a text in, speech out.

use std::path::{Path, PathBuf};

use eddy_audio::wav::WavSink;
use eddy_ipc::client::{AssistantProxy, SpeechProxy};
use eddy_ipc::{FinishReason, SpeakerVoice};
use eddy_models::speech::{Mode, Parts, Prompt, ReplyOptions};

use super::Outcome;
use super::daemon::{BusArguments, Daemon};
use super::model::{ModelArguments, Place, load};
use super::output::Output;
use super::speaking::{report_of, tell, tell_by_daemon};
use crate::card;
use crate::speech::read_aloud;

/// Arguments of the verb.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The text.
    text: String,
    /// Where the speech goes; without it, to the speaker, through the daemon.
    #[arg(short, long, value_name = "OUT.wav")]
    output: Option<PathBuf>,
    /// The voice: us-male, us-female, uk-male or uk-female [default: the model's own, or else uk-female].
    #[arg(long, value_parser = voice)]
    voice: Option<SpeakerVoice>,
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

    let voice = arguments.voice.unwrap_or_else(|| card::voice(folder));
    let prompt = Prompt::instructed(&read_aloud(voice)).words(&arguments.text).awaiting_reply();
    let rows = speech.embed(&prompt)?;
    let mut sink = WavSink::create(path, speech.settings().stft.sample_rate)?;
    let options = arguments.model.reply(ReplyOptions::new(Mode::Sequential));
    let told = tell(speech, rows, options, Some(&mut sink), &mut output, &loaded.engine.interrupt)?;
    sink.finish()?;
    output.finish(told.report(loaded.loading, None))?;
    spoken(told.outcome(), told.reason, told.summary.samples)
}

/// A reply that is complete without a sound is no reading, whatever text the model has made of it.
fn spoken(outcome: Outcome, reason: FinishReason, samples: u64) -> anyhow::Result<Outcome> {
    anyhow::ensure!(
        reason != FinishReason::Stop || samples > 0,
        "the model said nothing aloud; it may not know this voice or these words, try another --voice or --model"
    );
    Ok(outcome)
}

fn by_daemon(
    arguments: &Arguments,
    model: Option<String>,
    path: Option<&Path>,
    bus: &BusArguments,
) -> anyhow::Result<Outcome> {
    let daemon = Daemon::connect(bus)?;
    let mut output = Output::new(arguments.model.json);
    let options = eddy_ipc::Options { voice: arguments.voice, ..arguments.model.options(model) };
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
    let reason = ended.outcome.finish_reason.unwrap_or(FinishReason::Stop);
    spoken(ended.verdict()?, reason, ended.outcome.samples.unwrap_or_default())
}
