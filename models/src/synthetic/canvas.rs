//! The idioms of LFM2 graphs, written with random weights in a chosen precision.

use std::path::Path;

use crate::error::{Error, Result};
use crate::onnx::{ElementType, GraphBuilder, Size, Value};

use super::weights::Weights;

pub(super) const F32: ElementType = ElementType::F32;
pub(super) const I64: ElementType = ElementType::I64;
pub(super) const I32: ElementType = ElementType::I32;

const EPSILON: f32 = 1e-5;
/// Weights in one quantisation block.
pub(super) const BLOCK: usize = 32;
/// Base of the rotary embedding.
const THETA: f64 = 1e6;

/// How the matrices of a graph are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stored {
    /// 32-bit floats, `MatMul`.
    Float,
    /// 8-bit blocks, `MatMulNBits`.
    Eight,
    /// 4-bit blocks, `MatMulNBits`.
    Four,
}

impl Stored {
    /// Bits of a weight in blocks, and the standard deviation of random ones around their zero point.
    fn bits(self) -> Option<(usize, f32)> {
        match self {
            Self::Float => None,
            Self::Eight => Some((8, 73.9)),
            Self::Four => Some((4, 4.61)),
        }
    }
}

/// A graph in the making, with the files of its weights.
#[derive(Debug)]
pub(super) struct Canvas {
    pub graph: GraphBuilder,
    pub weights: Weights,
    pub stored: Stored,
}

impl Canvas {
    pub fn new(folder: &Path, stem: &str, stored: Stored, seed: u64) -> Self {
        let graph = GraphBuilder::new(stem.split("_q").next().unwrap_or(stem));
        Self { graph, weights: Weights::new(folder, &format!("{stem}.onnx_data"), seed), stored }
    }

    /// Writes the graph, and says how many bytes it has with its weights.
    pub fn finish(self, folder: &Path, stem: &str, opset: i64) -> Result<u64> {
        let bytes = self.graph.finish(opset, "eddy, random weights");
        let path = folder.join(format!("{stem}.onnx"));
        std::fs::write(&path, &bytes).map_err(Error::io(&path, "check that the folder may be written"))?;
        Ok(bytes.len() as u64 + self.weights.finish()?)
    }

    /// A floating-point initializer in the data file.
    pub fn floats(&mut self, name: &str, dims: &[usize], spread: f32) -> Result<String> {
        if self.graph.knows(name) {
            return Ok(name.to_owned());
        }
        let place = self.weights.floats(dims.iter().product(), spread)?;
        Ok(self.graph.external(name, F32, dims, &place))
    }

    /// The same with numbers around one, as norms have.
    pub fn scales(&mut self, name: &str, dims: &[usize], mean: f32) -> Result<String> {
        let place = self.weights.positive(dims.iter().product(), mean)?;
        Ok(self.graph.external(name, F32, dims, &place))
    }

    /// `x` times a random matrix, in the canvas's storage.
    pub fn linear(&mut self, x: &str, [inner, outer]: [usize; 2], name: &str) -> Result<String> {
        self.linear_as(self.stored, x, [inner, outer], name, name)
    }

    /// The same with a bias.
    pub fn affine(&mut self, x: &str, [inner, outer]: [usize; 2], name: &str) -> Result<String> {
        let product = format!("{name}/product");
        let product = self.linear_as(self.stored, x, [inner, outer], name, &product)?;
        let bias = self.floats(&format!("{name}.bias"), &[outer], 0.02)?;
        Ok(self.graph.node("Add", &[&product, &bias], &format!("{name}/biased"), &[]))
    }

    /// `x` times a random matrix.
    pub fn linear_as(
        &mut self,
        stored: Stored,
        x: &str,
        [inner, outer]: [usize; 2],
        name: &str,
        output: &str,
    ) -> Result<String> {
        match stored.bits() {
            None => {
                let weight = self.floats(&format!("{name}.weight"), &[inner, outer], (inner as f32).sqrt().recip())?;
                Ok(self.graph.node("MatMul", &[x, &weight], output, &[]))
            }
            Some((bits, _)) => {
                let [values, scales] = self.packed(stored, [inner, outer], name)?;
                Ok(self.matmul_n_bits(x, [&values, &scales], [inner, outer], bits, output))
            }
        }
    }

    /// A `MatMulNBits` of initializers that are there.
    pub fn matmul_n_bits(
        &mut self,
        x: &str,
        [values, scales]: [&str; 2],
        [inner, outer]: [usize; 2],
        bits: usize,
        output: &str,
    ) -> String {
        self.graph.node(
            "MatMulNBits",
            &[x, values, scales],
            output,
            &[
                ("K", Value::Int(inner as i64)),
                ("N", Value::Int(outer as i64)),
                ("accuracy_level", Value::Int(4)),
                ("bits", Value::Int(bits as i64)),
                ("block_size", Value::Int(BLOCK as i64)),
            ],
        )
    }

