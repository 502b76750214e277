//! Sounds for tests: voices and rooms that are made by arithmetic, so that every run hears the same.

#![allow(dead_code, reason = "each test file uses its part")]

pub mod server;

/// A small generator of the same numbers every time.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// Uniform in [-1, 1).
    pub fn draw(&mut self) -> f32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }
}

/// Something like speech: syllables of a buzzing, wandering pitch through two wandering resonances, with hisses
/// between them and pauses between phrases. Peak 0.7.
pub fn voice(seed: u64, pitch: f32, rate: u32, len: usize) -> Vec<f32> {
    let mut random = Random::new(seed);
    let rate = rate as f32;
    let mut out = vec![0.0; len];
    let mut at = 0;
    while at < len {
        for _ in 0..4 + (random.draw().abs() * 8.0) as usize {
            let syllable = (rate * (0.12 + 0.1 * random.draw().abs())) as usize;
            let hiss = (rate * 0.05 * random.draw().abs()) as usize;
            let tone = pitch * (1.0 + 0.2 * random.draw());
            let formants = [500.0 + 300.0 * random.draw(), 1_600.0 + 700.0 * random.draw()];
            let mut states = [[0.0f32; 2]; 2];
            let mut phase = 0.0;
            for n in 0..hiss + syllable {
                let Some(sample) = out.get_mut(at + n) else {
                    break;
                };
                if n < hiss {
                    *sample = 0.08 * random.draw();
                    continue;
                }
                let along = (n - hiss) as f32 / syllable as f32;
                phase += tone * (1.0 - 0.15 * along) / rate;
                let pulse = if phase >= 1.0 { 1.0 } else { 0.01 * random.draw() };
                phase = phase.fract();
                let envelope = (std::f32::consts::PI * along).sin();
                for (formant, state) in formants.iter().zip(&mut states) {
                    let r = (-std::f32::consts::PI * 90.0 / rate).exp();
                    let y =
                        pulse + 2.0 * r * (std::f32::consts::TAU * formant / rate).cos() * state[0] - r * r * state[1];
                    *state = [y, state[0]];
                    *sample += envelope * y;
                }
            }
            at += hiss + syllable;
        }
        at += (rate * (0.2 + 0.3 * random.draw().abs())) as usize;
    }
    let peak = out.iter().fold(1e-9f32, |peak, sample| peak.max(sample.abs()));
    out.iter_mut().for_each(|sample| *sample *= 0.7 / peak);
    out
}

/// What a loudspeaker's signal becomes at a microphone in a room.
pub struct Room {
    /// From reference to first sound, seconds.
    pub delay: f32,
    /// Time in which the echo falls by 60 dB, seconds.
    pub reverberation: f32,
    /// Level of the direct sound.
    pub gain: f32,
    /// Whether the loudspeaker distorts (a soft clip at a third of full scale).
    pub clips: bool,
}

impl Room {
    /// The sound at the microphone, for a reference at `rate` Hz.
    pub fn hear(&self, played: &[f32], rate: u32) -> Vec<f32> {
        let rate = rate as f32;
        let driven: Vec<f32> = match self.clips {
            true => played.iter().map(|sample| (sample * 3.0).tanh() / 3.0).collect(),
            false => played.to_vec(),
        };
        let mut random = Random::new(99);
        let mut taps = vec![(0usize, self.gain)];
        let tail = (self.reverberation * rate) as usize;
        // Sparse reflections, denser than the ear needs and cheap enough for a debug build.
        for n in (40..tail).step_by(23) {
            let decay = (-6.9 * n as f32 / tail as f32).exp();
            taps.push((n + (random.draw().abs() * 20.0) as usize, 0.25 * self.gain * decay * random.draw()));
        }
        let delay = (self.delay * rate) as usize;
        let mut out = vec![0.0f32; played.len()];
        for (offset, gain) in taps {
            let shift = delay + offset;
            for (target, sample) in out.iter_mut().skip(shift).zip(&driven) {
                *target += gain * sample;
            }
        }
        out
    }
}

/// Root mean square.
pub fn rms(samples: &[f32]) -> f32 {
    (samples.iter().map(|sample| sample * sample).sum::<f32>() / samples.len().max(1) as f32).sqrt()
}

/// A ratio of levels, dB.
pub fn db(ratio: f32) -> f32 {
    20.0 * ratio.max(1e-9).log10()
}

/// Normalised correlation of two signals, as far as the shorter one goes.
pub fn correlation(a: &[f32], b: &[f32]) -> f32 {
    let len = a.len().min(b.len());
    let dot: f32 = a.iter().zip(b).map(|(a, b)| a * b).sum();
    dot / (rms(&a[..len]) * rms(&b[..len]) * len as f32).max(1e-12)
}
