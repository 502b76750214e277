//! What the playback callback decides: sound or silence, and the account of it.
//!
//! Owns the consuming end of the ring. Allocates nothing, locks nothing; orders come and reports go through
//! [`Shared`]. An index counts the samples that ever went into the ring.

use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, fence};

use ringbuf::HeapCons;
use ringbuf::traits::{Consumer as _, Observer as _};

use super::State;
use crate::realtime::Health;

/// Samples over which sound fades when it is held and when it returns, so that neither clicks (2.7 ms at 48 kHz).
///
/// What fades out is not counted as played, and is played again, whole, on return.
pub const FADE: usize = 128;

/// Orders to the callback and its reports. Every access is one atomic operation.
#[derive(Default)]
pub(super) struct Shared {
    pub hold: AtomicBool,
    /// Everything before this index is to be dropped.
    pub skip_to: AtomicU64,
    /// Whether silence after the last sample is meant.
    pub finished: AtomicBool,
    /// Samples that ever went into the ring.
    pub pushed: AtomicU64,
    /// Index of the first sample that was not given to the device. A flush does not move it: what it dropped was
    /// not played, and the next utterance's first sample sets it right.
    pub position: AtomicU64,
    pub underruns: AtomicU64,
    state: AtomicU8,
    /// A position and when it will have been heard, readable together: odd while they are written.
    version: AtomicU64,
    heard_position: AtomicU64,
    heard_at: AtomicU64,
}

impl Shared {
    pub(super) fn state(&self) -> State {
        match self.state.load(Acquire) {
            0 => State::Waiting,
            1 => State::Playing,
            _ => State::Held,
        }
    }

    /// The position that was stamped last and the nanoseconds until it is heard, at the time `now`.
    pub(super) fn heard(&self, now: u64) -> (u64, f64) {
        loop {
            let before = self.version.load(Acquire);
            let (position, at) = (self.heard_position.load(Relaxed), self.heard_at.load(Relaxed));
            fence(Acquire);
            if before.is_multiple_of(2) && before == self.version.load(Relaxed) {
                return (position, at.saturating_sub(now) as f64);
            }
            std::hint::spin_loop();
        }
    }
}

pub(super) struct Flow {
    ring: HeapCons<f32>,
    shared: Arc<Shared>,
    health: Arc<Health>,
    /// Samples that must wait before an utterance begins.
    lead: usize,
    state: State,
    /// Index of the next sample in the ring.
    index: u64,
    stamped: u64,
    fade: Fade,
}

/// How far a fade has come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fade {
    None,
    In(usize),
    Out(usize),
}

impl Flow {
    pub(super) fn new(ring: HeapCons<f32>, shared: Arc<Shared>, health: Arc<Health>, lead: usize) -> Flow {
        Flow { ring, shared, health, lead, state: State::Waiting, index: 0, stamped: 0, fade: Fade::None }
    }

    pub(super) fn health(&self) -> Arc<Health> {
        self.health.clone()
    }

    /// Fills the whole of `out` with the next samples or with silence.
    pub(super) fn fill(&mut self, out: &mut [f32]) {
        out.fill(0.0);
        self.skip();
        self.turn();
        match self.state {
            State::Waiting => {}
            State::Playing => self.play(out),
            State::Held => self.fade_out(out),
        }
        self.shared.state.store(self.state as u8, Release);
    }

    /// Drops what was flushed. The position is the place where sound stopped, so it stays.
    fn skip(&mut self) {
        let skip = self.shared.skip_to.load(Acquire).saturating_sub(self.index);
        if skip > 0 {
            self.index += self.ring.skip(skip as usize) as u64;
            // The rest of a fade would come from the next utterance, which has a lead of its own to wait for.
            if let Fade::Out(_) = self.fade {
                self.fade = Fade::None;
            }
            if self.state == State::Playing {
                self.state = State::Waiting;
            }
        }
    }

    /// The transitions between the three states, at the beginning of a block.
    fn turn(&mut self) {
        let hold = self.shared.hold.load(Acquire);
        let waiting = self.ring.occupied_len();
        let ready = waiting >= self.lead || (waiting > 0 && self.shared.finished.load(Acquire));
        let sound = if ready { State::Playing } else { State::Waiting };
        self.state = match (self.state, hold) {
            (State::Playing, true) => {
                self.fade = Fade::Out(0);
                State::Held
            }
            (State::Waiting | State::Held, true) => State::Held,
            (State::Held, false) => {
                self.fade = Fade::In(0);
                sound
            }
            (State::Waiting, false) => sound,
            (State::Playing, false) => State::Playing,
        };
    }

    fn play(&mut self, out: &mut [f32]) {
        // Read before the ring: what is pushed after this look may not be taken for the end.
        let finished = self.shared.finished.load(Acquire);
        let count = self.ring.pop_slice(out);
        if let Fade::In(from) = self.fade {
            let fading = count.min(FADE - from);
            for (n, sample) in out[..fading].iter_mut().enumerate() {
                *sample *= (from + n) as f32 / FADE as f32;
            }
            self.fade = if from + fading == FADE { Fade::None } else { Fade::In(from + fading) };
        }
        if count > 0 {
            self.index += count as u64;
            self.shared.position.store(self.index, Release);
        }
        if count < out.len() {
            self.state = State::Waiting;
            self.fade = Fade::None;
            if !finished {
                self.shared.underruns.fetch_add(1, Relaxed);
            }
        }
    }

