//! The inverse STFT: features of the detokenizer to samples, frame by frame.
//!
//! Follows the reference's `ISTFT` with `padding="same"`: a periodic Hann window, overlap-add, division by the summed
//! squares of the windows, and `(window - hop) / 2` samples cut at both ends. A sample is handed out once no later
//! frame can change it, so the stream equals the whole.

use std::sync::Arc;

use realfft::num_complex::Complex32;
use realfft::{ComplexToReal, RealFftPlanner};

use crate::error::{Error, Result};
use crate::folder::{Json, ModelFolder};

/// The numbers of the inverse STFT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StftSettings {
    /// Samples per second.
    pub sample_rate: u32,
    /// Samples in one transform and in one window.
    pub window: usize,
    /// Samples between two frames.
    pub hop: usize,
}

impl Default for StftSettings {
    fn default() -> Self {
        Self { sample_rate: 24_000, window: 1280, hop: 320 }
    }
}

impl StftSettings {
    /// Reads the `detokenizer` section of `mel_config.json` or `config.json`, where a folder has one.
    pub(super) fn read(folder: &ModelFolder) -> Result<Self> {
        let mel = Json::read(folder.graphs(), "mel_config.json")?;
        let usual = Self::default();
        let count = |keys: [&str; 2], usual: usize| -> Result<usize> {
            for key in keys {
                for json in [&mel, folder.config()] {
                    if let Some(count) = json.count(&["detokenizer", key])? {
                        return Ok(count);
                    }
                }
            }
            Ok(usual)
        };
        let settings = Self {
            sample_rate: count(["sample_rate", "sampling_rate"], usual.sample_rate as usize)? as u32,
            window: count(["n_fft", "win_length"], usual.window)?,
            hop: count(["hop_length", "hop"], usual.hop)?,
        };
        let sensible = (2..=1 << 16).contains(&settings.window)
            && (1..=settings.window).contains(&settings.hop)
            && settings.window.is_multiple_of(2)
            && (settings.window - settings.hop).is_multiple_of(2)
            && (1_000..=384_000).contains(&settings.sample_rate);
        match sensible {
            true => Ok(settings),
            false => Err(Error::Malformed {
                path: folder.root().join("config.json"),
                reason: format!("the inverse STFT that it describes is impossible: {settings:?}"),
                remedy: "correct it, or download the folder again",
            }),
        }
    }

    /// Floats in one feature row: log magnitudes, then angles.
    #[must_use]
    pub fn row(&self) -> usize {
        2 * (self.window / 2 + 1)
    }
}

/// An inverse STFT in progress.
pub struct InverseStft {
    hop: usize,
    window: Vec<f32>,
    transform: Arc<dyn ComplexToReal<f32>>,
    spectrum: Vec<Complex32>,
    frame: Vec<f32>,
    scratch: Vec<Complex32>,
    /// Overlap-added samples and squared windows that later frames may still change.
    sum: Vec<f32>,
    weight: Vec<f32>,
    /// Samples still to be cut at the start.
    cut: usize,
    started: bool,
}

impl std::fmt::Debug for InverseStft {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("InverseStft")
            .field("window", &self.window.len())
            .field("hop", &self.hop)
            .finish_non_exhaustive()
    }
}

impl InverseStft {
    /// Plans the transform.
    #[must_use]
    pub fn new(settings: &StftSettings) -> Self {
        let size = settings.window;
        let transform = RealFftPlanner::new().plan_fft_inverse(size);
        let window = (0..size)
            .map(|index| (0.5 - 0.5 * (std::f64::consts::TAU * index as f64 / size as f64).cos()) as f32)
            .collect();
        Self {
            hop: settings.hop,
            window,
            spectrum: transform.make_input_vec(),
            frame: transform.make_output_vec(),
            scratch: transform.make_scratch_vec(),
            transform,
            sum: vec![0.0; size],
            weight: vec![0.0; size],
            cut: (size - settings.hop) / 2,
            started: false,
        }
    }

    /// Adds one row of features, `[log magnitudes | angles]`, and appends the samples that it settles to `out`.
    ///
    /// # Errors
    /// [`Error::BadRequest`] for a row of another length.
    pub fn push(&mut self, row: &[f32], out: &mut Vec<f32>) -> Result<()> {
        let bins = self.spectrum.len();
        if row.len() != 2 * bins {
            return Err(Error::BadRequest(format!("a feature row of {} floats, not {}", row.len(), 2 * bins)));
        }
        let (magnitudes, angles) = row.split_at(bins);
        for (bin, (log_magnitude, angle)) in self.spectrum.iter_mut().zip(magnitudes.iter().zip(angles)) {
            *bin = Complex32::from_polar(log_magnitude.exp(), *angle);
        }
        // A real signal has no imaginary part there; the reference ignores what stands there.
        self.spectrum[0].im = 0.0;
        self.spectrum[bins - 1].im = 0.0;
        self.transform
            .process_with_scratch(&mut self.spectrum, &mut self.frame, &mut self.scratch)
            .map_err(|error| Error::BadRequest(format!("inverse transform: {error}")))?;
        let scale = 1.0 / self.window.len() as f32;
        for (index, window) in self.window.iter().enumerate() {
            self.sum[index] += self.frame[index] * scale * window;
            self.weight[index] += window * window;
        }
        self.started = true;
        self.hand_out(self.hop, out);
        Ok(())
    }

    /// Appends what is left and starts over.
    pub fn finish(&mut self, out: &mut Vec<f32>) {
        let rest = self.window.len() - self.hop;
        if self.started {
            self.hand_out(rest - rest / 2, out);
        }
        self.sum.fill(0.0);
        self.weight.fill(0.0);
        self.cut = rest / 2;
        self.started = false;
    }

    fn hand_out(&mut self, count: usize, out: &mut Vec<f32>) {
        let settled = self.sum.iter().zip(&self.weight).take(count);
        out.extend(settled.skip(self.cut).map(|(sum, weight)| sum / weight));
        self.cut = self.cut.saturating_sub(count);
        for buffer in [&mut self.sum, &mut self.weight] {
            buffer.copy_within(count.., 0);
            let kept = buffer.len() - count;
            buffer[kept..].fill(0.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_becomes_a_hop_of_samples() {
        let settings = StftSettings::default();
        let mut stft = InverseStft::new(&settings);
        for rows in [1, 2, 3, 6, 20] {
            let mut samples = Vec::new();
            for _ in 0..rows {
                stft.push(&vec![0.1; settings.row()], &mut samples).expect("right length");
            }
            stft.finish(&mut samples);
            assert_eq!(samples.len(), rows * settings.hop);
            assert!(samples.iter().all(|sample| sample.is_finite()));
        }
        let mut nothing = Vec::new();
        stft.finish(&mut nothing);
        assert!(nothing.is_empty());
    }
}
