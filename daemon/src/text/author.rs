//! A text model with all that it takes to answer messages with it.

use std::path::Path;

use eddy_models::chat::{ChatTemplate, Constrainer};
use eddy_models::folder::Wanted;
use eddy_models::text::{Prefixes, TextModel};
use eddy_models::{Result, Runtime, Stop};

/// A model, its chat template, what it has read, and what can hold its replies to a form.
#[derive(Debug)]
pub struct Author {
    /// The model.
    pub model: TextModel,
    /// The folder's chat template.
    pub template: ChatTemplate,
    /// What it has read.
    pub prefixes: Prefixes,
    /// Made when it is first needed: it goes through the whole vocabulary.
    constrainer: Option<Constrainer>,
}

impl Author {
    /// Loads the model in `folder`, which may keep `prefix_cache` bytes of what it reads for later turns; 256 MiB are
    /// some ten thousand positions of a model of 1.2B.
    ///
    /// # Errors
    /// Those of [`TextModel::load`] and [`ChatTemplate::load`].
    pub fn load(runtime: &Runtime, folder: &Path, wanted: Wanted, prefix_cache: usize, stop: &Stop) -> Result<Self> {
        Ok(Self {
            model: TextModel::load(runtime, folder, wanted, stop)?,
            template: ChatTemplate::load(folder)?,
            prefixes: Prefixes::new(prefix_cache),
            constrainer: None,
        })
    }

    /// What holds replies to a form.
    ///
    /// # Errors
    /// When the tokenizer does not say what its tokens are.
    pub(super) fn constrainer(&mut self) -> Result<&Constrainer> {
        let made = match self.constrainer.take() {
            Some(made) => made,
            None => {
                let (rows, end) = (self.model.backbone().vocabulary(), self.model.tokenizer().id("<|im_end|>")?);
                Constrainer::new(self.model.tokenizer(), rows, end)?
            }
        };
        Ok(self.constrainer.insert(made))
    }
}
