//! A vision-language model with all that it takes to answer questions with it.

use std::path::Path;

use eddy_models::chat::ChatTemplate;
use eddy_models::folder::Wanted;
use eddy_models::text::Prefixes;
use eddy_models::vision::VisionModel;
use eddy_models::{Result, Runtime, Stop};

/// Bytes of what has been read and looked at that are kept for later questions.
const KEPT_BYTES: usize = 256 << 20;

/// A model, its chat template, and what it has read.
#[derive(Debug)]
pub struct Viewer {
    /// The model.
    pub model: VisionModel,
    /// The folder's chat template.
    pub template: ChatTemplate,
    /// What it has read. Images are part of it: a second question about the same ones does not look again.
    pub prefixes: Prefixes,
}

impl Viewer {
    /// Loads the model in `folder`.
    ///
    /// # Errors
    /// Those of [`VisionModel::load`] and [`ChatTemplate::load`].
    pub fn load(runtime: &Runtime, folder: &Path, wanted: Wanted, stop: &Stop) -> Result<Self> {
        Ok(Self {
            model: VisionModel::load(runtime, folder, wanted, stop)?,
            template: ChatTemplate::load(folder)?,
            prefixes: Prefixes::new(KEPT_BYTES),
        })
    }
}
