//! A turn of the live voice, from the first syllable to the last sample that was heard of the answer.
//!
//! The job is there while the person still speaks: the conversation is read, the sound's features grow. At a likely pause
//! it answers ahead, and takes everything back if the person goes on. While the answer sounds it keeps, for every frame
//! that may still be cut, the place in the cache to which to go back: what was not heard was not said.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use eddy_config::WhenSlow;
use eddy_ipc::{Error, FinishReason};
use eddy_models::backbone::{Cache, Input, Snapshot};
use eddy_models::speech::{MelClip, MelFeatures, Mode, Prompt, ReplyOptions, Speech, TurnRole};

use super::line::{RATE, SoundLine};
use super::loader::{Model, SpeechModel};
use super::memory::{Kept, Memory, Place, Said};
use super::{refusal, wrong_model};
use crate::engine::{Ending, Job, Step};
use crate::speech::{BRIEFLY, Made, Paces, Progress, Turn};
use crate::timers::Timers;

mod marks;
mod told;
mod utterance;

use marks::{Mark, Marks};
pub use told::{Audience, Told, TurnEnd};
pub use utterance::{Utterance, Wish};

/// Turns of tool calls before an answer; a model that goes on calling says what it called for.
const MOST_CALLS: u32 = 3;
/// The rate of what is heard, Hz.
pub const HEARD_RATE: u32 = 16_000;

/// The cache while a turn goes on.
#[derive(Debug)]
struct Base {
    cache: Cache,
    /// Before the turn, with the row that the cache lacked; `None` for a cache that is new.
    before: Option<(Snapshot, Vec<f32>)>,
    /// Positions before the turn.
    length: usize,
}

#[derive(Debug)]
struct Answering {
    base: Box<Base>,
    /// Where the person's turn begins.
    open: Snapshot,
    number: u32,
    said: MelFeatures,
    turn: Turn,
    /// Length of the cache when the whole prompt is in it.
    prompted: usize,
    marks: Marks,
    complete: Option<FinishReason>,
    /// Turns in which the model called tools instead of answering.
    called: u32,
    /// What was made before it was certain that it is wanted.
    untold: Made,
    answered: bool,
}

impl Answering {
    /// Whether it is no answer but calls that are to be done.
    fn calls_tool(&self) -> bool {
        self.turn.calls_tool() && self.called < MOST_CALLS
    }
}

#[derive(Debug)]
enum Stage {
    /// The conversation has not been looked at.
    Waiting,
    /// The conversation goes into the cache up to where the person speaks.
    Reading {
        base: Box<Base>,
        rows: Vec<f32>,
        done: usize,
    },
    /// Features grow.
    Listening {
        base: Box<Base>,
        open: Snapshot,
    },
    /// An answer is made or sounds.
    Answering(Box<Answering>),
    Over,
}

/// What a turn needs.
pub struct LiveWork {
    /// What the person says.
    pub utterance: Arc<Utterance>,
    /// Where the answer goes.
    pub line: Arc<SoundLine>,
    /// Who hears of it.
    pub audience: Option<Arc<dyn Audience>>,
    /// The conversation.
    pub memory: Arc<Memory>,
    /// How the answer is drawn.
    pub options: ReplyOptions,
    /// What is done when the machine is too slow.
    pub when_slow: WhenSlow,
    /// What the model may call for.
    pub timers: Arc<Timers>,
}

/// One turn in the engine.
pub struct LiveJob {
    work: LiveWork,
    place: Option<Place>,
    clip: Option<MelClip>,
    /// Heard and not yet in the clip: it came after a likely pause.
    later: VecDeque<f32>,
    stage: Stage,
    made: Made,
    hearing: Duration,
    /// Timers that were set in this turn.
    timers: Vec<u64>,
}

impl LiveJob {
    /// Takes its place in the conversation.
    #[must_use]
    pub fn new(work: LiveWork) -> Self {
        let place = Some(work.memory.line_up());
        Self {
            work,
            place,
            clip: None,
            later: VecDeque::new(),
            stage: Stage::Waiting,
            made: Made::default(),
            hearing: Duration::ZERO,
            timers: Vec::new(),
        }
    }

