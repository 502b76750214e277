//! Samples on their way from a job to the loudspeaker, and word of what became of them on the way back.
//!
//! Bounded by time rather than by waiting: the maker asks [`SoundLine::has_room`] and steps aside, the player takes what
//! there is. What is made and what was played are both counted, so that either side can be asked where the other is. The
//! maker knows how fast it is and says how much has to be ready before it sounds; the player says what came of it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::speech::RTF;

/// The rate of every sample, Hz.
pub const RATE: u32 = 24_000;

/// How far the maker may be ahead of the loudspeaker: enough to ride out a slow stretch, little enough that an
/// interruption wastes little and that few snapshots are kept.
const AHEAD: u64 = 3 * RATE as u64;

/// Names in latency reports: seconds that sound was held back, how often it had to pause, and the real-time factor of the
/// last spoken answer where one was only written.
const HELD_BACK: &str = "held_back";
const RAN_DRY: &str = "ran_dry";
const LAST_RTF: &str = "last_rtf";
/// What latency reports hold that is no time.
pub const FIGURES: [&str; 3] = [RTF, RAN_DRY, LAST_RTF];

/// How a piece of speech kept up with its sound.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Account {
    /// The real-time factor; for an answer that was only written, that of the last spoken one.
    pub factor: Option<f64>,
    /// How long sound that was there waited, so as not to break off, pauses included.
    pub held_back: Duration,
    /// How often it had to pause all the same.
    pub ran_dry: u32,
    /// It was only written, because speech is too slow.
    pub written: bool,
}

impl Account {
    /// Under the names that reports use; all but seconds are in [`FIGURES`].
    #[must_use]
    pub fn latency(&self) -> Vec<(&'static str, f64)> {
        match (self.written, self.factor) {
            (true, factor) => factor.map(|factor| (LAST_RTF, factor)).into_iter().collect(),
            (false, Some(_)) => vec![(HELD_BACK, self.held_back.as_secs_f64()), (RAN_DRY, f64::from(self.ran_dry))],
            (false, None) => Vec::new(),
        }
    }

    /// What to say of it, if the machine is too slow.
    #[must_use]
    pub fn remark(&self) -> Option<String> {
        let factor = self.factor.filter(|_| !self.written).map(|factor| (RTF, factor));
        let figures: Vec<_> = self.latency().into_iter().chain(factor).collect();
        remark(|name| figures.iter().find(|(known, _)| *known == name).map(|(_, value)| *value))
    }
}

/// What an answer came to that was slower than its sound, for people; `figure` looks a name of a latency report up.
#[must_use]
pub fn remark(figure: impl Fn(&str) -> Option<f64>) -> Option<String> {
    if let Some(factor) = figure(LAST_RTF) {
        return Some(format!("written only, because speech takes {factor:.2} times its length here"));
    }
    let factor = figure(RTF)?;
    let (held, dry) = (figure(HELD_BACK).unwrap_or_default(), figure(RAN_DRY).unwrap_or_default());
    if factor <= 1.0 && dry == 0.0 {
        return None;
    }
    let dry = match dry as u32 {
        0 => String::new(),
        1 => ", paused once".to_owned(),
        2 => ", paused twice".to_owned(),
        times => format!(", paused {times} times"),
    };
    Some(format!("speech takes {factor:.2} times its length here: held back {held:.1} s{dry}"))
}

/// One piece of speech between its maker and its player.
#[derive(Debug)]
pub struct SoundLine {
    /// The longest that sound waits at a time.
    patience: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<f32>,
    made: u64,
    played: u64,
    /// The maker has nothing more to add.
    finished: bool,
    /// The player takes nothing more.
    cut: bool,
    /// When the first sample was made.
    began: Option<Instant>,
    /// Samples that have to be ready before it sounds.
    lead: u64,
    account: Account,
}

impl SoundLine {
    /// An empty one; `patience` is how long its sound may be held back at a time.
    #[must_use]
    pub fn new(patience: Duration) -> Arc<Self> {
        Arc::new(Self { patience, state: Mutex::default() })
    }

    /// Adds samples.
    pub fn push(&self, samples: &[f32]) {
        if samples.is_empty() {
            return;
        }
        let mut state = self.state();
        if state.cut {
            return;
        }
        state.began.get_or_insert_with(Instant::now);
        state.made += samples.len() as u64;
        state.waiting.extend(samples);
    }

    /// Whether the maker should go on for now.
    #[must_use]
    pub fn has_room(&self) -> bool {
        let state = self.state();
        // No more can be made in the time that may be waited for.
        let held = (self.patience.as_secs_f64() * f64::from(RATE)) as u64;
        state.made - state.played < AHEAD + state.lead.min(held)
    }

    /// Says how much has to be ready before it sounds, and at what real-time factor more is made.
    pub fn expect(&self, lead: Duration, factor: Option<f64>) {
        let mut state = self.state();
        state.lead = (lead.as_secs_f64() * f64::from(RATE)) as u64;
        state.account.factor = factor;
    }

    /// Says that the answer is only written, because the last one was spoken at this factor.
    pub fn write_only(&self, factor: Option<f64>) {
        self.state().account = Account { factor, written: true, ..Account::default() };
    }

    /// Notes how long sound waited that was there; `dry` if it had begun.
    pub fn note_held(&self, time: Duration, dry: bool) {
        let account = &mut self.state().account;
        account.held_back += time;
        account.ran_dry += u32::from(dry);
    }

