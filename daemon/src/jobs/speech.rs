//! The speech jobs: a recording or a text in, text and sound out, with or without a memory.
//!
//! Steps: hear the recording, encode it, feed the prompt chunk by chunk, then a token or a frame at a time, then wait
//! until everything that was made has been taken.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use eddy_audio::wav::read_wav_from;
use eddy_ipc::{Error, Failure, FinishReason, Outcome, RequestState};
use eddy_models::backbone::{Cache, Snapshot};
use eddy_models::speech::{Prompt, ReplyOptions};
use serde_json::json;

use super::delivery::Delivery;
use super::loader::{Model, SpeechModel};
use super::memory::{Hold, Kept, Memory, Place, Said};
use super::{refusal, wrong_model};
use crate::engine::{Ending, Job, Step};
use crate::speech::{Made, Progress, Summary, Turn, Unheard, hear};

/// The rate of everything that goes out.
const OUT_RATE: u32 = 24_000;

/// What the caller hands over.
#[derive(Debug)]
pub enum Input {
    /// A WAV file.
    Wav(Vec<u8>),
    /// Words.
    Text(String),
}

/// What a job is to do.
#[derive(Debug)]
pub struct SpeechWork {
    /// What is asked.
    pub input: Input,
    /// What the model is told first; a memory has its own.
    pub instructions: String,
    /// How the reply is drawn.
    pub options: ReplyOptions,
    /// The conversation that it is a turn of.
    pub memory: Option<Arc<Memory>>,
}

#[derive(Debug)]
enum Stage {
    /// The recording is still a file.
    Hear(Input),
    /// It is features, or words, and not yet in the model.
    Embed(Said),
    /// The model answers.
    Reply(Box<Replying>),
    /// Everything is made, not everything is taken.
    Drain(Box<Replying>, Summary, FinishReason),
    /// Nothing is left.
    Over,
}

#[derive(Debug)]
struct Replying {
    turn: Turn,
    cache: Cache,
    said: Said,
    /// Where the cache was before the turn, with the row that it lacked; `None` for one that is new.
    before: Option<(Snapshot, Vec<f32>)>,
}

/// One speech request in the engine.
pub struct SpeechJob {
    instructions: String,
    options: ReplyOptions,
    memory: Option<(Arc<Memory>, Place)>,
    delivery: Delivery,
    hold: Option<Hold>,
    stage: Stage,
    made: Made,
    submitted: Instant,
    begun: Option<Instant>,
    hearing: Duration,
}

impl SpeechJob {
    /// `hold` is what the caller's bytes are counted by; it is given back with the job, or with the conversation.
    #[must_use]
    pub fn new(work: SpeechWork, delivery: Delivery, hold: Option<Hold>) -> Self {
        let memory = work.memory.map(|memory| {
            let place = memory.line_up();
            (memory, place)
        });
        Self {
            instructions: work.instructions,
            options: work.options,
            memory,
            delivery,
            hold,
            stage: Stage::Hear(work.input),
            made: Made::default(),
            submitted: Instant::now(),
            begun: None,
            hearing: Duration::ZERO,
        }
    }

