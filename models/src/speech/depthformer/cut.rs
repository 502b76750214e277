//! The depthformer with its tables taken out: a step gathers one row, multiplies with one projection, and neither binds
//! nor allocates a tensor.
//!
//! Keys and values live in buffers of a whole frame: the attention operator looks at their beginning and writes behind
//! it. Projections that are large are stored in 8-bit blocks.

use ort::session::IoBinding;
use ort::value::DynTensor;

use super::empty_shape;
use crate::blocks::{BLOCK, Blocks};
use crate::error::Result;
use crate::folder::{GraphFile, MappedWeight};
use crate::graph::{Graph, Stop};
use crate::onnx::{DepthCut, Dim, Edit, ElementType, ExternalData, GraphBuilder, Model, Size, Value, cut_depthformer};
use crate::runtime::Runtime;
use crate::tensor::{bytes_mut, read_floats, zeros};

/// Projections smaller than this together stay in 32-bit floats: they are read from a cache in any case.
const LARGE: usize = 16 << 20;
/// Graph files larger than this hold their weights themselves.
const MOST_INLINE: usize = 32 << 20;
const HEAD_INPUT: &str = "projected";
const HEAD_OUTPUT: &str = "logits";
/// What goes into the body beside the row, as published.
const INPUTS: [&str; 8] = [
    "hidden_states",
    "depth_slices_in",
    "step_idx",
    "prev_token",
    "past_keys",
    "past_values",
    "seqlens_k",
    "total_seq_len",
];

/// The sessions and the tensors that they share.
#[derive(Debug)]
pub(super) struct Cut {
    body: Graph,
    /// The first step makes the slices that the others read.
    first: IoBinding,
    later: IoBinding,
    heads: Vec<Head>,
    /// The head of each step.
    head_of: Vec<usize>,
    embeddings: MappedWeight,
    /// The table of the code before each step.
    embedding_of: Vec<usize>,
    tensors: Tensors,
    logits: DynTensor,
    read: Vec<f32>,
    /// What the projections lost, where they were rounded.
    difference: Option<f64>,
}

/// What goes in and out of the body.
#[derive(Debug)]
struct Tensors {
    hidden: DynTensor,
    slices: DynTensor,
    step: DynTensor,
    token: DynTensor,
    keys: DynTensor,
    values: DynTensor,
    before: DynTensor,
    total: DynTensor,
    row: DynTensor,
    projected: DynTensor,
}

/// One projection.
#[derive(Debug)]
struct Head {
    graph: Graph,
    binding: IoBinding,
}

/// Sizes, as far as all parts agree about them.
#[derive(Debug, Clone)]
struct Shapes {
    hidden: usize,
    width: usize,
    slices: Vec<usize>,
    cache: Vec<usize>,
}