    /// How it kept up so far.
    #[must_use]
    pub fn account(&self) -> Account {
        self.state().account
    }

    /// The longest that sound waits at a time.
    #[must_use]
    pub fn patience(&self) -> Duration {
        self.patience
    }

    /// Nothing more comes.
    pub fn finish(&self) {
        self.state().finished = true;
    }

    /// Forgets what was made and not taken: the maker starts again.
    pub fn take_back(&self) {
        let mut state = self.state();
        let cut = state.cut;
        *state = State { cut, ..State::default() };
    }

    /// Samples that were made.
    #[must_use]
    pub fn made(&self) -> u64 {
        self.state().made
    }

    /// When the first sample was made.
    #[must_use]
    pub fn began(&self) -> Option<Instant> {
        self.state().began
    }

    /// Samples that were played.
    #[must_use]
    pub fn played(&self) -> u64 {
        self.state().played
    }

    /// Whether the player takes nothing more.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        self.state().cut
    }

    /// Whether everything was made and played.
    #[must_use]
    pub fn is_over(&self) -> bool {
        let state = self.state();
        state.finished && state.played >= state.made
    }

    /// Takes at most `most` samples, behind what `into` holds.
    pub fn take(&self, most: usize, into: &mut Vec<f32>) {
        let mut state = self.state();
        let count = most.min(state.waiting.len());
        into.extend(state.waiting.drain(..count));
    }

    /// Whether the maker has finished and everything was taken.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        let state = self.state();
        state.finished && state.waiting.is_empty()
    }

    /// Notes how much was played.
    pub fn note_played(&self, samples: u64) {
        self.state().played = samples;
    }

    /// The player stops here and forgets what waits.
    pub fn cut(&self) {
        let mut state = self.state();
        state.cut = true;
        state.waiting.clear();
    }

    /// Whether so much is ready that the sound, once begun, does not run dry.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        let state = self.state();
        let ready = state.made - state.played.min(state.made);
        if state.finished { state.made > 0 } else { ready > 0 && ready >= state.lead }
    }

    /// Whether there is less left to play than `least`, and more to come.
    #[must_use]
    pub fn runs_dry(&self, least: Duration) -> bool {
        let state = self.state();
        let ready = state.made.saturating_sub(state.played) as f64 / f64::from(RATE);
        !state.finished && ready < least.as_secs_f64()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_maker_is_held_by_what_is_played_and_both_ends_are_known() {
        let line = SoundLine::new(Duration::ZERO);
        line.push(&vec![0.5; AHEAD as usize]);
        assert!(!line.has_room() && !line.is_over());
        let mut taken = Vec::new();
        line.take(1_000, &mut taken);
        assert!(taken.len() == 1_000 && !line.has_room(), "what was taken has not been played");
        line.note_played(1_000);
        assert!(line.has_room());
        line.finish();
        line.take(usize::MAX, &mut taken);
        assert!(line.is_drained() && !line.is_over());
        line.note_played(AHEAD);
        assert!(line.is_over());
    }

    #[test]
    fn sound_begins_when_it_will_not_run_dry() {
        let (line, second) = (SoundLine::new(Duration::from_secs(4)), u64::from(RATE));
        line.expect(Duration::from_millis(1_500), Some(1.2));
        assert!(!line.is_ready(), "there is nothing");
        line.push(&vec![0.5; second as usize]);
        assert!(!line.is_ready());
        line.push(&vec![0.5; second as usize]);
        assert!(line.is_ready());
        line.note_played(second);
        assert!(!line.is_ready() && !line.runs_dry(Duration::from_millis(900)));
        assert!(line.runs_dry(Duration::from_millis(1_100)));
        line.finish();
        assert!(line.is_ready() && !line.runs_dry(Duration::from_secs(9)), "there is no more to wait for");
    }

    #[test]
    fn the_maker_may_be_as_far_ahead_as_it_asks_the_player_to_wait() {
        let line = SoundLine::new(Duration::from_secs(4));
        line.push(&vec![0.5; AHEAD as usize]);
        assert!(!line.has_room());
        line.expect(Duration::from_secs(60), Some(9.0));
        line.push(&vec![0.5; 4 * RATE as usize - 1]);
        assert!(line.has_room(), "no more than may be waited for");
        line.push(&[0.5]);
        assert!(!line.has_room());
        line.note_held(Duration::from_secs(1), false);
        line.note_held(Duration::from_secs(2), true);
        let held_back = Duration::from_secs(3);
        assert_eq!(line.account(), Account { factor: Some(9.0), held_back, ran_dry: 1, written: false });
    }

    #[test]
    fn only_what_was_too_slow_is_remarked_upon() {
        let keeps_up = Account { factor: Some(0.8), held_back: Duration::from_millis(200), ..Account::default() };
        assert_eq!((keeps_up.remark(), Account::default().remark()), (None, None));
        let slow = Account { factor: Some(1.5), held_back: Duration::from_millis(1_900), ran_dry: 2, written: false };
        let wanted = "speech takes 1.50 times its length here: held back 1.9 s, paused twice";
        assert_eq!(slow.remark().as_deref(), Some(wanted));
        let written = Account { written: true, ..slow };
        let wanted = "written only, because speech takes 1.50 times its length here";
        assert_eq!(written.remark().as_deref(), Some(wanted));
        assert_eq!(written.latency(), [("last_rtf", 1.5)]);
    }
}
