//! The embedding graph of layout C: a table in 8-bit blocks, and features in the places of a placeholder.

use std::path::Path;

use crate::error::Result;
use crate::onnx::{Size, Value};

use super::canvas::{BATCH, BLOCK, Canvas, F32, I64, SEQUENCE, Stored};

/// Writes `embeddings_q8.onnx`; row after row of the input `features` goes where `placeholder` stands.
pub(super) fn write(graphs: &Path, [vocabulary, hidden]: [usize; 2], features: &str, placeholder: i64) -> Result<()> {
    let mut canvas = Canvas::new(graphs, "embeddings_q8", Stored::Eight, 6);
    let [values, scales] = canvas.packed(Stored::Eight, [hidden, vocabulary], "embed_tokens")?;
    let values = canvas.reshape(&values, &[vocabulary as i64, hidden as i64], "embed_tokens/rows");
    let placeholder = canvas.graph.int(placeholder);
    let graph = &mut canvas.graph;
    let ids = graph.input("input_ids", I64, &[BATCH, SEQUENCE]);
    let features = graph.input(features, F32, &[Size::Any("num_feature_rows"), Size::Is(hidden)]);
    let blocks = [
        ("bits", Value::Int(8)),
        ("block_size", Value::Int(BLOCK as i64)),
        ("gather_axis", Value::Int(0)),
        ("quantize_axis", Value::Int(1)),
    ];
    let text = graph.node("GatherBlockQuantized", &[&values, &ids, &scales], "text", &blocks);
    let placed = graph.node("Equal", &[&ids, &placeholder], "placed", &[]);
    let places = graph.node("NonZero", &[&placed], "placed/where", &[]);
    let indices = graph.node("Transpose", &[&places], "placed/indices", &[("perm", Value::Ints(&[1, 0]))]);
    graph.node("ScatterND", &[&text, &indices, &features], "inputs_embeds", &[]);
    graph.output("inputs_embeds", F32, &[BATCH, SEQUENCE, Size::Is(hidden)]);
    canvas.finish(graphs, "embeddings_q8", 21)?;
    Ok(())
}
