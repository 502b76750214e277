//! The depthformer: one hidden state to one frame of audio codes, a code at a time.
//!
//! Three forms have been published (model contract, section 5.1); which one a graph has is read from its inputs. The
//! rotary fault of the published graphs is found and repaired at load (section 5.6).

use ort::value::DynValue;

use crate::error::{Error, Result};
use crate::folder::{GraphFile, ModelFolder, Role, Wanted};
use crate::graph::{Graph, Stop};
use crate::onnx::{Dim, Edit, ElementType, Model, Port, TensorPatch};
use crate::runtime::Runtime;
use crate::tensor::{floats_as, tensor, zeros};

/// What the fault is called in reports.
const ROTARY_FAULT: &str = "depthformer rotary embedding: do_rotary was missing and its tables used theta 1e4";
/// Rows and columns of a rotary table; a frame has a few codes.
const MOST_POSITIONS: usize = 4096;
/// The base that the model was trained with.
const ROTARY_THETA: f64 = 1e6;

/// The depthformer's sessions.
#[derive(Debug)]
pub struct Depthformer {
    graph: Graph,
    projection: Option<Projection>,
    hidden_input: Option<ElementType>,
    slices_input: Option<Slices>,
    past: [Port; 2],
    new: [&'static str; 2],
    lengths: bool,
    codebooks: usize,
    hidden: usize,
    repairs: Vec<String>,
}

/// The graph that makes depth slices in exports that keep it apart.
#[derive(Debug)]
struct Projection {
    graph: Graph,
    input: Port,
    output: String,
}

/// The input that takes depth slices, and where the ones for later codes come from.
#[derive(Debug)]
struct Slices {
    name: String,
    element: ElementType,
    shape: Vec<usize>,
    returned: bool,
}

impl Depthformer {
    /// Builds the sessions; `None` when the folder has no depthformer.
    ///
    /// # Errors
    /// [`Error::UnknownGraph`] when its inputs are those of no known form, and those of loading.
    pub fn load(
        runtime: &Runtime,
        folder: &ModelFolder,
        wanted: Wanted,
        [codebooks, codebook_size, hidden]: [usize; 3],
        stop: &Stop,
    ) -> Result<Option<Self>> {
        let Some(file) = folder.graph(Role::Depthformer, wanted)? else {
            return Ok(None);
        };
        let model = file.model();
        let port =
            |name: &str| model.input(name).cloned().ok_or_else(|| file.unknown(format!("it has no input {name}")));
        let past = [port("past_keys")?, port("past_values")?];
        for port in &past {
            empty_shape(port).map_err(|reason| file.unknown(reason))?;
        }
        port("step_idx")?;
        port("prev_token")?;
        for output in ["logits", "new_keys", "new_values"] {
            if model.output(output).is_none() {
                return Err(file.unknown(format!("it has no output {output}")));
            }
        }
        if let Some(found) =
            model.output("logits").and_then(|port| port.dims.last()?.fixed()).filter(|found| *found != codebook_size)
        {
            return Err(
                file.unknown(format!("it has codebooks of {found} codes and the folder describes {codebook_size}"))
            );
        }
        let slices = model.inputs.iter().find(|port| port.name.starts_with("depth_"));
        let slices_input = slices
            .map(|port| {
                let shape = port.dims.iter().skip(1).map(Dim::fixed).collect::<Option<Vec<_>>>();
                let shape = shape.ok_or_else(|| file.unknown(format!("{port} has no fixed shape")))?;
                Ok(Slices {
                    name: port.name.clone(),
                    element: port.element,
                    shape: [&[1], shape.as_slice()].concat(),
                    returned: model.output("depth_slices").is_some(),
                })
            })
            .transpose()?;
        if let Some(found) =
            slices_input.as_ref().and_then(|slices| slices.shape.get(1)).filter(|found| **found != codebooks)
        {
            return Err(file.unknown(format!("it makes {found} codes a frame and the folder describes {codebooks}")));
        }
        let hidden_input = model.input("hidden_states").map(|port| port.element);
        let projection = match (hidden_input.is_some(), folder.graph(Role::DepthProjection, wanted)?) {
            (true, _) => None,
            (false, Some(file)) => Some(Projection::load(runtime, &file, stop)?),
            (false, None) => {
                return Err(folder.missing(Role::DepthProjection, "this depthformer needs it to make speech"));
            }
        };
        let (repairs, edit) = match rotary_repair(&file)? {
            Some(edit) => (vec![ROTARY_FAULT.to_owned()], Some(edit)),
            None => (Vec::new(), None),
        };
        Ok(Some(Self {
            graph: Graph::load(runtime, &file, edit.as_ref(), stop)?,
            projection,
            hidden_input,
            slices_input,
            past,
            new: ["new_keys", "new_values"],
            lengths: model.input("seqlens_k").is_some(),
            codebooks,
            hidden,
            repairs,
        }))
    }

