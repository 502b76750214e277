//! The audio encoder graph: a conformer with relative positions behind eightfold subsampling, and the adapter.
//!
//! The masks of the export are left out: one clip fills its run, so they hide nothing.

use crate::error::Result;
use crate::onnx::{Size, Value};

use super::canvas::{Canvas, F32, I64};

/// The sizes of an encoder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncoderSizes {
    /// Mel bins.
    pub bins: usize,
    /// Channels of the subsampling convolutions.
    pub channels: usize,
    /// Width of the conformer.
    pub width: usize,
    /// Heads.
    pub heads: usize,
    /// Layers.
    pub layers: usize,
    /// Rows of the longest clip.
    pub rows: usize,
    /// Width of the backbone.
    pub hidden: usize,
}

const TAPS: usize = 9;

/// Draws an encoder.
pub(super) fn draw(canvas: &mut Canvas, sizes: &EncoderSizes) -> Result<()> {
    let (width, hidden) = (sizes.width, sizes.hidden);
    let mel = canvas.graph.input("mel_spectrogram", F32, &[Size::Is(1), Size::Any("frames"), Size::Is(sizes.bins)]);
    let lengths = canvas.graph.input("mel_lengths", I64, &[Size::Is(1)]);
    let (seven, eight) = (canvas.graph.int(7), canvas.graph.int(8));
    let rounded = canvas.graph.node("Add", &[&lengths, &seven], "lengths/rounded", &[]);
    canvas.graph.node("Div", &[&rounded, &eight], "audio_lengths", &[]);

    let mut x = subsampled(canvas, sizes, &mel)?;
    let positions = positions(canvas, sizes, &x)?;
    for index in 0..sizes.layers {
        let name = format!("conformer.layers.{index}");
        x = half_step(canvas, &x, width, &format!("{name}.feed_forward1"))?;
        let normed = canvas.layer_norm(&x, width, &format!("{name}.norm_self_att"))?;
        let mixed = attention(canvas, sizes, &normed, &positions, &format!("{name}.self_attn"))?;
        x = canvas.graph.node("Add", &[&x, &mixed], &format!("{name}/after_attention"), &[]);
        let normed = canvas.layer_norm(&x, width, &format!("{name}.norm_conv"))?;
        let mixed = convolution(canvas, width, &normed, &format!("{name}.conv"))?;
        x = canvas.graph.node("Add", &[&x, &mixed], &format!("{name}/after_convolution"), &[]);
        x = half_step(canvas, &x, width, &format!("{name}.feed_forward2"))?;
        x = canvas.layer_norm(&x, width, &format!("{name}.norm_out"))?;
    }
    let normed = canvas.layer_norm(&x, width, "audio_adapter.model.0")?;
    let wide = canvas.affine(&normed, [width, hidden], "audio_adapter.model.1")?;
    let active = canvas.graph.node("Gelu", &[&wide], "audio_adapter/active", &[]);
    let rows = canvas.affine(&active, [hidden, hidden], "audio_adapter.model.3")?;
    canvas.graph.node("Identity", &[&rows], "audio_embeddings", &[]);
    canvas.graph.output("audio_embeddings", F32, &[Size::Is(1), Size::Any("rows"), Size::Is(hidden)]);
    canvas.graph.output("audio_lengths", I64, &[Size::Is(1)]);
    Ok(())
}

/// Three convolutions of stride two, of which the last two are separable, and a projection: `[1, rows, width]`.
fn subsampled(canvas: &mut Canvas, sizes: &EncoderSizes, mel: &str) -> Result<String> {
    let channels = sizes.channels;
    let axis = canvas.graph.ints(&[1]);
    let mut x = canvas.graph.node("Unsqueeze", &[mel, &axis], "pre_encode/plane", &[]);
    let strided = |group: usize| {
        [
            ("group", Value::Int(group as i64)),
            ("kernel_shape", Value::Ints(&[3, 3])),
            ("pads", Value::Ints(&[1, 1, 1, 1])),
            ("strides", Value::Ints(&[2, 2])),
        ]
    };
    for (index, group) in [1, channels, channels].into_iter().enumerate() {
        let name = format!("conformer.pre_encode.conv.{index}");
        let weight = canvas.floats(&format!("{name}.weight"), &[channels, 1, 3, 3], 0.47)?;
        let bias = canvas.floats(&format!("{name}.bias"), &[channels], 0.02)?;
        x = canvas.graph.node("Conv", &[&x, &weight, &bias], &name, &strided(group));
        if group > 1 {
            let name = format!("{name}.pointwise");
            let spread = (channels as f32).sqrt().recip();
            let weight = canvas.floats(&format!("{name}.weight"), &[channels, channels, 1, 1], spread)?;
            let bias = canvas.floats(&format!("{name}.bias"), &[channels], 0.02)?;
            x = canvas.graph.node("Conv", &[&x, &weight, &bias], &name, &[("kernel_shape", Value::Ints(&[1, 1]))]);
        }
        x = canvas.graph.node("Relu", &[&x], &format!("{name}/active"), &[]);
    }
    let wide = channels * sizes.bins.div_ceil(8);
    let rows = canvas.transpose(&x, &[0, 2, 1, 3], "pre_encode/rows");
    let flat = canvas.reshape(&rows, &[1, -1, wide as i64], "pre_encode/flat");
    canvas.affine(&flat, [wide, sizes.width], "conformer.pre_encode.out")
}