impl Cut {
    /// Builds the sessions; `None` for a graph whose tables cannot be taken out.
    pub fn load(
        runtime: &Runtime,
        file: &GraphFile,
        edit: Option<&Edit>,
        [codebooks, codes, hidden]: [usize; 3],
        stop: &Stop,
    ) -> Result<Option<Self>> {
        let model = file.model();
        let known = INPUTS.iter().all(|name| model.input(name).is_some()) && model.inputs.len() == INPUTS.len();
        if !known || model.output("depth_slices").is_none() || file.bytes().len() > MOST_INLINE {
            return Ok(None);
        }
        let edited = edit.and_then(|edit| edit.apply(file.bytes()).ok());
        let Some(cut) = cut_depthformer(edited.as_deref().unwrap_or(file.bytes()), codebooks) else {
            return Ok(None);
        };
        let tables = (file.weight(&cut.embeddings)?, file.weight(&cut.projections)?);
        let (Some(embeddings), Some(projections)) = tables else { return Ok(None) };
        let width = embeddings.dims.last().copied().unwrap_or_default();
        let Some(shapes) = Shapes::read(model, [codebooks, hidden, width]) else { return Ok(None) };
        if embeddings.dims.get(1) != Some(&codes) {
            return Ok(None);
        }

        let body = Graph::from_bytes(runtime, file, &cut.body, stop)?;
        let failed = |error: ort::Error| body.failure(&error);
        let mut tensors = Tensors::new(&shapes).map_err(failed)?;
        let first = tensors.bind(body.binding()?, &cut, true).map_err(failed)?;
        let later = tensors.bind(body.binding()?, &cut, false).map_err(failed)?;
        let mut logits = zeros(ElementType::F32, &[1, codes]).map_err(failed)?;
        let (mut heads, mut lost) = (Vec::new(), Vec::new());
        for at in 0..projections.dims[0] {
            let (graph, difference) = head(runtime, file, &projections, at, stop)?;
            let mut binding = graph.binding()?;
            binding.bind_input(HEAD_INPUT, &tensors.projected).map_err(failed)?;
            binding.bind_output(HEAD_OUTPUT, &mut logits).map_err(failed)?;
            heads.push(Head { graph, binding });
            lost.extend(difference);
        }
        Ok(Some(Self {
            heads,
            head_of: cut.projection_of,
            embeddings,
            embedding_of: cut.embedding_of,
            tensors,
            read: vec![0.0; codes],
            difference: lost.into_iter().reduce(f64::max),
            logits,
            first,
            later,
            body,
        }))
    }

    /// What was stored in fewer bits, in a sentence.
    pub fn difference(&self) -> Option<String> {
        let percent = 100.0 * self.difference?;
        Some(format!("depthformer projections: 32-bit floats in 8-bit blocks, {percent:.2} % of their size lost"))
    }

    /// Makes one frame from a hidden state of the right width.
    pub fn frame(&mut self, hidden: &[f32], choose: &mut dyn FnMut(&[f32]) -> Option<u32>) -> Result<Vec<u32>> {
        let tensors = &mut self.tensors;
        write(&mut tensors.hidden, hidden.iter().map(|value| value.to_le_bytes()));
        let mut frame = Vec::with_capacity(self.head_of.len());
        let mut previous = 0;
        for (step, (head, table)) in self.head_of.iter().zip(&self.embedding_of).enumerate() {
            write(&mut tensors.step, [(step as i64).to_le_bytes()]);
            write(&mut tensors.before, [(step as i32).to_le_bytes()]);
            write(&mut tensors.total, [(step as i32 + 1).to_le_bytes()]);
            let row = bytes_mut(&mut tensors.row);
            let start = (*table * self.read.len() + previous as usize) * row.len();
            let wanted = self.embeddings.bytes().get(start..start + row.len());
            row.copy_from_slice(wanted.ok_or_else(|| self.body.unusable())?);
            self.body.run_bound(if step == 0 { &self.first } else { &self.later })?;
            let head = &mut self.heads[*head];
            head.graph.run_bound(&head.binding)?;
            read_floats(&self.logits, &mut self.read);
            previous = choose(&self.read).ok_or_else(|| self.body.unusable())?;
            frame.push(previous);
        }
        Ok(frame)
    }
}

impl Tensors {
    fn new(shapes: &Shapes) -> Result<Self, ort::Error> {
        let float = |shape: &[usize]| zeros(ElementType::F32, shape);
        Ok(Self {
            hidden: float(&[1, shapes.hidden])?,
            slices: float(&shapes.slices)?,
            step: zeros(ElementType::I64, &[])?,
            token: zeros(ElementType::I64, &[1])?,
            keys: float(&shapes.cache)?,
            values: float(&shapes.cache)?,
            before: zeros(ElementType::I32, &[1])?,
            total: zeros(ElementType::I32, &[])?,
            row: float(&[1, shapes.width])?,
            projected: float(&[1, shapes.width])?,
        })
    }

