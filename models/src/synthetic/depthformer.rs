//! The depthformer graph as published: eight inputs, the projection behind an `If`, two fp32 tables for every codebook
//! of which a step gathers a whole one each.

use crate::error::Result;
use crate::onnx::{GraphBuilder, Size, Value};

use super::canvas::{BATCH, Canvas, F32, I32, I64};

/// The sizes of a depthformer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DepthSizes {
    /// Width of the backbone's hidden states.
    pub hidden: usize,
    /// Width of its own residual stream.
    pub width: usize,
    /// Layers.
    pub layers: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Width inside a feed-forward network.
    pub feed_forward: usize,
    /// Codes in a frame.
    pub codebooks: usize,
    /// Codes in a codebook, the end among them.
    pub codes: usize,
}

/// Rows of the rotary tables.
const POSITIONS: usize = 16;

/// Draws a depthformer.
pub(super) fn draw(canvas: &mut Canvas, sizes: &DepthSizes) -> Result<()> {
    let head_dim = sizes.width / sizes.heads;
    let graph = &mut canvas.graph;
    let slice_dims = [BATCH, Size::Is(sizes.codebooks), Size::Is(sizes.width)];
    graph.input("hidden_states", F32, &[BATCH, Size::Is(sizes.hidden)]);
    graph.input("depth_slices_in", F32, &slice_dims);
    graph.input("step_idx", I64, &[]);
    graph.input("prev_token", I64, &[BATCH]);
    let cache =
        |length| [Size::Is(sizes.layers), BATCH, Size::Is(sizes.kv_heads), Size::Any(length), Size::Is(head_dim)];
    graph.input("past_keys", F32, &cache("past_length"));
    graph.input("past_values", F32, &cache("past_length"));
    graph.input("seqlens_k", I32, &[BATCH]);
    graph.input("total_seq_len", I32, &[]);

    let mut x = step_input(canvas, sizes)?;
    let (mut keys, mut values) = (Vec::new(), Vec::new());
    for index in 0..sizes.layers {
        let name = format!("layer.{index}");
        let normed = canvas.rms_norm(&x, sizes.width, &format!("{name}.operator_norm"))?;
        let (mixed, key, value) = attention(canvas, sizes, &normed, index)?;
        keys.push(key);
        values.push(value);
        x = canvas.graph.node("Add", &[&x, &mixed], &format!("{name}/after_operator"), &[]);
        let normed = canvas.rms_norm(&x, sizes.width, &format!("{name}.ffn_norm"))?;
        let forward = canvas.swiglu(&normed, [sizes.width, sizes.feed_forward], &format!("{name}.feed_forward"))?;
        x = canvas.graph.node("Add", &[&x, &forward], &format!("{name}/after_feed_forward"), &[]);
    }
    logits(canvas, sizes, &x)?;
    for (parts, output) in [(&keys, "new_keys"), (&values, "new_values")] {
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        canvas.graph.node("Concat", &parts, output, &[("axis", Value::Int(0))]);
        canvas.graph.output(output, F32, &cache("total_length"));
    }
    canvas.graph.output("depth_slices", F32, &slice_dims);
    Ok(())
}

/// The slice of the step and the embedding of the code before, `[batch, 1, width]`.
fn step_input(canvas: &mut Canvas, sizes: &DepthSizes) -> Result<String> {
    let (width, all) = (sizes.width, sizes.codebooks * sizes.width);
    // The projection stands in a subgraph, its weights around it.
    let outer = canvas.packed(canvas.stored, [sizes.hidden, all], "depth_linear")?;
    let bias = canvas.floats("depth_linear.bias", &[all], 0.02)?;
    let shape = canvas.graph.ints(&[-1, sizes.codebooks as i64, width as i64]);
    let mut branch = GraphBuilder::new("project");
    let attributes = [
        ("K", Value::Int(sizes.hidden as i64)),
        ("N", Value::Int(all as i64)),
        ("accuracy_level", Value::Int(4)),
        ("bits", Value::Int(if canvas.stored == super::canvas::Stored::Four { 4 } else { 8 })),
        ("block_size", Value::Int(super::canvas::BLOCK as i64)),
    ];
    let flat = branch.node("MatMulNBits", &["hidden_states", &outer[0], &outer[1]], "projected/flat", &attributes);
    let flat = branch.node("Add", &[&flat, &bias], "projected/biased", &[]);
    branch.node("Reshape", &[&flat, &shape], "projected", &[]);
    let dims = [BATCH, Size::Is(sizes.codebooks), Size::Is(width)];
    branch.output("projected", F32, &dims);
    let mut other = GraphBuilder::new("keep");
    other.node("Identity", &["depth_slices_in"], "kept", &[]);
    other.output("kept", F32, &dims);

    let tables = canvas.floats("depth_embeddings", &[sizes.codebooks, sizes.codes, width], 1.0)?;
    let (zero, one, axis) = (canvas.graph.int(0), canvas.graph.int(1), canvas.graph.ints(&[1]));
    let graph = &mut canvas.graph;
    let first = graph.node("Equal", &["step_idx", &zero], "first", &[]);
    graph.node(
        "If",
        &[&first],
        "depth_slices",
        &[("then_branch", Value::Graph(&branch.subgraph())), ("else_branch", Value::Graph(&other.subgraph()))],
    );
    let before = graph.node("Sub", &["step_idx", &one], "before/any", &[]);
    let before = graph.node("Max", &[&before, &zero], "before", &[]);
    let gather = [("axis", Value::Int(0))];
    let table = graph.node("Gather", &[&tables, &before], "before/table", &gather);
    let row = graph.node("Gather", &[&table, "prev_token"], "before/row", &gather);
    let asked = graph.node("Min", &["step_idx", &one], "before/asked", &[]);
    let factor = graph.node("Cast", &[&asked], "before/factor", &[("to", Value::Int(1))]);
    let embedding = graph.node("Mul", &[&row, &factor], "token_embed", &[]);
    let own = graph.node("Gather", &["depth_slices", "step_idx"], "slice", &[("axis", Value::Int(1))]);
    let sum = graph.node("Add", &[&own, &embedding], "step/row", &[]);
    Ok(graph.node("Unsqueeze", &[&sum, &axis], "step/x", &[]))
}

