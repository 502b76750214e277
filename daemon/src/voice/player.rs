//! Plays one line of sound at a time, and knows to the sample what was heard of it, through holds, cuts and loudspeakers
//! that go away.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use eddy_audio::playback::{Playback, State};

use crate::jobs::{Account, RATE, SoundLine};

/// Sound that is left when the loudspeaker pauses until there is enough again: several callbacks, and what the voice's
/// thread may be late. One pause can be followed; a voice that stutters cannot.
const DRY: Duration = Duration::from_millis(60);
/// How long a hold may take: several callbacks.
const HOLD: Duration = Duration::from_millis(80);

/// What became of the sound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Played {
    /// Nothing new.
    Same,
    /// The first sample was handed to the loudspeaker.
    Began,
    /// The maker is too slow: it pauses until there is enough again.
    Paused,
    /// There is.
    WentOn,
    /// The last one was.
    Ended,
}

/// The loudspeaker, if there is one, and what it plays.
#[derive(Default)]
pub struct Player {
    playback: Option<Playback>,
    current: Option<Current>,
    /// What is to be said next, in this order.
    waiting: VecDeque<Arc<SoundLine>>,
    held: bool,
    /// Since when there is sound and no loudspeaker.
    soundless: Option<Instant>,
    underruns: u64,
    /// How what was played last kept up.
    account: Option<Account>,
}

struct Current {
    line: Arc<SoundLine>,
    /// Samples played by loudspeakers that have gone.
    base: u64,
    /// Samples that this loudspeaker was given and has not played, as far as is known.
    sent: VecDeque<f32>,
    sent_from: u64,
    /// Samples that it has not taken yet.
    rest: Vec<f32>,
    begun: bool,
    finished: bool,
    /// Since when there is sound that waits for more: before it begins, or in a pause.
    waits: Option<Instant>,
}

impl Current {
    /// Whether the loudspeaker is to be silent until there is more.
    fn is_paused(&self) -> bool {
        self.begun && self.waits.is_some()
    }

    /// Whether what waited has waited long enough.
    fn is_ready(&mut self) -> bool {
        if self.line.made() == 0 {
            return false;
        }
        let since = *self.waits.get_or_insert_with(Instant::now);
        let ready = self.line.is_ready() || since.elapsed() >= self.line.patience();
        if ready {
            self.line.note_held(since.elapsed(), self.begun);
            self.waits = None;
        }
        ready
    }
}

impl Player {
    /// Takes a loudspeaker in place of the one before; what that one did not play goes on here.
    pub fn set_playback(&mut self, playback: Option<Playback>) {
        self.sync();
        self.underruns += self.playback.as_ref().map_or(0, Playback::underruns);
        if let Some(current) = self.current.as_mut().filter(|current| current.begun) {
            let mut rest: Vec<f32> = current.sent.drain(..).collect();
            rest.append(&mut current.rest);
            current.base = current.sent_from;
            current.rest = rest;
            current.finished = false;
        }
        self.playback = playback;
        self.settle_hold();
    }

    /// How what is played keeps up, or what was played last did.
    #[must_use]
    pub fn account(&self) -> Option<Account> {
        let current = self.current.as_ref().map(|current| current.line.account());
        current.filter(|account| account.factor.is_some()).or(self.account)
    }

    /// The loudspeaker.
    #[must_use]
    pub fn playback(&self) -> Option<&Playback> {
        self.playback.as_ref()
    }

    /// `reason`, and what else there is to say of how what is played keeps up.
    #[must_use]
    pub fn because(&self, reason: &str) -> String {
        match self.account().and_then(|account| account.remark()) {
            Some(remark) => format!("{reason}; {remark}"),
            None => reason.to_owned(),
        }
    }

