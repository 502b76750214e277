//! What the speech verbs share: hearing a WAV file, driving a reply, writing its sound as it comes.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context;
use eddy_audio::wav::{WavSink, read_wav};
use eddy_models::Error;
use eddy_models::speech::{Event, Finish, MelClip, MelFeatures, Prompt, Reply, SampleStream, Speech};
use serde_json::{Map, Value, json};

use super::interrupt::Interrupt;
use super::output::{Output, seconds};

/// Frames that are turned into samples together once the first one has been heard. Each call computes the left context
/// again, so larger groups cost less and come later; half a second is what playback holds anyway.
const GROUP: usize = 6;

/// Reads a recording and computes its mel features.
///
/// # Errors
/// For every kind of unusable recording, and when the model cannot hear.
pub fn hear(speech: &mut Speech, path: &Path) -> anyhow::Result<MelFeatures> {
    let mel = speech.settings().mel.clone();
    // One sample more would begin another frame.
    let longest = speech.encoder()?.longest().saturating_mul(mel.hop).saturating_sub(1);
    let longest = Duration::from_secs_f64(longest as f64 / f64::from(mel.sample_rate));
    let recording = read_wav(path, longest)?.at_rate(mel.sample_rate)?;
    let mut clip = MelClip::new(speech.front_end());
    clip.push(&recording.samples);
    clip.features().with_context(|| path.display().to_string())
}

/// A recorded question for the model.
#[derive(Debug, clap::Args)]
pub struct Recording {
    /// The recording.
    #[arg(value_name = "IN.wav")]
    pub input: PathBuf,
}

/// Rows of a prompt that asks what `path` holds under `instructions`, and how long hearing it took.
///
/// # Errors
/// Those of [`hear`] and of the encoder.
pub fn ask(speech: &mut Speech, instructions: &str, path: &Path) -> anyhow::Result<(Vec<f32>, Duration)> {
    let begun = Instant::now();
    let features = hear(speech, path)?;
    let rows = speech.embed(&Prompt::instructed(instructions).sound(features).awaiting_reply())?;
    Ok((rows, begun.elapsed()))
}

/// How a reply ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// By itself, or at the limit of items.
    Finished(Finish),
    /// The person pressed Ctrl-C.
    Interrupted,
}

impl Ending {
    /// The word of `finish_reason`.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::Finished(Finish::Stop) => "stop",
            Self::Finished(Finish::Length) => "length",
            Self::Interrupted => "cancelled",
        }
    }
}

/// What a reply came to.
#[derive(Debug)]
pub struct Told {
    pub ending: Ending,
    pub text: String,
    pub items: usize,
    pub samples: u64,
    pub sample_rate: u32,
    /// From the start of the prefill to the first token and to the first sample.
    pub first_text: Option<Duration>,
    pub first_sound: Option<Duration>,
    pub whole: Duration,
    pub detokenizing: Duration,
}

impl Told {
    /// The fields that every speech verb reports.
    #[must_use]
    pub fn report(&self, reply: &Reply, loading: Duration, hearing: Option<Duration>) -> Map<String, Value> {
        let times = reply.times();
        let mut stages = Map::new();
        let mut stage = |name: &str, duration: Option<Duration>| {
            if let Some(duration) = duration {
                stages.insert(name.into(), seconds(duration));
            }
        };
        stage("load", Some(loading));
        stage("hear", hearing);
        stage("prefill", Some(times.prefill));
        stage("decode", Some(times.decode));
        stage("depthformer", Some(times.depthformer));
        stage("detokenize", Some(self.detokenizing));
        stage("first_text", self.first_text);
        stage("first_sound", self.first_sound);
        stage("reply", Some(self.whole));
        let fields = json!({
            "text": self.text,
            "finish_reason": self.ending.reason(),
            "items": self.items,
            "samples": self.samples,
            "sample_rate": self.sample_rate,
            "timings": stages,
        });
        match fields {
            Value::Object(fields) => fields,
            _ => Map::new(),
        }
    }
}

/// The sound of a reply on its way into a file.
struct Sound<'a> {
    sink: &'a mut WavSink,
    stream: SampleStream,
    waiting: Vec<Vec<u32>>,
    heard_first: bool,
}

impl Sound<'_> {
    fn push(&mut self, speech: &mut Speech, frame: Vec<u32>) -> anyhow::Result<()> {
        self.waiting.push(frame);
        let enough = if self.heard_first { GROUP } else { 1 };
        if self.waiting.len() < enough { Ok(()) } else { self.flush(speech) }
    }

    fn flush(&mut self, speech: &mut Speech) -> anyhow::Result<()> {
        let mut samples = Vec::new();
        speech.detokenizer()?.push(&mut self.stream, &self.waiting, &mut samples)?;
        self.waiting.clear();
        self.heard_first |= !samples.is_empty();
        self.sink.write(&samples)?;
        Ok(())
    }

    fn finish(&mut self, speech: &mut Speech) -> anyhow::Result<()> {
        self.flush(speech)?;
        let mut samples = Vec::new();
        self.stream.finish(&mut samples);
        self.sink.write(&samples)?;
        Ok(())
    }
}

/// Drives `reply` to its end: text goes to `output` and sound to `sink` as they come. Ctrl-C ends it with what has been
/// made until then.
///
/// # Errors
/// Those of the engine and of the file.
pub fn tell(
    speech: &mut Speech,
    reply: &mut Reply,
    sink: Option<&mut WavSink>,
    output: &mut Output,
    interrupt: &Interrupt,
) -> anyhow::Result<Told> {
    let begun = Instant::now();
    let mut cache = speech.new_cache()?;
    let sample_rate = speech.settings().stft.sample_rate;
    let end_code = speech.settings().end_code();
    let mut told = Told {
        ending: Ending::Interrupted,
        text: String::new(),
        items: 0,
        samples: 0,
        sample_rate,
        first_text: None,
        first_sound: None,
        whole: Duration::ZERO,
        detokenizing: Duration::ZERO,
    };
    let mut sound = match sink {
        Some(sink) => {
            Some(Sound { sink, stream: speech.detokenizer()?.stream(), waiting: Vec::new(), heard_first: false })
        }
        None => None,
    };
    while !interrupt.asked() {
        let event = match reply.step(speech, &mut cache) {
            Err(Error::Stopped) => break,
            event => event?,
        };
        match event {
            Event::Prefilled { .. } => {}
            Event::Text { text, .. } => {
                told.items += 1;
                told.first_text.get_or_insert_with(|| begun.elapsed());
                output.text(&text)?;
                told.text.push_str(&text);
            }
            Event::Frame(frame) => {
                told.items += 1;
                if let Some(sound) = sound.as_mut().filter(|_| frame.first() != Some(&end_code)) {
                    let before = Instant::now();
                    match sound.push(speech, frame) {
                        Err(error) if stopped(&error) => break,
                        pushed => pushed?,
                    }
                    told.detokenizing += before.elapsed();
                    told.first_sound.get_or_insert_with(|| begun.elapsed());
                }
            }
            Event::Finished(why) => {
                told.ending = Ending::Finished(why);
                break;
            }
        }
    }
    interrupt.tidy_up();
    let rest = reply.finish_text(speech)?;
    output.text(&rest)?;
    told.text.push_str(&rest);
    if let Some(sound) = &mut sound {
        sound.finish(speech)?;
        told.samples = sound.sink.samples_written();
    }
    told.whole = begun.elapsed();
    Ok(told)
}

fn stopped(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(Error::Stopped))
}