    fn advance(&mut self, model: &mut SpeechModel) -> Result<Step, Error> {
        match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::Hear(input) => {
                let begun = Instant::now();
                let said = match input {
                    Input::Text(text) => Said::Words(text),
                    Input::Wav(bytes) => {
                        let read = |longest| read_wav_from(bytes.as_slice(), Path::new("wav"), longest);
                        Said::Sound(hear(&mut model.speech, read).map_err(|error| match error {
                            Unheard::Recording(error) => Error::InvalidContent(error.to_string()),
                            Unheard::Model(error) => refusal(&error),
                        })?)
                    }
                };
                self.hearing += begun.elapsed();
                self.stage = Stage::Embed(said);
                Ok(Step::More)
            }
            Stage::Embed(said) => {
                let begun = Instant::now();
                self.stage = Stage::Reply(Box::new(self.embed(model, said).map_err(|error| refusal(&error))?));
                self.hearing += begun.elapsed();
                Ok(Step::More)
            }
            Stage::Reply(mut replying) => {
                let Replying { turn, cache, .. } = replying.as_mut();
                let stepped = turn.step(&mut model.speech, cache, &mut self.made);
                let progress = match stepped {
                    Ok(progress) => progress,
                    Err(error) => {
                        self.stage = Stage::Reply(replying);
                        return Err(refusal(&error));
                    }
                };
                self.delivery.expect(turn, &model.paces);
                if let Progress::Complete(reason) = progress {
                    turn.finish(&mut model.speech, &mut self.made).map_err(|error| refusal(&error))?;
                    let summary = turn.summary();
                    self.stage = Stage::Drain(replying, summary, reason);
                } else {
                    self.stage = Stage::Reply(replying);
                }
                self.deliver();
                Ok(Step::More)
            }
            drain @ Stage::Drain(..) => {
                let clear = self.delivery.is_clear();
                self.stage = drain;
                Ok(if clear { Step::Done } else { Step::Full })
            }
            Stage::Over => Err(Error::Internal("a job went on after its end".into())),
        }
    }

    fn embed(&mut self, model: &mut SpeechModel, said: Said) -> eddy_models::Result<Replying> {
        let SpeechModel { speech, kept, paces } = model;
        let sound = self.delivery.wants_sound();
        if sound && speech.settings().stft.sample_rate != OUT_RATE {
            let rate = speech.settings().stft.sample_rate;
            return Err(eddy_models::Error::BadRequest(format!(
                "the model speaks at {rate} samples a second and only {OUT_RATE} can be sent"
            )));
        }
        let (cache, rows, before) = match &self.memory {
            None => {
                let prompt = said.put(Prompt::instructed(&self.instructions)).awaiting_reply();
                (speech.new_cache()?, speech.embed(&prompt)?, None)
            }
            Some((memory, _)) => {
                let backbone = speech.backbone();
                let context = backbone.context();
                let room = self.options.max_items.min(context / 2);
                let snapshot = |cache: &Cache| backbone.snapshot(cache);
                let opened =
                    memory.open(kept.remove(&memory.id()), None, (room, context), snapshot, || backbone.new_cache())?;
                if opened.folded > 0 {
                    tracing::info!(turns = opened.folded, "the oldest turns of a conversation are dropped");
                }
                let mut rows = opened.unfed.clone();
                rows.extend(speech.embed(&said.put(opened.prompt).awaiting_reply())?);
                (opened.cache, rows, opened.back.map(|back| (back, opened.unfed)))
            }
        };
        let mut turn = Turn::new(speech, rows, self.options.clone(), sound)?;
        turn.follow(paces);
        Ok(Replying { turn, cache, said, before })
    }

    fn deliver(&mut self) {
        self.delivery.text(&self.made.text);
        self.delivery.samples(&self.made.samples);
        self.made.text.clear();
        self.made.samples.clear();
    }

    /// Leaves the conversation as it is after this turn.
    fn conclude(&mut self, mut model: Option<&mut Model>, replying: Option<Box<Replying>>, whole: bool) {
        let Some((memory, place)) = self.memory.take() else { return };
        memory.leave(place);
        let Some(replying) = replying else { return };
        let Replying { turn, mut cache, said, before } = *replying;
        let summary = turn.summary();
        let (read, unfed) = if whole || summary.items > 0 {
            let unfed = turn.reply().unfed().map(<[f32]>::to_vec).unwrap_or_default();
            let start = before.as_ref().map_or(0, |(back, _)| back.length());
            let positions = cache.length().saturating_sub(start) + usize::from(!unfed.is_empty());
            (memory.remember(place, said, (summary.text, !whole), positions, self.hold.take()), unfed)
        } else {
            // Nothing was answered: as if nothing had been asked.
            let (Some(Model::Speech(model)), Some((back, unfed))) = (model.as_deref_mut(), before) else { return };
            if model.speech.backbone().rewind(&mut cache, &back).is_err() {
                return;
            }
            (memory.read(place), unfed)
        };
        if let (Some(Model::Speech(model)), Some(read)) = (model, read) {
            model.kept.insert(memory.id(), Kept { cache, unfed, read });
        }
    }

    fn outcome(&self, summary: Summary, reason: Option<FinishReason>) -> Outcome {
        let owned = |(name, value): (&str, f64)| (name.to_owned(), value);
        let account = self.delivery.account().unwrap_or_default();
        let mut latency: std::collections::BTreeMap<String, f64> =
            summary.latency().into_iter().chain(account.latency()).map(owned).collect();
        latency.insert("hear".into(), self.hearing.as_secs_f64());
        if let Some(begun) = self.begun {
            latency.insert("wait".into(), (begun - self.submitted).as_secs_f64());
        }
        Outcome {
            samples: self.delivery.wants_sound().then_some(summary.samples),
            tool_calls: matches!(reason, Some(FinishReason::ToolCalls))
                .then(|| summary.calls().ok())
                .flatten()
                .map(|calls| json!(calls).to_string()),
            text: Some(summary.text),
            finish_reason: reason,
            tokens: Some(summary.items),
            latency,
            ..Outcome::default()
        }
    }
}

impl Job<Model> for SpeechJob {
    fn step(&mut self, model: &mut Model) -> Step {
        let Model::Speech(model) = model else { return Step::Failed(wrong_model()) };
        if let Some((memory, place)) = &self.memory
            && !memory.is_first(*place)
        {
            return Step::Full;
        }
        self.begun.get_or_insert_with(Instant::now);
        if let Some(step) = self.delivery.flush() {
            if let Stage::Reply(replying) = &mut self.stage {
                replying.turn.rest();
            }
            return step;
        }
        self.advance(model).unwrap_or_else(Step::Failed)
    }

    fn end(&mut self, model: Option<&mut Model>, ending: Ending) {
        let stage = std::mem::replace(&mut self.stage, Stage::Over);
        let (replying, summary, reason) = match stage {
            Stage::Drain(replying, summary, reason) => (Some(replying), summary, Some(reason)),
            Stage::Reply(replying) => {
                let summary = replying.turn.summary();
                (Some(replying), summary, None)
            }
            Stage::Hear(_) | Stage::Embed(_) | Stage::Over => (None, Summary::default(), None),
        };
        let (state, outcome) = match ending {
            Ending::Done => (RequestState::Done, self.outcome(summary, reason)),
            Ending::Cancelled => (RequestState::Cancelled, self.outcome(summary, Some(FinishReason::Cancelled))),
            Ending::Failed(error) => {
                let failure = Some(Failure::from(&error));
                (RequestState::Failed, Outcome { failure, ..self.outcome(summary, None) })
            }
        };
        self.conclude(model, replying, state == RequestState::Done);
        if state != RequestState::Done {
            self.delivery.abandon();
        }
        // The pipes first: whoever learns of the end finds everything there.
        self.delivery.close();
        self.hold = None;
        self.delivery.feed().end(state, outcome);
    }
}

impl Drop for SpeechJob {
    fn drop(&mut self) {
        // A job that the engine refused has not ended, and must not hold up the turns behind it.
        if let Some((memory, place)) = self.memory.take() {
            memory.leave(place);
        }
    }
}
