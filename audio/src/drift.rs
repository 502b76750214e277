//! Two devices, two clocks: brings what was played onto the clock of what is recorded.
//!
//! A loudspeaker and a microphone that both claim 48 kHz differ by up to some hundred parts in a million, which moves
//! an echo by a millisecond every few seconds and defeats a canceller that has learnt where it is. A [`Follower`]
//! reads the loudspeaker's reference through a resampler whose ratio is steered so that the distance between the two
//! streams stays the same.

use std::collections::VecDeque;

use audioadapter_buffers::direct::InterleavedSlice;
use ringbuf::HeapCons;
use ringbuf::traits::{Consumer as _, Observer as _};
use rubato::{
    Adjustable, Async, FixedAsync, Resampler, SincInterpolationParameters, SincInterpolationType, WindowFunction,
};

use crate::error::{Error, Result};
use crate::playback::Reference;
use crate::resample::{HIGHEST_RATE, LOWEST_RATE};

/// The distance at which the streams are joined at first, seconds: a frame to read, a callback to wait for, and a
/// little. No more, because the reference must not come later than its echo.
const NEAREST: f64 = 0.024;
/// What is added at each new join, and the most that it comes to.
const RETREAT: f64 = 0.002;
const FARTHEST: f64 = 0.040;
/// Late callbacks within about so many seconds that are endured before the streams are joined farther apart.
const ENDURED: f64 = 3.0;
const FORGIVEN: f64 = 10.0;
/// Distances that work; outside, the streams are joined anew.
const WORKABLE: std::ops::RangeInclusive<f64> = 0.020..=0.080;
/// A change of the distance by this much, on the average of some frames, is not drift. A server that asks for its
/// samples earlier than before looks like this, and so does one that let the loudspeaker fall silent. The first needs
/// no correction and the second is one step for the canceller, which it takes better than a slow slide: so the new
/// distance is kept.
const STEP: f64 = 0.005;
/// Frames in that average: callbacks that are late come within a few.
const FRAMES: f64 = 10.0;
/// No crystal is off by more than this.
const MOST_DRIFT: f64 = 2e-3;
/// Seconds of which one mean is taken: callbacks come when the scheduler pleases.
const SPAN: f64 = 1.0;
/// Means that the drift is read from, at most and at least.
const SPANS: usize = 60;
const FEW: usize = 16;
/// How many times its own uncertainty a correction must be, and how many times in each half of what was measured: a step
/// looks like a slope to a line through all of it, and not to one through its halves.
const SURE: f64 = 4.0;
const HALF_SURE: f64 = 2.0;
/// The most that a slope may be uncertain by to be believed, and the least that it is corrected by.
const SHARP: f64 = 1e-5;
const LEAST: f64 = 1e-6;
/// Time constant of what is kept, seconds: drift is slow, and a step is not.
const SLOW: f64 = 3.0;

/// Finds the drift: the slope of the distance over the last minute, as it would be without any correction.
///
/// A canceller takes a thousandth of an echo for an echo of its own: at 1 kHz a wander of ten microseconds in a second
/// leaves it no more than 24 dB. So the speed is not steered by what was measured last. It stays what it is, one to begin
/// with, until the slope differs from it by more than the scatter of the measurements can explain.
#[derive(Debug, Default)]
struct Steering {
    /// The relative speed to read at, less one.
    speed: f64,
    /// Time since the beginning, and how much distance the speed has taken away in it.
    time: f64,
    taken: f64,
    sum: f64,
    count: usize,
    means: VecDeque<(f64, f64)>,
}

impl Steering {
    /// Takes the distance in seconds, measured every `step` seconds; gives the relative speed to read at, less one.
    fn update(&mut self, distance: f64, step: f64) -> f64 {
        self.time += step;
        self.taken += self.speed * step;
        self.sum += distance + self.taken;
        self.count += 1;
        if self.count as f64 * step >= SPAN {
            if self.means.len() == SPANS {
                self.means.pop_front();
            }
            self.means.push_back((self.time, self.sum / self.count as f64));
            (self.sum, self.count) = (0.0, 0);
            self.settle();
        }
        self.speed
    }

