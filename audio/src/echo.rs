//! Takes what the loudspeaker says out of what the microphone hears, and knows how well that goes.
//!
//! Frames are 10 ms at one rate. What was played goes in before what was recorded; where the echo lies within half a
//! second is found and followed. How much is removed is measured all the time, because an assistant that does not
//! know that it hears itself answers itself.

use sonora::config::{EchoCanceller as Settings, NoiseSuppression};
use sonora::{AudioProcessing, Config, StreamConfig};
use std::time::Duration;

/// Whether the loudspeaker may stay on while the microphone listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Too little has been played to tell.
    Unproven,
    /// The echo is removed, or there is none (headphones, a loudspeaker that is off).
    Helps,
    /// The echo stays: listen and speak in turns.
    DoesNotHelp,
}

/// How the cancellation goes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Report {
    /// How much weaker the echo left than it came, dB (echo return loss enhancement): the median of the last ten
    /// seconds in which something was played.
    pub erle_db: Option<f32>,
    /// From the reference to its echo, as the canceller sees it.
    pub delay: Option<Duration>,
    /// What follows for the assistant.
    pub verdict: Verdict,
}

/// Below this a loudspeaker is silent (RMS; -54 dB of full scale).
const AUDIBLE: f32 = 2e-3;
/// How long a room may go on sounding, in frames: the longest echo delay and its tail.
const LINGER: usize = 40;
/// Frames without any sound from the loudspeaker after which the canceller rests: most of the day.
const REST: usize = 200;
/// A sample that wakes it; the reference is here before its echo is.
const SOUND: f32 = 1e-6;
/// Frames after it woke in which it gives what it heard before it slept.
const DROWSY: usize = 4;
/// By how much the canceller's result is late, in samples of 16 kHz: 8 ms.
const LAG: u32 = 128;
/// Frames in a measured window: one second of sound.
const WINDOW: usize = 100;
/// Windows that are remembered, and how few are enough to judge.
const WINDOWS: usize = 10;
const ENOUGH: usize = 3;
/// What is needed to trust the microphone while the loudspeaker sounds, dB.
const HELPFUL: f32 = 10.0;
/// What is left is never louder than what came, but for the noise that fills its gaps (a factor of power, and -70 dB).
const LOUDER: f32 = 4.0;
const FAINT: f32 = 1e-7;
/// An echo that raises the room's noise by less than this is none, as a factor of power (6 dB).
const PRESENT: f32 = 4.0;

/// An acoustic echo canceller for one microphone and one loudspeaker.
pub struct EchoCanceller {
    processor: AudioProcessing,
    frame: usize,
    meter: Meter,
    /// Frames since the loudspeaker sounded.
    quiet: usize,
    /// Frames since it woke.
    awake: usize,
    /// The end of the last recorded frame, which a resting canceller still owes.
    late: Vec<f32>,
    /// Power of the last recorded frame.
    before: f32,
    near_end: bool,
    noise: bool,
}

impl EchoCanceller {
    /// For mono frames of 10 ms at `sample_rate`, which is 16, 32 or 48 kHz; `noise` says whether steady noise is taken
    /// out too, which makes the result 6 ms later and leaves the canceller no rest.
    pub fn new(sample_rate: u32, noise: bool) -> EchoCanceller {
        let stream = StreamConfig::new(sample_rate, 1);
        let noise_suppression = noise.then(NoiseSuppression::default);
        let config = Config { echo_canceller: Some(Settings::default()), noise_suppression, ..Config::default() };
        let processor = AudioProcessing::builder().config(config).capture_config(stream).render_config(stream).build();
        EchoCanceller {
            processor,
            frame: sample_rate as usize / 100,
            meter: Meter::default(),
            quiet: 0,
            awake: 0,
            late: vec![0.0; (LAG * sample_rate / 16_000) as usize],
            before: 0.0,
            near_end: false,
            noise,
        }
    }

    /// Samples in a frame.
    pub fn frame(&self) -> usize {
        self.frame
    }

    /// Tells the canceller what the audio systems think of the delay between reference and recording.
    ///
    /// A hint for the search; the echo is found without it too.
    pub fn hint_delay(&mut self, delay: Duration) {
        // Only clamping can fail, and a clamped hint is as good.
        let _ = self.processor.set_stream_delay_ms(delay.as_millis().min(500) as i32);
    }

    /// Cleans one frame: `played` is the reference, `recorded` the microphone, `clean` what is left.
    ///
    /// The result is 8 ms late. Two seconds of full silence in `played` let the canceller rest: the recording passes
    /// as it is, as late as ever, until something is played again.
    ///
    /// # Panics
    /// When a slice is not [`frame`](Self::frame) samples long.
    pub fn process(&mut self, played: &[f32], recorded: &[f32], clean: &mut [f32]) {
        assert!([played.len(), recorded.len(), clean.len()] == [self.frame; 3], "frames are 10 ms long");
        let sounds = played.iter().any(|sample| sample.abs() > SOUND);
        self.quiet = if sounds { 0 } else { self.quiet.saturating_add(1) };
        if self.quiet > REST && !self.noise {
            self.awake = 0;
            self.pass(recorded, clean);
            self.meter.add(0.0, [power(recorded), power(clean)], self.near_end);
            return;
        }
        let late = std::mem::take(&mut self.late);
        let loudest = power(recorded).max(self.before);
        self.before = power(recorded);
        clean.fill(0.0);
        // The render path's own output is not used; `clean` serves as its target before it gets its real content.
        let rendered = self.processor.process_render_f32(&[played], &mut [&mut clean[..]]);
        let captured = self.processor.process_capture_f32(&[recorded], &mut [&mut clean[..]]);
        if rendered.is_err() || captured.is_err() {
            // The sizes are right, so nothing is left to refuse; the microphone itself is the safe answer.
            clean.copy_from_slice(recorded);
        }
        self.late = late;
        self.awake = self.awake.saturating_add(1);
        if self.awake <= DROWSY || power(clean) > LOUDER * loudest.max(FAINT) {
            // A filter that has lost its way adds an echo instead of taking one out.
            self.pass(recorded, clean);
        } else {
            self.keep(recorded);
        }
        self.meter.add(rms(played), [power(recorded), power(clean)], self.near_end);
    }

