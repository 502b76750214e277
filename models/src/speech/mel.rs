//! The mel front end: samples to normalised log-mel features, growing while a person still speaks.
//!
//! Follows NeMo's `AudioToMelSpectrogramPreprocessor` as liquid-audio configures it: pre-emphasis, centred frames with
//! zero padding, a symmetric Hann window, Slaney mel filters, natural logarithm, normalisation per bin over the valid
//! frames. Features of a growing clip equal those of the whole clip, because only what does not depend on later samples
//! is kept.

use std::sync::Arc;

use realfft::{RealFftPlanner, RealToComplex};

use crate::dsp::{MelFilter, slaney_filters};
use crate::error::{Error, Result};
use crate::folder::{Json, ModelFolder};

/// Added to a bin's standard deviation (NeMo's `CONSTANT`).
const DEVIATION_FLOOR: f64 = 1e-5;

/// The numbers of `mel_config.json`.
#[derive(Debug, Clone, PartialEq)]
pub struct MelSettings {
    /// Samples per second.
    pub sample_rate: u32,
    /// Samples in one Fourier transform.
    pub fft: usize,
    /// Samples in one window.
    pub window: usize,
    /// Samples between two frames.
    pub hop: usize,
    /// Mel bins.
    pub bins: usize,
    /// Lowest frequency, Hz.
    pub low: f64,
    /// Highest frequency, Hz.
    pub high: f64,
    /// Share of the previous sample that is subtracted.
    pub pre_emphasis: f32,
    /// Added before the logarithm.
    pub log_guard: f32,
}

impl Default for MelSettings {
    fn default() -> Self {
        Self {
            sample_rate: 16_000,
            fft: 512,
            window: 400,
            hop: 160,
            bins: 128,
            low: 0.0,
            high: 8_000.0,
            pre_emphasis: 0.97,
            log_guard: (2.0_f32).powi(-24),
        }
    }
}

impl MelSettings {
    /// Reads `mel_config.json` beside the graphs or in the root, and `config.json`'s `preprocessor` where it is silent.
    pub(super) fn read(folder: &ModelFolder) -> Result<Self> {
        let name = "mel_config.json";
        let place = folder.beside_graphs(name);
        let home = place.as_deref().and_then(std::path::Path::parent).unwrap_or(folder.root());
        let (mel, config, usual) = (Json::read(home, name)?, folder.config(), Self::default());
        let count = |key: &str, nemo: &str, usual: usize| -> Result<usize> {
            Ok(mel.count(&[key])?.or(config.count(&["preprocessor", nemo])?).unwrap_or(usual))
        };
        let sample_rate = count("sample_rate", "sample_rate", usual.sample_rate as usize)?;
        let seconds = |nemo: &str| -> Result<Option<usize>> {
            let found = config.number(&["preprocessor", nemo])?;
            Ok(found.map(|seconds| (seconds * sample_rate as f64).round() as usize))
        };
        let settings = Self {
            sample_rate: sample_rate as u32,
            fft: count("n_fft", "n_fft", usual.fft)?,
            window: mel.count(&["win_length"])?.or(seconds("window_size")?).unwrap_or(usual.window),
            hop: mel.count(&["hop_length"])?.or(seconds("window_stride")?).unwrap_or(usual.hop),
            bins: count("n_mels", "features", usual.bins)?,
            low: mel.number(&["fmin"])?.unwrap_or(usual.low),
            high: mel.number(&["fmax"])?.unwrap_or(sample_rate as f64 / 2.0),
            pre_emphasis: mel.number(&["preemph"])?.map_or(usual.pre_emphasis, |value| value as f32),
            log_guard: mel.number(&["log_zero_guard"])?.map_or(usual.log_guard, |value| value as f32),
        };
        let sensible = (1_000..=384_000).contains(&settings.sample_rate)
            && (2..=1 << 16).contains(&settings.fft)
            && (1..=settings.fft).contains(&settings.window)
            && (1..=settings.window).contains(&settings.hop)
            && (1..=1024).contains(&settings.bins)
            && settings.low >= 0.0
            && settings.high > settings.low
            && settings.high <= f64::from(settings.sample_rate)
            && settings.log_guard > 0.0;
        match sensible {
            true => Ok(settings),
            false => Err(Error::Malformed {
                path: place.unwrap_or_else(|| folder.root().join(name)),
                reason: format!("the mel front end that it describes is impossible: {settings:?}"),
                remedy: "correct it, or download the folder again",
            }),
        }
    }
}

