//! `eddy wake`: the phrase that Eddy is called by. Recorded here, kept as what the models made of it.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use eddy_audio::ear::{Ear, FRAME, Heard, RATE};
use eddy_audio::wav::read_wav;
use eddy_config::{Config, MicrophoneMode, Paths, Sources};
use eddy_models::listening::VoiceActivity;
use eddy_models::listening::wake_word::{Embedder, Examples, TAKES, WakeWord};
use eddy_models::{Runtime, Stop};
use serde_json::{Map, Value, json};

use super::Outcome;
use super::daemon::{BusArguments, hush, reload};
use super::model::LoadArguments;
use super::output::Output;
use crate::voice::wake;

/// The longest recording that is read.
const LONGEST: Duration = Duration::from_secs(60);
/// How long somebody may take until they say the phrase.
const PATIENCE: Duration = Duration::from_secs(15);
/// The longest take, and the silence that ends it.
const TAKE: usize = 6 * RATE as usize;
const SILENCE: usize = RATE as usize * 4 / 5;
/// What is kept from before the first speech.
const BEFORE: usize = RATE as usize / 2;
const SPEECH: f32 = 0.5;

/// Arguments of the verb.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    action: Action,
    /// Configuration file, instead of the machine's and the user's.
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    /// Print one JSON object.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Record the phrase three times, and remember how it sounds.
    Enroll {
        /// Recordings of the phrase and nothing else, instead of the microphone; three or more are best.
        #[arg(long, value_name = "FILE.wav", num_args = 2..=10)]
        from: Vec<PathBuf>,
    },
    /// Say where in a recording the phrase is heard.
    Test {
        /// The recording.
        #[arg(value_name = "FILE.wav")]
        file: PathBuf,
    },
    /// Forget the phrase.
    Forget,
}

/// Runs the verb.
///
/// # Errors
/// One line about what went wrong.
pub fn run(arguments: Arguments, bus: &BusArguments) -> anyhow::Result<Outcome> {
    let mut sources = Sources::standard(&Paths::from_environment()?);
    sources.only.clone_from(&arguments.config);
    let config = sources.load()?.config;
    let mut output = Output::new(arguments.json);
    let load = LoadArguments { precision: None, spin_us: None, threads: None, config: arguments.config };
    let fields = match arguments.action {
        Action::Enroll { from } => enroll(&from, &config, &load, bus, &mut output)?,
        Action::Test { file } => test(&file, &config, &load, &mut output)?,
        Action::Forget => forget(&config, bus, &mut output)?,
    };
    output.finish(fields)?;
    Ok(Outcome::Done)
}

fn start(load: &LoadArguments) -> anyhow::Result<(Runtime, Stop, VoiceActivity)> {
    let runtime = Runtime::start(&load.runtime()?)?;
    let stop = Stop::new(&runtime)?;
    let detector = VoiceActivity::load(&runtime, &stop)?;
    Ok((runtime, stop, detector))
}

fn enroll(
    from: &[PathBuf],
    config: &Config,
    load: &LoadArguments,
    bus: &BusArguments,
    output: &mut Output,
) -> anyhow::Result<Map<String, Value>> {
    let (runtime, stop, mut detector) = start(load)?;
    let takes = match from {
        [] => record(config, bus, &mut detector, output)?,
        files => files.iter().map(|file| recording(file)).collect::<anyhow::Result<_>>()?,
    };
    let mut embedder = Embedder::load(&runtime, &stop)?;
    let examples = Examples::enrol(&mut embedder, &mut detector, &takes)?;
    let path = wake::keep(config, &examples)?;
    output.line(&format!("{} recordings are learnt: {}", takes.len(), path.display()))?;
    let running = tell_daemon(bus, output)?;
    if config.voice.mode != MicrophoneMode::WakeWord {
        output
            .line("to be called by it, set mode = \"wake-word\" in [voice] of the configuration: `eddy config edit`")?;
    }
    let fields = json!({ "recordings": takes.len(), "file": path, "reloaded": running });
    Ok(fields.as_object().cloned().unwrap_or_default())
}

