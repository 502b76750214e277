//! The vision encoder: patches of one entry to rows that the backbone reads.

use std::borrow::Cow;

use ort::session::SessionInputValue;

use crate::error::Result;
use crate::folder::GraphFile;
use crate::graph::{Graph, Stop};
use crate::onnx::{Dim, Edit, ElementType, Port};
use crate::runtime::Runtime;
use crate::tensor::{floats_as, tensor};

use super::patches::Patches;
use super::settings::Settings;

type Inputs = Vec<(&'static str, SessionInputValue<'static>)>;

const PIXELS: &str = "pixel_values";
const MASK: &str = "pixel_attention_mask";
const SHAPES: &str = "spatial_shapes";
const PLANE_SIZES: [&str; 2] = ["spatial_h", "spatial_w"];

/// What is said of a repair.
const POSITIONS_REPAIR: &str = "positions of the vision encoder are interpolated with antialias";
/// The first version of `Resize` that knows antialias.
const ANTIALIAS_OPSET: i64 = 18;

/// The encoder's session. One entry a run: published graphs shape all entries of a batch after the first one, and answer
/// wrongly without a word when they differ.
#[derive(Debug)]
pub(super) struct VisionEncoder {
    graph: Graph,
    pixels: Port,
    form: Form,
    output: String,
    hidden: usize,
    repairs: Vec<String>,
}

/// How a graph takes an entry.
#[derive(Debug)]
enum Form {
    /// Patches `[1, patches, numbers]`, their size in patches, and a mask of this element type where there is one.
    Patches { mask: Option<ElementType> },
    /// Planes `[1, 3, height, width]` and their size in tokens; a few early exports.
    Planes { ranks: [usize; 2] },
}

impl Form {
    fn of(file: &GraphFile, pixels: &Port, patch: usize) -> Result<Self> {
        let model = file.model();
        let (form, others) = match (pixels.dims.len(), PLANE_SIZES.map(|name| model.input(name))) {
            (4, [Some(high), Some(wide)]) => {
                (Self::Planes { ranks: [high, wide].map(|port| port.dims.len()) }, PLANE_SIZES)
            }
            (3, _) if model.input(SHAPES).is_some() => {
                (Self::Patches { mask: model.input(MASK).map(|port| port.element) }, [MASK, SHAPES])
            }
            _ => return Err(file.unknown("it takes neither patches with spatial_shapes nor planes with their size")),
        };
        if let (Self::Patches { .. }, Some(found)) = (&form, pixels.dims.last().and_then(Dim::fixed))
            && found != patch
        {
            return Err(file.unknown(format!("it takes patches of {found} numbers and the folder describes {patch}")));
        }
        let known = |name: &str| name == PIXELS || others.contains(&name);
        match model.inputs.iter().find(|port| !known(&port.name)) {
            Some(port) => Err(file.unknown(format!("the input {} is not one of a known export", port.name))),
            None => Ok(form),
        }
    }
}

impl VisionEncoder {
    /// Builds the session.
    ///
    /// # Errors
    /// [`Error::UnknownGraph`](crate::Error::UnknownGraph) when it does not map patches of `patch` numbers to rows of
    /// `hidden`, and those of loading.
    pub fn load(runtime: &Runtime, file: &GraphFile, [hidden, patch]: [usize; 2], stop: &Stop) -> Result<Self> {
        let model = file.model();
        let pixels = model.input(PIXELS).ok_or_else(|| file.unknown("it has no input pixel_values"))?;
        let form = Form::of(file, pixels, patch)?;
        let output = model
            .outputs
            .iter()
            .find(|port| matches!(port.element, ElementType::F32 | ElementType::F16))
            .ok_or_else(|| file.unknown("it has no output of floats"))?;
        if let Some(found) = output.dims.last().and_then(Dim::fixed).filter(|found| *found != hidden) {
            return Err(file.unknown(format!("its rows have {found} floats and the decoder takes {hidden}")));
        }
        let edit = positions_repair(file);
        let repairs = edit.iter().map(|_| POSITIONS_REPAIR.to_owned()).collect();
        Ok(Self {
            pixels: pixels.clone(),
            form,
            output: output.name.clone(),
            hidden,
            repairs,
            graph: Graph::load(runtime, file, edit.as_ref(), stop)?,
        })
    }

