//! What the speech verbs share: hearing a WAV file, driving a reply in this process or following one of the daemon's,
//! writing its sound as it comes.

use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use eddy_audio::wav::{WavSink, read_wav};
use eddy_ipc::{Delta, FinishReason, Options};
use eddy_models::Error;
use eddy_models::speech::{MelFeatures, Prompt, ReplyOptions, Speech};
use serde_json::{Map, Value, json};
use zbus::Connection;

use super::Outcome;
use super::daemon::{Daemon, Ended, SAMPLE_RATE, read_samples};
use super::interrupt::Interrupt;
use super::output::{Output, figure};
use crate::speech::{Made, Progress, Summary, Turn, Unheard};

/// The largest recording that is handed to the daemon; its own limit may be lower.
const MOST_BYTES: u64 = 256 << 20;

/// Reads a recording and computes its mel features.
///
/// # Errors
/// For every kind of unusable recording, and when the model cannot hear.
pub fn hear(speech: &mut Speech, path: &Path) -> anyhow::Result<MelFeatures> {
    crate::speech::hear(speech, |longest| read_wav(path, longest)).map_err(|error| match error {
        Unheard::Recording(error) => anyhow::Error::new(error),
        Unheard::Model(error) => anyhow::Error::new(error).context(path.display().to_string()),
    })
}

/// A recorded question for the model.
#[derive(Debug, clap::Args)]
pub struct Recording {
    /// The recording.
    #[arg(value_name = "IN.wav")]
    pub input: PathBuf,
}

impl Recording {
    /// Its bytes in a sealed memory file, for the daemon.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn sealed(&self) -> anyhow::Result<OwnedFd> {
        let path = &self.input;
        let file = std::fs::File::open(path).with_context(|| path.display().to_string())?;
        let mut bytes = Vec::new();
        // Pipes and devices do not say how much there is.
        file.take(MOST_BYTES + 1).read_to_end(&mut bytes).with_context(|| path.display().to_string())?;
        let most = MOST_BYTES >> 20;
        anyhow::ensure!(
            bytes.len() as u64 <= MOST_BYTES,
            "{}: longer than {most} MiB; cut it into parts",
            path.display()
        );
        Ok(eddy_ipc::fd::seal("recording", &bytes)?)
    }
}

/// Rows of a prompt that asks what `path` holds under `instructions`, and how long hearing it took.
///
/// # Errors
/// Those of [`hear`] and of the encoder.
pub fn ask(speech: &mut Speech, instructions: &str, path: &Path) -> anyhow::Result<(Vec<f32>, Duration)> {
    let begun = std::time::Instant::now();
    let features = hear(speech, path)?;
    let rows = speech.embed(&Prompt::instructed(instructions).sound(features).awaiting_reply())?;
    Ok((rows, begun.elapsed()))
}

/// What a reply came to.
#[derive(Debug)]
pub struct Told {
    /// Why it ended; `Cancelled` after Ctrl-C.
    pub reason: FinishReason,
    pub summary: Summary,
    pub sample_rate: u32,
}

impl Told {
    /// The verb's outcome.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        match self.reason {
            FinishReason::Cancelled => Outcome::Interrupted,
            FinishReason::Stop | FinishReason::Length | FinishReason::ToolCalls => Outcome::Done,
        }
    }

    /// The fields that every speech verb reports.
    #[must_use]
    pub fn report(&self, loading: Duration, hearing: Option<Duration>) -> Map<String, Value> {
        let stages = [("load", Some(loading)), ("hear", hearing)];
        let stages = stages.into_iter().filter_map(|(name, time)| Some((name, time?.as_secs_f64())));
        let stages: Map<String, Value> =
            stages.chain(self.summary.latency()).map(|(name, value)| (name.to_owned(), figure(value))).collect();
        fields(
            &self.summary.text,
            self.reason,
            self.summary.items,
            Some(self.summary.samples),
            self.sample_rate,
            stages,
        )
    }
}