    /// Binds everything once and for all; `slices` are made by the first step alone.
    fn bind(&mut self, mut binding: IoBinding, cut: &DepthCut, slices: bool) -> Result<IoBinding, ort::Error> {
        let inputs =
            [&self.hidden, &self.slices, &self.step, &self.token, &self.keys, &self.values, &self.before, &self.total];
        for (name, tensor) in INPUTS.into_iter().zip(inputs) {
            binding.bind_input(name, tensor)?;
        }
        binding.bind_input(cut.row.as_str(), &self.row)?;
        binding.bind_output(cut.projected.as_str(), &mut self.projected)?;
        // The new cache is put together when all layers are through, and each has read its part of the old one by then.
        binding.bind_output("new_keys", &mut self.keys)?;
        binding.bind_output("new_values", &mut self.values)?;
        if slices {
            binding.bind_output("depth_slices", &mut self.slices)?;
        }
        Ok(binding)
    }
}

impl Shapes {
    /// `None` where a port has another shape or type than the first form of the depthformer with bound caches.
    fn read(model: &Model, [codebooks, hidden, width]: [usize; 3]) -> Option<Self> {
        let floats = |name: &str| model.input(name).filter(|port| port.element == ElementType::F32);
        floats("hidden_states")?;
        floats("past_values")?;
        let fixed = floats("depth_slices_in")?.dims.iter().skip(1).map(Dim::fixed).collect::<Option<Vec<_>>>()?;
        let mut cache = empty_shape(floats("past_keys")?).ok()?;
        // `[layers, 1, heads, positions, size]`: the operator extends what has this order, from the beginning of it.
        let positions = cache.get_mut(3).filter(|positions| **positions == 0)?;
        *positions = codebooks;
        let straight = model.nodes_of("GroupQueryAttention").count() == cache[0];
        (straight && fixed == [codebooks, width]).then(|| Self {
            hidden,
            width,
            slices: vec![1, codebooks, width],
            cache,
        })
    }
}

/// The graph of projection `at`, and what it lost where it was rounded.
fn head(
    runtime: &Runtime,
    file: &GraphFile,
    projections: &MappedWeight,
    at: usize,
    stop: &Stop,
) -> Result<(Graph, Option<f64>)> {
    let [codes, width] = [projections.dims[1], projections.dims[2]];
    let length = codes * width * size_of::<f32>();
    let dims = [Size::Is(1), Size::Is(width)];
    if projections.bytes().len() >= LARGE && width.is_multiple_of(BLOCK) && !runtime.keeps_heads() {
        let blocks = Blocks::of_rows(&projections.bytes()[at * length..][..length], width);
        let bytes = blocks.graph((HEAD_INPUT, &dims), HEAD_OUTPUT);
        return Ok((Graph::from_bytes(runtime, file, &bytes, stop)?, Some(blocks.difference())));
    }
    let mut graph = GraphBuilder::new("projection");
    let input = graph.input(HEAD_INPUT, ElementType::F32, &dims);
    let place = ExternalData {
        location: projections.place.location.clone(),
        offset: projections.place.offset + (at * length) as u64,
        length: Some(length as u64),
    };
    let weight = graph.external("projection", ElementType::F32, &[codes, width], &place);
    graph.node("Gemm", &[&input, &weight], HEAD_OUTPUT, &[("transB", Value::Int(1))]);
    graph.output(HEAD_OUTPUT, ElementType::F32, &[Size::Is(1), Size::Is(codes)]);
    Ok((Graph::from_bytes(runtime, file, &graph.finish(21, "eddy"), stop)?, None))
}

/// Writes elements from the beginning on.
fn write<const WIDTH: usize>(tensor: &mut DynTensor, elements: impl IntoIterator<Item = [u8; WIDTH]>) {
    for (to, from) in bytes_mut(tensor).as_chunks_mut::<WIDTH>().0.iter_mut().zip(elements) {
        *to = from;
    }
}