    fn advance(&mut self, model: &mut SpeechModel) -> Result<Step, Error> {
        let wish = {
            let mut orders = self.work.utterance.state();
            self.later.extend(orders.samples.drain(..));
            orders.wish
        };
        let (wanted, until) = match wish {
            Wish::Cut | Wish::Keep | Wish::Drop => return Ok(Step::Done),
            Wish::Grow => (None, usize::MAX),
            Wish::Prepare { number, samples } => (Some((number, false)), samples),
            Wish::Answer { number, samples } => (Some((number, true)), samples),
        };
        self.grow(&mut model.speech, until)?;
        match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::Waiting => {
                self.stage = self.open(model).map_err(|error| refusal(&error))?;
                Ok(Step::More)
            }
            Stage::Reading { mut base, rows, done } => {
                let hidden = model.speech.backbone().hidden();
                let end = (done + self.work.options.chunk.max(1) * hidden).min(rows.len());
                if done < end {
                    let fed = model.speech.backbone().advance(&mut base.cache, Input::Embeddings(&rows[done..end]));
                    fed.map_err(|error| refusal(&error))?;
                }
                self.stage = match end == rows.len() {
                    true => {
                        let open = model.speech.backbone().snapshot(&base.cache);
                        Stage::Listening { base, open }
                    }
                    false => Stage::Reading { base, rows, done: end },
                };
                Ok(Step::More)
            }
            Stage::Listening { base, open } => {
                let Some((number, _)) = wanted else {
                    self.stage = Stage::Listening { base, open };
                    return Ok(Step::Full);
                };
                let answering = self.answer(model, base, open, number).map_err(|error| refusal(&error))?;
                self.stage = Stage::Answering(Box::new(answering));
                Ok(Step::More)
            }
            Stage::Answering(mut answering) => match wanted {
                Some((number, certain)) if number == answering.number => {
                    let stepped = self.speak(model, &mut answering, certain);
                    self.stage = Stage::Answering(answering);
                    stepped
                }
                // The person went on.
                Some(_) | None => {
                    let Answering { mut base, open, .. } = *answering;
                    let gone_back = model.speech.backbone().rewind(&mut base.cache, &open);
                    gone_back.map_err(|error| refusal(&error))?;
                    self.work.line.take_back();
                    self.stage = Stage::Listening { base, open };
                    Ok(Step::More)
                }
            },
            Stage::Over => Err(Error::Internal("a turn went on after its end".into())),
        }
    }

    /// Turns what was heard into features, up to `until` samples in all.
    fn grow(&mut self, speech: &mut Speech, until: usize) -> Result<(), Error> {
        let rate = speech.settings().mel.sample_rate;
        if rate != HEARD_RATE {
            let sentence =
                format!("the model listens at {rate} samples a second and the microphone's are {HEARD_RATE}");
            return Err(Error::Unsupported(sentence));
        }
        let begun = Instant::now();
        let clip = self.clip.get_or_insert_with(|| MelClip::new(speech.front_end()));
        let count = until.saturating_sub(clip.samples()).min(self.later.len());
        if count > 0 {
            let samples: Vec<f32> = self.later.drain(..count).collect();
            clip.push(&samples);
            self.hearing += begun.elapsed();
        }
        Ok(())
    }

    fn open(&mut self, model: &mut SpeechModel) -> eddy_models::Result<Stage> {
        let SpeechModel { speech, kept, paces } = model;
        let memory = &self.work.memory;
        let context = speech.backbone().context();
        // As long an utterance as the encoder takes, and the longest answer; what is less is not worth folding for.
        let longest = speech.encoder()?.longest() / 8;
        let room = (self.work.options.max_items + longest).min(context / 2);
        let backbone = speech.backbone();
        let kept = kept.remove(&memory.id());
        let aside = (self.work.when_slow == WhenSlow::Shorten && paces.is_slow()).then_some(BRIEFLY);
        let opened =
            memory.open(kept, aside, (room, context), |cache| backbone.snapshot(cache), || backbone.new_cache())?;
        if opened.folded > 0
            && let Some(audience) = &self.work.audience
        {
            audience.tell(Told::Folded(opened.folded));
        }
        let length = opened.cache.length();
        let mut rows = opened.unfed.clone();
        rows.extend(speech.embed(&opened.prompt)?);
        let before = opened.back.map(|back| (back, opened.unfed));
        let base = Box::new(Base { cache: opened.cache, before, length });
        Ok(Stage::Reading { base, rows, done: 0 })
    }

    fn answer(
        &mut self,
        SpeechModel { speech, paces, .. }: &mut SpeechModel,
        base: Box<Base>,
        open: Snapshot,
        number: u32,
    ) -> eddy_models::Result<Answering> {
        let begun = Instant::now();
        let rate = speech.settings().stft.sample_rate;
        if speech.can_speak() && rate != RATE {
            return Err(eddy_models::Error::BadRequest(format!(
                "the model speaks at {rate} samples a second and the loudspeaker is given {RATE}"
            )));
        }
        let said = match &self.clip {
            Some(clip) => clip.features()?,
            None => MelClip::new(speech.front_end()).features()?,
        };
        let rows = speech.embed(&Prompt::default().sound(said.clone()).awaiting_reply())?;
        let prompted = open.length() + rows.len() / speech.backbone().hidden();
        let written = speech.can_speak() && self.work.when_slow == WhenSlow::Text && paces.is_for_text();
        if written {
            self.work.line.write_only(paces.factor());
        }
        let turn = self.begin(speech, paces, rows, written)?;
        self.hearing += begun.elapsed();
        Ok(Answering {
            base,
            open,
            number,
            said,
            turn,
            prompted,
            marks: Marks::default(),
            complete: None,
            called: 0,
            untold: Made::default(),
            answered: false,
        })
    }

    /// Begins an answer to what `rows` hold, aloud unless it is only to be `written`.
    fn begin(&self, speech: &mut Speech, paces: &Paces, rows: Vec<f32>, written: bool) -> eddy_models::Result<Turn> {
        let options = self.work.options.clone();
        let options = match written {
            // The model was told to speak, and stays so: to tell it otherwise, the whole conversation would have to be
            // read again.
            true => ReplyOptions { mode: Mode::Sequential, written, ..options },
            false => options,
        };
        let audible = speech.can_speak() && !written;
        let mut turn = Turn::new(speech, rows, options, audible)?;
        if audible {
            turn.follow(paces);
        }
        Ok(turn)
    }

    /// Makes the next piece of the answer, unless the loudspeaker has enough.
    fn speak(&mut self, model: &mut SpeechModel, answering: &mut Answering, certain: bool) -> Result<Step, Error> {
        let SpeechModel { speech, paces, .. } = model;
        if certain && !answering.answered {
            answering.answered = true;
            self.tell(&std::mem::take(&mut answering.untold));
        }
        if answering.complete.is_some() && answering.calls_tool() {
            // An answer ahead may be taken back, and what a tool does may not.
            return match certain {
                true => self.use_tools(model, answering).map(|()| Step::More),
                false => Ok(Step::Full),
            };
        }
        if answering.complete.is_some() || !self.work.line.has_room() {
            answering.turn.rest();
            return Ok(Step::Full);
        }
        let Answering { turn, base, .. } = answering;
        let progress = match turn.step(speech, &mut base.cache, &mut self.made) {
            Ok(progress) => progress,
            // No room for more, which ends this answer and not the conversation.
            Err(eddy_models::Error::ContextFull { .. }) if turn.summary().items > 0 => {
                Progress::Complete(FinishReason::Length)
            }
            Err(error) => return Err(refusal(&error)),
        };
        if let Progress::Complete(reason) = progress {
            turn.finish(speech, &mut self.made).map_err(|error| refusal(&error))?;
            answering.complete = Some(reason);
        }
        if answering.calls_tool() {
            // Not part of the answer.
            self.made = Made::default();
            return Ok(Step::More);
        }
        self.keep_up(&mut answering.turn, paces);
        self.mark(speech, answering)?;
        let made = std::mem::take(&mut self.made);
        self.work.line.push(&made.samples);
        match answering.answered {
            true => self.tell(&made),
            false => {
                answering.untold.text.push_str(&made.text);
                answering.untold.samples.extend_from_slice(&made.samples);
            }
        }
        if answering.complete.is_some() {
            self.work.line.finish();
        }
        Ok(Step::More)
    }

    /// Does what the model called for, tells it what came of that, and has it answer.
    fn use_tools(&mut self, model: &mut SpeechModel, answering: &mut Answering) -> Result<(), Error> {
        let SpeechModel { speech, paces, .. } = model;
        let Answering { turn, base, .. } = answering;
        let told = match turn.summary().calls() {
            Ok(calls) => {
                let mut told = Vec::new();
                for call in &calls {
                    if let Some(audience) = &self.work.audience {
                        audience.tell(Told::Called(&call.name));
                    }
                    let (answer, timer) = self.work.timers.call(call, Instant::now());
                    told.push(answer);
                    self.timers.extend(timer);
                }
                told.join("\n")
            }
            Err(error) => serde_json::json!({ "error": error.to_string() }).to_string(),
        };
        let mut rows = turn.reply().unfed().map(<[f32]>::to_vec).unwrap_or_default();
        let prompt = Prompt::continuation().turn(TurnRole::Tool).words(&told).awaiting_reply();
        rows.extend(speech.embed(&prompt).map_err(|error| refusal(&error))?);
        answering.prompted = base.cache.length() + rows.len() / speech.backbone().hidden();
        let written = self.work.line.account().written;
        answering.turn = self.begin(speech, paces, rows, written).map_err(|error| refusal(&error))?;
        answering.marks = Marks::default();
        answering.complete = None;
        answering.called += 1;
        Ok(())
    }

    /// Says how much of the sound has to be ready, and ends an answer that would have to wait for too long.
    fn keep_up(&self, turn: &mut Turn, paces: &Paces) {
        if turn.pace().factor().is_none() {
            return;
        }
        self.work.line.expect(turn.lead(paces), turn.pace().measured());
        if self.work.when_slow == WhenSlow::Shorten && turn.pace().exceeds(self.work.line.patience()) {
            turn.wind_up();
        }
    }

    /// Notes the place after each new frame, and forgets the places that were passed.
    fn mark(&self, speech: &mut Speech, answering: &mut Answering) -> Result<(), Error> {
        let Answering { turn, base, marks, prompted, .. } = answering;
        let frames = turn.frames();
        let new = match marks.last() {
            None => base.cache.length() == *prompted,
            Some(last) => frames > last,
        };
        if new {
            let unfed = turn.reply().unfed().map(<[f32]>::to_vec).unwrap_or_default();
            // The place before the answer lacks nothing: its first item is not part of it.
            let unfed = if frames == 0 { Vec::new() } else { unfed };
            let snapshot = speech.backbone().snapshot(&base.cache);
            marks.add(Mark { frames, snapshot, unfed, text: turn.summary().text.len() });
        }
        if speech.can_speak() {
            let per_frame = speech.detokenizer().map_err(|error| refusal(&error))?.samples_per_frame();
            marks.pass(self.work.line.played() / per_frame as u64);
        }
        Ok(())
    }

    fn tell(&self, made: &Made) {
        let Some(audience) = &self.work.audience else { return };
        if !made.text.is_empty() {
            audience.tell(Told::Text(&made.text));
        }
        if !made.samples.is_empty() {
            audience.tell(Told::Sound(&made.samples));
        }
    }

    /// Leaves the conversation as it is after this turn.
    fn conclude(&mut self, model: Option<&mut Model>, wish: Wish) -> TurnEnd {
        let mut end = TurnEnd::default();
        let Some(place) = self.place.take() else { return end };
        let memory = Arc::clone(&self.work.memory);
        let stage = std::mem::replace(&mut self.stage, Stage::Over);
        memory.leave(place);
        let (base, answering) = match stage {
            Stage::Waiting | Stage::Over => return end,
            Stage::Reading { base, .. } | Stage::Listening { base, .. } => (base, None),
            Stage::Answering(answering) => {
                let Answering { base, turn, said, marks, complete, untold, .. } = *answering;
                if matches!(wish, Wish::Cut | Wish::Keep) {
                    self.tell(&untold);
                }
                (base, Some((turn, said, marks, complete)))
            }
        };
        let Some(Model::Speech(model)) = model else { return end };
        let Base { mut cache, before, length } = *base;
        let audible = !matches!(wish, Wish::Drop | Wish::Grow | Wish::Prepare { .. });
        let (unfed, read) = match answering.filter(|(_, _, marks, _)| audible && !marks.is_empty()) {
            Some((turn, said, marks, complete)) => {
                let summary = turn.summary();
                let account = self.work.line.account();
                end.latency = summary.latency();
                end.latency.push(("hear", self.hearing.as_secs_f64()));
                end.latency.extend(account.latency());
                end.played = self.work.line.played();
                let per_frame = model.speech.detokenizer().map_or(1, |detokenizer| detokenizer.samples_per_frame());
                let whole = wish == Wish::Keep && complete.is_some();
                match account.written {
                    true => model.paces.wrote(),
                    false => model.paces.spoke(turn.pace(), whole),
                }
                let unfed = if whole {
                    end.text = summary.text;
                    end.reason = complete;
                    end.remembered = end.played;
                    turn.reply().unfed().map(<[f32]>::to_vec).unwrap_or_default()
                } else {
                    let Some(mark) = marks.place_of(end.played / per_frame as u64) else { return end };
                    if model.speech.backbone().rewind(&mut cache, &mark.snapshot).is_err() {
                        return end;
                    }
                    end.text = summary.text[..mark.text].to_owned();
                    end.reason = Some(FinishReason::Cancelled);
                    end.remembered = mark.frames * per_frame as u64;
                    mark.unfed
                };
                let positions = cache.length() - length + usize::from(!unfed.is_empty());
                (unfed, memory.remember(place, Said::Sound(said), (end.text.clone(), !whole), positions, None))
            }
            None => {
                // Nothing was said, as far as the conversation knows.
                let Some((back, unfed)) = before else { return end };
                if model.speech.backbone().rewind(&mut cache, &back).is_err() {
                    return end;
                }
                (unfed, memory.read(place))
            }
        };
        if let Some(read) = read {
            model.kept.insert(memory.id(), Kept { cache, unfed, read });
        }
        end
    }
}

