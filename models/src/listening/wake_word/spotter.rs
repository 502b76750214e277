//! Looks for the enrolled phrase in a stream of sound, while there is speech in it.

use std::collections::VecDeque;

use super::embedder::{Embedder, Embedding};
use super::examples::{Examples, of_length_one};
use crate::error::Result;
use crate::graph::Stop;
use crate::listening::VoiceActivity;
use crate::runtime::Runtime;

/// Sound from before the first speech that is looked at with it: the first window begins this long before the phrase.
const LEAD: usize = 10_240;
/// How long it goes on without speech: the last window ends behind the phrase.
const HANG: usize = 8_000;
/// Steps that a better match may come behind the first good one.
const PATIENCE: usize = 2;

/// The probability of speech from which a recording is looked at.
const SUSPECTED: f32 = 0.35;

/// The phrase was heard.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spotted {
    /// How alike it was: 0 as the most similar unrelated speech, 1 as the recordings among themselves.
    pub score: f32,
    /// Samples from the end of the phrase to the last sample that was pushed.
    pub ago: usize,
}

#[derive(Debug, Clone, Copy)]
struct Candidate {
    score: f32,
    behind: usize,
    steps: usize,
}

/// Listens for one phrase. Computes nothing while nobody speaks.
#[derive(Debug)]
pub struct WakeWord {
    embedder: Embedder,
    examples: Examples,
    threshold: f32,
    /// The last sound while it sleeps.
    lead: VecDeque<f32>,
    /// Samples without speech, while it is awake.
    quiet: Option<usize>,
    rows: Vec<Embedding>,
    candidate: Option<Candidate>,
    best: f32,
}

impl WakeWord {
    /// Loads the front end; `threshold` is the least score of [`Spotted`].
    ///
    /// # Errors
    /// Those of the graphs.
    pub fn load(runtime: &Runtime, stop: &Stop, examples: Examples, threshold: f32) -> Result<Self> {
        Ok(Self {
            embedder: Embedder::load(runtime, stop)?,
            examples,
            threshold,
            lead: VecDeque::with_capacity(2 * LEAD),
            quiet: None,
            rows: Vec::new(),
            candidate: None,
            best: f32::NEG_INFINITY,
        })
    }

    /// The best score since the last call, found or not.
    pub fn take_best(&mut self) -> Option<f32> {
        let best = std::mem::replace(&mut self.best, f32::NEG_INFINITY);
        best.is_finite().then_some(best)
    }

    /// Whether it computes: somebody speaks, or did just now.
    #[must_use]
    pub fn is_awake(&self) -> bool {
        self.quiet.is_some()
    }

    /// Takes sound that nobody is to be called by; it may still be what comes before the phrase.
    pub fn remember(&mut self, samples: &[f32]) {
        if self.is_awake() {
            self.sleep();
        }
        self.lead.extend(samples);
        let over = self.lead.len().saturating_sub(LEAD);
        self.lead.drain(..over);
    }

    /// Takes sound, mono at 16 kHz in [-1, 1], and whether there is speech in it.
    ///
    /// # Errors
    /// Those of the graphs; it sleeps then until there is speech again.
    pub fn push(&mut self, samples: &[f32], speech: bool) -> Result<Option<Spotted>> {
        let quiet = match self.quiet {
            None if !speech => {
                self.remember(samples);
                return Ok(None);
            }
            Some(quiet) if !speech => quiet + samples.len(),
            _ => 0,
        };
        let mut sound: Vec<f32> = self.lead.drain(..).collect();
        sound.extend_from_slice(samples);
        self.quiet = Some(quiet);
        let embeddings = match self.embedder.push(&sound) {
            Ok(embeddings) => embeddings,
            Err(error) => {
                self.sleep();
                return Err(error);
            }
        };
        let mut spotted = None;
        let made = embeddings.len();
        for (at, embedding) in embeddings.into_iter().enumerate() {
            let later = (made - 1 - at) * Embedder::PIECE + self.embedder.behind();
            spotted = spotted.or(self.step(embedding, later));
        }
        if quiet > HANG {
            spotted = spotted.or_else(|| self.candidate.take().map(|found| self.found(found, self.embedder.behind())));
            self.sleep();
        } else if spotted.is_some() {
            self.sleep();
        }
        Ok(spotted)
    }

    /// Every time the phrase is said in a whole recording: the sample where it ends, and the score.
    ///
    /// # Errors
    /// Those of the graphs.
    pub fn find(&mut self, detector: &mut VoiceActivity, recording: &[f32]) -> Result<Vec<(usize, f32)>> {
        detector.reset();
        let padded = [recording, &vec![0.0; 2 * HANG]].concat();
        let (mut found, mut heard) = (Vec::new(), 0);
        for chunk in padded.chunks_exact(VoiceActivity::CHUNK) {
            let speech = detector.probability(chunk)? >= SUSPECTED;
            heard += chunk.len();
            if let Some(spotted) = self.push(chunk, speech)? {
                found.push((heard.saturating_sub(spotted.ago), spotted.score));
            }
        }
        self.remember(&[]);
        Ok(found)
    }

    fn sleep(&mut self) {
        self.embedder.reset();
        self.rows.clear();
        self.candidate = None;
        self.quiet = None;
    }

    /// Takes the next embedding, whose window ended `later` samples ago.
    fn step(&mut self, embedding: Embedding, later: usize) -> Option<Spotted> {
        if self.rows.len() >= self.examples.longest() {
            self.rows.remove(0);
        }
        self.rows.push(of_length_one(embedding));
        let now = self.examples.best(&self.rows).map(|(likeness, behind)| Candidate {
            score: self.examples.score(likeness),
            behind,
            steps: 0,
        });
        self.best = self.best.max(now.map_or(f32::NEG_INFINITY, |now| now.score));
        let now = now.filter(|now| now.score >= self.threshold);
        self.candidate = match (self.candidate, now) {
            (Some(old), Some(now)) if now.score > old.score => Some(now),
            (Some(old), _) => Some(Candidate { steps: old.steps + 1, ..old }),
            (None, now) => now,
        };
        let found = self.candidate.take_if(|candidate| candidate.steps >= PATIENCE)?;
        Some(self.found(found, later))
    }

    fn found(&self, found: Candidate, later: usize) -> Spotted {
        Spotted { score: found.score, ago: found.steps * Embedder::PIECE + found.behind + later }
    }
}