/// The attention of one layer, and the names of its new keys and values, `[1, batch, kv_heads, length, size]`.
fn attention(canvas: &mut Canvas, sizes: &DepthSizes, x: &str, index: usize) -> Result<(String, String, String)> {
    let name = format!("layer.{index}");
    let head_dim = sizes.width / sizes.heads;
    let [queries, keys] = [sizes.heads, sizes.kv_heads].map(|heads| heads * head_dim);
    let packed = canvas.linear(x, [sizes.width, queries + 2 * keys], &format!("{name}.qkv_proj"))?;
    let parts = ["q", "k", "v"].map(|part| format!("{name}/{part}"));
    let lengths = canvas.graph.ints(&[queries as i64, keys as i64, keys as i64]);
    let names = [parts[0].as_str(), &parts[1], &parts[2]];
    canvas.graph.node_of_many("Split", &[&packed, &lengths], &names, &[("axis", Value::Int(-1))]);
    let q = canvas.head_norm(&parts[0], sizes.heads, head_dim, &format!("{name}.q_norm"))?;
    let k = canvas.head_norm(&parts[1], sizes.kv_heads, head_dim, &format!("{name}.k_norm"))?;
    let tables = ["gqa_cos", "gqa_sin"].map(|table| format!("{name}.{table}"));
    canvas.rotary(POSITIONS, head_dim, [&tables[0], &tables[1]])?;
    let layer = canvas.graph.int(index as i64);
    let past = ["past_keys", "past_values"].map(|cache| {
        canvas.graph.node("Gather", &[cache, &layer], &format!("{name}/{cache}"), &[("axis", Value::Int(0))])
    });
    let (mixed, key, value) = (format!("{name}/attention"), format!("{name}/key"), format!("{name}/value"));
    canvas.graph.node_of_many(
        "GroupQueryAttention",
        &[&q, &k, &parts[2], &past[0], &past[1], "seqlens_k", "total_seq_len", &tables[0], &tables[1]],
        &[&mixed, &key, &value],
        &[
            ("num_heads", Value::Int(sizes.heads as i64)),
            ("kv_num_heads", Value::Int(sizes.kv_heads as i64)),
            ("scale", Value::Float((head_dim as f32).sqrt().recip())),
            ("do_rotary", Value::Int(1)),
            ("rotary_interleaved", Value::Int(0)),
        ],
    );
    let mixed = canvas.linear(&mixed, [queries, sizes.width], &format!("{name}.out_proj"))?;
    let axis = canvas.graph.ints(&[0]);
    let [key, value] =
        [key, value].map(|part| canvas.graph.node("Unsqueeze", &[&part, &axis], &format!("{part}/lifted"), &[]));
    Ok((mixed, key, value))
}

/// The norm and the projection of the step's codebook.
fn logits(canvas: &mut Canvas, sizes: &DepthSizes, x: &str) -> Result<()> {
    let width = sizes.width;
    let norms = canvas.scales("logit_norms", &[sizes.codebooks, width], 1.0)?;
    let tables =
        canvas.floats("logit_tables", &[sizes.codebooks, sizes.codes, width], (width as f32).sqrt().recip())?;
    let ones = canvas.graph.floats("norm_ones", &[width], std::iter::repeat_n(1.0, width));
    let axis = canvas.graph.ints(&[1]);
    let graph = &mut canvas.graph;
    let last = graph.node("Squeeze", &[x, &axis], "final", &[]);
    let unit = graph.node(
        "SimplifiedLayerNormalization",
        &[&last, &ones],
        "logits/unit",
        &[("axis", Value::Int(-1)), ("epsilon", Value::Float(1e-5)), ("stash_type", Value::Int(1))],
    );
    let gather = [("axis", Value::Int(0))];
    let norm = graph.node("Gather", &[&norms, "step_idx"], "logits/norm", &gather);
    let scaled = graph.node("Mul", &[&unit, &norm], "logits/scaled", &[]);
    let table = graph.node("Gather", &[&tables, "step_idx"], "logits/table", &gather);
    graph.node("Gemm", &[&scaled, &table], "logits", &[("transB", Value::Int(1))]);
    graph.output("logits", F32, &[BATCH, Size::Is(sizes.codes)]);
    Ok(())
}
