//! A text model: the folder's decoder, tokenizer and habits.

use std::collections::BTreeSet;
use std::path::Path;

use crate::backbone::{Backbone, Cache, Input, Output, TokenEmbedding};
use crate::error::{Error, Result};
use crate::folder::{Family, Json, Layout, ModelFolder, Precision, Role, Wanted};
use crate::graph::Stop;
use crate::runtime::Runtime;
use crate::sampler::Sampling;
use crate::tokenizer::Tokenizer;

use super::features::Features;

/// `<|endoftext|>`, which ends a generation whatever the folder says.
const END_OF_TEXT: u32 = 2;

/// What is known of a loaded model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Its family.
    pub family: Family,
    /// The generation of its export.
    pub layout: Layout,
    /// The precision of its decoder.
    pub precision: Precision,
}

/// A loaded text model. One thread owns it.
#[derive(Debug)]
pub struct TextModel {
    identity: Identity,
    backbone: Backbone,
    tokenizer: Tokenizer,
    /// For decoders that take embeddings.
    embedding: Option<TokenEmbedding>,
    ends: BTreeSet<u32>,
    habits: Sampling,
}

impl TextModel {
    /// Loads the decoder of the folder `root`; folders of other families give their text side.
    ///
    /// # Errors
    /// [`Error::NotAModel`], [`Error::PartMissing`], [`Error::PrecisionMissing`], and every error of a file that is not
    /// what it claims to be.
    pub fn load(runtime: &Runtime, root: &Path, wanted: Wanted, stop: &Stop) -> Result<Self> {
        let folder = ModelFolder::open(root)?;
        let file =
            folder.required_graph(Role::Decoder, wanted, "nothing works without it; download the folder again")?;
        let family = folder.family(&file);
        if family == Family::Retrieval {
            return Err(Error::NotAModel {
                path: root.to_path_buf(),
                reason: "it holds a retrieval model, which writes no text".into(),
                expected: "a model whose decoder keeps a cache",
            });
        }
        let (backbone, (tokenizer, embedding)) = Backbone::load_beside(runtime, &folder, &file, stop, |plan| {
            let tokenizer = Tokenizer::load(&folder, plan.vocabulary())?;
            let embedding = match plan.takes_ids() {
                true => None,
                false => {
                    let wanted = Wanted::Exactly(file.precision());
                    Some(TokenEmbedding::load(runtime, &folder, wanted, plan.hidden(), stop)?)
                }
            };
            Ok((tokenizer, embedding))
        })?;
        let generation = Json::read(root, "generation_config.json")?;
        let mut ends: BTreeSet<u32> = [END_OF_TEXT, tokenizer.id("<|im_end|>")?].into();
        ends.extend(generation.ids(&["eos_token_id"])?);
        ends.extend(folder.genai().ids(&["model", "eos_token_id"])?);
        Ok(Self {
            identity: Identity { family, layout: folder.layout(&file), precision: file.precision() },
            habits: habits(&generation)?,
            backbone,
            tokenizer,
            embedding,
            ends,
        })
    }

    /// What is known of the model.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The tokenizer.
    #[must_use]
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// The tokenizer, to encode a caller's words.
    pub fn tokenizer_mut(&mut self) -> &mut Tokenizer {
        &mut self.tokenizer
    }

    /// The backbone.
    pub fn backbone(&mut self) -> &mut Backbone {
        &mut self.backbone
    }

    /// How the folder's `generation_config.json` wants tokens to be chosen; greedy where it says nothing.
    #[must_use]
    pub fn habits(&self) -> Sampling {
        self.habits
    }

    /// Whether `id` ends a generation.
    #[must_use]
    pub fn ends_with(&self, id: u32) -> bool {
        self.ends.contains(&id)
    }

    /// An empty cache for a conversation.
    ///
    /// # Errors
    /// [`Error::Graph`] when memory is refused.
    pub fn new_cache(&self) -> Result<Cache> {
        self.backbone.new_cache()
    }

    /// Feeds `ids` behind what `cache` holds, with `features` in the places of their placeholders; the logits are left
    /// out unless `logits` asks for them.
    pub(super) fn feed(
        &mut self,
        cache: &mut Cache,
        ids: &[u32],
        features: Option<&Features>,
        logits: bool,
    ) -> Result<Output> {
        let mut rows = Vec::new();
        let input = match &mut self.embedding {
            None => Input::Ids(ids),
            Some(embedding) => {
                match features {
                    Some(features) => features.embed(ids, embedding, &mut rows)?,
                    None => embedding.append(ids, &mut rows)?,
                }
                Input::Embeddings(&rows)
            }
        };
        if logits { self.backbone.run(cache, input) } else { self.backbone.advance(cache, input) }
    }
}

/// The sampling that `generation_config.json` describes.
fn habits(generation: &Json) -> Result<Sampling> {
    let number =
        |key: &str, usual: f32| -> Result<f32> { Ok(generation.number(&[key])?.map_or(usual, |value| value as f32)) };
    let usual = Sampling::GREEDY;
    let sampling = Sampling {
        temperature: number("temperature", usual.temperature)?,
        top_k: generation.count(&["top_k"])?.unwrap_or(usual.top_k),
        top_p: number("top_p", usual.top_p)?,
        min_p: number("min_p", usual.min_p)?,
        repetition_penalty: number("repetition_penalty", usual.repetition_penalty)?,
    };
    let asleep = generation.get(&["do_sample"]).and_then(serde_json::Value::as_bool) == Some(false);
    Ok(if asleep { Sampling { temperature: 0.0, ..sampling } } else { sampling })
}
