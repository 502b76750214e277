//! A conversation with images, one step at a time: an entry of an image, a chunk of the prompt, or a token.

use std::time::{Duration, Instant};

use crate::error::Result;
use crate::text::{self, Features, Generation, GenerationOptions, TextSession};

use super::model::{Image, VisionModel, VisionPrompt};

/// What one step did.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A tile or a whole image was looked at.
    Looked {
        /// Entries so far.
        done: usize,
        /// Entries in all that the conversation's cache did not hold.
        total: usize,
    },
    /// What a text generation does.
    Text(text::Event),
}

/// A generation in progress. It belongs to the session that began it.
#[derive(Debug)]
pub struct VisionGeneration {
    inner: Generation,
    /// Images that the cache does not hold, and the entries to look at: image and entry.
    images: Vec<Image>,
    entries: Vec<(usize, usize)>,
    looked: usize,
    features: Option<Features>,
    looking: Duration,
}

impl VisionGeneration {
    /// Time spent on the images, on the prompt, and on the tokens.
    #[must_use]
    pub fn times(&self) -> (Duration, Duration, Duration) {
        let (prefill, decode) = self.inner.times();
        (self.looking, prefill, decode)
    }

    /// The features of the images that were looked at so far, `[tokens, hidden]`.
    #[must_use]
    pub fn features(&self) -> &[f32] {
        self.features.as_ref().or(self.inner.features()).map_or(&[], |features| &features.rows)
    }

    /// The logits from which the tokens were taken, `[tokens, vocabulary]`, if they were to be recorded.
    #[must_use]
    pub fn recorded(&self) -> &[f32] {
        self.inner.recorded()
    }

    /// Text that was held back: an incomplete character, or the start of a stop string.
    ///
    /// # Errors
    /// Those of the tokenizer.
    pub fn finish_text(&mut self, model: &VisionModel) -> Result<String> {
        self.inner.finish_text(model.text())
    }
}

/// A conversation's cache: a prompt that begins with what it holds, images included, starts from there, and these images
/// are not looked at again.
#[derive(Debug)]
pub struct VisionSession {
    text: TextSession,
}

impl VisionSession {
    /// An empty session.
    ///
    /// # Errors
    /// When memory is refused.
    pub fn new(model: &VisionModel) -> Result<Self> {
        Ok(Self { text: TextSession::new(model.text())? })
    }

    /// A session that goes on from what a text session has read.
    #[must_use]
    pub fn over(text: TextSession) -> Self {
        Self { text }
    }

    /// What it has read, to be kept for later prompts.
    #[must_use]
    pub fn into_text(self) -> TextSession {
        self.text
    }

    /// Positions of the last prompt that did not have to be computed again.
    #[must_use]
    pub fn reused(&self) -> usize {
        self.text.reused()
    }

    /// Begins to continue `prompt`, the whole conversation so far. Nothing is computed yet.
    ///
    /// # Errors
    /// Those of [`Generation::new`], among them a prompt whose images are too many for the context.
    pub fn begin(
        &mut self,
        model: &mut VisionModel,
        prompt: &VisionPrompt,
        options: GenerationOptions,
    ) -> Result<VisionGeneration> {
        let placeholder = model.placeholder();
        let inner = self.text.begin(model.text_mut(), prompt, options)?;
        let held = prompt.ids()[..self.text.reused()].iter().filter(|id| **id == placeholder).count();
        // The cache may end within an image, after a stopped prefill: that one is looked at again as a whole.
        let mut skipped = 0;
        let complete = |image: &&Image| {
            let end = skipped + image.tiling().tokens();
            let complete = end <= held;
            if complete {
                skipped = end;
            }
            complete
        };
        let first = prompt.images().iter().take_while(complete).count();
        let images = prompt.images()[first..].to_vec();
        let entries = (0..).zip(&images).flat_map(|(index, image)| {
            let count = image.tiling().entries().count();
            (0..count).map(move |entry| (index, entry))
        });
        let features = Features { placeholder, rows: Vec::new(), fed: held - skipped };
        Ok(VisionGeneration {
            entries: entries.collect(),
            inner,
            images,
            looked: 0,
            features: Some(features),
            looking: Duration::ZERO,
        })
    }

    /// Does one step of `generation`, which [`Self::begin`] made; `allowed` narrows the choice of the next token. After an
    /// error the step can be repeated.
    ///
    /// # Errors
    /// Those of [`VisionModel::look`] and [`Generation::step`].
    pub fn step(
        &mut self,
        model: &mut VisionModel,
        generation: &mut VisionGeneration,
        allowed: impl Fn(u32) -> bool,
    ) -> Result<Event> {
        if let Some((image, entry)) = generation.entries.get(generation.looked)
            && let Some(features) = &mut generation.features
        {
            let begun = Instant::now();
            model.look(&generation.images[*image], *entry, &mut features.rows)?;
            generation.looking += begun.elapsed();
            generation.looked += 1;
            return Ok(Event::Looked { done: generation.looked, total: generation.entries.len() });
        }
        if let Some(features) = generation.features.take() {
            generation.inner.set_features(features);
        }
        // Nothing stands behind a placeholder that the model says itself, and some graphs cannot look it up.
        let placeholder = model.placeholder();
        let allowed = |id| id != placeholder && allowed(id);
        self.text.step(model.text_mut(), &mut generation.inner, allowed).map(Event::Text)
    }
}
