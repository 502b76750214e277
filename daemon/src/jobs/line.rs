//! Samples on their way from a job to the loudspeaker, and word of what became of them on the way back.
//!
//! Bounded by time rather than by waiting: the maker asks [`SoundLine::has_room`] and steps aside, the player takes what
//! there is. What is made and what was played are both counted, so that either side can be asked where the other is.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The rate of every sample, Hz.
pub const RATE: u32 = 24_000;

/// How far the maker may be ahead of the loudspeaker: enough to ride out a slow stretch, little enough that an
/// interruption wastes little and that few snapshots are kept.
const AHEAD: u64 = 3 * RATE as u64;

/// One piece of speech between its maker and its player.
#[derive(Debug, Default)]
pub struct SoundLine {
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
    first_at: Option<Instant>,
    last_at: Option<Instant>,
    /// Samples of the first piece, which came before there was a pace.
    first: u64,
}

impl SoundLine {
    /// Adds samples.
    pub fn push(&self, samples: &[f32]) {
        if samples.is_empty() {
            return;
        }
        let mut state = self.state();
        if state.cut {
            return;
        }
        let now = Instant::now();
        if state.first_at.is_none() {
            state.first_at = Some(now);
            state.first = samples.len() as u64;
        }
        state.last_at = Some(now);
        state.made += samples.len() as u64;
        state.waiting.extend(samples);
    }

    /// Whether the maker should go on for now.
    #[must_use]
    pub fn has_room(&self) -> bool {
        let state = self.state();
        state.made - state.played < AHEAD
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

    /// Whether so much is ready that the sound, once begun, does not run dry while the next piece is made: `piece` is
    /// how much sound comes at a time. A maker slower than the sound cannot be waited for; it gets a second of lead.
    #[must_use]
    pub fn is_ready(&self, least: Duration, piece: Duration) -> bool {
        let state = self.state();
        if state.finished {
            return state.made > 0;
        }
        let (Some(first), Some(last)) = (state.first_at, state.last_at) else { return false };
        let since = (state.made - state.first) as f64 / f64::from(RATE);
        // The second piece tells the pace; until it has come, the wait for it does.
        let pace = if since > 0.0 { (last - first).as_secs_f64() / since } else { f64::INFINITY };
        let needed = (least.as_secs_f64() + pace * piece.as_secs_f64()).min(1.0);
        state.waiting.len() as f64 / f64::from(RATE) >= needed
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
        let line = SoundLine::default();
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
        let (least, piece) = (Duration::from_millis(100), Duration::from_millis(480));
        let line = SoundLine::default();
        line.push(&vec![0.5; 1_440]);
        assert!(!line.is_ready(least, piece), "nothing is known of the pace yet");
        line.push(&vec![0.5; 11_520]);
        assert!(line.is_ready(least, piece), "the second piece came at once");
        let short = SoundLine::default();
        short.push(&[0.5; 10]);
        short.finish();
        assert!(short.is_ready(least, piece), "there is no more to wait for");
    }
}
