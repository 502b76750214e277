//! Tells a room in which nothing happens from one in which somebody may be speaking, by loudness alone, so that nothing
//! has to be looked at more closely most of the day.
//!
//! What adds less than the room's own loudness to it is taken for the room. Loudness is that of the differences from sample
//! to sample: hum and rumble, which would hide a voice otherwise, hardly count.

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
    last: f32,
    /// Of the chunk that goes on: the power of its differences, and its samples.
    sum: f32,
    samples: usize,
    /// The least power in the window that is gone and in the one that goes on.
    least: [f32; 2],
    chunks: usize,
    /// Chunks of nothing in a row.
    settled: usize,
}

impl Default for Quiet {
    fn default() -> Self {
        Self { last: 0.0, sum: 0.0, samples: 0, least: [f32::INFINITY; 2], chunks: 0, settled: 0 }
    }
}

impl Quiet {
    /// Takes samples of the chunk that goes on.
    pub fn push(&mut self, samples: &[f32]) {
        for sample in samples {
            self.sum += (sample - self.last).powi(2);
            self.last = *sample;
        }
        self.samples += samples.len();
    }

    /// The chunk ends here; whether the room is quiet, this chunk included.
    pub fn ends_chunk(&mut self) -> bool {
        let power = self.sum / self.samples.max(1) as f32;
        (self.sum, self.samples) = (0.0, 0);
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

    const CHUNK: usize = 512;

    /// A room that hisses, and what else is in it.
    struct Room {
        quiet: Quiet,
        state: u32,
        time: usize,
    }

    impl Room {
        fn new() -> Self {
            Self { quiet: Quiet::default(), state: 1, time: 0 }
        }

        /// So many chunks of noise and of `more`, a function of seconds; whether the room was quiet at each.
        fn hears(&mut self, chunks: usize, noise: f32, more: impl Fn(f32) -> f32) -> Vec<bool> {
            let mut quiet = Vec::new();
            for _ in 0..chunks {
                let samples: Vec<f32> =
                    (0..CHUNK).map(|_| self.sample(noise) + more(self.time as f32 / 16e3)).collect();
                self.quiet.push(&samples);
                quiet.push(self.quiet.ends_chunk());
            }
            quiet
        }

        fn sample(&mut self, noise: f32) -> f32 {
            self.time += 1;
            self.state = self.state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            noise * (2.0 * (self.state >> 8) as f32 / (1 << 24) as f32 - 1.0)
        }
    }

    fn tone(hertz: f32, peak: f32) -> impl Fn(f32) -> f32 {
        move |seconds| peak * (std::f32::consts::TAU * hertz * seconds).sin()
    }

    #[test]
    fn a_room_is_quiet_after_half_a_second_of_its_own_noise() {
        let heard = Room::new().hears(1000, 1e-3, |_| 0.0);
        assert!(!heard[..SETTLED].contains(&true));
        assert!(heard[SETTLED..].iter().all(|quiet| *quiet));
        // Digital silence is no noise at all.
        let heard = Room::new().hears(100, 0.0, |_| 0.0);
        assert_eq!(heard.iter().filter(|quiet| **quiet).count(), 100 - SETTLED);
    }

    #[test]
    fn what_is_louder_is_something_at_once_and_for_half_a_second_more() {
        let mut room = Room::new();
        room.hears(300, 1e-3, |_| 0.0);
        assert_eq!(room.hears(1, 1.6e-3, |_| 0.0), [false]);
        let after = room.hears(100, 1e-3, |_| 0.0).iter().position(|quiet| *quiet);
        assert_eq!(after, Some(SETTLED));
    }

    #[test]
    fn a_voice_below_the_hum_is_something() {
        let hum = tone(50.0, 0.1);
        let mut room = Room::new();
        assert!(room.hears(300, 1e-3, &hum)[100..].iter().all(|quiet| *quiet));
        let voice = tone(500.0, 0.02);
        assert!(!room.hears(4, 1e-3, |time| hum(time) + voice(time)).contains(&true));
    }

    #[test]
    fn a_room_that_grows_louder_becomes_quiet_again() {
        let mut room = Room::new();
        room.hears(400, 1e-4, |_| 0.0);
        let settled =
            room.hears(1000, 1e-3, |_| 0.0).iter().position(|quiet| *quiet).expect("it is the room's noise now");
        assert!((WINDOW..=2 * WINDOW + SETTLED + 1).contains(&settled), "{settled} chunks");
    }
}