/// The window, the filters and the transform; shared by all clips of a model.
pub struct MelFrontEnd {
    settings: MelSettings,
    window: Vec<f32>,
    filters: Vec<MelFilter>,
    transform: Arc<dyn RealToComplex<f32>>,
}

impl std::fmt::Debug for MelFrontEnd {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("MelFrontEnd").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl MelFrontEnd {
    /// Plans the transform and computes window and filters.
    #[must_use]
    pub fn new(settings: MelSettings) -> Arc<Self> {
        let last = (settings.window.max(2) - 1) as f64;
        let window = (0..settings.window)
            .map(|index| (0.5 - 0.5 * (std::f64::consts::TAU * index as f64 / last).cos()) as f32)
            .collect();
        let transform = RealFftPlanner::new().plan_fft_forward(settings.fft);
        let range = [settings.low, settings.high];
        let filters = slaney_filters(settings.bins, settings.fft, settings.sample_rate, range);
        Arc::new(Self { window, filters, transform, settings })
    }

    /// The numbers that it was made from.
    #[must_use]
    pub fn settings(&self) -> &MelSettings {
        &self.settings
    }
}

/// Mel features of one utterance.
#[derive(Debug, Clone, PartialEq)]
pub struct MelFeatures {
    /// `[frames, bins]`, time-major.
    pub data: Vec<f32>,
    /// Number of frames.
    pub frames: usize,
}

/// The log-mel frames of a clip that may still grow.
#[derive(Debug, Clone)]
pub struct MelClip {
    front_end: Arc<MelFrontEnd>,
    /// Pre-emphasised samples from `first` on; earlier ones are in frames already.
    samples: Vec<f32>,
    first: usize,
    total: usize,
    previous: f32,
    /// Log-mel frames whose samples are all there, `[frames, bins]`.
    settled: Vec<f32>,
}

impl MelClip {
    /// An empty clip.
    #[must_use]
    pub fn new(front_end: &Arc<MelFrontEnd>) -> Self {
        Self {
            front_end: Arc::clone(front_end),
            samples: Vec::new(),
            first: 0,
            total: 0,
            previous: 0.0,
            settled: Vec::new(),
        }
    }

    /// Samples so far.
    #[must_use]
    pub fn samples(&self) -> usize {
        self.total
    }

    /// Adds mono samples in [-1, 1] at the front end's rate.
    pub fn push(&mut self, samples: &[f32]) {
        let front_end = Arc::clone(&self.front_end);
        let settings = &front_end.settings;
        self.samples.reserve(samples.len());
        for sample in samples {
            // The first sample has no predecessor and stays as it is: `previous` is zero then.
            self.samples.push(sample - settings.pre_emphasis * self.previous);
            self.previous = *sample;
        }
        self.total += samples.len();

        let mut work = Work::new(&front_end);
        let mut frame = self.settled.len() / settings.bins;
        while self.span(frame).1 <= self.total as i64 {
            self.frame(frame, &mut work);
            self.settled.extend_from_slice(&work.mel);
            frame += 1;
        }
        let needed = usize::try_from(self.span(frame).0).unwrap_or(0).min(self.total);
        self.samples.drain(..needed - self.first);
        self.first = needed;
    }

    /// The normalised features of what is there: `samples / hop + 1` frames, of which the last is zero.
    ///
    /// # Errors
    /// [`Error::Unhearable`] for fewer than two valid frames, whose standard deviation is undefined.
    pub fn features(&self) -> Result<MelFeatures> {
        let settings = &self.front_end.settings;
        let (bins, valid) = (settings.bins, self.total / settings.hop);
        if valid < 2 {
            return Err(Error::Unhearable {
                reason: format!(
                    "{:.0} ms of sound are too little to understand",
                    1000.0 * self.total as f64 / f64::from(settings.sample_rate)
                ),
                remedy: "record at least 0.1 s",
            });
        }
        let mut data = Vec::with_capacity((valid + 1) * bins);
        data.extend_from_slice(&self.settled[..self.settled.len().min(valid * bins)]);
        let mut work = Work::new(&self.front_end);
        for frame in data.len() / bins..valid {
            self.frame(frame, &mut work);
            data.extend_from_slice(&work.mel);
        }
        normalise(&mut data, bins);
        data.resize((valid + 1) * bins, 0.0);
        Ok(MelFeatures { data, frames: valid + 1 })
    }

