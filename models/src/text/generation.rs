//! Generating text one step at a time: a chunk of the prompt, or a token.

use std::time::{Duration, Instant};

use crate::backbone::{Cache, Output};
use crate::error::{Error, Result};
use crate::sampler::{Sampler, Sampling};
use crate::tokenizer::{Special, TextStream};

use super::model::TextModel;
use super::stops::StopStrings;

/// What begins a message.
const TURN_START: &str = "<|im_start|>";
/// Positions that a step of the prefill has at least before it ends for the sake of a message's beginning.
const LEAST_CHUNK: usize = 64;
/// The same for the system prompt, which conversations share most.
const LEAST_FIRST_CHUNK: usize = 16;

/// How text is generated.
#[derive(Debug, Clone, PartialEq)]
pub struct GenerationOptions {
    /// Tokens at most.
    pub max_tokens: usize,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// Seed of the choices.
    pub seed: u64,
    /// Strings that end the text and are not part of it.
    pub stop: Vec<String>,
    /// Whether special tokens are written, as a parser of tool calls needs.
    pub special: Special,
    /// Positions in one step of the prefill at most. A step ends early where a message begins, once it is worth it:
    /// conversations that share their first messages then share what was computed of them.
    pub chunk: usize,
    /// Keep the logits from which each token was taken.
    pub record: bool,
}

impl Default for GenerationOptions {
    /// Greedy, up to 512 tokens.
    fn default() -> Self {
        Self {
            max_tokens: 512,
            sampling: Sampling::GREEDY,
            seed: 0,
            stop: Vec::new(),
            special: Special::Drop,
            chunk: 128,
            record: false,
        }
    }
}

/// Why a generation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finish {
    /// The model ended its turn, or a stop string was reached.
    Stop,
    /// The limit of tokens or items, or the end of the context, was reached.
    Length,
}

/// What one step did.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// Part of the prompt went into the cache.
    Prefilled {
        /// Positions so far.
        done: usize,
        /// Positions in all.
        total: usize,
    },
    /// A token was chosen; an id that ends the generation is reported too.
    Token {
        /// Its id.
        id: u32,
        /// Text that is settled by it; may be empty.
        text: String,
    },
    /// The generation is complete.
    Finished(Finish),
}

#[derive(Debug)]
enum State {
    Prefill { done: usize },
    Choose(Output),
    Feed(u32),
    Finished(Finish),
}

/// A generation in progress. It belongs to the cache that its steps are given.
#[derive(Debug)]
pub struct Generation {
    options: GenerationOptions,
    prompt: Vec<u32>,
    turn_start: Option<u32>,
    state: State,
    /// Prompt and text so far, which the repetition penalty looks at.
    seen: Vec<u32>,
    tokens: usize,
    text: TextStream,
    stops: StopStrings,
    sampler: Sampler,
    prefill: Duration,
    decode: Duration,
    recorded: Vec<f32>,
}

impl Generation {
    /// Begins to continue `prompt` behind what `cache` holds.
    ///
    /// # Errors
    /// [`Error::ContextFull`] when the prompt leaves no room for a token, [`Error::BadRequest`] for an empty prompt or an
    /// id that the model has no row for.
    pub fn new(model: &mut TextModel, cache: &Cache, prompt: Vec<u32>, options: GenerationOptions) -> Result<Self> {
        let (limit, rows) = (model.backbone().context(), model.backbone().vocabulary());
        let needed = cache.length() + prompt.len() + 1;
        if needed > limit {
            return Err(Error::ContextFull { needed, limit });
        }
        if prompt.is_empty() {
            return Err(Error::BadRequest("the prompt is empty; give some text".into()));
        }
        if let Some(id) = prompt.iter().find(|id| **id as usize >= rows) {
            return Err(Error::BadRequest(format!("token {id} is outside of the vocabulary of {rows} rows")));
        }
        Ok(Self {
            state: State::Prefill { done: 0 },
            seen: prompt.clone(),
            turn_start: model.tokenizer().find(TURN_START),
            tokens: 0,
            text: TextStream::new(options.special),
            stops: StopStrings::new(&options.stop),
            sampler: Sampler::new(options.seed),
            prefill: Duration::ZERO,
            decode: Duration::ZERO,
            recorded: Vec::new(),
            prompt,
            options,
        })
    }

    /// Time spent on the prompt, and on the tokens.
    #[must_use]
    pub fn times(&self) -> (Duration, Duration) {
        (self.prefill, self.decode)
    }

