//! What the machine can do at best: bytes read a second, multiplications a second. Decoding is bound by the one,
//! prefilling by the other.

use std::time::Instant;

use crate::error::Result;
use crate::folder::GraphFile;
use crate::graph::{Graph, Stop};
use crate::onnx::{ElementType, GraphBuilder, Model, Size};
use crate::runtime::Runtime;
use crate::tensor::tensor;

/// Bytes that each thread reads: more than any cache holds.
const BYTES_A_THREAD: usize = 192 << 20;
/// Rows and columns of the matrices.
const WIDTH: usize = 1536;

/// Bytes a second that `threads` read together from memory, once through.
#[must_use]
pub fn bandwidth(threads: usize) -> f64 {
    let buffers: Vec<Vec<u64>> = (0..threads.max(1)).map(|_| vec![1; BYTES_A_THREAD / 8]).collect();
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for buffer in &buffers {
            scope.spawn(|| {
                // Several sums, so that the additions do not wait for each other.
                let mut sums = [0_u64; 32];
                for part in buffer.as_chunks::<32>().0 {
                    for (sum, value) in sums.iter_mut().zip(part) {
                        *sum = sum.wrapping_add(*value);
                    }
                }
                std::hint::black_box(sums);
            });
        }
    });
    (buffers.len() * BYTES_A_THREAD) as f64 / begun.elapsed().as_secs_f64()
}

/// A product of two square matrices of 32-bit floats in ONNX Runtime.
#[derive(Debug)]
pub struct Product {
    graph: Graph,
    left: Vec<f32>,
}

impl Product {
    /// Builds the graph.
    ///
    /// # Errors
    /// Those of ONNX Runtime.
    pub fn new(runtime: &Runtime, stop: &Stop) -> Result<Self> {
        let mut graph = GraphBuilder::new("product");
        let left = graph.input("left", ElementType::F32, &[Size::Is(WIDTH), Size::Is(WIDTH)]);
        let right = graph.floats("right", &[WIDTH, WIDTH], (0..WIDTH * WIDTH).map(|at| (at % 7) as f32));
        graph.node("MatMul", &[&left, &right], "product", &[]);
        graph.output("product", ElementType::F32, &[Size::Is(WIDTH), Size::Is(WIDTH)]);
        let graph = Graph::carried(runtime, "the product of two matrices", &graph.finish(21, "eddy"), stop)?;
        Ok(Self { graph, left: vec![0.5; WIDTH * WIDTH] })
    }

    /// Floating-point operations a second, once through.
    ///
    /// # Errors
    /// Those of ONNX Runtime.
    pub fn measure(&mut self) -> Result<f64> {
        let left = tensor(&[WIDTH, WIDTH], &self.left).map_err(|error| self.graph.failure(&error))?;
        let begun = Instant::now();
        self.graph.run(vec![("left", left.into())])?;
        Ok(2.0 * (WIDTH as f64).powi(3) / begun.elapsed().as_secs_f64())
    }
}

/// What a graph reads and computes for one position.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Work {
    /// Bytes of its matrices.
    pub bytes: u64,
    /// Floating-point operations.
    pub operations: u64,
}

impl Work {
    /// Of every matrix that `file` multiplies with, the vocabulary head among them only if `head`.
    #[must_use]
    pub fn of(file: &GraphFile, head: bool) -> Self {
        let model = file.model();
        let mut work = Self::default();
        for node in model.nodes.iter().filter(|node| head || !node.outputs.iter().any(|output| output == "logits")) {
            match node.op.as_str() {
                "MatMulNBits" => {
                    let size = |name| u64::try_from(node.int(name).unwrap_or_default()).unwrap_or_default();
                    work.operations += 2 * size("K") * size("N");
                    work.bytes += node.inputs.iter().skip(1).map(|input| bytes_of(model, input)).sum::<u64>();
                }
                "MatMul" | "Gemm" => {
                    let bytes = node.inputs.iter().skip(1).take(1).map(|input| bytes_of(model, input)).sum::<u64>();
                    work.bytes += bytes;
                    work.operations += bytes / 2;
                }
                _ => {}
            }
        }
        work
    }
}

impl std::ops::Add for Work {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { bytes: self.bytes + other.bytes, operations: self.operations + other.operations }
    }
}

fn bytes_of(model: &Model, name: &str) -> u64 {
    let tensor = model.initializers.iter().find(|tensor| tensor.name == name);
    tensor.and_then(|tensor| tensor.external.as_ref()?.length).unwrap_or_default()
}
