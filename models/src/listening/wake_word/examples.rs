//! The enrolled phrase: recordings turned into embeddings, and how alike they are beside speech that is something else.
//!
//! An example is the sequence of embeddings whose windows end inside the phrase or shortly behind it. Each recording gives
//! four: as it is and under noise, because a room is louder on another day, and both shifted by half a step, because a
//! phrase begins anywhere between two steps.

use serde::{Deserialize, Serialize};

use super::embedder::{Embedder, Embedding};
use crate::error::{Error, Result};
use crate::listening::VoiceActivity;

/// Recordings that an enrolment takes.
pub const TAKES: usize = 3;
/// Embeddings of speech that says something else, of length one, in steps of 1/127.
const UNRELATED: &[u8] = include_bytes!("../../../embedded/wake-word/unrelated.i8");
/// The first window ends this long behind the beginning of the phrase, the last one at most so long behind its end.
const LEAD: usize = 4_000;
const TAIL: usize = 3_840;
/// How much weaker than the phrase the noise under its copy is: 12 dB.
const NOISE: f32 = 0.25;
/// Silence around a recording, so that its first window has something in front of it.
const AROUND: usize = 16_000;
const SPEECH: f32 = 0.5;
/// A phrase that is shorter is in too many others; a longer one nobody says twice alike.
const SHORTEST: usize = 4_800;
const LONGEST: usize = 40_000;
/// What the examples must have in common beyond what unrelated speech has with them, as a difference of cosines.
const LEAST: f32 = 0.02;

/// The phrase as one person says it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Examples {
    examples: Vec<Example>,
    /// The likeness of the most similar unrelated speech, and that of the least similar recording to the others.
    unrelated: f32,
    own: f32,
}

/// Embeddings of length one, and how many samples behind the phrase the last window ends.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Example {
    pub embeddings: Vec<Vec<f32>>,
    pub behind: usize,
}

impl Examples {
    /// Learns the phrase from recordings of it, mono at 16 kHz, each with nothing else said in it.
    ///
    /// # Errors
    /// [`Error::BadRequest`] when there are fewer than two, no or too much speech in one, or they are not alike; those of the
    /// graphs.
    pub fn enrol(embedder: &mut Embedder, detector: &mut VoiceActivity, recordings: &[Vec<f32>]) -> Result<Self> {
        if recordings.len() < 2 {
            return Err(Error::BadRequest("a wake word needs at least two recordings, better three".into()));
        }
        let (mut of_each, mut streams) = (Vec::new(), Vec::new());
        for (number, recording) in recordings.iter().enumerate() {
            let (examples, rows) = examples_of(embedder, detector, recording, number + 1)?;
            of_each.push(examples);
            streams.push(rows);
        }
        let likeness = |examples: &[Example], rows: &[Embedding]| {
            let ends = (1..=rows.len()).filter_map(|end| best(examples, &rows[..end]));
            ends.map(|(likeness, _)| likeness).fold(0.0, f32::max)
        };
        let mut own = f32::MAX;
        for (number, rows) in streams.iter().enumerate() {
            let others = of_each.iter().enumerate().filter(|(at, _)| *at != number);
            own = own.min(likeness(&others.flat_map(|(_, some)| some.clone()).collect::<Vec<_>>(), rows));
        }
        let examples = of_each.concat();
        let unrelated = likeness(&examples, &unrelated());
        if own - unrelated < LEAST {
            return Err(Error::BadRequest(format!(
                "the recordings are less alike ({own:.2}) than other speech is like them ({unrelated:.2}); say a longer \
                 phrase, in the same way each time, somewhere quiet"
            )));
        }
        Ok(Self { examples, unrelated, own })
    }

    /// Where a likeness lies between unrelated speech (0) and the enrolled recordings among themselves (1).
    #[must_use]
    pub fn score(&self, likeness: f32) -> f32 {
        (likeness - self.unrelated) / (self.own - self.unrelated)
    }

    /// Checks what came from a file.
    ///
    /// # Errors
    /// [`Error::BadRequest`] when nothing could be compared with it.
    pub fn check(&self) -> Result<()> {
        let whole = |example: &Example| {
            let rows = &example.embeddings;
            !rows.is_empty()
                && rows.len() <= LONGEST / Embedder::PIECE + 4
                && example.behind <= TAIL
                && rows.iter().all(|row| row.len() == Embedder::WIDTH && row.iter().all(|value| value.is_finite()))
        };
        let sound = !self.examples.is_empty() && self.examples.iter().all(whole) && self.own - self.unrelated >= LEAST;
        if sound { Ok(()) } else { Err(Error::BadRequest("these are no examples of a wake word".into())) }
    }