/// The rows of the positional table that a clip of this length sees: `[1, 2 * rows - 1, width]`.
fn positions(canvas: &mut Canvas, sizes: &EncoderSizes, x: &str) -> Result<String> {
    let table = canvas.floats("conformer.pos_enc.pe", &[1, 2 * sizes.rows - 1, sizes.width], 0.7)?;
    let (one, axis, middle) = (canvas.graph.int(1), canvas.graph.ints(&[1]), canvas.graph.int(sizes.rows as i64));
    let first = canvas.graph.ints(&[0]);
    let graph = &mut canvas.graph;
    let shape = graph.node("Shape", &[x], "rows/shape", &[]);
    let rows = graph.node("Gather", &[&shape, &one], "rows", &[]);
    let start = graph.node("Sub", &[&middle, &rows], "positions/start", &[]);
    let behind = graph.node("Add", &[&middle, &rows], "positions/behind", &[]);
    let stop = graph.node("Sub", &[&behind, &one], "positions/stop", &[]);
    let start = graph.node("Unsqueeze", &[&start, &first], "positions/starts", &[]);
    let stop = graph.node("Unsqueeze", &[&stop, &first], "positions/stops", &[]);
    Ok(graph.node("Slice", &[&table, &start, &stop, &axis], "positions", &[]))
}

/// A feed-forward network of which half is added.
fn half_step(canvas: &mut Canvas, x: &str, width: usize, name: &str) -> Result<String> {
    let normed = canvas.layer_norm(x, width, &format!("{name}.norm"))?;
    let wide = canvas.affine(&normed, [width, 4 * width], &format!("{name}.linear1"))?;
    let active = canvas.silu(&wide, name);
    let narrow = canvas.affine(&active, [4 * width, width], &format!("{name}.linear2"))?;
    let half = canvas.graph.floats("half", &[], [0.5]);
    let half = canvas.graph.node("Mul", &[&narrow, &half], &format!("{name}/half"), &[]);
    Ok(canvas.graph.node("Add", &[x, &half], &format!("{name}/added"), &[]))
}

fn attention(canvas: &mut Canvas, sizes: &EncoderSizes, x: &str, positions: &str, name: &str) -> Result<String> {
    let (width, heads) = (sizes.width, sizes.heads as i64);
    let size = (sizes.width / sizes.heads) as i64;
    let q = canvas.affine(x, [width, width], &format!("{name}.linear_q"))?;
    let k = canvas.affine(x, [width, width], &format!("{name}.linear_k"))?;
    let v = canvas.affine(x, [width, width], &format!("{name}.linear_v"))?;
    let p = canvas.linear(positions, [width, width], &format!("{name}.linear_pos"))?;
    let split = |canvas: &mut Canvas, x: &str, order: &[i64], part: &str| {
        let heads = canvas.reshape(x, &[1, -1, heads, size], &format!("{name}/{part}/heads"));
        canvas.transpose(&heads, order, &format!("{name}/{part}"))
    };
    let mut scores = Vec::new();
    for (part, keys) in [("u", &k), ("v", &p)] {
        let bias = canvas.floats(&format!("{name}.pos_bias_{part}"), &[width], 0.1)?;
        let query = canvas.graph.node("Add", &[&q, &bias], &format!("{name}/biased_{part}"), &[]);
        let query = split(canvas, &query, &[0, 2, 1, 3], &format!("q_{part}"));
        let keys = split(canvas, keys, &[0, 2, 3, 1], &format!("k_{part}"));
        scores.push(canvas.graph.node("MatMul", &[&query, &keys], &format!("{name}/scores_{part}"), &[]));
    }
    let shifted = shifted(canvas, &scores[1], heads, name);
    let scale = canvas.graph.floats("scale", &[], [(size as f32).sqrt().recip()]);
    let graph = &mut canvas.graph;
    let sum = graph.node("Add", &[&scores[0], &shifted], &format!("{name}/scores"), &[]);
    let scaled = graph.node("Mul", &[&sum, &scale], &format!("{name}/scaled"), &[]);
    let weights = graph.node("Softmax", &[&scaled], &format!("{name}/weights"), &[("axis", Value::Int(-1))]);
    let values = split(canvas, &v, &[0, 2, 1, 3], "v_heads");
    let mixed = canvas.graph.node("MatMul", &[&weights, &values], &format!("{name}/mixed"), &[]);
    let rows = canvas.transpose(&mixed, &[0, 2, 1, 3], &format!("{name}/rows"));
    let joined = canvas.reshape(&rows, &[1, -1, width as i64], &format!("{name}/joined"));
    canvas.affine(&joined, [width, width], &format!("{name}.linear_out"))
}

