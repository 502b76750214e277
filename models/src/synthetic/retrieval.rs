//! A late-interaction folder: LFM2 without a cache, a dense layer and vectors of unit length.

use std::path::Path;

use serde_json::json;

use crate::error::{Error, Result};
use crate::onnx::{Size, Value};

use super::canvas::{BATCH, Canvas, F32, I64, SEQUENCE, Stored};
use super::plain::{self, PlainSizes};
use super::settings;

/// Floats of a vector.
const WIDTH: usize = 128;

/// Writes the folder, whose graph stands in its root.
pub(super) fn write(folder: &Path, sizes: &PlainSizes, vocabulary: usize, stored: Stored) -> Result<()> {
    std::fs::create_dir_all(folder).map_err(Error::io(folder, "check that the folder may be written"))?;
    settings::tokenizer(folder, vocabulary)?;
    settings::write(folder, "config.json", &json!({ "model_type": "lfm2", "vocab_size": vocabulary }))?;
    settings::write(
        folder,
        "config_sentence_transformers.json",
        &json!({
            "model_type": "ColBERT", "similarity_fn_name": "MaxSim", "query_prefix": "[Q] ", "document_prefix": "[D] ",
            "query_length": 32, "document_length": 512, "attend_to_expansion_tokens": false, "skiplist_words": [".", ","],
            "do_query_expansion": true, "embedding_dim": WIDTH, "mask_token_id": 7, "pad_token_id": 7,
            "query_prefix_id": 14, "document_prefix_id": 15,
        }),
    )?;
    let stem = if stored == Stored::Float { "model" } else { "model_int8" };
    let mut canvas = Canvas::new(folder, stem, stored, 1);
    let ids = canvas.graph.input("input_ids", I64, &[BATCH, SEQUENCE]);
    let mask = canvas.graph.input("attention_mask", I64, &[BATCH, SEQUENCE]);
    let table = canvas.floats("embed_tokens.weight", &[vocabulary, sizes.width], 0.02)?;
    let x = canvas.graph.node("Gather", &[&table, &ids], "embed_tokens", &[("axis", Value::Int(0))]);
    let normed = plain::draw(&mut canvas, sizes, &x, None, Some(&mask))?;
    let dense = canvas.linear(&normed, [sizes.width, WIDTH], "dense")?;
    canvas.graph.node("LpNormalization", &[&dense], "output", &[("axis", Value::Int(-1)), ("p", Value::Int(2))]);
    canvas.graph.output("output", F32, &[BATCH, SEQUENCE, Size::Is(WIDTH)]);
    canvas.finish(folder, stem, 21)?;
    Ok(())
}
