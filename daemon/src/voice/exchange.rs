//! The exchange that goes on: what the person says, and the answer to it, from the first syllable to its end.
//!
//! Owns who hears of it, and hands the work to the engine. One exchange is current at a time; what was cut or dropped comes
//! to its end in the engine by itself.

use std::sync::Arc;
use std::time::{Duration, Instant};

use eddy_config::Config;
use eddy_ipc::{Options, Result};
use eddy_models::speech::Mode;

use super::foresight::Foresight;
use crate::engine::{Caller, Choice, Engine, Task, Ticket, Urgency};
use crate::jobs::{
    Audience, Drawn, LiveJob, LiveWork, Memory, Model, SoundLine, Told, Utterance, Wish, WritingJob, reply_options,
};
use crate::timers::Timers;

/// Exchanges that may be in the engine: one that is heard, and those that come to their end.
const AT_ONCE: u32 = 8;

/// What exchanges are made with, and the one that goes on.
pub struct Exchanges {
    engine: Engine<Model>,
    memory: Arc<Memory>,
    answers: Arc<Caller>,
    transcripts: Arc<Caller>,
    /// Hears of turns that nobody asked for.
    open: Option<Arc<dyn Audience>>,
    /// Asked for the next turn.
    asker: Option<Arc<dyn Audience>>,
    /// Said before in what is, to the person, the same turn.
    joined: Vec<f32>,
    timers: Arc<Timers>,
    foresight: Foresight,
    current: Option<Exchange>,
}

/// One of them.
pub struct Exchange {
    engine: Engine<Model>,
    utterance: Arc<Utterance>,
    /// Where the answer comes.
    line: Arc<SoundLine>,
    audience: Option<Arc<dyn Audience>>,
    model: Arc<str>,
    /// Everything that was said so far, mono at 16 kHz.
    samples: Vec<f32>,
    number: u32,
    /// When the answer was begun ahead, if it was.
    prepared: Option<Instant>,
    /// Whether anything was said.
    pub spoken: bool,
    /// When to give up if nothing is said.
    pub give_up: Option<Instant>,
    /// When speech was last heard.
    last_speech: Instant,
    decided: Option<Instant>,
    _ticket: Arc<Ticket>,
}

impl Exchanges {
    /// With a conversation that begins with `instructions`.
    #[must_use]
    pub fn new(engine: Engine<Model>, instructions: String, open: Option<Arc<dyn Audience>>) -> Self {
        Self {
            engine,
            memory: Memory::new(instructions),
            answers: Caller::new(),
            transcripts: Caller::new(),
            open,
            asker: None,
            joined: Vec::new(),
            timers: Arc::default(),
            foresight: Foresight::default(),
            current: None,
        }
    }

    /// The model that answers.
    ///
    /// # Errors
    /// Those of choosing one.
    pub fn model(&self, config: &Config) -> Result<Arc<str>> {
        self.engine.choose(Choice { task: Task::Speech, named: None, preferred: &config.models.speech })
    }

    /// The exchange that goes on.
    #[must_use]
    pub fn current(&self) -> Option<&Exchange> {
        self.current.as_ref()
    }

    /// The same, to change.
    pub fn current_mut(&mut self) -> Option<&mut Exchange> {
        self.current.as_mut()
    }

    /// Notes who asked for the turn that is about to begin.
    pub fn ask_for(&mut self, audience: Option<Arc<dyn Audience>>) {
        self.joined.clear();
        self.asker = audience;
    }

    /// Begins one with what was heard of it already; `spoken` says whether that is speech.
    ///
    /// # Errors
    /// Those of choosing a model and of the engine, which whoever asked for it has been told.
    pub fn begin(&mut self, config: &Config, heard: &[f32], spoken: bool) -> Result<()> {
        let audience = self.asker.take().or_else(|| self.open.clone());
        let mut samples = std::mem::take(&mut self.joined);
        samples.extend_from_slice(heard);
        match self.make(config, samples, audience.clone()) {
            Ok(exchange) => self.current = Some(Exchange { spoken, ..exchange }),
            Err(error) => {
                if let Some(audience) = audience {
                    audience.tell(Told::Failed(&error));
                }
                return Err(error);
            }
        }
        Ok(())
    }

    fn make(&self, config: &Config, samples: Vec<f32>, audience: Option<Arc<dyn Audience>>) -> Result<Exchange> {
        let model = self.model(config)?;
        let ticket = self.answers.ticket(AT_ONCE)?;
        let none = Options::default();
        let work = LiveWork {
            utterance: Arc::default(),
            line: SoundLine::new(config.voice.longest_hold),
            audience: audience.clone(),
            memory: Arc::clone(&self.memory),
            options: reply_options(Mode::Interleaved, Drawn::Text, [&none, &none], config),
            when_slow: config.voice.when_slow,
            timers: Arc::clone(&self.timers),
        };
        let (utterance, line) = (Arc::clone(&work.utterance), Arc::clone(&work.line));
        utterance.push(&samples);
        let job = Box::new(LiveJob::new(work));
        self.engine.submit(job, Arc::clone(&model), Urgency::Voice, Arc::clone(&ticket))?;
        Ok(Exchange {
            engine: self.engine.clone(),
            utterance,
            line,
            audience,
            model,
            samples,
            number: 0,
            prepared: None,
            spoken: false,
            give_up: None,
            last_speech: Instant::now(),
            decided: None,
            _ticket: ticket,
        })
    }