/// Scores by distance to scores by position: Transformer-XL's shift, `[1, heads, rows, 2 * rows - 1]` to
/// `[1, heads, rows, rows]`.
fn shifted(canvas: &mut Canvas, x: &str, heads: i64, name: &str) -> String {
    let (last, first) = (canvas.graph.ints(&[3]), canvas.graph.ints(&[0]));
    let pads = canvas.graph.ints(&[0, 0, 0, 1, 0, 0, 0, 0]);
    let padded = canvas.graph.node("Pad", &[x, &pads], &format!("{name}/padded"), &[]);
    let rows = canvas.graph.node("Unsqueeze", &["rows", &first], &format!("{name}/rows_list"), &[]);
    let front = canvas.graph.ints(&[1, heads, -1]);
    let shape =
        canvas.graph.node("Concat", &[&front, &rows], &format!("{name}/turned_shape"), &[("axis", Value::Int(0))]);
    let turned = canvas.graph.node("Reshape", &[&padded, &shape], &format!("{name}/turned"), &[]);
    let cut = canvas.slice(&turned, [1, i64::from(i32::MAX)], 2, &format!("{name}/cut"));
    let ahead = canvas.graph.ints(&[1, heads]);
    let behind = canvas.graph.ints(&[-1]);
    let shape = canvas.graph.node(
        "Concat",
        &[&ahead, &rows, &behind],
        &format!("{name}/back_shape"),
        &[("axis", Value::Int(0))],
    );
    let back = canvas.graph.node("Reshape", &[&cut, &shape], &format!("{name}/back"), &[]);
    canvas.graph.node("Slice", &[&back, &first, &rows, &last], &format!("{name}/shifted"), &[])
}

fn convolution(canvas: &mut Canvas, width: usize, x: &str, name: &str) -> Result<String> {
    let spread = (width as f32).sqrt().recip();
    let x = canvas.transpose(x, &[0, 2, 1], &format!("{name}/channels"));
    let weight = canvas.floats(&format!("{name}.pointwise_conv1.weight"), &[2 * width, width, 1], spread)?;
    let bias = canvas.floats(&format!("{name}.pointwise_conv1.bias"), &[2 * width], 0.02)?;
    let one = [("kernel_shape", Value::Ints(&[1][..]))];
    let wide = canvas.graph.node("Conv", &[&x, &weight, &bias], &format!("{name}/wide"), &one);
    let [value, gate] = ["value", "gate"].map(|part| format!("{name}/{part}"));
    let halves = canvas.graph.ints(&[width as i64; 2]);
    canvas.graph.node_of_many("Split", &[&wide, &halves], &[&value, &gate], &[("axis", Value::Int(1))]);
    let gate = canvas.graph.node("Sigmoid", &[&gate], &format!("{name}/gate/sigmoid"), &[]);
    let gated = canvas.graph.node("Mul", &[&value, &gate], &format!("{name}/gated"), &[]);
    // The batch norm behind it is folded in, as exporters do.
    let weight = canvas.floats(&format!("{name}.depthwise_conv.weight"), &[width, 1, TAPS], 0.33)?;
    let bias = canvas.floats(&format!("{name}.depthwise_conv.bias"), &[width], 0.02)?;
    let half = (TAPS / 2) as i64;
    let mixed = canvas.graph.node(
        "Conv",
        &[&gated, &weight, &bias],
        &format!("{name}/mixed"),
        &[
            ("group", Value::Int(width as i64)),
            ("kernel_shape", Value::Ints(&[TAPS as i64])),
            ("pads", Value::Ints(&[half, half])),
        ],
    );
    let active = canvas.silu(&mixed, name);
    let weight = canvas.floats(&format!("{name}.pointwise_conv2.weight"), &[width, width, 1], spread)?;
    let bias = canvas.floats(&format!("{name}.pointwise_conv2.bias"), &[width], 0.02)?;
    let narrow = canvas.graph.node("Conv", &[&active, &weight, &bias], &format!("{name}/narrow"), &one);
    Ok(canvas.transpose(&narrow, &[0, 2, 1], &format!("{name}/rows")))
}
