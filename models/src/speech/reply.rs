//! The loops that make a reply: interleaved and sequential, one step at a time.
//!
//! Follows liquid-audio's `generate_interleaved` and `generate_sequential` to the letter (model contract, section 5.4);
//! a step is a chunk of prefill, a text token or an audio frame, so that whoever drives the reply can stop, or let
//! something more urgent go first, between any two.

use std::time::{Duration, Instant};

use crate::backbone::{Cache, Input, Output};
use crate::error::{Error, Result};
use crate::sampler::{Sampler, Sampling};
use crate::text::Finish;
use crate::tokenizer::{Special, TextStream};

use super::model::Speech;

/// The order in which text and audio come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Text and audio in turns, for conversation.
    Interleaved,
    /// Text, then audio from the audio-start token on, for transcribing and for reading aloud.
    Sequential,
}

/// How a reply is made.
#[derive(Debug, Clone, PartialEq)]
pub struct ReplyOptions {
    /// The order of text and audio.
    pub mode: Mode,
    /// Text tokens and audio frames at most.
    pub max_items: usize,
    /// How text tokens are chosen.
    pub text: Sampling,
    /// How audio codes are chosen.
    pub audio: Sampling,
    /// Seed of the choices.
    pub seed: u64,
    /// Positions in one step of the prefill.
    pub chunk: usize,
    /// Keep the first logits, hidden state and frame logits for inspection.
    pub record: bool,
    /// Nobody has decided how to choose: a folder whose `generation_config.json` says `do_sample: false` chooses the
    /// likeliest.
    pub undecided: bool,
    /// Text alone: no sound is made even if the model can, and the text's end is the reply's. With [`Mode::Sequential`].
    pub written: bool,
    /// The model never ends its turn, its text or its speech: for measuring with `max_items`.
    pub endless: bool,
}

impl ReplyOptions {
    /// The published settings of a mode: greedy text; audio with temperature 1.0 and top-k 4 in conversation, 0.8 and
    /// 64 when reading aloud.
    #[must_use]
    pub fn new(mode: Mode) -> Self {
        let audio = match mode {
            Mode::Interleaved => Sampling::top_k(1.0, 4),
            Mode::Sequential => Sampling::top_k(0.8, 64),
        };
        Self {
            mode,
            max_items: 1024,
            text: Sampling::GREEDY,
            audio,
            seed: 0,
            chunk: 128,
            record: false,
            undecided: true,
            written: false,
            endless: false,
        }
    }

    /// The same with every choice greedy.
    #[must_use]
    pub fn greedy(self) -> Self {
        Self { text: Sampling::GREEDY, audio: Sampling::GREEDY, ..self }
    }
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
    /// A text token.
    Text {
        /// Its id.
        id: u32,
        /// Text that is settled by it; may be empty.
        text: String,
    },
    /// A frame of audio codes; the end frame is among them and makes no sound.
    Frame(Vec<u32>),
    /// The reply is complete.
    Finished(Finish),
}

/// Time spent by stage.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StageTimes {
    /// Feeding the prompt.
    pub prefill: Duration,
    /// Backbone steps after it.
    pub decode: Duration,
    /// Making frames.
    pub depthformer: Duration,
}

/// Numbers kept for inspection when [`ReplyOptions::record`] is set.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Record {
    /// Logits of the last prompt position.
    pub logits: Vec<f32>,
    /// Hidden state of the last prompt position.
    pub hidden: Vec<f32>,
    /// Logits of the first audio frame, `[codebooks, codebook size]`.
    pub frame_logits: Vec<f32>,
}

#[derive(Debug)]
enum State {
    /// Rows of the prompt, fed up to `done` positions.
    Prefill {
        rows: Vec<f32>,
        done: usize,
    },
    /// An item has been made; its embedding goes in before the next.
    Feed {
        row: Vec<f32>,
    },
    /// The backbone has answered for the position of the next item.
    Choose(Output),
    Finished(Finish),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Modality {
    Text,
    Audio,
}

/// How a reply ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// Where the model ends it.
    Open,
    /// With a sentence.
    WithSentence,
    /// The text was ended with a sentence; the sound of it is still to come.
    Shortened,
}

/// What ends a sentence.
const STOPS: [char; 7] = ['.', '!', '?', '\u{2026}', '\u{3002}', '\u{ff01}', '\u{ff1f}'];

/// A reply in progress. It belongs to the cache that its steps are given.
#[derive(Debug)]
pub struct Reply {
    options: ReplyOptions,
    state: State,
    modality: Modality,
    /// Items left before the modality changes; passes below zero where the reference's does.
    left: i64,
    text_done: bool,
    ending: Ending,
    /// Whether the text so far may be the end of a sentence.
    sentence_over: bool,
    items: usize,
    said: Vec<u32>,
    text: TextStream,
    sampler: Sampler,
    times: StageTimes,
    record: Record,
}