    /// What was repaired in the graph when it was loaded.
    pub fn repairs(&self) -> &[String] {
        &self.repairs
    }

    /// Appends the rows of one entry, `tokens` of them, to `out`; `settings` are those that cut it.
    ///
    /// # Errors
    /// [`Error::Stopped`](crate::Error::Stopped), [`Error::Graph`](crate::Error::Graph).
    pub fn append(&mut self, patches: &Patches, settings: &Settings, tokens: usize, out: &mut Vec<f32>) -> Result<()> {
        let inputs = match &self.form {
            Form::Patches { mask } => self.patches(patches, *mask),
            Form::Planes { ranks } => self.planes(patches, *ranks, settings),
        };
        let inputs = inputs.map_err(|error| self.graph.failure(&error))?;
        let (_, rows) = self.graph.run(inputs)?.floats(&self.output)?;
        self.graph.expect(rows.len(), tokens * self.hidden)?;
        out.extend(rows);
        Ok(())
    }

    fn patches(&self, patches: &Patches, mask: Option<ElementType>) -> Result<Inputs, ort::Error> {
        let count = patches.height * patches.width;
        let width = patches.values.len() / count.max(1);
        // As many as there are, unless the graph was exported for a fixed number: then the mask tells them apart.
        let places = self.pixels.dims.get(1).and_then(Dim::fixed).unwrap_or(count).max(count);
        let mut values = Cow::Borrowed(&patches.values);
        if places > count {
            values.to_mut().resize(places * width, 0.0);
        }
        let pixels = floats_as(self.pixels.element, &[1, places, width], &values)?;
        let sizes = tensor(&[1, 2], &[patches.height as i64, patches.width as i64])?;
        let mut inputs = vec![(PIXELS, pixels.into()), (SHAPES, sizes.into())];
        if let Some(element) = mask {
            let real = (0..places).map(|place| i64::from(place < count));
            let mask = match element {
                ElementType::I32 => tensor(&[1, places], &real.map(|real| real as i32).collect::<Vec<_>>())?,
                _ => tensor(&[1, places], &real.collect::<Vec<_>>())?,
            };
            inputs.push((MASK, mask.into()));
        }
        Ok(inputs)
    }

    fn planes(&self, patches: &Patches, ranks: [usize; 2], settings: &Settings) -> Result<Inputs, ort::Error> {
        let (high, wide) = (patches.height * settings.patch, patches.width * settings.patch);
        let pixels = floats_as(self.pixels.element, &[1, 3, high, wide], &patches.planes(settings.patch))?;
        let mut inputs = vec![(PIXELS, pixels.into())];
        for ((name, rank), count) in PLANE_SIZES.into_iter().zip(ranks).zip([patches.height, patches.width]) {
            // A scalar in some exports, a list of one in others.
            let size = tensor(&vec![1; rank], &[(count / settings.downsample) as i64])?;
            inputs.push((name, size.into()));
        }
        Ok(inputs)
    }
}

/// The edit that makes a graph interpolate its table of positions as PyTorch does; `None` for a graph that does.
///
/// Published graphs leave the antialias out. For images with fewer patches on a side than the table has, their features
/// are then some hundredths away from the reference (model contract, section 4.1). Without `exclude_outside` the runtime
/// counts the table's border several times, which PyTorch does not.
fn positions_repair(file: &GraphFile) -> Option<Edit> {
    const RESIZE: &str = "Resize";
    let model = file.model();
    let usual = |node: &crate::onnx::Node| {
        node.text("mode") == Some("linear")
            && matches!(node.text("coordinate_transformation_mode"), None | Some("half_pixel" | "pytorch_half_pixel"))
    };
    let mut resizes = model.nodes_of(RESIZE).peekable();
    resizes.peek()?;
    if model.opset < ANTIALIAS_OPSET || !resizes.all(|node| usual(node) && node.int("antialias") != Some(1)) {
        return None;
    }
    let overrides = vec![(RESIZE, "antialias", 1), (RESIZE, "exclude_outside", 1)];
    Some(Edit { overrides, ..Edit::default() })
}
