//! LFM2 layers without a cache, in standard operators: those of the detokenizer and of retrieval models.

use crate::error::Result;
use crate::onnx::Value;

use super::canvas::{Canvas, I64};

const THETA: f32 = 1e6;

/// The sizes of such layers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlainSizes {
    /// Width of the residual stream.
    pub width: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Width inside a feed-forward network.
    pub feed_forward: usize,
    /// For each layer, whether it is attention rather than a convolution.
    pub attention: Vec<bool>,
}

/// Draws the layers and the norm behind them over `x`, `[batch, positions, width]`. A position sees at most `window`
/// positions, itself the last of them, and of those what `mask`, `[batch, positions]`, has a one for.
pub(super) fn draw(
    canvas: &mut Canvas,
    sizes: &PlainSizes,
    x: &str,
    window: Option<i64>,
    mask: Option<&str>,
) -> Result<String> {
    let width = sizes.width;
    let around = around(canvas, sizes, x, window, mask);
    let mut x = x.to_owned();
    for (index, attention) in sizes.attention.iter().enumerate() {
        let name = format!("layers.{index}");
        let normed = canvas.rms_norm(&x, width, &format!("{name}.operator_norm"))?;
        let mixed = match attention {
            true => self::attention(canvas, sizes, &normed, &around, &format!("{name}.self_attn"))?,
            false => convolution(canvas, width, &normed, &format!("{name}.conv"))?,
        };
        x = canvas.graph.node("Add", &[&x, &mixed], &format!("{name}/after_operator"), &[]);
        let normed = canvas.rms_norm(&x, width, &format!("{name}.ffn_norm"))?;
        let forward = canvas.swiglu(&normed, [width, sizes.feed_forward], &format!("{name}.feed_forward"))?;
        x = canvas.graph.node("Add", &[&x, &forward], &format!("{name}/after_feed_forward"), &[]);
    }
    canvas.rms_norm(&x, width, "embedding_norm")
}

/// What the attention layers share.
struct Around {
    bias: String,
    cos: String,
    sin: String,
}

fn around(canvas: &mut Canvas, sizes: &PlainSizes, x: &str, window: Option<i64>, mask: Option<&str>) -> Around {
    let size = sizes.width / sizes.heads;
    let (zero, one) = (canvas.graph.int(0), canvas.graph.int(1));
    let (first, second) = (canvas.graph.ints(&[0]), canvas.graph.ints(&[1]));
    let window = window.map(|window| canvas.graph.int(window));
    let heads = canvas.graph.ints(&[1, 2]);
    let nothing = canvas.graph.floats("nothing", &[], [0.0]);
    let hidden = canvas.graph.floats("hidden", &[], [-1e9]);
    let steps = (0..size / 2).map(|pair| THETA.powf(-2.0 * pair as f32 / size as f32));
    let frequencies = canvas.graph.floats("frequencies", &[1, size / 2], steps);
    let graph = &mut canvas.graph;
    let shape = graph.node("Shape", &[x], "shape", &[]);
    let length = graph.node("Gather", &[&shape, &one], "length", &[]);
    let positions = graph.node("Range", &[&zero, &length, &one], "positions", &[]);
    let own = graph.node("Unsqueeze", &[&positions, &second], "positions/own", &[]);
    let other = graph.node("Unsqueeze", &[&positions, &first], "positions/other", &[]);
    let distance = graph.node("Sub", &[&own, &other], "distance", &[]);
    let causal = graph.node("GreaterOrEqual", &[&distance, &zero], "distance/causal", &[]);
    let mut visible = causal;
    if let Some(window) = window {
        let near = graph.node("Less", &[&distance, &window], "distance/near", &[]);
        visible = graph.node("And", &[&visible, &near], "visible", &[]);
    }
    if let Some(mask) = mask {
        let real = graph.node("Cast", &[mask], "mask/real", &[("to", Value::Int(9))]);
        let real = graph.node("Unsqueeze", &[&real, &heads], "mask/heads", &[]);
        visible = graph.node("And", &[&visible, &real], "mask/visible", &[]);
    }
    let bias = graph.node("Where", &[&visible, &nothing, &hidden], "bias", &[]);
    let floats = graph.node("Cast", &[&own], "positions/column", &[("to", Value::Int(1))]);
    let angles = graph.node("Mul", &[&floats, &frequencies], "angles", &[]);
    Around { bias, cos: graph.node("Cos", &[&angles], "cos", &[]), sin: graph.node("Sin", &[&angles], "sin", &[]) }
}