fn fields(
    text: &str,
    reason: FinishReason,
    items: u64,
    samples: Option<u64>,
    sample_rate: u32,
    timings: Map<String, Value>,
) -> Map<String, Value> {
    let mut fields = Map::new();
    fields.insert("text".into(), text.into());
    fields.insert("finish_reason".into(), reason.as_str().into());
    fields.insert("items".into(), items.into());
    if let Some(samples) = samples {
        fields.insert("samples".into(), samples.into());
        fields.insert("sample_rate".into(), sample_rate.into());
    }
    fields.insert("timings".into(), json!(timings));
    fields
}

/// Drives a reply to what `rows` hold to its end: text goes to `output` and sound to `sink` as they come. Ctrl-C ends it
/// with what has been made until then.
///
/// # Errors
/// Those of the engine and of the file.
pub fn tell(
    speech: &mut Speech,
    rows: Vec<f32>,
    options: ReplyOptions,
    mut sink: Option<&mut WavSink>,
    output: &mut Output,
    interrupt: &Interrupt,
) -> anyhow::Result<Told> {
    let mut cache = speech.new_cache()?;
    let mut turn = Turn::new(speech, rows, options, sink.is_some())?;
    let mut made = Made::default();
    let mut reason = FinishReason::Cancelled;
    while !interrupt.asked() {
        match turn.step(speech, &mut cache, &mut made) {
            Err(Error::Stopped) => break,
            Ok(Progress::More) => {}
            Ok(Progress::Complete(why)) => {
                reason = why;
                break;
            }
            Err(error) => return Err(error.into()),
        }
        hand_on(&mut made, sink.as_deref_mut(), output)?;
    }
    interrupt.tidy_up();
    turn.finish(speech, &mut made)?;
    hand_on(&mut made, sink, output)?;
    Ok(Told { reason, summary: turn.summary(), sample_rate: speech.settings().stft.sample_rate })
}

fn hand_on(made: &mut Made, sink: Option<&mut WavSink>, output: &mut Output) -> anyhow::Result<()> {
    output.text(&made.text)?;
    made.text.clear();
    if let Some(sink) = sink {
        sink.write(&made.samples)?;
    }
    made.samples.clear();
    Ok(())
}

/// Has the daemon do it: text goes to `output` as it comes, sound into the file at `sound`.
///
/// # Errors
/// The daemon's, and those of the file.
pub fn tell_by_daemon(
    daemon: &Daemon,
    options: Options,
    begin: impl AsyncFnOnce(&Connection, &Options) -> eddy_ipc::Result<Option<OwnedFd>>,
    sound: Option<&Path>,
    output: &mut Output,
) -> anyhow::Result<Ended> {
    let sink = sound.map(|path| WavSink::create(path, SAMPLE_RATE)).transpose()?;
    let (send, pipe) = std::sync::mpsc::channel::<Option<OwnedFd>>();
    let writing = std::thread::spawn(move || -> anyhow::Result<()> {
        let (Ok(Some(pipe)), Some(mut sink)) = (pipe.recv(), sink) else { return Ok(()) };
        read_samples(pipe, |samples| Ok(sink.write(samples)?))?;
        Ok(sink.finish()?)
    });
    let begin = async |connection: &Connection, options: &Options| {
        let pipe = begin(connection, options).await?;
        // The thread waits for it as long as there is one to come.
        let _ = send.send(pipe);
        Ok(())
    };
    let followed = daemon.follow(options, begin, |delta| {
        match delta {
            Delta::Text(text) | Delta::Transcript(text) => output.text(text)?,
            Delta::Progress { .. } | Delta::Queued(_) | Delta::Other(_) => {}
        }
        Ok(())
    });
    drop(send);
    let written = writing.join().unwrap_or_else(|_| Err(anyhow::anyhow!("the sound could not be written")));
    let ((), ended) = followed?;
    written?;
    Ok(ended)
}

/// The fields that every speech verb reports, from what the daemon told.
#[must_use]
pub fn report_of(ended: &Ended) -> Map<String, Value> {
    let outcome = &ended.outcome;
    let text = outcome.text.as_deref().unwrap_or_default();
    let reason = outcome.finish_reason.unwrap_or(FinishReason::Stop);
    let timings = outcome.latency.iter().map(|(stage, time)| (stage.clone(), figure(*time)));
    fields(text, reason, outcome.tokens.unwrap_or_default(), outcome.samples, SAMPLE_RATE, timings.collect())
}