    /// The person has finished: the answer that is to be played.
    pub fn answer(&mut self) -> Option<Arc<SoundLine>> {
        let exchange = self.current.as_mut()?;
        exchange.answer();
        self.foresight.right += u64::from(exchange.prepared.is_some());
        let line = Arc::clone(&exchange.line);
        self.write_down();
        Some(line)
    }

    /// Answers ahead what was said so far.
    pub fn prepare(&mut self) {
        if let Some(exchange) = &mut self.current {
            exchange.prepare();
            self.foresight.begun += 1;
        }
    }

    /// The answer is heard: its owner is told how long that took.
    pub fn sounds(&mut self) {
        let Some(exchange) = &self.current else { return };
        exchange.tell_times();
        self.foresight.saved += exchange.saved().unwrap_or_default();
    }

    /// How answers that were begun ahead turned out.
    #[must_use]
    pub fn foresight(&self) -> Foresight {
        self.foresight
    }

    /// Whether a timer that was asked for is over; told once.
    #[must_use]
    pub fn rings(&self) -> bool {
        self.timers.ring(Instant::now())
    }

    /// As if nothing had been said.
    pub fn drop_it(&mut self) {
        if let Some(exchange) = self.current.take() {
            exchange.utterance.wish(Wish::Drop);
        }
    }

    /// The person goes on before anything of the answer was heard: to them it is still the same turn.
    pub fn join(&mut self) {
        if let Some(exchange) = self.current.take() {
            exchange.utterance.wish(Wish::Drop);
            self.joined = exchange.samples;
            self.asker = self.asker.take().or(exchange.audience);
        }
    }

    /// The answer was heard: whole, or up to where its line is. Whether there was one.
    pub fn end(&mut self, whole: bool) -> bool {
        let Some(exchange) = self.current.take() else { return false };
        exchange.utterance.wish(if whole { Wish::Keep } else { Wish::Cut });
        true
    }

    /// The engine is done with it, after a failure.
    pub fn forget(&mut self) {
        self.current = None;
    }

    /// Has what was said written down for the one who asked.
    fn write_down(&self) {
        let Some(exchange) = &self.current else { return };
        let Some(audience) = &exchange.audience else { return };
        audience.tell(Told::Writing);
        let job = WritingJob::new(exchange.samples.clone(), Arc::clone(audience));
        let submitted = self.transcripts.ticket(AT_ONCE).and_then(|ticket| {
            self.engine.submit(Box::new(job), Arc::clone(&exchange.model), Urgency::Interactive, ticket)
        });
        if let Err(error) = submitted {
            tracing::debug!(%error, "what was said is not written down");
            audience.tell(Told::Written);
        }
    }
}

impl Exchange {
    /// Adds what was heard.
    pub fn push(&mut self, samples: &[f32]) {
        self.utterance.push(samples);
        self.samples.extend_from_slice(samples);
    }

    /// Everything that was said so far, mono at 16 kHz.
    #[must_use]
    pub fn said(&self) -> &[f32] {
        &self.samples
    }

    /// Notes that the person speaks now.
    pub fn hears_speech(&mut self) {
        self.last_speech = Instant::now();
    }

    /// Somebody asks for a turn that goes on already.
    pub fn adopt(&mut self, audience: Option<Arc<dyn Audience>>) {
        self.audience = self.audience.take().or(audience);
    }

    /// Whether the one who asked for it has taken that back.
    #[must_use]
    pub fn is_unwanted(&self) -> bool {
        self.audience.as_ref().is_some_and(|audience| audience.has_left())
    }

    fn prepare(&mut self) {
        self.number += 1;
        self.prepared = Some(Instant::now());
        self.utterance.wish(Wish::Prepare { number: self.number, samples: self.samples.len() });
        self.engine.hurry();
    }

    /// Takes the preparation back.
    pub fn take_back(&mut self) {
        self.prepared = None;
        self.utterance.wish(Wish::Grow);
    }

    fn answer(&mut self) {
        self.number += u32::from(self.prepared.is_none());
        self.decided = Some(Instant::now());
        self.utterance.wish(Wish::Answer { number: self.number, samples: self.samples.len() });
        self.engine.hurry();
    }

    /// Why it came to nothing, if it did; told once.
    pub fn failure(&self) -> Option<eddy_ipc::Error> {
        self.utterance.ended()?.err()
    }

    /// How much sooner its first sound was made for having been begun ahead: as long as that was, unless it was made in
    /// less.
    fn saved(&self) -> Option<Duration> {
        let (prepared, decided) = (self.prepared?, self.decided?);
        let head = decided.saturating_duration_since(prepared);
        Some(head.min(self.line.began()?.saturating_duration_since(prepared)))
    }

    /// Tells how long the person waited for the first sound.
    fn tell_times(&self) {
        let (Some(audience), Some(decided)) = (&self.audience, self.decided) else { return };
        let wait = decided.saturating_duration_since(self.last_speech);
        audience.tell(Told::Answering { wait, think: decided.elapsed() });
    }
}