fn convolution(canvas: &mut Canvas, width: usize, x: &str, name: &str) -> Result<String> {
    let projected = canvas.linear(x, [width, 3 * width], &format!("{name}.in_proj"))?;
    let channels = canvas.transpose(&projected, &[0, 2, 1], &format!("{name}/channels"));
    let [b, c, inner] = ["b", "c", "x"].map(|part| format!("{name}/{part}"));
    let thirds = canvas.graph.ints(&[width as i64; 3]);
    canvas.graph.node_of_many("Split", &[&channels, &thirds], &[&b, &c, &inner], &[("axis", Value::Int(1))]);
    let weight = canvas.floats(&format!("{name}.conv.weight"), &[width, 1, 3], 0.577)?;
    let gated = canvas.graph.node("Mul", &[&b, &inner], &format!("{name}/bx"), &[]);
    let mixed = canvas.graph.node(
        "Conv",
        &[&gated, &weight],
        &format!("{name}/conv"),
        &[("group", Value::Int(width as i64)), ("kernel_shape", Value::Ints(&[3])), ("pads", Value::Ints(&[2, 0]))],
    );
    let out = canvas.graph.node("Mul", &[&c, &mixed], &format!("{name}/cy"), &[]);
    let rows = canvas.transpose(&out, &[0, 2, 1], &format!("{name}/rows"));
    canvas.linear(&rows, [width, width], &format!("{name}.out_proj"))
}

fn attention(canvas: &mut Canvas, sizes: &PlainSizes, x: &str, around: &Around, name: &str) -> Result<String> {
    let size = sizes.width / sizes.heads;
    let mut parts = Vec::new();
    for (part, heads) in [("q", sizes.heads), ("k", sizes.kv_heads), ("v", sizes.kv_heads)] {
        let y = canvas.linear(x, [sizes.width, heads * size], &format!("{name}.{part}_proj"))?;
        let mut y = canvas.reshape(&y, &[0, 0, heads as i64, size as i64], &format!("{name}/{part}/heads"));
        if part != "v" {
            y = canvas.rms_norm(&y, size, &format!("{name}.{part}_layernorm"))?;
        }
        let mut y = canvas.transpose(&y, &[0, 2, 1, 3], &format!("{name}/{part}/heads_first"));
        if part != "v" {
            y = rotated(canvas, &y, size, around, &format!("{name}/{part}"));
        }
        if heads < sizes.heads {
            // Every key head serves a group of query heads.
            let group = sizes.heads / heads;
            let raw: Vec<u8> = (0..sizes.heads).flat_map(|head| ((head / group) as i64).to_le_bytes()).collect();
            let served = canvas.graph.inline("head_of_query", I64, &[sizes.heads], &raw);
            y = canvas.graph.node(
                "Gather",
                &[&y, &served],
                &format!("{name}/{part}/spread"),
                &[("axis", Value::Int(1))],
            );
        }
        parts.push(y);
    }
    let columns = canvas.transpose(&parts[1], &[0, 1, 3, 2], &format!("{name}/k/columns"));
    let scale = canvas.graph.floats("scale", &[], [(size as f32).sqrt().recip()]);
    let graph = &mut canvas.graph;
    let scores = graph.node("MatMul", &[&parts[0], &columns], &format!("{name}/scores"), &[]);
    let scaled = graph.node("Mul", &[&scores, &scale], &format!("{name}/scaled"), &[]);
    let masked = graph.node("Add", &[&scaled, &around.bias], &format!("{name}/masked"), &[]);
    let weights = graph.node("Softmax", &[&masked], &format!("{name}/weights"), &[("axis", Value::Int(-1))]);
    let mixed = graph.node("MatMul", &[&weights, &parts[2]], &format!("{name}/mixed"), &[]);
    let rows = canvas.transpose(&mixed, &[0, 2, 1, 3], &format!("{name}/rows"));
    let joined = canvas.reshape(&rows, &[0, 0, (sizes.heads * size) as i64], &format!("{name}/joined"));
    canvas.linear(&joined, [sizes.heads * size, sizes.width], &format!("{name}.out_proj"))
}

fn rotated(canvas: &mut Canvas, x: &str, size: usize, around: &Around, name: &str) -> String {
    let half = (size / 2) as i64;
    let low = canvas.slice(x, [0, half], 3, &format!("{name}/low"));
    let high = canvas.slice(x, [half, 2 * half], 3, &format!("{name}/high"));
    let graph = &mut canvas.graph;
    let mut halves = Vec::new();
    for (part, op, a, b) in [("first", "Sub", &low, &high), ("second", "Add", &high, &low)] {
        let straight = graph.node("Mul", &[a, &around.cos], &format!("{name}/{part}/cos"), &[]);
        let crossed = graph.node("Mul", &[b, &around.sin], &format!("{name}/{part}/sin"), &[]);
        halves.push(graph.node(op, &[&straight, &crossed], &format!("{name}/{part}"), &[]));
    }
    graph.node("Concat", &[&halves[0], &halves[1]], &format!("{name}/rotated"), &[("axis", Value::Int(3))])
}
