//! Rows that are fed in the places of a placeholder token: what another part of a model saw.

use crate::backbone::TokenEmbedding;
use crate::error::{Error, Result};

/// Any id: its row is looked up where a placeholder stands, and overwritten. Some graphs cannot look up the placeholder
/// itself, because they put features there on their own.
const STAND_IN: u32 = 0;

/// Rows for the placeholders of a prompt, in order.
#[derive(Debug, Clone)]
pub(crate) struct Features {
    /// The token in whose places they go.
    pub placeholder: u32,
    /// `[placeholders, hidden]`.
    pub rows: Vec<f32>,
    /// Placeholders whose rows have been fed.
    pub fed: usize,
}

impl Features {
    /// Placeholders among `ids`.
    pub fn places(&self, ids: &[u32]) -> usize {
        ids.iter().filter(|id| **id == self.placeholder).count()
    }

    /// Appends the embeddings of `ids` to `out`, the next features in the places of placeholders.
    ///
    /// # Errors
    /// [`Error::BadRequest`] when there are fewer features than places.
    pub fn embed(&self, ids: &[u32], embedding: &mut TokenEmbedding, out: &mut Vec<f32>) -> Result<()> {
        let start = out.len();
        let looked_up: Vec<u32> = ids.iter().map(|id| if *id == self.placeholder { STAND_IN } else { *id }).collect();
        embedding.append(&looked_up, out)?;
        let hidden = (out.len() - start) / ids.len().max(1);
        let mut features = self.rows.chunks_exact(hidden.max(1)).skip(self.fed);
        for (id, row) in ids.iter().zip(out[start..].chunks_exact_mut(hidden.max(1))) {
            if *id == self.placeholder {
                let feature = features
                    .next()
                    .ok_or_else(|| Error::BadRequest("the prompt has more places than features".into()))?;
                row.copy_from_slice(feature);
            }
        }
        Ok(())
    }
}