    /// Believes the slope, if it is certain enough.
    fn settle(&mut self) {
        let count = self.means.len();
        if count < FEW {
            return;
        }
        let (slope, uncertainty) = self.slope(0..count);
        let off = slope - self.speed;
        let in_both_halves = [0..count / 2, count / 2..count].into_iter().all(|half| {
            let (slope, uncertainty) = self.slope(half);
            (slope - self.speed) * off.signum() > HALF_SURE * uncertainty
        });
        if in_both_halves && uncertainty < SHARP && off.abs() > (SURE * uncertainty).max(LEAST) {
            self.speed = slope.clamp(-MOST_DRIFT, MOST_DRIFT);
        }
    }

    /// The slope of a line through these means, and its standard error.
    fn slope(&self, range: std::ops::Range<usize>) -> (f64, f64) {
        let count = range.len() as f64;
        let points = || self.means.range(range.clone());
        let time = points().map(|point| point.0).sum::<f64>() / count;
        let distance = points().map(|point| point.1).sum::<f64>() / count;
        let spread: f64 = points().map(|point| (point.0 - time).powi(2)).sum();
        let common: f64 = points().map(|point| (point.0 - time) * (point.1 - distance)).sum();
        let slope = common / spread;
        let scatter: f64 = points().map(|point| (point.1 - distance - slope * (point.0 - time)).powi(2)).sum();
        (slope, (scatter / (count - 2.0) / spread).sqrt())
    }

    /// The distance is another by so much from now on, for a reason that is no drift.
    fn shift(&mut self, by: f64) {
        self.means.iter_mut().for_each(|point| point.1 += by);
        (self.sum, self.count) = (0.0, 0);
    }

    /// The streams are apart: the speed is as true as before, and nothing is known of the distance.
    fn restart(&mut self) {
        self.means.clear();
        (self.sum, self.count) = (0.0, 0);
    }
}

/// Reads a [`Reference`] at the pace of a recording.
pub struct Follower {
    resampler: Async<f32>,
    /// Output samples per input sample without drift.
    ratio: f64,
    input: Vec<f32>,
    frame: usize,
    step: f64,
    steering: Steering,
    /// The distance at the next join, and the one that is kept now.
    lead: f64,
    kept: f64,
    /// The error of the last few frames, averaged.
    recent: f64,
    /// Late callbacks of late.
    late: f64,
    joined: bool,
    joins: u64,
    /// Input samples that were due when they were not there, to be passed over when they are.
    owed: usize,
    starved: u64,
}

impl Follower {
    /// Gives frames of `frame` samples at `to` Hz from a reference at `from` Hz.
    ///
    /// # Errors
    /// [`Error::Resample`] when a rate is out of range or the frame is empty.
    pub fn new(from: u32, to: u32, frame: usize) -> Result<Follower> {
        let refused = |why: String| Error::Resample { from, to, why };
        if ![from, to].iter().all(|rate| (LOWEST_RATE..=HIGHEST_RATE).contains(rate)) {
            return Err(refused("a rate is out of range".into()));
        }
        let parameters = SincInterpolationParameters {
            sinc_len: 64,
            f_cutoff: None,
            interpolation: SincInterpolationType::Linear,
            oversampling_factor: 128,
            window: WindowFunction::BlackmanHarris2,
        };
        let ratio = f64::from(to) / f64::from(from);
        let most = 1.0 + 2.0 * MOST_DRIFT;
        let resampler = Async::new_sinc(ratio, most, &parameters, frame, 1, FixedAsync::Output)
            .map_err(|error| refused(error.to_string()))?;
        Ok(Follower {
            ratio,
            input: vec![0.0; resampler.input_frames_max()],
            resampler,
            frame,
            step: frame as f64 / f64::from(to),
            steering: Steering { means: VecDeque::with_capacity(SPANS), ..Steering::default() },
            lead: NEAREST,
            kept: NEAREST,
            recent: 0.0,
            late: 0.0,
            joined: false,
            joins: 0,
            owed: 0,
            starved: 0,
        })
    }