impl Job<Model> for LiveJob {
    fn step(&mut self, model: &mut Model) -> Step {
        let Model::Speech(model) = model else { return Step::Failed(wrong_model()) };
        let first = self.place.is_some_and(|place| self.work.memory.is_first(place));
        let dropped = matches!(self.work.utterance.state().wish, Wish::Drop);
        if !first && !dropped {
            return Step::Full;
        }
        self.advance(model).unwrap_or_else(Step::Failed)
    }

    fn end(&mut self, model: Option<&mut Model>, ending: Ending) {
        let wish = self.work.utterance.state().wish;
        let end = self.conclude(model, wish);
        if wish == Wish::Drop {
            // Nobody heard of them: the person went on, and what they say is answered anew.
            self.work.timers.take_back(&self.timers);
        }
        self.work.line.finish();
        let ended = match ending {
            Ending::Failed(error) => Err(error),
            Ending::Done | Ending::Cancelled => Ok(()),
        };
        if let Some(audience) = &self.work.audience {
            match &ended {
                Err(error) => audience.tell(Told::Failed(error)),
                Ok(()) => audience.tell(Told::Ended(&end)),
            }
        }
        self.work.utterance.state().ended = Some(ended);
    }
}

impl Drop for LiveJob {
    fn drop(&mut self) {
        // A job that the engine refused has not ended, and must not hold up the turns behind it.
        if let Some(place) = self.place.take() {
            self.work.memory.leave(place);
        }
    }
}
