//! How a model's folder lays texts out as tokens, and so how long a text is for it; no graph is needed.

use std::path::Path;

use crate::error::Result;
use crate::folder::ModelFolder;
use crate::tokenizer::Tokenizer;

use super::settings::{Settings, Side};
use super::tokens::Tokens;

/// Rows of a vocabulary where neither the folder nor the graph says how many there are.
const MOST_ROWS: usize = 1 << 20;

/// A folder's tokenizer and knobs.
#[derive(Debug)]
pub struct Ruler {
    tokenizer: Tokenizer,
    settings: Settings,
}

impl Ruler {
    /// Reads those of the model in `root`.
    ///
    /// # Errors
    /// [`Error::PartMissing`](crate::Error::PartMissing) without a tokenizer, and every error of a file that is there and is
    /// not what it claims to be.
    pub fn open(root: &Path) -> Result<Self> {
        Self::of(&ModelFolder::open(root)?)
    }

    pub(super) fn of(folder: &ModelFolder) -> Result<Self> {
        let rows = folder.config().count(&["vocab_size"])?.unwrap_or(MOST_ROWS);
        let tokenizer = Tokenizer::load(folder, rows)?;
        let settings = Settings::read(folder, &tokenizer)?;
        Ok(Self { tokenizer, settings })
    }

    /// The knobs.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The tokens that `text` becomes, cut off where the model's length for `side` ends.
    ///
    /// # Errors
    /// [`Error::BadRequest`](crate::Error::BadRequest) when the text cannot be represented.
    pub fn tokens(&self, text: &str, side: Side) -> Result<Tokens> {
        Tokens::new(&self.tokenizer, &self.settings, text, side)
    }

    /// The part of `document` that the model reads, as a share: 1 where it reads all of it.
    ///
    /// # Errors
    /// [`Error::BadRequest`](crate::Error::BadRequest) when the text cannot be represented.
    pub fn share(&self, document: &str) -> Result<f64> {
        let (prefix, length) = self.settings.side(Side::Document);
        let needed = self.tokenizer.encode_framed(document.trim(), usize::MAX)?.len() + usize::from(prefix.is_some());
        Ok((length as f64 / needed as f64).min(1.0))
    }
}
