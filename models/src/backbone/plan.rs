//! What a decoder's graph and its folder say of it, before anything of it is built.

use super::cache::{Growth, Slot, SlotKind, Widths};
use crate::error::Result;
use crate::folder::{GraphFile, ModelFolder};
use crate::onnx::{Dim, ElementType, Model};

pub(super) const HIDDEN_OUTPUT: &str = "hidden_states";
pub(super) const LOGITS: &str = "logits";
const KEEP_INPUTS: [&str; 2] = ["logits_to_keep", "num_logits_to_keep"];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Feed {
    Ids,
    Embeddings(ElementType),
}

/// How a decoder is fed, what it keeps, and its sizes.
#[derive(Debug)]
pub struct Plan {
    pub(super) feed: Feed,
    pub(super) slots: Vec<Slot>,
    pub(super) growth: Growth,
    /// `position_ids` is among the inputs.
    pub(super) positions: bool,
    /// Name and rank of the input that says how many positions get logits.
    pub(super) keep: Option<(&'static str, usize)>,
    pub(super) gives_hidden: bool,
    pub(super) hidden: usize,
    pub(super) vocabulary: usize,
    pub(super) context: usize,
}

impl Plan {
    /// Reads the description of the folder's decoder graph `file`.
    ///
    /// # Errors
    /// [`crate::Error::UnknownGraph`] when its inputs are those of no known export.
    pub fn read(folder: &ModelFolder, file: &GraphFile) -> Result<Self> {
        let model = file.model();
        let lfm = |key: &str| -> Result<Option<usize>> {
            for keys in [&["lfm", key][..], &["text_config", key], &[key]] {
                if let Some(count) = folder.config().count(keys)? {
                    return Ok(Some(count));
                }
            }
            Ok(None)
        };
        let genai = |keys: &[&str]| folder.genai().count(keys);
        let feed = match (model.input("input_ids"), model.input("inputs_embeds")) {
            (Some(_), _) => Feed::Ids,
            (None, Some(port)) => Feed::Embeddings(port.element),
            (None, None) => return Err(file.unknown("it has neither input_ids nor inputs_embeds")),
        };
        let logits = model.output(LOGITS).ok_or_else(|| file.unknown("it has no output logits"))?;
        let vocabulary = match logits.dims.last().and_then(Dim::fixed) {
            Some(size) => size,
            None => lfm("vocab_size")?
                .or(genai(&["model", "vocab_size"])?)
                .ok_or_else(|| file.unknown("its vocabulary size is not known"))?,
        };
        let width = ["inputs_embeds", HIDDEN_OUTPUT]
            .into_iter()
            .filter_map(|name| model.input(name).or_else(|| model.output(name)))
            .find_map(|port| port.dims.last()?.fixed());
        let hidden = match width {
            Some(width) => width,
            None => lfm("hidden_size")?.or(genai(&["model", "decoder", "hidden_size"])?).unwrap_or_default(),
        };
        if hidden == 0 && feed != Feed::Ids {
            return Err(file.unknown("the width of its embeddings is not known"));
        }
        let head_dim = match folder.genai().count(&["model", "decoder", "head_size"])? {
            Some(size) => Some(size),
            None => lfm("head_dim")?.or(match (lfm("hidden_size")?, lfm("num_attention_heads")?) {
                (Some(hidden), Some(heads)) if heads > 0 => Some(hidden / heads),
                _ => None,
            }),
        };
        let kv_heads = match folder.genai().count(&["model", "decoder", "num_key_value_heads"])? {
            Some(heads) => Some(heads),
            None => lfm("num_key_value_heads")?,
        };
        let usual = Widths { hidden: (hidden > 0).then_some(hidden), kv_heads, head_dim };
        let slots = Slot::read_all(model, &usual).map_err(|reason| file.unknown(reason))?;
        if slots.is_empty() {
            return Err(file.unknown("it has no cache inputs"));
        }
        let known = ["input_ids", "inputs_embeds", "attention_mask", "position_ids"];
        let stray = model.inputs.iter().find(|port| {
            let name = port.name.as_str();
            !name.starts_with("past") && !known.contains(&name) && !KEEP_INPUTS.contains(&name)
        });
        if let Some(port) = stray {
            return Err(file.unknown(format!("the input {} is not one of a known export", port.name)));
        }
        if model.input("attention_mask").is_none() {
            return Err(file.unknown("it has no input attention_mask"));
        }
        let context = match folder.genai().count(&["model", "context_length"])? {
            Some(length) => length,
            None => lfm("max_position_embeddings")?.unwrap_or(32_768),
        };
        Ok(Self {
            feed,
            growth: growth_of(model, &slots),
            slots,
            positions: model.input("position_ids").is_some(),
            keep: KEEP_INPUTS.into_iter().find_map(|name| Some((name, model.input(name)?.dims.len()))),
            gives_hidden: model.output(HIDDEN_OUTPUT).is_some(),
            hidden,
            vocabulary,
            context,
        })
    }

    /// Width of an embedding and of a hidden state.
    #[must_use]
    pub fn hidden(&self) -> usize {
        self.hidden
    }

    /// Rows of the vocabulary head.
    #[must_use]
    pub fn vocabulary(&self) -> usize {
        self.vocabulary
    }

    /// Whether runs return hidden states.
    #[must_use]
    pub fn gives_hidden(&self) -> bool {
        self.gives_hidden
    }

    /// Whether the graph takes token ids rather than embeddings.
    #[must_use]
    pub fn takes_ids(&self) -> bool {
        self.feed == Feed::Ids
    }
}

/// Keys and values can grow in place where each of them goes straight into a `GroupQueryAttention` node, whose
/// `present` outputs may share the `past` buffers.
fn growth_of(model: &Model, slots: &[Slot]) -> Growth {
    let straight = |slot: &Slot| {
        model.nodes_of("GroupQueryAttention").any(|node| {
            let at = |names: &[String], index: usize, name: &str| names.get(index).is_some_and(|found| found == name);
            // Inputs 3 and 4 are past_key and past_value, outputs 1 and 2 their successors.
            (at(&node.inputs, 3, &slot.past) && at(&node.outputs, 1, &slot.present))
                || (at(&node.inputs, 4, &slot.past) && at(&node.outputs, 2, &slot.present))
        })
    };
    let all = slots.iter().filter(|slot| matches!(slot.kind, SlotKind::Attention { .. })).all(straight);
    if all { Growth::InPlace } else { Growth::Replace }
}
