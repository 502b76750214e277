//! The depthformer: one hidden state to one frame of audio codes, a code at a time.
//!
//! Three forms have been published (model contract, section 5.1); which one a graph has is read from its inputs. The
//! rotary fault of the published graphs is found and repaired at load (section 5.6).

mod cut;
mod whole;

use crate::error::{Error, Result};
use crate::folder::{GraphFile, ModelFolder, Role, Wanted};
use crate::graph::{Graph, Stop};
use crate::onnx::{Dim, Edit, ElementType, Model, Port, TensorPatch};
use crate::runtime::Runtime;

use cut::Cut;
use whole::{Projection, Slices, Whole};

/// What the fault is called in reports.
const ROTARY_FAULT: &str = "depthformer rotary embedding: do_rotary was missing and its tables used theta 1e4";
/// Rows and columns of a rotary table; a frame has a few codes.
const MOST_POSITIONS: usize = 4096;
/// The base that the model was trained with.
const ROTARY_THETA: f64 = 1e6;

/// The depthformer's sessions.
#[derive(Debug)]
pub struct Depthformer {
    form: Form,
    hidden: usize,
    repairs: Vec<String>,
}

#[derive(Debug)]
enum Form {
    /// The published graph runs as it stands.
    Whole(Box<Whole>),
    /// Its tables were taken out.
    Cut(Box<Cut>),
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
        if projection.is_none()
            && let Some(cut) = Cut::load(runtime, &file, edit.as_ref(), [codebooks, codebook_size, hidden], stop)?
        {
            return Ok(Some(Self { form: Form::Cut(Box::new(cut)), hidden, repairs }));
        }
        let whole = Whole {
            graph: Graph::load(runtime, &file, edit.as_ref(), stop)?,
            projection,
            hidden_input,
            slices_input,
            past,
            lengths: model.input("seqlens_k").is_some(),
            codebooks,
            hidden,
        };
        Ok(Some(Self { form: Form::Whole(Box::new(whole)), hidden, repairs }))
    }

    /// Whether its tables were taken out of the graph, so that a step reads what it needs of them.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        matches!(self.form, Form::Cut(_))
    }

    /// What was stored in fewer bits than published, in a sentence.
    #[must_use]
    pub fn rounded(&self) -> Option<String> {
        match &self.form {
            Form::Whole(_) => None,
            Form::Cut(cut) => cut.difference(),
        }
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
        match &mut self.form {
            Form::Whole(whole) => whole.frame(hidden, &mut choose),
            Form::Cut(cut) => cut.frame(hidden, &mut choose),
        }
    }
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
