//! Signal processing that more than one front end needs.

/// One triangular filter over the bins of a Fourier transform.
#[derive(Debug, Clone)]
pub(crate) struct MelFilter {
    first: usize,
    weights: Vec<f64>,
}

impl MelFilter {
    /// The weighted sum of `power`, which gives the energy of a frequency bin.
    pub fn apply(&self, power: impl Fn(usize) -> f64) -> f64 {
        self.weights.iter().enumerate().map(|(index, weight)| weight * power(self.first + index)).sum()
    }
}

/// Triangular filters on Slaney's mel scale, each of unit area (librosa's `filters.mel`, `norm="slaney"`), between the two
/// frequencies of `range` in Hz.
pub(crate) fn slaney_filters(bins: usize, fft: usize, sample_rate: u32, range: [f64; 2]) -> Vec<MelFilter> {
    let [low, high] = range.map(hz_to_mel);
    let edges: Vec<f64> =
        (0..bins + 2).map(|index| mel_to_hz(low + (high - low) * index as f64 / (bins + 1) as f64)).collect();
    let hz = |bin: usize| bin as f64 * f64::from(sample_rate) / fft as f64;
    edges
        .windows(3)
        .map(|edge| {
            let weight = |bin: usize| {
                let rising = (hz(bin) - edge[0]) / (edge[1] - edge[0]);
                let falling = (edge[2] - hz(bin)) / (edge[2] - edge[1]);
                rising.min(falling).max(0.0) * 2.0 / (edge[2] - edge[0])
            };
            let bins = 0..=fft / 2;
            let first = bins.clone().find(|bin| weight(*bin) > 0.0).unwrap_or(0);
            MelFilter { first, weights: bins.skip(first).map(weight).take_while(|weight| *weight > 0.0).collect() }
        })
        .collect()
}

/// Slaney's scale: linear below 1 kHz, logarithmic above.
const HZ_PER_MEL: f64 = 200.0 / 3.0;
const BREAK_HZ: f64 = 1000.0;
const BREAK_MEL: f64 = BREAK_HZ / HZ_PER_MEL;

fn log_step() -> f64 {
    6.4_f64.ln() / 27.0
}

fn hz_to_mel(hz: f64) -> f64 {
    if hz < BREAK_HZ { hz / HZ_PER_MEL } else { BREAK_MEL + (hz / BREAK_HZ).ln() / log_step() }
}

fn mel_to_hz(mel: f64) -> f64 {
    if mel < BREAK_MEL { mel * HZ_PER_MEL } else { BREAK_HZ * (log_step() * (mel - BREAK_MEL)).exp() }
}
