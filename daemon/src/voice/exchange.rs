//! One exchange as the loop sees it: what the person says, and the answer to it.

use std::sync::Arc;
use std::time::Instant;

use eddy_config::Config;
use eddy_ipc::{Options, Result};
use eddy_models::speech::Mode;

use crate::engine::{Caller, Choice, Engine, Task, Ticket, Urgency};
use crate::jobs::{
    Audience, Drawn, LiveJob, LiveWork, Memory, Model, SoundLine, Told, Utterance, Wish, WritingJob, reply_options,
};

/// Exchanges that may be in the engine: one that is heard, and those that come to their end.
const AT_ONCE: u32 = 8;

/// What exchanges are made with.
pub struct Exchanges {
    engine: Engine<Model>,
    memory: Arc<Memory>,
    answers: Arc<Caller>,
    transcripts: Arc<Caller>,
}

/// One of them.
pub struct Exchange {
    utterance: Arc<Utterance>,
    /// Where the answer comes.
    pub line: Arc<SoundLine>,
    pub audience: Option<Arc<dyn Audience>>,
    model: Arc<str>,
    /// Everything that was said so far, mono at 16 kHz.
    pub samples: Vec<f32>,
    number: u32,
    prepared: bool,
    /// Whether anything was said.
    pub spoken: bool,
    /// When to give up if nothing is said.
    pub give_up: Option<Instant>,
    /// When speech was last heard.
    pub last_speech: Instant,
    decided: Option<Instant>,
    _ticket: Arc<Ticket>,
}

impl Exchanges {
    /// With a conversation that begins with `instructions`.
    #[must_use]
    pub fn new(engine: Engine<Model>, instructions: String) -> Self {
        let memory = Memory::new(instructions);
        Self { engine, memory, answers: Caller::new(), transcripts: Caller::new() }
    }

    /// The model that answers.
    ///
    /// # Errors
    /// Those of choosing one.
    pub fn model(&self, config: &Config) -> Result<Arc<str>> {
        self.engine.choose(Choice { task: Task::Speech, named: None, preferred: &config.models.speech })
    }

    /// Begins one with what was heard of it already.
    ///
    /// # Errors
    /// Those of choosing a model and of the engine.
    pub fn begin(&self, config: &Config, heard: Vec<f32>, audience: Option<Arc<dyn Audience>>) -> Result<Exchange> {
        let model = self.model(config)?;
        let ticket = self.answers.ticket(AT_ONCE)?;
        let none = Options::default();
        let work = LiveWork {
            utterance: Arc::default(),
            line: Arc::default(),
            audience: audience.clone(),
            memory: Arc::clone(&self.memory),
            options: reply_options(Mode::Interleaved, Drawn::Text, [&none, &none], config),
        };
        let (utterance, line) = (Arc::clone(&work.utterance), Arc::clone(&work.line));
        utterance.push(&heard);
        let job = Box::new(LiveJob::new(work));
        self.engine.submit(job, Arc::clone(&model), Urgency::Voice, Arc::clone(&ticket))?;
        Ok(Exchange {
            utterance,
            line,
            audience,
            model,
            samples: heard,
            number: 0,
            prepared: false,
            spoken: false,
            give_up: None,
            last_speech: Instant::now(),
            decided: None,
            _ticket: ticket,
        })
    }

    /// Has what was said written down for the one who asked.
    pub fn write_down(&self, exchange: &Exchange) {
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

    /// Answers ahead what was said so far.
    pub fn prepare(&mut self) {
        self.number += 1;
        self.prepared = true;
        self.utterance.wish(Wish::Prepare { number: self.number, samples: self.samples.len() });
    }

    /// Takes the preparation back.
    pub fn take_back(&mut self) {
        self.prepared = false;
        self.utterance.wish(Wish::Grow);
    }

    /// The person has finished.
    pub fn answer(&mut self) {
        self.number += u32::from(!self.prepared);
        self.decided = Some(Instant::now());
        self.utterance.wish(Wish::Answer { number: self.number, samples: self.samples.len() });
    }

    /// As if nothing had been said.
    pub fn drop_it(&self) {
        self.utterance.wish(Wish::Drop);
    }

    /// The answer was heard up to where its line is.
    pub fn end(&self, whole: bool) {
        self.utterance.wish(if whole { Wish::Keep } else { Wish::Cut });
    }

    /// Why it came to nothing, if it did; told once.
    pub fn failure(&self) -> Option<eddy_ipc::Error> {
        self.utterance.ended()?.err()
    }

    /// Tells how long the person waited for the first sound.
    pub fn tell_times(&self) {
        let (Some(audience), Some(decided)) = (&self.audience, self.decided) else { return };
        let wait = decided.saturating_duration_since(self.last_speech);
        audience.tell(Told::Answering { wait, think: decided.elapsed() });
    }
}
