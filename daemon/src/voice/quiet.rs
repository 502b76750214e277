//! Tells a room in which nothing happens from one in which somebody may be speaking, by loudness alone, so that nothing
//! has to be looked at more closely most of the day.
//!
//! Promises to err on one side: what is louder than the room has been lately, by less than speech that a detector could
//! tell is, counts as something.

/// How much louder than the quietest of late a chunk may be and be nothing, as a factor of power (3 dB).
const NOTHING: f32 = 2.0;
/// Below this no microphone has anything to say, as power (-96 dB: the last bit of 16).
const SILENCE: f32 = 2.4e-10;
/// Chunks of nothing before the room is quiet: half a second.
const SETTLED: usize = 16;
/// Chunks of which the quietest is remembered, twice: four to eight seconds.
const WINDOW: usize = 128;

/// The follower of a room's loudness, chunk by chunk.
#[derive(Debug, Clone)]
pub struct Quiet {
    /// The least power in the window that is gone and in the one that goes on.
    least: [f32; 2],
    chunks: usize,
    /// Chunks of nothing in a row.
    settled: usize,
}

impl Default for Quiet {
    fn default() -> Self {
        Self { least: [f32::INFINITY; 2], chunks: 0, settled: 0 }
    }
}

impl Quiet {
    /// Takes the mean power of a chunk; whether the room is quiet, this chunk included.
    pub fn hears(&mut self, power: f32) -> bool {
        if self.chunks == WINDOW {
            self.least = [self.least[1], f32::INFINITY];
            self.chunks = 0;
        }
        self.chunks += 1;
        self.least[1] = self.least[1].min(power);
        let floor = self.least[0].min(self.least[1]).max(SILENCE);
        self.settled = if power <= NOTHING * floor { self.settled.saturating_add(1) } else { 0 };
        self.settled > SETTLED
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Powers of chunks of noise at `level`, which scatter by a fifth.
    fn noise(level: f32, seed: u32) -> impl Iterator<Item = f32> {
        let mut state = seed;
        std::iter::repeat_with(move || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            level * (0.8 + 0.4 * (state >> 8) as f32 / (1 << 24) as f32)
        })
    }

    #[test]
    fn a_room_is_quiet_after_half_a_second_of_its_own_noise() {
        let mut quiet = Quiet::default();
        let heard: Vec<bool> = noise(1e-7, 1).take(1000).map(|power| quiet.hears(power)).collect();
        assert!(!heard[..SETTLED].contains(&true));
        assert!(heard[SETTLED..].iter().filter(|quiet| **quiet).count() > 950);
        // Digital silence is no noise at all.
        let mut quiet = Quiet::default();
        assert_eq!((0..100).filter(|_| quiet.hears(0.0)).count(), 100 - SETTLED);
    }

    #[test]
    fn speech_above_the_noise_is_something_at_once_and_for_half_a_second_more() {
        let mut quiet = Quiet::default();
        for power in noise(1e-7, 2).take(300) {
            quiet.hears(power);
        }
        // As loud as the noise itself, on top of it and a little more.
        assert!(!quiet.hears(2.5e-7));
        let after = noise(1e-7, 3).take(100).position(|power| quiet.hears(power));
        assert!(after.is_some_and(|chunks| chunks >= SETTLED), "{after:?}");
    }

    #[test]
    fn a_room_that_grows_louder_becomes_quiet_again() {
        let mut quiet = Quiet::default();
        for power in noise(1e-8, 4).take(400) {
            quiet.hears(power);
        }
        let settled =
            noise(1e-6, 5).take(1000).position(|power| quiet.hears(power)).expect("the new noise is the room's");
        assert!((WINDOW..=2 * WINDOW + SETTLED + 1).contains(&settled), "{settled} chunks");
    }
}
