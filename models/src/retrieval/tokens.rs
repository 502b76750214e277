//! A text's tokens as pylate lays them out: the first one, the prefix, the text, the filling.

use super::settings::{Expansion, Settings, Side};
use crate::error::Result;
use crate::tokenizer::Tokenizer;

/// One text, ready for the graph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tokens {
    /// Token ids.
    pub ids: Vec<u32>,
    /// 1 where the model looks, 0 where it does not.
    pub mask: Vec<i64>,
    /// Whether a position's vector is part of the answer.
    pub kept: Vec<bool>,
}

impl Tokens {
    /// Lays out `text`.
    ///
    /// # Errors
    /// [`crate::Error::BadRequest`] when the text cannot be represented.
    pub fn new(tokenizer: &Tokenizer, settings: &Settings, text: &str, side: Side) -> Result<Self> {
        let (prefix, length) = settings.side(side);
        // sentence-transformers strips before it tokenises.
        let mut ids = tokenizer.encode_framed(text.trim(), length - usize::from(prefix.is_some()))?;
        if let Some(prefix) = prefix {
            ids.insert(ids.len().min(1), prefix);
        }
        let mut mask = vec![1; ids.len()];
        let kept = match (side, settings.expansion) {
            (Side::Document, _) => ids.iter().map(|id| !settings.skiplist.contains(id)).collect(),
            (Side::Query, Expansion::None) => vec![true; ids.len()],
            (Side::Query, expansion) => {
                ids.resize(length, settings.pad);
                mask.resize(length, i64::from(expansion == Expansion::Seen));
                vec![true; length]
            }
        };
        Ok(Self { ids, mask, kept })
    }
}