    fn pass(&mut self, recorded: &[f32], clean: &mut [f32]) {
        let (early, rest) = clean.split_at_mut(self.late.len());
        early.copy_from_slice(&self.late);
        rest.copy_from_slice(&recorded[..rest.len()]);
        self.keep(recorded);
    }

    fn keep(&mut self, recorded: &[f32]) {
        let from = recorded.len() - self.late.len();
        self.late.copy_from_slice(&recorded[from..]);
    }

    /// Says whether a person may be speaking, as they may whenever no reply sounds: what they add is not an echo that
    /// stayed, and is not measured.
    pub fn set_near_end(&mut self, speaking: bool) {
        if speaking && !self.near_end {
            // They began a little before anybody noticed.
            self.meter.drop_current();
        }
        self.near_end = speaking;
    }

    /// How it goes.
    pub fn report(&self) -> Report {
        let delay = self.processor.statistics().delay_ms;
        let delay = delay.and_then(|delay| u64::try_from(delay).ok()).map(Duration::from_millis);
        Report { erle_db: self.meter.erle(), delay, verdict: self.meter.verdict() }
    }
}

/// One second in which the loudspeaker sounded: mean powers at the microphone and after the canceller.
#[derive(Debug, Clone, Copy, Default)]
struct Second {
    recorded: f32,
    clean: f32,
}

/// Measures the echo return loss enhancement where something is played.
#[derive(Default)]
struct Meter {
    /// Frames until the room is quiet again.
    lingering: usize,
    current: Second,
    frames: usize,
    seconds: [Second; WINDOWS],
    filled: usize,
    next: usize,
    /// The microphone's power while nothing is played: falls at once, rises slowly.
    noise: Option<f32>,
}

impl Meter {
    fn add(&mut self, played: f32, [recorded, clean]: [f32; 2], near_end: bool) {
        if played > AUDIBLE {
            self.lingering = LINGER;
        } else if self.lingering > 0 {
            self.lingering -= 1;
        }
        if self.lingering == 0 {
            let noise = self.noise.unwrap_or(recorded);
            self.noise = Some(if recorded < noise { recorded } else { noise * 0.99 + recorded * 0.01 });
            return;
        }
        if near_end {
            return;
        }
        self.current.recorded += recorded;
        self.current.clean += clean;
        self.frames += 1;
        if self.frames == WINDOW {
            self.seconds[self.next] = self.current;
            self.next = (self.next + 1) % WINDOWS;
            self.filled = (self.filled + 1).min(WINDOWS);
            self.drop_current();
        }
    }

    fn drop_current(&mut self) {
        self.current = Second::default();
        self.frames = 0;
    }

    /// The value that one second in `parts` is at or below.
    fn lowest(&self, parts: usize, value: impl Fn(&Second) -> f32) -> Option<f32> {
        let mut values: Vec<f32> = self.seconds[..self.filled].iter().map(value).collect();
        values.sort_by(f32::total_cmp);
        values.get(values.len() / parts).copied()
    }

    /// `None` without an echo to take out, too.
    fn erle(&self) -> Option<f32> {
        let there = self.filled < ENOUGH || !self.is_absent();
        self.ratio().filter(|_| there)
    }

    fn ratio(&self) -> Option<f32> {
        self.lowest(2, |second| 10.0 * (second.recorded.max(1e-12) / second.clean.max(1e-12)).log10())
    }

    fn verdict(&self) -> Verdict {
        if self.filled < ENOUGH {
            return Verdict::Unproven;
        }
        match self.ratio() {
            Some(erle) if erle >= HELPFUL || self.is_absent() => Verdict::Helps,
            _ => Verdict::DoesNotHelp,
        }
    }

    /// Whether the microphone does not hear the loudspeaker.
    fn is_absent(&self) -> bool {
        // Not the median: in half of the seconds a person may have spoken over the reply.
        let recorded = self.lowest(4, |second| second.recorded / WINDOW as f32).unwrap_or(0.0);
        recorded < AUDIBLE * AUDIBLE / 10.0 || self.noise.is_some_and(|noise| recorded < noise * PRESENT)
    }
}

fn power(samples: &[f32]) -> f32 {
    samples.iter().map(|sample| sample * sample).sum::<f32>() / samples.len().max(1) as f32
}

fn rms(samples: &[f32]) -> f32 {
    power(samples).sqrt()
}
