//! The detokenizer graph: codes in, six STFT columns a frame out, attention in standard operators under a sliding mask.

use crate::error::Result;
use crate::onnx::{Size, Value};

use super::canvas::{BATCH, Canvas, F32, I64};
use super::plain::{self, PlainSizes};

/// The sizes of a detokenizer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DetokenizerSizes {
    /// The layers.
    pub layers: PlainSizes,
    /// Codes in a frame.
    pub codebooks: usize,
    /// Codes in a codebook that have a row: all but the end.
    pub codes: usize,
    /// Floats of a feature row.
    pub features: usize,
}

const UPSAMPLING: i64 = 6;
const WINDOW: i64 = 30;

/// Draws a detokenizer.
pub(super) fn draw(canvas: &mut Canvas, sizes: &DetokenizerSizes) -> Result<()> {
    let width = sizes.layers.width;
    let codes = canvas.graph.input("audio_codes", I64, &[BATCH, Size::Is(sizes.codebooks), Size::Any("time")]);
    let offsets: Vec<u8> =
        (0..sizes.codebooks).flat_map(|codebook| ((codebook * sizes.codes) as i64).to_le_bytes()).collect();
    let offsets = canvas.graph.inline("codes.offsets", I64, &[sizes.codebooks, 1], &offsets);
    let table = canvas.floats("codes.weight", &[sizes.codebooks * sizes.codes, width], 1.0)?;
    let (one, two) = (canvas.graph.ints(&[1]), canvas.graph.ints(&[2]));
    let repeats = canvas.graph.ints(&[1, 1, UPSAMPLING, 1]);
    let graph = &mut canvas.graph;
    let rows = graph.node("Add", &[&codes, &offsets], "codes/rows", &[]);
    let rows = graph.node("Gather", &[&table, &rows], "codes/embedded", &[("axis", Value::Int(0))]);
    let mean = graph.node("ReduceMean", &[&rows, &one], "codes/mean", &[("keepdims", Value::Int(0))]);
    let each = graph.node("Unsqueeze", &[&mean, &two], "codes/each", &[]);
    let repeated = graph.node("Tile", &[&each, &repeats], "codes/repeated", &[]);
    let x = canvas.reshape(&repeated, &[0, -1, width as i64], "codes/upsampled");
    let normed = plain::draw(canvas, &sizes.layers, &x, Some(WINDOW), None)?;
    let product = canvas.linear(&normed, [width, sizes.features], "lin")?;
    let bias = canvas.floats("lin.bias", &[sizes.features], 0.02)?;
    canvas.graph.node("Add", &[&product, &bias], "stft_features", &[]);
    canvas.graph.output("stft_features", F32, &[BATCH, Size::Any("time"), Size::Is(sizes.features)]);
    Ok(())
}