    /// Fills `frame` with what was played; silence while nothing is known. Allocates nothing.
    ///
    /// `recorded` is how much was recorded and not yet processed, in seconds
    /// ([`Capture::backlog`](crate::capture::Capture::backlog)): both backlogs grow while this thread is late, and
    /// only their difference is drift.
    ///
    /// # Panics
    /// When `frame` is not as long as was agreed.
    pub fn read(&mut self, reference: &mut Reference, recorded: f64, frame: &mut [f32]) {
        let distance = reference.backlog() - recorded;
        let rate = reference.sample_rate();
        self.pull(&mut reference.ring, rate, distance, frame);
    }

    fn pull(&mut self, ring: &mut HeapCons<f32>, rate: u32, distance: f64, frame: &mut [f32]) {
        assert_eq!(frame.len(), self.frame, "frame sizes are fixed");
        frame.fill(0.0);
        let distance = distance - self.owed as f64 / f64::from(rate);
        if self.joined {
            self.kept += (distance - self.kept) * self.step / SLOW;
            self.late -= self.late * self.step / FORGIVEN;
            self.recent += (distance - self.kept - self.recent) / FRAMES;
            if self.recent.abs() > STEP {
                self.kept += self.recent;
                self.steering.shift(self.recent);
                self.recent = 0.0;
            }
            if !WORKABLE.contains(&self.kept) || self.late > ENDURED {
                self.joined = false;
                self.lead = (self.lead + RETREAT).min(FARTHEST);
            }
        }
        let mut distance = distance;
        if !self.joined {
            if !self.join(ring, rate, distance) {
                self.steering.restart();
                return;
            }
            self.steering.shift(self.kept - distance);
            distance = self.kept;
        }
        let speed = 1.0 + self.steering.update(distance, self.step);
        // In range by construction; a refusal would leave the old ratio, which is as good.
        let _ = self.resampler.set_resample_ratio(self.ratio / speed, true);
        self.owed -= ring.skip(self.owed);
        let needed = self.resampler.input_frames_next();
        let Some(input) = self.input.get_mut(..needed) else {
            return;
        };
        if ring.occupied_len() < needed {
            // A late callback. To lose a frame hurts the canceller less than to shift all that follow.
            self.late += f64::from(u8::from(self.owed == 0));
            self.owed += needed;
            self.starved += 1;
            return;
        }
        ring.pop_slice(input);
        if let (Ok(from), Ok(mut to)) =
            (InterleavedSlice::new(&*input, 1, needed), InterleavedSlice::new_mut(frame, 1, self.frame))
        {
            let _ = self.resampler.process_into_buffer(&from, &mut to, None);
        }
    }

    /// Passes over what is too old, if enough is there; says whether it was.
    fn join(&mut self, ring: &mut HeapCons<f32>, rate: u32, distance: f64) -> bool {
        let owed = std::mem::take(&mut self.owed);
        let distance = distance + owed as f64 / f64::from(rate);
        let skip = ((distance - self.lead) * f64::from(rate)).max(0.0) as usize;
        if distance < self.lead || ring.occupied_len() < skip + self.resampler.input_frames_next() {
            return false;
        }
        ring.skip(skip);
        self.kept = self.lead;
        self.recent = 0.0;
        self.late = 0.0;
        self.resampler.reset();
        self.joined = true;
        self.joins += 1;
        true
    }

    /// How much faster than the microphone's the loudspeaker's clock runs (1e-6 is one part in a million).
    pub fn drift(&self) -> f64 {
        self.steering.speed
    }

    /// Frames that were not there in time and were taken for silence.
    pub fn starved(&self) -> u64 {
        self.starved
    }