    /// Whether something is to be played, begun or not.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.current.is_some()
    }

    /// Whether something sounds, or is held.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.current.as_ref().is_some_and(|current| current.begun)
    }

    /// Whether the maker has left what is played.
    #[must_use]
    pub fn is_abandoned(&self) -> bool {
        self.current.as_ref().is_some_and(|current| current.line.is_cut())
    }

    /// How often a voice ran dry.
    #[must_use]
    pub fn underruns(&self) -> u64 {
        self.underruns + self.playback.as_ref().map_or(0, Playback::underruns)
    }

    /// Plays `line` behind what waits already.
    pub fn add(&mut self, line: Arc<SoundLine>) {
        self.waiting.push_back(line);
    }

    /// Whether something waits to be played.
    #[must_use]
    pub fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Begins with what waits, if there is sound of it and nothing else is played.
    pub fn play_waiting(&mut self) {
        self.waiting.retain(|line| !line.is_cut());
        let Some(line) = self.waiting.front().filter(|_| self.current.is_none()) else { return };
        if line.made() > 0 {
            let line = Arc::clone(line);
            self.waiting.pop_front();
            self.play(line);
        } else if line.is_drained() {
            self.waiting.pop_front();
        }
    }

    /// Ends what would be played next.
    pub fn cut_next(&mut self) {
        if let Some(line) = self.waiting.pop_front() {
            line.cut();
        }
    }

    /// Ends everything that waits.
    pub fn cut_waiting(&mut self) {
        for line in self.waiting.drain(..) {
            line.cut();
        }
    }

    /// Whether sound has had no loudspeaker for so long; it does not wait for ever.
    pub fn is_soundless_for(&mut self, limit: Duration) -> bool {
        if self.current.is_none() || self.playback.is_some() {
            self.soundless = None;
            return false;
        }
        let since = *self.soundless.get_or_insert_with(Instant::now);
        let over = since.elapsed() >= limit;
        if over {
            self.soundless = None;
        }
        over
    }

    /// Plays `line` as soon as enough of it is there.
    pub fn play(&mut self, line: Arc<SoundLine>) {
        self.current = Some(Current {
            line,
            base: 0,
            sent: VecDeque::new(),
            sent_from: 0,
            rest: Vec::new(),
            begun: false,
            finished: false,
            waits: None,
        });
    }

    /// Moves sound on; `lead` is how much of it the loudspeaker is to have ready.
    pub fn pump(&mut self, lead: Duration) -> Played {
        self.sync();
        let Some(current) = &mut self.current else { return Played::Same };
        if !current.begun && current.line.is_over() {
            // An answer without sound.
            self.forget();
            return Played::Ended;
        }
        let Some(playback) = &mut self.playback else { return Played::Same };
        if !current.begun && !current.is_ready() {
            return Played::Same;
        }
        if current.is_paused() {
            if !current.is_ready() {
                return Played::Same;
            }
            self.settle_hold();
            return Played::WentOn;
        }
        if current.begun && !self.held && current.line.runs_dry(DRY) {
            current.waits = Some(Instant::now());
            self.underruns += 1;
            self.settle_hold();
            return Played::Paused;
        }
        let lead = (lead.as_secs_f64() * f64::from(RATE)) as usize;
        current.line.take(lead.saturating_sub(current.sent.len() + current.rest.len()), &mut current.rest);
        let taken = if current.rest.is_empty() { 0 } else { playback.push(&current.rest) };
        current.sent.extend(current.rest.drain(..taken));
        if !current.finished && current.rest.is_empty() && current.line.is_drained() {
            current.finished = playback.finish();
        }
        let began = !std::mem::replace(&mut current.begun, true);
        if current.finished && playback.done() {
            current.line.note_played(current.line.made());
            self.forget();
            return Played::Ended;
        }
        if began { Played::Began } else { Played::Same }
    }

    /// Notes how far the loudspeaker is.
    fn sync(&mut self) {
        let (Some(current), Some(playback)) = (&mut self.current, &self.playback) else { return };
        if !current.begun {
            return;
        }
        let played = current.base + playback.position();
        let passed = usize::try_from(played.saturating_sub(current.sent_from)).unwrap_or(usize::MAX);
        current.sent.drain(..passed.min(current.sent.len()));
        current.sent_from = current.sent_from.max(played);
        current.line.note_played(current.sent_from);
    }

    /// Falls silent within a callback, and keeps the place.
    pub fn hold(&mut self) {
        self.held = true;
        self.settle_hold();
    }

    /// Goes on where it was held.
    pub fn resume(&mut self) {
        self.held = false;
        self.settle_hold();
    }

    /// The loudspeaker is held while anything wants it to be.
    fn settle_hold(&self) {
        let Some(playback) = &self.playback else { return };
        let paused = self.current.as_ref().is_some_and(Current::is_paused);
        if self.held || paused { playback.hold() } else { playback.resume() }
    }

    /// Keeps nothing of what was played but how it went.
    fn forget(&mut self) -> Option<Current> {
        let current = self.current.take()?;
        let account = current.line.account();
        self.account = account.factor.map(|_| account).or(self.account);
        Some(current)
    }

    /// Ends what is played; how many samples of it were heard, if it had begun.
    pub fn cut(&mut self) -> Option<u64> {
        self.hold();
        if let Some(playback) = self.playback.as_ref().filter(|_| self.has_begun()) {
            // Only when the hold has taken effect the position is final.
            let since = Instant::now();
            while playback.state() != State::Held && since.elapsed() < HOLD {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        self.sync();
        let current = self.forget();
        if let Some(playback) = &mut self.playback {
            playback.flush();
        }
        self.resume();
        let current = current?;
        current.line.cut();
        current.begun.then(|| current.line.played())
    }
}