impl Reply {
    /// Begins a reply to a prompt that has been embedded into `rows` (see [`Speech::embed`]).
    #[must_use]
    pub fn new(speech: &Speech, rows: Vec<f32>, options: ReplyOptions) -> Self {
        Self {
            state: State::Prefill { rows, done: 0 },
            modality: Modality::Text,
            left: speech.settings().interleaved_text,
            text_done: false,
            ending: Ending::Open,
            sentence_over: false,
            items: 0,
            said: Vec::new(),
            text: TextStream::new(Special::Drop),
            sampler: Sampler::new(options.seed),
            times: StageTimes::default(),
            record: Record::default(),
            options: if options.undecided && speech.settings().greedy { options.greedy() } else { options },
        }
    }

    /// Time spent so far.
    #[must_use]
    pub fn times(&self) -> StageTimes {
        self.times
    }

    /// What was recorded.
    #[must_use]
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// The embedding of the last item if the cache does not hold it yet: a turn that follows has to feed it first.
    #[must_use]
    pub fn unfed(&self) -> Option<&[f32]> {
        match &self.state {
            State::Feed { row } => Some(row),
            State::Prefill { .. } | State::Choose(_) | State::Finished(_) => None,
        }
    }

    /// Ends the text of an interleaved reply with the sentence that it is in, as if the model had said all; the sound of
    /// what was said still comes.
    pub fn wind_up(&mut self) {
        if self.ending == Ending::Open && self.options.mode == Mode::Interleaved && !self.text_done {
            self.ending = Ending::WithSentence;
        }
    }

    /// Whether the text was ended before the model ended it.
    #[must_use]
    pub fn is_shortened(&self) -> bool {
        self.ending == Ending::Shortened
    }

    /// Text that an incomplete character held back.
    ///
    /// # Errors
    /// Those of the tokenizer.
    pub fn finish_text(&mut self, speech: &Speech) -> Result<String> {
        self.text.finish(speech.tokenizer())
    }

    /// Does one step. After an error the reply can be stepped again: nothing was fed.
    ///
    /// # Errors
    /// [`Error::Stopped`], [`Error::ContextFull`], [`Error::PartMissing`], [`Error::Graph`].
    pub fn step(&mut self, speech: &mut Speech, cache: &mut Cache) -> Result<Event> {
        if self.items >= self.options.max_items {
            return Ok(Event::Finished(Finish::Length));
        }
        match &mut self.state {
            State::Finished(why) => Ok(Event::Finished(*why)),
            State::Prefill { .. } => self.prefill(speech, cache),
            State::Feed { row } => {
                let begun = Instant::now();
                let output = match self.modality {
                    Modality::Text => speech.backbone().run(cache, Input::Embeddings(row))?,
                    Modality::Audio => speech.backbone().advance(cache, Input::Embeddings(row))?,
                };
                self.times.decode += begun.elapsed();
                self.state = State::Choose(output);
                self.choose(speech)
            }
            State::Choose(_) => self.choose(speech),
        }
    }

    fn prefill(&mut self, speech: &mut Speech, cache: &mut Cache) -> Result<Event> {
        let State::Prefill { rows, done } = &mut self.state else {
            return self.choose(speech);
        };
        let hidden = speech.backbone().hidden();
        let total = rows.len() / hidden;
        let (needed, limit) = (cache.length() + total - *done, speech.backbone().context());
        if needed > limit {
            return Err(Error::ContextFull { needed, limit });
        }
        let end = total.min(*done + self.options.chunk.max(1));
        let begun = Instant::now();
        let chunk = Input::Embeddings(&rows[*done * hidden..end * hidden]);
        let output = match end == total {
            true => speech.backbone().run(cache, chunk)?,
            false => speech.backbone().advance(cache, chunk)?,
        };
        self.times.prefill += begun.elapsed();
        *done = end;
        if end == total {
            if self.options.record {
                self.record.logits.clone_from(&output.logits);
                self.record.hidden = output.hidden.clone().unwrap_or_default();
            }
            self.state = State::Choose(output);
        }
        Ok(Event::Prefilled { done: end, total })
    }

