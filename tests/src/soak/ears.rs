//! The hearing of the live voice over sound that is computed: canceller, detectors and judge as they are, time as it comes.

use std::time::{Duration, Instant};

use eddy_audio::ear::{FRAME, RATE};
use eddy_audio::echo::{EchoCanceller, Report};
use eddy_audio::resample::resample;
use eddy_config::Sources;
use eddy_models::RuntimeOptions;
use eddyd::voice::{Attention, Frame, Hearing, Noticed};

use crate::fixtures::runtime_folder;
use crate::room::{ROOM, spoken};
use crate::sounds::{Random, rms};

/// Seconds of a frame.
pub const STEP: f64 = FRAME as f64 / RATE as f64;

/// Ears that hear what they are given.
pub struct Ears {
    canceller: EchoCanceller,
    hearing: Hearing,
    said: Vec<f32>,
    /// Whether the reply is held.
    holding: bool,
    /// The judge's answer, and in how many frames it is known.
    pending: Option<(f32, usize)>,
    /// How long the judge took, each time.
    pub judging: Vec<f64>,
    /// What it said last.
    pub judgement: Option<f32>,
}

impl Default for Ears {
    fn default() -> Self {
        let config = Sources::default().load().unwrap_or_else(|error| panic!("{error}")).config;
        let mut hearing = Hearing::new(&config);
        let runtime = RuntimeOptions { cache: Some(runtime_folder()), threads: Some(1), ..RuntimeOptions::default() };
        hearing.load(&runtime).unwrap();
        let canceller = EchoCanceller::new(RATE, false);
        Self {
            canceller,
            hearing,
            said: Vec::new(),
            holding: false,
            pending: None,
            judging: Vec::new(),
            judgement: None,
        }
    }
}

impl Ears {
    /// Another microphone in another room.
    pub fn restart(&mut self) {
        self.canceller = EchoCanceller::new(RATE, false);
        self.hearing.restart();
        self.said.clear();
        self.pending = None;
    }

    /// Begins to listen for something else.
    pub fn turn_to(&mut self, attention: Attention) {
        self.holding = false;
        match attention {
            // What has begun is a turn already.
            Attention::Turn => self.hearing.begin_turn(),
            Attention::Nothing | Attention::Call | Attention::Beginning | Attention::Interruption => {
                self.hearing.rest()
            }
        }
        self.said = if attention == Attention::Turn { self.hearing.utterance() } else { Vec::new() };
        self.pending = None;
    }

    /// Hears a frame.
    pub fn hear(&mut self, played: &[f32], recorded: &[f32], attention: Attention) -> (Option<Noticed>, Report) {
        let near = attention == Attention::Turn;
        self.canceller.set_near_end(attention != Attention::Interruption || self.holding);
        let mut clean = [0.0; FRAME];
        self.canceller.process(played, recorded, &mut clean);
        if near {
            self.said.extend_from_slice(&clean);
        }
        if let Some((ended, frames)) = self.pending.take() {
            match frames {
                0 => self.hearing.judged(ended),
                frames => self.pending = Some((ended, frames - 1)),
            }
        }
        let echo = self.canceller.report().into();
        let (recorded, played) = (recorded.try_into().unwrap(), played.try_into().unwrap());
        let frame = Frame { recorded, clean: &clean, played, echo };
        let noticed = self.hearing.push(frame, attention, &self.said).unwrap();
        match noticed {
            Some(Noticed::Suspected) => self.holding = true,
            Some(Noticed::Denied | Noticed::Confirmed) => self.holding = false,
            _ => {}
        }
        if noticed == Some(Noticed::Paused) {
            // The answer takes as long as it takes, also in this time.
            let begun = Instant::now();
            let ended = self.hearing.wait_for_judge(Duration::from_secs(20)).expect("the judge answers");
            let took = begun.elapsed().as_secs_f64();
            self.judging.push(took);
            self.judgement = Some(ended);
            self.pending = Some((ended, (took / STEP).ceil() as usize));
        }
        (noticed, self.canceller.report())
    }

    /// How well the echo is taken out.
    #[must_use]
    pub fn report(&self) -> Report {
        self.canceller.report()
    }
}

/// What espeak-ng says, at the rate of ears and with this level (RMS where it sounds).
#[must_use]
pub fn voice(text: &str, level: f32) -> Vec<f32> {
    let mut samples = resample(&spoken(text), ROOM, RATE).unwrap();
    let loud: Vec<f32> = samples.iter().copied().filter(|sample| sample.abs() > 0.01).collect();
    let scale = level / rms(&loud).max(1e-6);
    samples.iter_mut().for_each(|sample| *sample = (*sample * scale).clamp(-1.0, 1.0));
    samples
}

/// The hiss of a room, at this level (RMS).
pub fn add_noise(samples: &mut [f32], level: f32, seed: u64) {
    let mut random = Random::new(seed);
    samples.iter_mut().for_each(|sample| *sample += level * 1.732 * random.draw());
}
