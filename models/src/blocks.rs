//! Weights in 8-bit blocks, as `MatMulNBits` reads them: made at load from matrices that were published as 32-bit floats.
//!
//! Each block of 32 weights along a row has one scale, its greatest magnitude over 127, so that no weight moves by more
//! than half a step: 0.4 % of the greatest in its block.

use crate::onnx::{ElementType, GraphBuilder, Size, Value};

/// Weights in a block.
pub(crate) const BLOCK: usize = 32;
const LEVELS: f32 = 127.0;
const ZERO: f32 = 128.0;

/// A matrix of `rows` outputs in 8-bit blocks.
#[derive(Debug)]
pub(crate) struct Blocks {
    values: Vec<u8>,
    scales: Vec<f32>,
    rows: usize,
    width: usize,
    /// Sums of squares: of what was lost, and of everything.
    lost: f64,
    all: f64,
}

impl Blocks {
    /// Rounds the little-endian floats of `rows` rows of `width`, which is a multiple of [`BLOCK`].
    pub fn of_rows(bytes: &[u8], width: usize) -> Self {
        let rows = bytes.len() / 4 / width.max(1);
        let mut blocks = Self::empty(rows, width);
        let mut block = [0.0; BLOCK];
        for (raw, (values, scale)) in
            bytes.chunks_exact(4 * BLOCK).zip(blocks.values.chunks_exact_mut(BLOCK).zip(&mut blocks.scales))
        {
            for (weight, bytes) in block.iter_mut().zip(raw.as_chunks::<4>().0) {
                *weight = f32::from_le_bytes(*bytes);
            }
            let (lost, all);
            (*scale, lost, all) = round(&block, values);
            blocks.lost += lost;
            blocks.all += all;
        }
        blocks
    }

    /// Rounds a matrix that is stored `[width, rows]`, with as many threads as there are parts worth one.
    pub fn of_columns(bytes: &[u8], width: usize) -> Self {
        let rows = bytes.len() / 4 / width.max(1);
        let mut blocks = Self::empty(rows, width);
        let row_blocks = width / BLOCK;
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(4);
        let share = rows.div_ceil(threads).max(1);
        let floats = bytes.as_chunks::<4>().0;
        let parts = blocks.values.chunks_mut(share * width).zip(blocks.scales.chunks_mut(share * row_blocks));
        let sums: Vec<(f64, f64)> = std::thread::scope(|scope| {
            let workers: Vec<_> = parts
                .enumerate()
                .map(|(part, (values, scales))| {
                    scope.spawn(move || round_columns(floats, [rows, part * share, width], values, scales))
                })
                .collect();
            workers.into_iter().map(|worker| worker.join().unwrap_or_default()).collect()
        });
        for (lost, all) in sums {
            blocks.lost += lost;
            blocks.all += all;
        }
        blocks
    }

    fn empty(rows: usize, width: usize) -> Self {
        Self {
            values: vec![0; rows * width],
            scales: vec![0.0; rows * width / BLOCK],
            rows,
            width,
            lost: 0.0,
            all: 0.0,
        }
    }

    /// What was lost, as the root of the mean square relative to that of the weights.
    pub fn difference(&self) -> f64 {
        (self.lost / self.all.max(f64::MIN_POSITIVE)).sqrt()
    }

    /// A graph that multiplies `input`, whose last dimension is the width, and gives `output`.
    pub fn graph(&self, (input, dims): (&str, &[Size]), output: &str) -> Vec<u8> {
        let mut graph = GraphBuilder::new("head");
        let blocks = self.width / BLOCK;
        graph.input(input, ElementType::F32, dims);
        let values = graph.inline("values", ElementType::BYTES, &[self.rows, blocks, BLOCK], &self.values);
        let scales = graph.floats("scales", &[self.rows, blocks], self.scales.iter().copied());
        graph.node(
            "MatMulNBits",
            &[input, &values, &scales],
            output,
            &[
                ("K", Value::Int(self.width as i64)),
                ("N", Value::Int(self.rows as i64)),
                ("accuracy_level", Value::Int(4)),
                ("bits", Value::Int(8)),
                ("block_size", Value::Int(BLOCK as i64)),
            ],
        );
        let mut dims = dims.to_vec();
        if let Some(last) = dims.last_mut() {
            *last = Size::Is(self.rows);
        }
        graph.output(output, ElementType::F32, &dims);
        graph.finish(21, "eddy")
    }
}