    fn choose(&mut self, speech: &mut Speech) -> Result<Event> {
        let State::Choose(output) = std::mem::replace(&mut self.state, State::Finished(Finish::Stop)) else {
            return Err(Error::BadRequest("no position to choose an item for".into()));
        };
        // A step that fails is repeated as if it had not been tried, random choices included.
        let sampler = self.sampler.clone();
        let turn = (self.modality, self.left, self.text_done, self.ending, self.sentence_over);
        let made = match (self.modality, self.options.mode) {
            (Modality::Text, Mode::Interleaved) => self.interleaved_text(speech, &output),
            (Modality::Text, Mode::Sequential) => self.sequential_text(speech, &output),
            (Modality::Audio, mode) => self.frame(speech, &output, mode),
        };
        match &made {
            Ok(Event::Text { .. } | Event::Frame(_)) => self.items += 1,
            Ok(Event::Prefilled { .. } | Event::Finished(_)) => {}
            Err(_) => {
                self.state = State::Choose(output);
                self.sampler = sampler;
                (self.modality, self.left, self.text_done, self.ending, self.sentence_over) = turn;
            }
        }
        made
    }

    fn interleaved_text(&mut self, speech: &mut Speech, output: &Output) -> Result<Event> {
        if self.ending == Ending::Shortened {
            // Its sound has ended too.
            return Ok(Event::Finished(Finish::Stop));
        }
        let mut id = self.text_token(speech, output)?;
        self.left -= 1;
        if id == speech.settings().turn_end {
            return Ok(Event::Finished(Finish::Stop));
        }
        if self.ending == Ending::WithSentence && self.sentence_over && begins_a_word(speech, id)? {
            id = speech.settings().text_end;
            self.ending = Ending::Shortened;
        }
        let event = self.say(speech, id)?;
        self.text_done |= id == speech.settings().text_end;
        if (self.left == 0 || self.text_done) && speech.can_speak() {
            self.modality = Modality::Audio;
            self.left = speech.settings().interleaved_audio;
        }
        Ok(event)
    }

    fn sequential_text(&mut self, speech: &mut Speech, output: &Output) -> Result<Event> {
        let id = self.text_token(speech, output)?;
        let event = self.say(speech, id)?;
        let settings = speech.settings();
        if id == settings.audio_start {
            self.modality = Modality::Audio;
        }
        if id == settings.turn_end || (self.options.written && id == settings.text_end) {
            self.state = State::Finished(Finish::Stop);
        }
        Ok(event)
    }

    fn text_token(&mut self, speech: &mut Speech, output: &Output) -> Result<u32> {
        let settings = speech.settings();
        let mute = (!speech.can_speak() || self.options.written).then_some(settings.audio_start);
        let ends = self.options.endless.then_some([settings.turn_end, settings.text_end]);
        self.sampler
            .choose(&output.logits, &self.options.text, &self.said, |id| {
                speech.tokenizer().has_token(id) && Some(id) != mute && !ends.is_some_and(|ends| ends.contains(&id))
            })
            .ok_or_else(|| speech.backbone().unusable_logits())
    }

    /// Emits `id` and queues its embedding.
    fn say(&mut self, speech: &mut Speech, id: u32) -> Result<Event> {
        let mut row = Vec::with_capacity(speech.backbone().hidden());
        speech.append_token(id, &mut row)?;
        let text = self.text.push(speech.tokenizer(), id)?;
        if !text.is_empty() {
            self.sentence_over = text.ends_with(STOPS);
        }
        self.state = State::Feed { row };
        self.said.push(id);
        Ok(Event::Text { id, text })
    }

    fn frame(&mut self, speech: &mut Speech, output: &Output, mode: Mode) -> Result<Event> {
        let hidden = output.hidden.as_deref().unwrap_or_default();
        let (end, how) = (speech.settings().end_code(), self.options.audio);
        let mut frame_logits = Vec::new();
        let record = self.options.record && self.record.frame_logits.is_empty();
        let sampler = &mut self.sampler;
        let never = self.options.endless.then_some(end);
        let begun = Instant::now();
        let mut frame = speech.depthformer()?.frame(hidden, |logits| {
            if record {
                frame_logits.extend_from_slice(logits);
            }
            sampler.choose(logits, &how, &[], |code| Some(code) != never)
        })?;
        self.times.depthformer += begun.elapsed();
        let ended = frame.first() == Some(&end);
        if ended {
            frame.fill(end);
        }
        let mut row = Vec::with_capacity(hidden.len());
        speech.append_frame(&frame, &mut row)?;

        if mode == Mode::Interleaved {
            self.left -= 1;
            if self.left == 0 && !self.text_done {
                self.modality = Modality::Text;
                self.left = speech.settings().interleaved_text;
            }
        }
        if ended {
            self.modality = Modality::Text;
        }
        if record {
            self.record.frame_logits = frame_logits;
        }
        self.state = State::Feed { row };
        Ok(Event::Frame(frame))
    }
}

/// Whether the token `id` stands apart from what is before it: a full stop before one that does not is inside a number or
/// a name.
fn begins_a_word(speech: &Speech, id: u32) -> Result<bool> {
    Ok(speech.tokenizer().decode(&[id], Special::Drop)?.starts_with(char::is_whitespace))
}
