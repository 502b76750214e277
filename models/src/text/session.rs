//! A conversation's cache, and what it holds: a prompt that begins with it starts from there.

use crate::backbone::{Cache, Snapshot};
use crate::error::Result;

use super::generation::{Event, Generation, GenerationOptions};
use super::model::TextModel;

/// A cache, and what was fed to it.
#[derive(Debug)]
pub struct TextSession {
    cache: Cache,
    /// For each position its id, or what else tells apart what was fed there.
    fed: Vec<u64>,
    /// The same for all of the last prompt.
    prompt: Vec<u64>,
    /// The end of the last prompt, to go back to when a reply is not continued as it was.
    prompt_end: Option<Snapshot>,
    reused: usize,
}

impl TextSession {
    /// An empty session.
    ///
    /// # Errors
    /// When memory is refused.
    pub fn new(model: &TextModel) -> Result<Self> {
        Ok(Self { cache: model.new_cache()?, fed: Vec::new(), prompt: Vec::new(), prompt_end: None, reused: 0 })
    }

    /// Positions of the last prompt that did not have to be computed again.
    #[must_use]
    pub fn reused(&self) -> usize {
        self.reused
    }

    /// Begins to continue `prompt`, the whole conversation so far. What the cache holds of it is not computed again; where
    /// the prompt goes another way, the cache goes back to the end of the last prompt, or to the start.
    ///
    /// # Errors
    /// Those of [`Generation::new`]; the session is then at the point that the prompt shares with it.
    pub fn begin(&mut self, model: &mut TextModel, prompt: &[u32], options: GenerationOptions) -> Result<Generation> {
        let marks = prompt.iter().map(|id| u64::from(*id)).collect();
        self.begin_marked(model, prompt, marks, options)
    }

    /// Begins like [`Self::begin`] with a prompt of which ids do not say everything: `marks` tell apart what is fed at each
    /// of its positions.
    pub(crate) fn begin_marked(
        &mut self,
        model: &mut TextModel,
        prompt: &[u32],
        marks: Vec<u64>,
        options: GenerationOptions,
    ) -> Result<Generation> {
        let shared = self.fed.iter().zip(&marks).take_while(|(fed, wanted)| fed == wanted).count();
        // The last position is computed again in any case: its logits are what the reply begins with.
        let usable = shared.min(prompt.len().saturating_sub(1));
        if usable < self.fed.len() {
            match self.prompt_end.take().filter(|end| end.length() <= usable) {
                Some(end) => {
                    model.backbone().rewind(&mut self.cache, &end)?;
                    self.fed.truncate(end.length());
                }
                None => {
                    self.cache = model.new_cache()?;
                    self.fed.clear();
                }
            }
        }
        self.reused = self.fed.len();
        self.prompt = marks;
        Generation::new(model, &self.cache, prompt[self.fed.len()..].to_vec(), options)
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
        for id in generation.fed_after(self.fed.len() - self.reused) {
            let mark = self.prompt.get(self.fed.len()).copied().unwrap_or(u64::from(*id));
            self.fed.push(mark);
        }
        if let Event::Prefilled { done, total } = event
            && done == total
        {
            self.prompt_end = Some(model.backbone().snapshot(&self.cache));
        }
        Ok(event)
    }
}