    /// First sample and end of the windowed part of `frame`, which is centred on `frame * hop`.
    fn span(&self, frame: usize) -> (i64, i64) {
        let settings = &self.front_end.settings;
        let start =
            (frame * settings.hop) as i64 - (settings.fft / 2) as i64 + ((settings.fft - settings.window) / 2) as i64;
        (start, start + settings.window as i64)
    }

    /// Computes the log-mel bins of `frame` into `work.mel`; samples before the start and after the end are zero.
    fn frame(&self, frame: usize, work: &mut Work) {
        let front_end = &self.front_end;
        let settings = &front_end.settings;
        let offset = (settings.fft - settings.window) / 2;
        let (start, _) = self.span(frame);
        work.input.fill(0.0);
        for (index, weight) in front_end.window.iter().enumerate() {
            let at = start + index as i64 - self.first as i64;
            let sample = usize::try_from(at).ok().and_then(|at| self.samples.get(at)).copied().unwrap_or(0.0);
            work.input[offset + index] = sample * weight;
        }
        // The buffers come from the plan itself, so their lengths always fit.
        let transformed =
            front_end.transform.process_with_scratch(&mut work.input, &mut work.output, &mut work.scratch);
        debug_assert!(transformed.is_ok());
        for (power, bin) in work.power.iter_mut().zip(&work.output) {
            *power = bin.norm_sqr();
        }
        for (mel, filter) in work.mel.iter_mut().zip(&front_end.filters) {
            let energy = filter.apply(|bin| f64::from(work.power[bin])) as f32;
            *mel = (energy + settings.log_guard).ln();
        }
    }
}

/// Buffers for one frame.
struct Work {
    input: Vec<f32>,
    output: Vec<realfft::num_complex::Complex32>,
    scratch: Vec<realfft::num_complex::Complex32>,
    power: Vec<f32>,
    mel: Vec<f32>,
}

impl Work {
    fn new(front_end: &MelFrontEnd) -> Self {
        Self {
            input: front_end.transform.make_input_vec(),
            output: front_end.transform.make_output_vec(),
            scratch: front_end.transform.make_scratch_vec(),
            power: vec![0.0; front_end.settings.fft / 2 + 1],
            mel: vec![0.0; front_end.settings.bins],
        }
    }
}

/// Subtracts each bin's mean and divides by its standard deviation (divisor n - 1).
fn normalise(frames: &mut [f32], bins: usize) {
    let count = (frames.len() / bins) as f64;
    for bin in 0..bins {
        let column = || frames[bin..].iter().step_by(bins).map(|value| f64::from(*value));
        let mean = column().sum::<f64>() / count;
        let variance = column().map(|value| (value - mean).powi(2)).sum::<f64>() / (count - 1.0);
        let scale = 1.0 / (variance.sqrt() + DEVIATION_FLOOR);
        for value in frames[bin..].iter_mut().step_by(bins) {
            *value = ((f64::from(*value) - mean) * scale) as f32;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(count: usize) -> Vec<f32> {
        let mut random = fastrand::Rng::with_seed(5);
        (0..count).map(|_| random.f32() - 0.5).collect()
    }

    #[test]
    fn a_growing_clip_equals_the_whole() {
        let front_end = MelFrontEnd::new(MelSettings::default());
        let samples = noise(16_123);
        let mut whole = MelClip::new(&front_end);
        whole.push(&samples);
        for size in [1, 7, 160, 511, 4000] {
            let mut growing = MelClip::new(&front_end);
            for (index, piece) in samples.chunks(size).enumerate() {
                growing.push(piece);
                if index % 50 == 49 {
                    let mut so_far = MelClip::new(&front_end);
                    so_far.push(&samples[..growing.samples()]);
                    assert_eq!(growing.features().ok(), so_far.features().ok());
                }
            }
            assert_eq!(growing.features().expect("long enough"), whole.features().expect("long enough"));
        }
    }

    #[test]
    fn too_little_sound_is_an_error() {
        let mut clip = MelClip::new(&MelFrontEnd::new(MelSettings::default()));
        assert!(matches!(clip.features(), Err(Error::Unhearable { .. })));
        clip.push(&noise(319));
        assert!(matches!(clip.features(), Err(Error::Unhearable { .. })));
        clip.push(&noise(1));
        assert_eq!(clip.features().expect("two frames").frames, 3);
    }
}