    /// Random blocks and scales of an `[outer, inner]` matrix.
    pub fn packed(&mut self, stored: Stored, [inner, outer]: [usize; 2], name: &str) -> Result<[String; 2]> {
        let (bits, spread) = stored.bits().unwrap_or((8, 73.9));
        let blocks = inner.div_ceil(BLOCK);
        let values = self.weights.bytes(outer * blocks * BLOCK * bits / 8)?;
        let scales = self.weights.positive(outer * blocks, (inner as f32).sqrt().recip() / spread)?;
        Ok([
            self.graph.external(
                &format!("{name}.weight_Q{bits}"),
                ElementType::BYTES,
                &[outer, blocks, BLOCK * bits / 8],
                &values,
            ),
            self.graph.external(&format!("{name}.weight_scales"), F32, &[outer, blocks], &scales),
        ])
    }

    /// RMS norm over the last dimension.
    pub fn rms_norm(&mut self, x: &str, width: usize, name: &str) -> Result<String> {
        let weight = self.scales(&format!("{name}.weight"), &[width], 1.0)?;
        let attributes = [("axis", Value::Int(-1)), ("epsilon", Value::Float(EPSILON)), ("stash_type", Value::Int(1))];
        Ok(self.graph.node("SimplifiedLayerNormalization", &[x, &weight], name, &attributes))
    }

    /// Layer norm over the last dimension, with a bias.
    pub fn layer_norm(&mut self, x: &str, width: usize, name: &str) -> Result<String> {
        let weight = self.scales(&format!("{name}.weight"), &[width], 1.0)?;
        let bias = self.floats(&format!("{name}.bias"), &[width], 0.02)?;
        let attributes = [("axis", Value::Int(-1)), ("epsilon", Value::Float(EPSILON))];
        Ok(self.graph.node("LayerNormalization", &[x, &weight, &bias], name, &attributes))
    }

    /// Adds `more` to `x` and norms the sum; returns the norm and the sum.
    pub fn skip_norm(&mut self, x: &str, more: &str, width: usize, name: &str) -> Result<[String; 2]> {
        let weight = self.scales(&format!("{name}.weight"), &[width], 1.0)?;
        let sum = format!("{name}/sum");
        self.graph.node_of_many(
            "SkipSimplifiedLayerNormalization",
            &[x, more, &weight],
            &[name, "", "", &sum],
            &[("epsilon", Value::Float(EPSILON))],
        );
        Ok([name.to_owned(), sum])
    }

    /// RMS norm of every head of `[batch, positions, heads * size]`.
    pub fn head_norm(&mut self, x: &str, heads: usize, size: usize, name: &str) -> Result<String> {
        let split = self.reshape(x, &[0, 0, heads as i64, size as i64], &format!("{name}/heads"));
        let normed = self.rms_norm(&split, size, name)?;
        Ok(self.reshape(&normed, &[0, 0, (heads * size) as i64], &format!("{name}/joined")))
    }

    pub fn reshape(&mut self, x: &str, shape: &[i64], output: &str) -> String {
        let shape = self.graph.ints(shape);
        self.graph.node("Reshape", &[x, &shape], output, &[])
    }

    pub fn transpose(&mut self, x: &str, order: &[i64], output: &str) -> String {
        self.graph.node("Transpose", &[x], output, &[("perm", Value::Ints(order))])
    }

    pub fn slice(&mut self, x: &str, [start, stop]: [i64; 2], axis: i64, output: &str) -> String {
        let (start, stop, axis) = (self.graph.ints(&[start]), self.graph.ints(&[stop]), self.graph.ints(&[axis]));
        self.graph.node("Slice", &[x, &start, &stop, &axis], output, &[])
    }

    /// `x * sigmoid(x)`.
    pub fn silu(&mut self, x: &str, name: &str) -> String {
        let gate = self.graph.node("Sigmoid", &[x], &format!("{name}/sigmoid"), &[]);
        self.graph.node("Mul", &[x, &gate], &format!("{name}/silu"), &[])
    }

    /// The gated feed-forward network of every layer.
    pub fn swiglu(&mut self, x: &str, [width, inner]: [usize; 2], name: &str) -> Result<String> {
        let gate = self.linear(x, [width, inner], &format!("{name}.w1"))?;
        let gate = self.silu(&gate, &format!("{name}/gate"));
        let up = self.linear(x, [width, inner], &format!("{name}.w3"))?;
        let product = self.graph.node("Mul", &[&gate, &up], &format!("{name}/product"), &[]);
        self.linear(&product, [inner, width], &format!("{name}.w2"))
    }

    /// The rotary tables of `rows` positions for heads of `size`.
    pub fn rotary(&mut self, rows: usize, size: usize, [cos, sin]: [&str; 2]) -> Result<()> {
        let pairs = size / 2;
        for (name, function) in [(cos, f64::cos as fn(f64) -> f64), (sin, f64::sin)] {
            let angle = |at: usize| (at / pairs) as f64 * THETA.powf(-2.0 * (at % pairs) as f64 / size as f64);
            let values = (0..rows * pairs).map(|at| function(angle(at)) as f32);
            let place = self.weights.exactly(values, rows * pairs)?;
            self.graph.external(name, F32, &[rows, pairs], &place);
        }
        Ok(())
    }
}

/// The symbols of published graphs.
pub(super) const BATCH: Size = Size::Any("batch_size");
pub(super) const SEQUENCE: Size = Size::Any("sequence_length");