    /// Plays the next samples ever more softly and leaves them in the ring.
    fn fade_out(&mut self, out: &mut [f32]) {
        let Fade::Out(from) = self.fade else { return };
        let (first, second) = self.ring.as_slices();
        let next = first.iter().chain(second).skip(from);
        let mut done = from;
        for ((n, sample), next) in out.iter_mut().enumerate().zip(next).take(FADE - from) {
            *sample = next * (1.0 - (from + n) as f32 / FADE as f32);
            done = from + n + 1;
        }
        let ended = done == FADE || done - from < out.len();
        self.fade = if ended { Fade::None } else { Fade::Out(done) };
    }

    /// Notes that what was played so far will have been heard at `at`, on the clock of [`Health`].
    pub(super) fn stamp(&mut self, at: u64) {
        let position = self.shared.position.load(Relaxed);
        if position == self.stamped {
            return;
        }
        self.stamped = position;
        self.shared.version.fetch_add(1, Relaxed);
        fence(Release);
        self.shared.heard_position.store(position, Relaxed);
        self.shared.heard_at.store(at, Relaxed);
        self.shared.version.fetch_add(1, Release);
    }

    #[cfg(test)]
    pub(super) fn shared(&self) -> &Shared {
        &self.shared
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringbuf::HeapRb;
    use ringbuf::traits::{Producer as _, Split as _};

    fn flow(lead: usize) -> (ringbuf::HeapProd<f32>, Flow) {
        let (producer, consumer) = HeapRb::new(10_000).split();
        (producer, Flow::new(consumer, Arc::default(), Arc::new(Health::new()), lead))
    }

    fn run(flow: &mut Flow, len: usize) -> Vec<f32> {
        let mut out = vec![9.0; len];
        flow.fill(&mut out);
        out
    }

    #[test]
    fn nothing_sounds_before_the_lead_is_there_or_the_end_is_known() {
        let (mut ring, mut flow) = flow(100);
        ring.push_slice(&[1.0; 99]);
        assert_eq!(run(&mut flow, 10), [0.0; 10]);
        assert_eq!(flow.shared.state(), State::Waiting);
        flow.shared.finished.store(true, Release);
        assert_eq!(run(&mut flow, 10), [1.0; 10]);
        assert_eq!(flow.shared.state(), State::Playing);
    }

    #[test]
    fn running_dry_is_an_underrun_unless_the_end_was_told() {
        for (finished, underruns) in [(false, 1), (true, 0)] {
            let (mut ring, mut flow) = flow(10);
            ring.push_slice(&[1.0; 25]);
            run(&mut flow, 10);
            flow.shared.finished.store(finished, Release);
            run(&mut flow, 10);
            assert_eq!(run(&mut flow, 10)[..], [[1.0; 5], [0.0; 5]].concat());
            run(&mut flow, 10);
            assert_eq!(flow.shared.underruns.load(Relaxed), underruns);
            assert_eq!(flow.shared.position.load(Relaxed), 25);
        }
    }

    #[test]
    fn hold_and_resume_lose_no_sample_at_any_callback_size() {
        for size in [1usize, 7, 24, 128, 500] {
            let (mut ring, mut flow) = flow(1);
            let voice: Vec<f32> = (0..9_000).map(|n| 1.0 + n as f32).collect();
            ring.push_slice(&voice);
            flow.shared.finished.store(true, Release);
            let mut counted = vec![];
            let mut step = 0usize;
            while counted.len() < voice.len() {
                // Held for a while after every 1000 samples or so.
                flow.shared.hold.store((step * size) % 1_400 > 1_000, Release);
                step += 1;
                let before = flow.shared.position.load(Relaxed);
                let out = run(&mut flow, size);
                let count = (flow.shared.position.load(Relaxed) - before) as usize;
                for (n, sample) in out[..count].iter().enumerate() {
                    // Fading in changes the level, never the sample that is played.
                    assert!(*sample <= voice[before as usize + n]);
                }
                if flow.shared.state() == State::Held {
                    assert_eq!(count, 0);
                    assert!(out.iter().all(|sample| *sample <= voice[before as usize] + FADE as f32));
                }
                counted.extend_from_slice(&out[..count]);
            }
            assert_eq!(flow.shared.underruns.load(Relaxed), 0);
            let whole = counted.iter().zip(&voice).filter(|(a, b)| a == b).count();
            assert!(whole > 9_000 - 8 * FADE - 8, "{whole} of 9000 samples at full level");
        }
    }

    #[test]
    fn a_hold_fades_and_then_is_silent() {
        let (mut ring, mut flow) = flow(1);
        ring.push_slice(&[1.0; 5_000]);
        assert_eq!(run(&mut flow, 480), [1.0; 480]);
        flow.shared.hold.store(true, Release);
        let out = run(&mut flow, 480);
        assert!(out[..FADE].windows(2).all(|pair| pair[0] > pair[1]));
        assert_eq!(out[FADE..], [0.0; 480 - FADE]);
        assert_eq!(run(&mut flow, 480), [0.0; 480]);
        flow.shared.hold.store(false, Release);
        let out = run(&mut flow, 480);
        assert!(out[..FADE].windows(2).all(|pair| pair[0] < pair[1]));
        assert_eq!(out[FADE..], [1.0; 480 - FADE]);
    }

    #[test]
    fn what_is_heard_trails_what_was_given() {
        let (mut ring, mut flow) = flow(1);
        ring.push_slice(&[1.0; 5_000]);
        run(&mut flow, 480);
        flow.stamp(1_000_000);
        assert_eq!(flow.shared.heard(400_000), (480, 600_000.0));
        assert_eq!(flow.shared.heard(2_000_000), (480, 0.0));
    }
}