    /// The logits from which the tokens were taken, `[tokens, vocabulary]`, if they were to be recorded.
    #[must_use]
    pub fn recorded(&self) -> &[f32] {
        &self.recorded
    }

    /// Ids that the cache was given, without the first `count`.
    pub(super) fn fed_after(&self, count: usize) -> &[u32] {
        let fed = match &self.state {
            State::Prefill { done } => *done,
            // The last token is chosen and not fed; a final one never is.
            State::Feed(_) => self.seen.len() - 1,
            State::Choose(_) => self.seen.len(),
            State::Finished(_) => (self.seen.len() - 1).max(self.prompt.len()),
        };
        &self.seen[count.min(fed)..fed]
    }

    /// Text that was held back: an incomplete character, or the start of a stop string.
    ///
    /// # Errors
    /// Those of the tokenizer.
    pub fn finish_text(&mut self, model: &TextModel) -> Result<String> {
        let rest = self.text.finish(model.tokenizer())?;
        let mut text = self.stops.push(&rest).text;
        text.push_str(&self.stops.finish());
        Ok(text)
    }

    /// Does one step; `allowed` narrows the choice of the next token. After an error the step can be repeated.
    ///
    /// # Errors
    /// [`Error::Stopped`], [`Error::Graph`], [`Error::BadRequest`] when nothing is allowed.
    pub fn step(&mut self, model: &mut TextModel, cache: &mut Cache, allowed: impl Fn(u32) -> bool) -> Result<Event> {
        match self.state {
            State::Finished(why) => return Ok(Event::Finished(why)),
            State::Prefill { done } => return self.prefill(model, cache, done),
            State::Feed(_) if self.tokens >= self.options.max_tokens => {
                self.state = State::Finished(Finish::Length);
                return Ok(Event::Finished(Finish::Length));
            }
            State::Feed(_) if cache.length() + 1 > model.backbone().context() => {
                self.state = State::Finished(Finish::Length);
                return Ok(Event::Finished(Finish::Length));
            }
            State::Feed(id) => {
                let begun = Instant::now();
                let output = model.feed(cache, &[id], true)?;
                self.decode += begun.elapsed();
                self.state = State::Choose(output);
            }
            State::Choose(_) => {}
        }
        self.choose(model, allowed)
    }

    fn prefill(&mut self, model: &mut TextModel, cache: &mut Cache, done: usize) -> Result<Event> {
        let total = self.prompt.len();
        let end = self.chunk_end(cache.length(), done);
        let begun = Instant::now();
        let output = model.feed(cache, &self.prompt[done..end], end == total)?;
        self.prefill += begun.elapsed();
        self.state = if end == total { State::Choose(output) } else { State::Prefill { done: end } };
        Ok(Event::Prefilled { done: end, total })
    }

    /// Where the step of the prefill that begins at `done` ends.
    fn chunk_end(&self, held: usize, done: usize) -> usize {
        let end = self.prompt.len().min(done + self.options.chunk.max(1));
        let least = done + if held == 0 { LEAST_FIRST_CHUNK } else { LEAST_CHUNK };
        let beginning = (least..end).find(|at| Some(self.prompt[*at]) == self.turn_start);
        beginning.unwrap_or(end)
    }

    fn choose(&mut self, model: &mut TextModel, allowed: impl Fn(u32) -> bool) -> Result<Event> {
        if self.tokens >= self.options.max_tokens {
            self.state = State::Finished(Finish::Length);
            return Ok(Event::Finished(Finish::Length));
        }
        let State::Choose(output) = &self.state else {
            return Err(Error::BadRequest("no position to choose a token for".into()));
        };
        let chosen = self.sampler.choose(&output.logits, &self.options.sampling, &self.seen, |id| {
            model.tokenizer().has_token(id) && allowed(id)
        });
        let Some(id) = chosen else {
            return Err(match output.logits.iter().any(|logit| logit.is_finite()) {
                true => Error::BadRequest("no token is allowed here; loosen the constraint".into()),
                false => model.backbone().unusable_logits(),
            });
        };
        let settled = self.text.push(model.tokenizer(), id)?;
        if self.options.record {
            self.recorded.extend_from_slice(&output.logits);
        }
        self.tokens += 1;
        self.seen.push(id);
        let watched = self.stops.push(&settled);
        let ended = watched.stopped || model.ends_with(id);
        self.state = if ended { State::Finished(Finish::Stop) } else { State::Feed(id) };
        Ok(Event::Token { id, text: watched.text })
    }
}
