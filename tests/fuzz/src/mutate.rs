//! Changes of inputs: seeded, without knowledge of the code that they are run against.

use fastrand::Rng;

/// Changes made to one input at most.
const MOST_CHANGES: u32 = 8;
/// Bytes that one change adds at most.
const MOST_ADDED: usize = 256;

/// Where limits of counts and lengths tend to be.
const NUMBERS: [u64; 14] =
    [0, 1, 2, 7, 15, 16, 31, 127, 128, 255, 256, u16::MAX as u64, i32::MAX as u64, u32::MAX as u64];

/// Makes inputs out of others.
#[derive(Debug)]
pub struct Mutator {
    random: Rng,
    dictionary: Vec<Vec<u8>>,
}

impl Mutator {
    /// Changes drawn from `seed`; `dictionary` has what means something to the target.
    pub fn new(seed: u64, dictionary: Vec<Vec<u8>>) -> Self {
        Self { random: Rng::with_seed(seed), dictionary }
    }

    /// An input made of those in `pool`.
    pub fn next(&mut self, pool: &[Vec<u8>]) -> Vec<u8> {
        let random = &mut self.random;
        let mut input = random.choice(pool).cloned().unwrap_or_default();
        // Few changes are the rule: most inputs are to stay nearly whole.
        let changes = 1 + random.u32(..MOST_CHANGES).min(random.u32(..MOST_CHANGES));
        for _ in 0..changes {
            self.change(&mut input, pool);
        }
        input
    }

    fn change(&mut self, input: &mut Vec<u8>, pool: &[Vec<u8>]) {
        let random = &mut self.random;
        let at = random.usize(..=input.len());
        let length = 1 + random.usize(..MOST_ADDED).min(random.usize(..MOST_ADDED));
        let end = input.len().min(at + length);
        match random.u32(..10) {
            0 => {
                if let Some(byte) = input.get_mut(at) {
                    *byte ^= 1 << random.u32(..8);
                }
            }
            1 => {
                if let Some(byte) = input.get_mut(at) {
                    *byte = random.u8(..);
                }
            }
            2 => drop(input.drain(at..end)),
            3 => {
                let again = input[at..end].to_vec();
                splice(input, at, &again);
            }
            4 => {
                let noise: Vec<u8> = (at..end).map(|_| random.u8(..)).collect();
                splice(input, at, &noise);
            }
            5 => input.truncate(at),
            6 => {
                let number = NUMBERS[random.usize(..NUMBERS.len())].wrapping_add(random.u64(..3)).wrapping_sub(1);
                let width = [1, 2, 4, 8][random.usize(..4)];
                let bytes = if random.bool() { number.to_le_bytes() } else { number.to_be_bytes().map(u8::from) };
                let bytes = if random.bool() { &bytes[..width] } else { &bytes[8 - width..] };
                let end = input.len().min(at + width);
                input[at..end].copy_from_slice(&bytes[..end - at]);
            }
            7 => {
                // A run of the same: depth, and lengths beyond a limit.
                let piece = match input.get(at) {
                    Some(byte) => vec![*byte; 1 << random.u32(..12)],
                    None => Vec::new(),
                };
                splice(input, at, &piece);
            }
            8 => {
                if let Some(word) = self.random.choice(&self.dictionary).cloned() {
                    splice(input, at, &word);
                }
            }
            _ => {
                if let Some(other) = random.choice(pool).filter(|other| !other.is_empty()) {
                    let from = random.usize(..other.len());
                    let to = other.len().min(from + length * 4);
                    match random.bool() {
                        true => splice(input, at, &other[from..to]),
                        false => {
                            input.truncate(at);
                            input.extend_from_slice(&other[from..]);
                        }
                    }
                }
            }
        }
    }
}

fn splice(input: &mut Vec<u8>, at: usize, piece: &[u8]) {
    drop(input.splice(at..at, piece.iter().copied()));
}
