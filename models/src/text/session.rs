//! One conversation's cache, and what it holds: a prompt that begins with it starts from there.

use crate::backbone::{Cache, Snapshot};
use crate::error::Result;

use super::generation::{Event, Generation, GenerationOptions};
use super::model::TextModel;

/// Points to go back to in one session. A snapshot of a 1.2B model is a quarter of a megabyte.
const MOST_POINTS: usize = 16;

/// A cache with the ids that were fed to it.
#[derive(Debug)]
pub struct TextSession {
    cache: Cache,
    fed: Vec<u32>,
    /// Where the cache can go back to, the shortest first: the ends of the prefill's chunks, which are ends of messages
    /// where the prompt allows it, and the ends of prompts.
    points: Vec<Snapshot>,
    reused: usize,
}

impl TextSession {
    /// An empty session.
    ///
    /// # Errors
    /// When memory is refused.
    pub fn new(model: &TextModel) -> Result<Self> {
        Ok(Self { cache: model.new_cache()?, fed: Vec::new(), points: Vec::new(), reused: 0 })
    }

    /// Positions of the last prompt that did not have to be computed again.
    #[must_use]
    pub fn reused(&self) -> usize {
        self.reused
    }

    /// Bytes that it occupies.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.cache.bytes() + self.points.iter().map(Snapshot::bytes).sum::<usize>()
    }

    /// The ids that it has read.
    #[must_use]
    pub fn fed(&self) -> &[u32] {
        &self.fed
    }

    /// How many of `prompt`'s first positions need not be computed again.
    #[must_use]
    pub fn useful_for(&self, prompt: &[u32]) -> usize {
        let shared = self.fed.iter().zip(prompt).take_while(|(fed, wanted)| fed == wanted).count();
        // The last position is computed again in any case: its logits are what the reply begins with.
        let usable = shared.min(prompt.len().saturating_sub(1));
        if usable == self.fed.len() { usable } else { self.point(usable).map_or(0, Snapshot::length) }
    }

    /// A session of its own with the first `length` positions, which is what [`Self::useful_for`] has told.
    ///
    /// # Errors
    /// When memory is refused.
    pub fn fork(&self, model: &mut TextModel, length: usize) -> Result<Self> {
        let end = match self.point(length) {
            Some(point) if point.length() == length => point.clone(),
            _ => model.backbone().snapshot(&self.cache),
        };
        let length = end.length();
        Ok(Self {
            cache: model.backbone().fork(&self.cache, &end)?,
            fed: self.fed[..length].to_vec(),
            points: self.points.iter().filter(|point| point.length() <= length).cloned().collect(),
            reused: 0,
        })
    }

    /// Begins to continue `prompt`, the whole conversation so far. What the cache holds of it is not computed again; where
    /// the prompt goes another way, the cache goes back to the last point before that, or to the start.
    ///
    /// # Errors
    /// Those of [`Generation::new`]; the session is then at the point that the prompt shares with it.
    pub fn begin(&mut self, model: &mut TextModel, prompt: &[u32], options: GenerationOptions) -> Result<Generation> {
        let useful = self.useful_for(prompt);
        if useful < self.fed.len() {
            self.points.retain(|point| point.length() <= useful);
            match self.points.last() {
                Some(end) => model.backbone().rewind(&mut self.cache, end)?,
                None => self.cache = model.new_cache()?,
            }
            self.fed.truncate(useful);
        }
        self.reused = useful;
        Generation::new(model, &self.cache, prompt[useful..].to_vec(), options)
    }

    /// Does one step of `generation`, which [`Self::begin`] made.
    ///
    /// # Errors
    /// Those of [`Generation::step`].
    pub fn step(
        &mut self,
        model: &mut TextModel,
        generation: &mut Generation,
        allowed: impl Fn(u32) -> bool,
    ) -> Result<Event> {
        let event = generation.step(model, &mut self.cache, allowed)?;
        self.fed.extend_from_slice(generation.fed_after(self.fed.len() - self.reused));
        if let Event::Prefilled { .. } = event {
            if self.points.len() >= MOST_POINTS {
                // The first is what conversations share, and the last is what this one goes back to.
                self.points.remove(1);
            }
            self.points.push(model.backbone().snapshot(&self.cache));
        }
        Ok(event)
    }

    fn point(&self, most: usize) -> Option<&Snapshot> {
        self.points.iter().rev().find(|point| point.length() <= most)
    }
}
