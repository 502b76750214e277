//! The microphone as the rest of Eddy hears it: 10 ms frames at 16 kHz, without the loudspeaker in them.
//!
//! Joins an open microphone, the loudspeaker's reference (if there is one), the follower that brings both onto one
//! clock, and the canceller. Runs on one thread, which sleeps in [`Ear::next`] until a frame is there.

use std::time::Duration;

use crate::capture::Capture;
use crate::drift::Follower;
use crate::echo::{EchoCanceller, Report};
use crate::error::Result;
use crate::playback::Reference;
use crate::realtime::Trouble;
use crate::resample::StreamResampler;

/// The rate of every frame, Hz.
pub const RATE: u32 = 16_000;
/// Samples in a frame: 10 ms.
pub const FRAME: usize = 160;

/// What became of a wait for a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// The frame is there.
    Frame,
    /// Nothing within the timeout, and nothing known to be wrong.
    Nothing,
    /// The microphone no longer delivers: open another.
    Lost(Trouble),
}

/// A microphone without its echo.
pub struct Ear {
    capture: Capture,
    resampler: StreamResampler,
    /// One block of the device, and what came of it and was not taken yet.
    block: Vec<f32>,
    resampled: Vec<f32>,
    waiting: Vec<f32>,
    loudspeaker: Option<Loudspeaker>,
    canceller: EchoCanceller,
    noise_suppression: bool,
    recorded: [f32; FRAME],
    played: [f32; FRAME],
}

struct Loudspeaker {
    reference: Reference,
    follower: Follower,
}

impl Ear {
    /// Listens at `capture`; `reference` is what [`Playback::open`](crate::playback::Playback::open) gave. Steady noise
    /// is taken out too where `noise_suppression` says so.
    ///
    /// # Errors
    /// [`Error::Resample`](crate::Error::Resample) when a device has a rate beyond 8 to 192 kHz.
    pub fn new(capture: Capture, reference: Option<Reference>, noise_suppression: bool) -> Result<Ear> {
        let rate = capture.device().sample_rate;
        let resampler = StreamResampler::new(rate, RATE, rate as usize / 100)?;
        let mut ear = Ear {
            block: vec![0.0; resampler.input_block()],
            resampled: vec![0.0; resampler.output_block()],
            waiting: Vec::with_capacity(resampler.output_block() + FRAME),
            capture,
            resampler,
            loudspeaker: None,
            canceller: EchoCanceller::new(RATE, noise_suppression),
            noise_suppression,
            recorded: [0.0; FRAME],
            played: [0.0; FRAME],
        };
        ear.set_reference(reference)?;
        Ok(ear)
    }

    /// Takes the reference of another loudspeaker, or none. What was learnt of the old one's echo is forgotten.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn set_reference(&mut self, reference: Option<Reference>) -> Result<()> {
        self.loudspeaker = match reference {
            Some(reference) => {
                let follower = Follower::new(reference.sample_rate(), RATE, FRAME)?;
                Some(Loudspeaker { reference, follower })
            }
            None => None,
        };
        self.canceller = EchoCanceller::new(RATE, self.noise_suppression);
        Ok(())
    }

    /// Ends here and gives the loudspeaker's reference back, for the next microphone.
    pub fn into_reference(self) -> Option<Reference> {
        self.loudspeaker.map(|loudspeaker| loudspeaker.reference)
    }

    /// Waits for the next frame and cleans it into `clean`; a microphone that is silent for `patience` is lost.
    pub fn next(&mut self, clean: &mut [f32; FRAME], timeout: Duration, patience: Duration) -> Heard {
        while self.waiting.len() < FRAME {
            if !self.capture.wait(self.block.len(), timeout) {
                return self.capture.trouble(patience).map_or(Heard::Nothing, Heard::Lost);
            }
            self.capture.read(&mut self.block);
            self.resampler.process(&self.block, &mut self.resampled);
            self.waiting.extend_from_slice(&self.resampled);
        }
        self.recorded.copy_from_slice(&self.waiting[..FRAME]);
        self.waiting.drain(..FRAME);
        match &mut self.loudspeaker {
            Some(Loudspeaker { reference, follower }) => {
                let backlog = self.capture.backlog() + self.waiting.len() as f64 / f64::from(RATE);
                follower.read(reference, backlog, &mut self.played);
            }
            None => self.played.fill(0.0),
        }
        self.canceller.process(&self.played, &self.recorded, clean);
        Heard::Frame
    }

    /// The last frame as the microphone gave it.
    pub fn recorded(&self) -> &[f32; FRAME] {
        &self.recorded
    }

    /// What the loudspeaker was given at about that time.
    pub fn played(&self) -> &[f32; FRAME] {
        &self.played
    }

    /// Says whether a person may be speaking, who is no echo.
    pub fn set_near_end(&mut self, speaking: bool) {
        self.canceller.set_near_end(speaking);
    }

    /// How the echo cancellation goes.
    pub fn report(&self) -> Report {
        self.canceller.report()
    }

    /// How much faster than the microphone's the loudspeaker's clock runs (1e-6 is one part in a million).
    pub fn drift(&self) -> f64 {
        self.loudspeaker.as_ref().map_or(0.0, |loudspeaker| loudspeaker.follower.drift())
    }

    /// Frames of the reference that came too late, and how often it had to be joined anew.
    pub fn reference_faults(&self) -> (u64, u64) {
        self.loudspeaker.as_ref().map_or((0, 0), |loudspeaker| {
            (loudspeaker.follower.starved(), loudspeaker.follower.joins().saturating_sub(1))
        })
    }

    /// The microphone's own account: device, overruns, trouble.
    pub fn capture(&self) -> &Capture {
        &self.capture
    }
}
