//! Every published form of the depthformer, run as it stands: a new set of inputs for every code.

use ort::value::DynValue;

use super::empty_shape;
use crate::error::Result;
use crate::folder::GraphFile;
use crate::graph::{Graph, Stop};
use crate::onnx::{ElementType, Port};
use crate::runtime::Runtime;
use crate::tensor::{floats_as, tensor, zeros};

/// The sessions of a depthformer that is run whole.
#[derive(Debug)]
pub(super) struct Whole {
    pub graph: Graph,
    pub projection: Option<Projection>,
    pub hidden_input: Option<ElementType>,
    pub slices_input: Option<Slices>,
    pub past: [Port; 2],
    /// Whether it takes the lengths of its cache.
    pub lengths: bool,
    pub codebooks: usize,
    pub hidden: usize,
}

/// The graph that makes depth slices in exports that keep it apart.
#[derive(Debug)]
pub(super) struct Projection {
    graph: Graph,
    input: Port,
    output: String,
}

/// The input that takes depth slices, and where the ones for later codes come from.
#[derive(Debug)]
pub(super) struct Slices {
    pub name: String,
    pub element: ElementType,
    pub shape: Vec<usize>,
    pub returned: bool,
}

const NEW: [&str; 2] = ["new_keys", "new_values"];

impl Whole {
    /// Makes one frame from a hidden state of the right width.
    pub fn frame(&mut self, hidden: &[f32], choose: &mut dyn FnMut(&[f32]) -> Option<u32>) -> Result<Vec<u32>> {
        let mut slices = match (&mut self.projection, &self.slices_input) {
            (Some(projection), _) => Some(projection.slices(hidden)?),
            (None, Some(slices)) => {
                Some(zeros(slices.element, &slices.shape).map_err(|error| self.graph.failure(&error))?.into_dyn())
            }
            (None, None) => None,
        };
        let mut past = [empty(&self.graph, &self.past[0])?, empty(&self.graph, &self.past[1])?];
        let mut frame = Vec::with_capacity(self.codebooks);
        let mut previous = 0;
        for codebook in 0..self.codebooks {
            let failed = |error: ort::Error| self.graph.failure(&error);
            let step = tensor(&[], &[codebook as i64]).map_err(failed)?;
            let token = tensor(&[1], &[i64::from(previous)]).map_err(failed)?;
            let mut inputs = vec![("step_idx", step.into()), ("prev_token", token.into())];
            if let Some(element) = self.hidden_input {
                let hidden = floats_as(element, &[1, self.hidden], hidden).map_err(failed)?;
                inputs.push(("hidden_states", hidden.into()));
            }
            if let (Some(port), Some(value)) = (&self.slices_input, &slices) {
                inputs.push((port.name.as_str(), value.into()));
            }
            if self.lengths {
                let before = tensor(&[1], &[codebook as i32]).map_err(failed)?;
                let total = tensor(&[], &[codebook as i32 + 1]).map_err(failed)?;
                inputs.extend([("seqlens_k", before.into()), ("total_seq_len", total.into())]);
            }
            for (port, value) in self.past.iter().zip(&past) {
                inputs.push((port.name.as_str(), value.into()));
            }
            let mut outputs = self.graph.run(inputs)?;
            let (_, logits) = outputs.floats("logits")?;
            let grown = [outputs.take(NEW[0])?, outputs.take(NEW[1])?];
            let returned = match (&self.slices_input, codebook) {
                (Some(Slices { returned: true, .. }), 0) => Some(outputs.take("depth_slices")?),
                _ => None,
            };
            drop(outputs);
            past = grown;
            if returned.is_some() {
                slices = returned;
            }
            previous = choose(&logits).ok_or_else(|| self.graph.unusable())?;
            frame.push(previous);
        }
        Ok(frame)
    }
}

impl Projection {
    pub fn load(runtime: &Runtime, file: &GraphFile, stop: &Stop) -> Result<Self> {
        let ([input], [output, ..]) = (file.model().inputs.as_slice(), file.model().outputs.as_slice()) else {
            return Err(file.unknown("it does not map one hidden state to depth slices"));
        };
        let (input, output) = (input.clone(), output.name.clone());
        Ok(Self { graph: Graph::load(runtime, file, None, stop)?, input, output })
    }

    fn slices(&mut self, hidden: &[f32]) -> Result<DynValue> {
        let shape = [1, hidden.len()];
        let value = floats_as(self.input.element, &shape, hidden).map_err(|error| self.graph.failure(&error))?;
        self.graph.run(vec![(self.input.name.as_str(), value.into())])?.take(&self.output)
    }
}

fn empty(graph: &Graph, port: &Port) -> Result<DynValue> {
    let shape = empty_shape(port).unwrap_or_default();
    zeros(port.element, &shape).map(ort::value::Value::into_dyn).map_err(|error| graph.failure(&error))
}