    /// How often the two streams had to be joined anew, the first time included.
    pub fn joins(&self) -> u64 {
        self.joins
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use assert_no_alloc::assert_no_alloc;
    use ringbuf::HeapRb;
    use ringbuf::traits::{Producer as _, Split as _};

    /// A loudspeaker whose clock is off by `ppm`, whose callbacks carry 10 ms and come up to 4 ms late, and a
    /// microphone that reads every 10 ms, up to 3 ms late. What it reads is a tone that tells how far it is delayed.
    fn simulate(ppm: f64, seconds: f64) -> (Follower, Vec<f32>) {
        let mut follower = Follower::new(48_000, 16_000, 160).expect("rates in range");
        let (mut producer, mut ring) = HeapRb::new(48_000).split();
        let rate = 48_000.0 * (1.0 + ppm * 1e-6);
        let mut seed = 7u32;
        let mut late = move |most: f64| {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            most * f64::from(seed >> 8) / f64::from(1u32 << 24)
        };
        let (mut pushed, mut last_push) = (0u64, 0.0);
        let mut next_push = 0.0;
        let mut out = vec![];
        for step in 0..(seconds * 100.0) as usize {
            let due = step as f64 * 0.01;
            let now = due + late(0.003);
            while next_push <= now {
                let block: Vec<f32> = (0..480)
                    .map(|n| ((pushed + n) as f64 * 300.0 / 48_000.0 * std::f64::consts::TAU).sin() as f32)
                    .collect();
                producer.push_slice(&block);
                pushed += 480;
                last_push = next_push;
                next_push = pushed as f64 / rate + late(0.004);
            }
            let distance = ring.occupied_len() as f64 / 48_000.0 + (now - last_push) - (now - due);
            let mut frame = [0.0; 160];
            assert_no_alloc(|| follower.pull(&mut ring, 48_000, distance, &mut frame));
            out.extend_from_slice(&frame);
        }
        (follower, out)
    }

    /// Frequency of the last ten seconds, by its zero crossings.
    fn frequency(samples: &[f32]) -> f64 {
        let tail = &samples[samples.len() - 160_000..];
        tail.windows(2).filter(|pair| pair[0] < 0.0 && pair[1] >= 0.0).count() as f64 / 10.0
    }

    #[test]
    fn drift_is_found_and_absorbed_without_a_gap() {
        for ppm in [-500.0, -150.0, -30.0, 0.0, 30.0, 150.0, 500.0] {
            let (follower, out) = simulate(ppm, 120.0);
            // Crystals differ by 100 parts in a million; that costs a step or two, and more is found too, with some steps and a short gap.
            let most = if ppm.abs() < 200.0 { 2 } else { 4 };
            assert!(follower.joins() <= most, "{ppm} ppm: {} joins", follower.joins());
            assert!(follower.starved() < 8, "{ppm} ppm: {} frames starved", follower.starved());
            assert!((follower.drift() * 1e6 - ppm).abs() < 60.0, "{ppm} ppm, found {}", follower.drift() * 1e6);
            // In the last two thirds, when the distance has been found.
            let silent = out[out.len() / 3..].windows(8).any(|window| window.iter().all(|sample| *sample == 0.0));
            assert!(!silent || ppm.abs() > 200.0, "{ppm} ppm: a gap");
            // The tone that the loudspeaker really emits.
            let wanted = 300.0 * (1.0 + ppm * 1e-6);
            assert!((frequency(&out) - wanted).abs() < 0.2, "{ppm} ppm: {} Hz", frequency(&out));
        }
    }

    #[test]
    fn an_interruption_joins_anew() {
        let mut follower = Follower::new(48_000, 16_000, 160).expect("rates in range");
        let (mut producer, mut ring) = HeapRb::new(48_000).split();
        let mut frame = [0.0; 160];
        follower.pull(&mut ring, 48_000, 0.0, &mut frame);
        assert_eq!((frame, follower.joins()), ([0.0; 160], 0));
        producer.push_slice(&[0.5; 24_000]);
        follower.pull(&mut ring, 48_000, 0.5, &mut frame);
        assert_eq!(follower.joins(), 1);
        let left = ring.occupied_len() as f64 / 48_000.0;
        assert!(left < NEAREST && left > 0.005, "{left}");
        // A quarter of a second of the recording is lost: as much of the reference is passed over.
        producer.push_slice(&[0.5; 16_000]);
        for _ in 0..5 {
            follower.pull(&mut ring, 48_000, 0.25, &mut frame);
        }
        assert_eq!(follower.joins(), 2);
        // The loudspeaker falls silent without a word: the reference waits for it.
        for _ in 0..20 {
            follower.pull(&mut ring, 48_000, 0.0, &mut frame);
        }
        assert_eq!((frame, follower.joins()), ([0.0; 160], 2));
        producer.push_slice(&[0.5; 4_800]);
        follower.pull(&mut ring, 48_000, 0.1, &mut frame);
        assert_eq!(follower.joins(), 3);
    }
}