    /// Faults of the published graph that were repaired at load.
    #[must_use]
    pub fn repairs(&self) -> &[String] {
        &self.repairs
    }

    /// Makes one frame from the backbone's hidden state: `choose` picks each code from its logits.
    ///
    /// # Errors
    /// [`Error::Graph`] also when `choose` finds nothing to pick, [`Error::Stopped`].
    pub fn frame(&mut self, hidden: &[f32], mut choose: impl FnMut(&[f32]) -> Option<u32>) -> Result<Vec<u32>> {
        if hidden.len() != self.hidden {
            return Err(Error::BadRequest(format!("a hidden state of {} floats, not {}", hidden.len(), self.hidden)));
        }
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
            let grown = [outputs.take(self.new[0])?, outputs.take(self.new[1])?];
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
    fn load(runtime: &Runtime, file: &GraphFile, stop: &Stop) -> Result<Self> {
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

/// The shape of an empty cache: `[layers, 1, heads, 0, size]` or, in the first form, `[layers, 1, 0, heads, size]`.
fn empty_shape(port: &Port) -> Result<Vec<usize>, String> {
    match port.dims.as_slice() {
        [Dim::Fixed(layers), _, Dim::Fixed(heads), Dim::Symbol(_), Dim::Fixed(size)] => {
            Ok(vec![*layers, 1, *heads, 0, *size])
        }
        [Dim::Fixed(layers), _, Dim::Symbol(_), Dim::Fixed(heads), Dim::Fixed(size)] => {
            Ok(vec![*layers, 1, 0, *heads, *size])
        }
        _ => Err(format!("{port} is no known depth cache")),
    }
}

/// The edit that repairs the published fault; `None` for a graph that does not have it.
fn rotary_repair(file: &GraphFile) -> Result<Option<Edit>> {
    let model: &Model = file.model();
    let operator = "GroupQueryAttention";
    let faulty = model.nodes_of(operator).any(|node| node.int("do_rotary").is_none());
    let tables: Vec<_> = model
        .initializers
        .iter()
        .filter(|tensor| tensor.name.ends_with(".gqa_cos") || tensor.name.ends_with(".gqa_sin"))
        .collect();
    if !faulty || tables.is_empty() {
        return Ok(None);
    }
    let mut edit = Edit { attributes: vec![(operator, "do_rotary", 1)], ..Edit::default() };
    for table in tables {
        let [positions, pairs] = table.dims.as_slice() else {
            return Err(file.unknown(format!("the rotary table {} has no two dimensions", table.name)));
        };
        if !(1..=MOST_POSITIONS).contains(positions) || !(1..=MOST_POSITIONS).contains(pairs) {
            return Err(
                file.unknown(format!("the rotary table {} of {positions} by {pairs} makes no sense", table.name))
            );
        }
        let angle =
            |position: usize, pair: usize| position as f64 * ROTARY_THETA.powf(-2.0 * pair as f64 / (2 * pairs) as f64);
        let function = if table.name.ends_with("cos") { f64::cos } else { f64::sin };
        let values = (0..*positions).flat_map(|position| (0..*pairs).map(move |pair| function(angle(position, pair))));
        let raw = match table.element {
            ElementType::F16 => values.flat_map(|value| half::f16::from_f64(value).to_le_bytes()).collect(),
            ElementType::F32 => values.flat_map(|value| (value as f32).to_le_bytes()).collect(),
            other => {
                return Err(file.unknown(format!("the rotary table {} is of {other}", table.name)));
            }
        };
        edit.tensors.insert(table.name.clone(), TensorPatch { raw });
    }
    Ok(Some(edit))
}
