//! Sound and text on their way out of the daemon, through pipes that may be full, slow or closed, or to the loudspeaker.
//!
//! Promises never to wait: what a pipe does not take stays here, and the job steps aside until there is room.

use std::sync::Arc;
use std::time::{Duration, Instant};

use eddy_ipc::Error;
use eddy_ipc::fd::{Outlet, Stop, s16le};

use super::feed::Feed;
use super::line::{Account, SoundLine};
use crate::engine::Step;
use crate::speech::{Paces, Turn};

/// What is left of a pipe's job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flow {
    /// Everything is written.
    Clear,
    /// The pipe is full.
    Full,
    /// The reader has closed its end.
    Closed,
    /// The reader has taken nothing for too long.
    Stalled(Duration),
}

/// A pipe and what it has not taken yet.
#[derive(Debug)]
pub struct Pipe {
    outlet: Outlet,
    pending: Vec<u8>,
    /// Since when the reader has taken nothing.
    stuck: Option<Instant>,
    patience: Duration,
}

impl Pipe {
    /// `patience` is how long a reader may take nothing while there is something to take.
    #[must_use]
    pub fn new(outlet: Outlet, patience: Duration) -> Self {
        Self { outlet, pending: Vec::new(), stuck: None, patience }
    }

    /// Adds bytes to what goes out.
    pub fn push(&mut self, bytes: &[u8]) {
        self.pending.extend_from_slice(bytes);
    }

    /// Writes what the pipe takes. `None` if there is room for more, else what the step of a job has come to.
    pub fn step(&mut self, what: &str) -> Option<Step> {
        match self.flush() {
            Flow::Clear => None,
            Flow::Full => Some(Step::Full),
            Flow::Closed => Some(Step::Abandoned),
            Flow::Stalled(after) => Some(stalled(what, after)),
        }
    }

    /// Whether everything has been written.
    #[must_use]
    pub fn is_clear(&self) -> bool {
        self.pending.is_empty()
    }

    fn flush(&mut self) -> Flow {
        if self.pending.is_empty() {
            return if self.outlet.is_closed() { Flow::Closed } else { Flow::Clear };
        }
        match self.outlet.offer(&self.pending) {
            Ok(0) => {
                let since = *self.stuck.get_or_insert_with(Instant::now);
                if since.elapsed() > self.patience { Flow::Stalled(self.patience) } else { Flow::Full }
            }
            Ok(count) => {
                self.stuck = None;
                self.pending.drain(..count);
                if self.pending.is_empty() { Flow::Clear } else { Flow::Full }
            }
            Err(Stop::Closed) => Flow::Closed,
            Err(Stop::Stalled) => Flow::Stalled(self.patience),
            Err(Stop::Failed(_)) => Flow::Closed,
        }
    }
}

/// What the text of a request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Words {
    /// An answer.
    Answer,
    /// What was heard.
    Transcript,
}

/// Where the sound of a request goes.
#[derive(Debug)]
pub enum Sound {
    /// To the caller.
    Pipe(Pipe),
    /// To the loudspeaker.
    Loudspeaker(Arc<SoundLine>),
}

impl Sound {
    fn step(&mut self) -> Option<Step> {
        match self {
            Self::Pipe(pipe) => pipe.step("audio"),
            Self::Loudspeaker(line) if line.is_cut() => Some(Step::Abandoned),
            Self::Loudspeaker(line) if line.has_room() => None,
            Self::Loudspeaker(_) => Some(Step::Full),
        }
    }

    fn add(&mut self, samples: &[f32]) {
        match self {
            Self::Pipe(pipe) => s16le(samples, &mut pipe.pending),
            Self::Loudspeaker(line) => line.push(samples),
        }
    }

    /// Whether the caller has everything, or has heard it.
    fn is_clear(&self) -> bool {
        match self {
            Self::Pipe(pipe) => pipe.is_clear(),
            Self::Loudspeaker(line) => {
                line.finish();
                line.is_over()
            }
        }
    }
}

impl Drop for Sound {
    fn drop(&mut self) {
        if let Self::Loudspeaker(line) = self {
            line.finish();
        }
    }
}

/// Everything that one request sends to its caller.
#[derive(Debug)]
pub struct Delivery {
    feed: Arc<Feed>,
    words: Words,
    sound: Option<Sound>,
    stream: Option<Pipe>,
}

impl Delivery {
    /// Text goes to `feed`, and to `stream` if there is one; sound goes to `sound`.
    #[must_use]
    pub fn new(feed: Arc<Feed>, words: Words, sound: Option<Sound>, stream: Option<Pipe>) -> Self {
        Self { feed, words, sound, stream }
    }

    /// Whether there is anywhere for sound to go.
    #[must_use]
    pub fn wants_sound(&self) -> bool {
        self.sound.is_some()
    }

    /// Where the end is told.
    #[must_use]
    pub fn feed(&self) -> &Feed {
        &self.feed
    }

    /// Adds text to what goes out.
    pub fn text(&mut self, text: &str) {
        match self.words {
            Words::Answer => self.feed.text(text),
            Words::Transcript => self.feed.transcript(text),
        }
        if let Some(stream) = &mut self.stream {
            stream.push(text.as_bytes());
        }
    }

    /// Tells the loudspeaker, if there is one, how fast the sound is made, and how much of it has to be ready.
    pub fn expect(&self, turn: &Turn, paces: &Paces) {
        if let Some(Sound::Loudspeaker(line)) = &self.sound {
            line.expect(turn.lead(paces), turn.pace().measured());
        }
    }

    /// How the sound kept up, where that is known here.
    #[must_use]
    pub fn account(&self) -> Option<Account> {
        match &self.sound {
            Some(Sound::Loudspeaker(line)) => Some(line.account()),
            Some(Sound::Pipe(_)) | None => None,
        }
    }

    /// Adds samples to what goes out.
    pub fn samples(&mut self, samples: &[f32]) {
        if let Some(sound) = &mut self.sound {
            sound.add(samples);
        }
    }

    /// Writes what the pipes take. `None` if there is room for more, else what the step has come to.
    pub fn flush(&mut self) -> Option<Step> {
        // A caller that closes the stream of the text does not want it there; it may still want the result.
        match self.stream.as_mut().map(Pipe::flush) {
            Some(Flow::Closed) => self.stream = None,
            Some(Flow::Stalled(after)) => return Some(stalled("stream", after)),
            Some(Flow::Clear | Flow::Full) | None => {}
        }
        self.sound.as_mut().and_then(Sound::step)
    }

    /// Whether everything has been written.
    #[must_use]
    pub fn is_clear(&self) -> bool {
        self.sound.as_ref().is_none_or(Sound::is_clear) && self.stream.as_ref().is_none_or(Pipe::is_clear)
    }

    /// Ends the sound at once: nobody wants the rest.
    pub fn abandon(&self) {
        if let Some(Sound::Loudspeaker(line)) = &self.sound {
            line.cut();
        }
    }

    /// Ends the pipes.
    pub fn close(&mut self) {
        self.sound = None;
        self.stream = None;
    }
}

fn stalled(what: &str, after: Duration) -> Step {
    Step::Failed(Error::timed_out(&format!("{what}: waiting for the reader"), after))
}
