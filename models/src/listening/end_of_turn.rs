//! Smart Turn: the probability that a speaker has finished, from how the last eight seconds sound.
//!
//! The weights are built in (BSD-2-Clause, `models/embedded/smart-turn`). The features are those of Whisper's extractor for
//! eight seconds: the sound is brought to zero mean and unit variance, padded at its start, and turned into 80 log-mel bins.

use std::sync::Arc;

use realfft::{RealFftPlanner, RealToComplex};

use crate::dsp::{MelFilter, slaney_filters};
use crate::error::{Error, Result};
use crate::graph::{Graph, Stop};
use crate::runtime::Runtime;
use crate::tensor::tensor;

const WEIGHTS: &[u8] = include_bytes!("../../embedded/smart-turn/smart_turn_v3.2.onnx");
const NAME: &str = "smart-turn (built in)";
const SECONDS: usize = 8;
const FFT: usize = 400;
const HOP: usize = 160;
const BINS: usize = 80;
const FRAMES: usize = SECONDS * EndOfTurn::SAMPLE_RATE as usize / HOP;

/// The end-of-turn model.
pub struct EndOfTurn {
    graph: Graph,
    transform: Arc<dyn RealToComplex<f64>>,
    window: Vec<f64>,
    filters: Vec<MelFilter>,
}

impl std::fmt::Debug for EndOfTurn {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("EndOfTurn").finish_non_exhaustive()
    }
}

impl EndOfTurn {
    /// Samples per second that it listens to.
    pub const SAMPLE_RATE: u32 = 16_000;
    /// Samples that it looks at: the last eight seconds.
    pub const REACH: usize = SECONDS * Self::SAMPLE_RATE as usize;

    /// Builds the session.
    ///
    /// # Errors
    /// [`Error::Graph`] when the runtime refuses it.
    pub fn load(runtime: &Runtime, stop: &Stop) -> Result<Self> {
        let window =
            (0..FFT).map(|index| 0.5 - 0.5 * (std::f64::consts::TAU * index as f64 / FFT as f64).cos()).collect();
        Ok(Self {
            graph: Graph::carried(runtime, NAME, WEIGHTS, stop)?,
            transform: RealFftPlanner::new().plan_fft_forward(FFT),
            window,
            filters: slaney_filters(BINS, FFT, Self::SAMPLE_RATE, [0.0, f64::from(Self::SAMPLE_RATE) / 2.0]),
        })
    }

    /// The probability that the person whose turn `speech` holds (mono, [-1, 1]) has finished. Looks at the last
    /// [`Self::REACH`] samples.
    ///
    /// # Errors
    /// [`Error::BadRequest`] without sound, [`Error::Graph`], [`Error::Stopped`].
    pub fn probability(&mut self, speech: &[f32]) -> Result<f32> {
        if speech.is_empty() {
            return Err(Error::BadRequest("no sound to judge the end of a turn by".into()));
        }
        let features = self.features(speech);
        let value = tensor(&[1, BINS, FRAMES], &features).map_err(|error| self.graph.failure(&error))?;
        let (_, probability) = self.graph.run(vec![("input_features", value.into())])?.floats("logits")?;
        // The output is named logits and has passed a sigmoid already.
        probability.first().copied().ok_or_else(|| self.graph.unusable())
    }

    /// Whisper's log-mel features of the last eight seconds, `[80, 800]`.
    #[must_use]
    pub fn features(&self, speech: &[f32]) -> Vec<f32> {
        let sound = normalised(&speech[speech.len().saturating_sub(Self::REACH)..]);
        // The frame of index n is centred on sample n * hop; beyond the ends the sound is mirrored.
        let sample = |at: i64| {
            let last = sound.len() as i64 - 1;
            let mirrored = if at < 0 { -at } else { at };
            sound[(if mirrored > last { 2 * last - mirrored } else { mirrored }) as usize]
        };
        let (mut input, mut output) = (self.transform.make_input_vec(), self.transform.make_output_vec());
        let mut scratch = self.transform.make_scratch_vec();
        let mut log_mel = vec![0.0; BINS * FRAMES];
        for frame in 0..FRAMES {
            let start = (frame * HOP) as i64 - (FFT / 2) as i64;
            for (index, (value, weight)) in input.iter_mut().zip(&self.window).enumerate() {
                *value = sample(start + index as i64) * weight;
            }
            // The buffers come from the plan itself, so their lengths always fit.
            let transformed = self.transform.process_with_scratch(&mut input, &mut output, &mut scratch);
            debug_assert!(transformed.is_ok());
            for (bin, filter) in self.filters.iter().enumerate() {
                let energy = filter.apply(|frequency| output[frequency].norm_sqr());
                log_mel[bin * FRAMES + frame] = energy.max(1e-10).log10();
            }
        }
        let floor = log_mel.iter().copied().fold(f64::NEG_INFINITY, f64::max) - 8.0;
        log_mel.into_iter().map(|value| ((value.max(floor) + 4.0) / 4.0) as f32).collect()
    }
}

/// Eight seconds that end with `speech`, at zero mean and unit variance.
fn normalised(speech: &[f32]) -> Vec<f64> {
    let mut sound = vec![0.0; EndOfTurn::REACH - speech.len()];
    sound.extend(speech.iter().map(|sample| f64::from(*sample)));
    let count = sound.len() as f64;
    let mean = sound.iter().sum::<f64>() / count;
    let variance = sound.iter().map(|sample| (sample - mean).powi(2)).sum::<f64>() / count;
    let scale = 1.0 / (variance + 1e-7).sqrt();
    for sample in &mut sound {
        *sample = (*sample - mean) * scale;
    }
    sound
}