/// Floats that a vector register of every x86-64 and AArch64 machine can be made of; sums and maxima are kept in as many
/// lanes, because a compiler does not reorder them.
const LANES: usize = 8;
/// Added to a float of small magnitude, leaves its nearest integer in the lowest bits; a rounding function would be called
/// for each of the hundred million weights.
const TO_INTEGER: f32 = 12_582_912.0;

/// Rounds one block; gives its scale and the sums of squares of what was lost and of everything.
fn round(block: &[f32; BLOCK], values: &mut [u8]) -> (f32, f64, f64) {
    let mut greatest = [0.0_f32; LANES];
    for lanes in block.as_chunks::<LANES>().0 {
        for (greatest, weight) in greatest.iter_mut().zip(lanes) {
            let size = weight.abs();
            *greatest = if size > *greatest { size } else { *greatest };
        }
    }
    let scale = greatest.iter().fold(0.0_f32, |greatest, size| greatest.max(*size)) / LEVELS;
    let steps = if scale > 0.0 { scale.recip() } else { 0.0 };
    let (mut lost, mut all) = ([0.0_f32; LANES], [0.0_f32; LANES]);
    let parts = values.as_chunks_mut::<LANES>().0.iter_mut().zip(block.as_chunks::<LANES>().0);
    for (values, weights) in parts {
        for lane in 0..LANES {
            let shifted = weights[lane] * steps + TO_INTEGER;
            values[lane] = (shifted.to_bits() as u8).wrapping_add(ZERO as u8);
            let error = (shifted - TO_INTEGER) * scale - weights[lane];
            lost[lane] += error * error;
            all[lane] += weights[lane] * weights[lane];
        }
    }
    (scale, f64::from(lost.iter().sum::<f32>()), f64::from(all.iter().sum::<f32>()))
}

/// Rounds the columns from `first` on, as many as `values` has room for.
fn round_columns(
    floats: &[[u8; 4]],
    [columns, first, width]: [usize; 3],
    values: &mut [u8],
    scales: &mut [f32],
) -> (f64, f64) {
    // A strip of columns stays in the second cache while all of its blocks are turned.
    const STRIP: usize = 64;
    let (count, row_blocks) = (values.len() / width.max(1), width / BLOCK);
    let (mut lost, mut all) = (0.0, 0.0);
    let mut turned = [[0.0; BLOCK]; STRIP];
    for strip in (0..count).step_by(STRIP) {
        let strip_width = STRIP.min(count - strip);
        for at in 0..row_blocks {
            for row in 0..BLOCK {
                let start = (at * BLOCK + row) * columns + first + strip;
                for (column, bytes) in turned.iter_mut().zip(&floats[start..start + strip_width]) {
                    column[row] = f32::from_le_bytes(*bytes);
                }
            }
            for (column, block) in turned.iter().enumerate().take(strip_width) {
                let row = strip + column;
                let place = &mut values[row * width + at * BLOCK..][..BLOCK];
                let (scale, some_lost, some) = round(block, place);
                scales[row * row_blocks + at] = scale;
                lost += some_lost;
                all += some;
            }
        }
    }
    (lost, all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weights(count: usize) -> Vec<f32> {
        let mut random = fastrand::Rng::with_seed(3);
        (0..count).map(|_| random.f32() - 0.5).collect()
    }

    fn bytes(weights: impl IntoIterator<Item = f32>) -> Vec<u8> {
        weights.into_iter().flat_map(f32::to_le_bytes).collect()
    }

    #[test]
    fn no_weight_moves_by_more_than_half_a_step() {
        let (rows, width) = (37, 64);
        let matrix = weights(rows * width);
        let blocks = Blocks::of_rows(&bytes(matrix.iter().copied()), width);
        for (at, weight) in matrix.iter().enumerate() {
            let scale = blocks.scales[at / BLOCK];
            let stored = (f32::from(blocks.values[at]) - ZERO) * scale;
            assert!((stored - weight).abs() <= scale * 0.5001, "{stored} for {weight}");
        }
        assert!(blocks.difference() > 0.0 && blocks.difference() < 0.005, "{}", blocks.difference());
    }

    #[test]
    fn a_matrix_by_columns_is_the_same_matrix() {
        let (rows, width) = (37, 64);
        let matrix = weights(rows * width);
        let turned = (0..width * rows).map(|at| matrix[at % rows * width + at / rows]);
        let by_rows = Blocks::of_rows(&bytes(matrix.iter().copied()), width);
        let by_columns = Blocks::of_columns(&bytes(turned), width);
        assert_eq!(by_rows.values, by_columns.values);
        assert_eq!(by_rows.scales, by_columns.scales);
    }
}