    /// The most steps that an example has.
    pub(super) fn longest(&self) -> usize {
        self.examples.iter().map(|example| example.embeddings.len()).max().unwrap_or(0)
    }

    /// How alike the end of `rows` and the most similar example are, and where that one's phrase ended: samples before
    /// the end of the last row's window.
    pub(super) fn best(&self, rows: &[Embedding]) -> Option<(f32, usize)> {
        best(&self.examples, rows)
    }
}

fn best(examples: &[Example], rows: &[Embedding]) -> Option<(f32, usize)> {
    let mut best = None;
    for example in examples {
        let count = example.embeddings.len();
        let Some(start) = rows.len().checked_sub(count) else { continue };
        let mut each: Vec<f32> = rows[start..].iter().zip(&example.embeddings).map(|(a, b)| product(a, b)).collect();
        // The less similar half of the steps: a phrase that begins alike and ends otherwise is another.
        each.sort_unstable_by(f32::total_cmp);
        each.truncate(count.div_ceil(2));
        let likeness = each.iter().sum::<f32>() / each.len() as f32;
        if best.is_none_or(|(most, _)| likeness > most) {
            best = Some((likeness, example.behind));
        }
    }
    best
}

fn product(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// The embedding at length one.
pub(super) fn of_length_one(mut embedding: Embedding) -> Embedding {
    let length = product(&embedding, &embedding).sqrt().max(1e-9);
    embedding.iter_mut().for_each(|value| *value /= length);
    embedding
}

fn unrelated() -> Vec<Embedding> {
    let rows = UNRELATED.as_chunks::<{ Embedder::WIDTH }>().0;
    rows.iter().map(|row| of_length_one(row.map(|value| f32::from(value.cast_signed())))).collect()
}

/// The examples of one recording, and all its embeddings in order.
fn examples_of(
    embedder: &mut Embedder,
    detector: &mut VoiceActivity,
    recording: &[f32],
    number: usize,
) -> Result<(Vec<Example>, Vec<Embedding>)> {
    let padded = [&vec![0.0; AROUND], recording, &vec![0.0; AROUND]].concat();
    let (begin, end) = speech_in(detector, &padded, number)?;
    let phrase = &padded[begin..end];
    let level = (phrase.iter().map(|sample| sample * sample).sum::<f32>() / phrase.len() as f32).sqrt();
    let mut random = fastrand::Rng::with_seed(1);
    // Uniform noise of this width has an effective value of one.
    let wide = 2.0 * 3f32.sqrt();
    let noisy: Vec<f32> = padded.iter().map(|sample| sample + NOISE * level * wide * (random.f32() - 0.5)).collect();
    let (mut examples, mut rows) = (Vec::new(), Vec::new());
    for sound in [&padded, &noisy] {
        for shift in [0, Embedder::PIECE / 2] {
            embedder.reset();
            let embeddings: Vec<_> = embedder.push(&sound[shift..])?.into_iter().map(of_length_one).collect();
            if rows.is_empty() {
                rows.clone_from(&embeddings);
            }
            let ends = (0..).map(|step| step * Embedder::PIECE + Embedder::FIRST + shift);
            let inside: Vec<_> =
                ends.zip(embeddings).filter(|(at, _)| (begin + LEAD..=end + TAIL).contains(at)).collect();
            let Some((last, _)) = inside.last() else { continue };
            examples.push(Example {
                behind: last.saturating_sub(end),
                embeddings: inside.into_iter().map(|(_, row)| row.to_vec()).collect(),
            });
        }
    }
    embedder.reset();
    Ok((examples, rows))
}

/// Where the one phrase in a recording begins and ends.
fn speech_in(detector: &mut VoiceActivity, sound: &[f32], number: usize) -> Result<(usize, usize)> {
    detector.reset();
    let (mut begin, mut end) = (None, 0);
    for (at, chunk) in sound.chunks_exact(VoiceActivity::CHUNK).enumerate() {
        if detector.probability(chunk)? >= SPEECH {
            begin.get_or_insert(at * VoiceActivity::CHUNK);
            end = (at + 1) * VoiceActivity::CHUNK;
        }
    }
    detector.reset();
    let refuse = |what: &str| Err(Error::BadRequest(format!("recording {number} {what}")));
    match begin {
        None => refuse("holds no speech; speak closer to the microphone"),
        Some(begin) if end - begin < SHORTEST => {
            refuse("is too short a phrase; two words or three syllables are better")
        }
        Some(begin) if end - begin > LONGEST => {
            refuse("holds more than a phrase: 2.5 s at most, with nothing else said before or behind it")
        }
        Some(begin) => Ok((begin, end)),
    }
}