fn test(file: &Path, config: &Config, load: &LoadArguments, output: &mut Output) -> anyhow::Result<Map<String, Value>> {
    let examples = wake::enrolled(config).map_err(anyhow::Error::msg)?;
    let sound = recording(file)?;
    let (runtime, stop, mut detector) = start(load)?;
    let threshold = config.voice.wake_word_threshold;
    let mut wake_word = WakeWord::load(&runtime, &stop, examples, threshold as f32)?;
    let found = wake_word.find(&mut detector, &sound)?;
    let score = wake_word.take_best();
    let shown =
        score.map_or("no speech".to_owned(), |score| format!("score {score:.2} of {threshold:.2} that are needed"));
    output.line(&format!("{}: {shown}", if found.is_empty() { "not the phrase" } else { "the phrase" }))?;
    let seconds = |sample: usize| sample as f64 / f64::from(RATE);
    for (end, score) in &found {
        output.line(&format!("  it ends at {:.2} s, score {score:.2}", seconds(*end)))?;
    }
    let found: Vec<Value> = found.iter().map(|(end, score)| json!({ "end": seconds(*end), "score": score })).collect();
    let fields = json!({ "heard": !found.is_empty(), "score": score, "threshold": threshold, "found": found });
    Ok(fields.as_object().cloned().unwrap_or_default())
}

fn forget(config: &Config, bus: &BusArguments, output: &mut Output) -> anyhow::Result<Map<String, Value>> {
    let forgotten = wake::forget(config)?;
    output.line(if forgotten { "the phrase is forgotten" } else { "there was no phrase to forget" })?;
    if forgotten {
        tell_daemon(bus, output)?;
    }
    Ok(Map::from_iter([("forgotten".to_owned(), forgotten.into())]))
}

/// The file is written in any case; a daemon that may not be managed takes it when it starts again.
fn tell_daemon(bus: &BusArguments, output: &mut Output) -> anyhow::Result<bool> {
    match reload(bus) {
        Ok(running) => Ok(running),
        Err(error) => {
            output
                .line(&format!("the daemon does not know of it until it reads its configuration again: {error:#}"))?;
            Ok(false)
        }
    }
}

fn recording(file: &Path) -> anyhow::Result<Vec<f32>> {
    Ok(read_wav(file, LONGEST)?.at_rate(RATE)?.samples)
}

/// Takes from the microphone, which the daemon does not listen to meanwhile.
fn record(
    config: &Config,
    bus: &BusArguments,
    detector: &mut VoiceActivity,
    output: &mut Output,
) -> anyhow::Result<Vec<Vec<f32>>> {
    let _quiet = hush(bus)?;
    let capture = crate::voice::microphone(&config.audio)?;
    let mut ear = Ear::new(capture, None, config.audio.noise_suppression)?;
    let mut takes = Vec::new();
    for number in 1..=TAKES {
        output.line(&format!("say the phrase ({number} of {TAKES})"))?;
        takes.push(take(&mut ear, detector, config)?);
    }
    Ok(takes)
}

/// One phrase, with what was heard just before it and the silence behind it.
fn take(ear: &mut Ear, detector: &mut VoiceActivity, config: &Config) -> anyhow::Result<Vec<f32>> {
    detector.reset();
    let (mut heard, mut looked, mut quiet) = (Vec::new(), 0, None);
    let begun = Instant::now();
    let mut frame = [0.0; FRAME];
    loop {
        match ear.next(&mut frame, Duration::from_millis(100), config.audio.device_timeout) {
            // As the daemon hears it.
            Heard::Frame => heard.extend_from_slice(&frame),
            Heard::Nothing => {}
            Heard::Lost(_) => anyhow::bail!("the microphone was lost; connect it and begin again"),
        }
        while heard.len() - looked >= VoiceActivity::CHUNK {
            let chunk = &heard[looked..looked + VoiceActivity::CHUNK];
            looked += VoiceActivity::CHUNK;
            quiet = match (detector.probability(chunk)? >= SPEECH, quiet) {
                (true, _) => Some(0),
                (false, Some(length)) => Some(length + VoiceActivity::CHUNK),
                (false, None) => None,
            };
        }
        match quiet {
            None => {
                let over = looked.saturating_sub(BEFORE);
                heard.drain(..over);
                looked -= over;
                let hint = "nobody spoke; `eddy doctor` says which microphone is used";
                anyhow::ensure!(begun.elapsed() < PATIENCE, hint);
            }
            Some(length) if length >= SILENCE || heard.len() >= TAKE => return Ok(heard),
            Some(_) => {}
        }
    }
}
