//! The projection from the backbone's width to a vector's, for exports that leave it out of the graph.
//!
//! sentence-transformers keeps it as `1_Dense/model.safetensors` with `1_Dense/config.json` beside it.

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::folder::{Json, ModelFolder, map};

const FOLDER: &str = "1_Dense";
/// A header larger than this belongs to no layer of two tensors.
const MOST_HEADER: usize = 1 << 20;

/// A linear layer.
#[derive(Debug)]
pub(super) struct Head {
    /// `[output, input]`.
    weight: Vec<f32>,
    bias: Option<Vec<f32>>,
    input: usize,
    output: usize,
}

impl Head {
    /// Reads the layer; `None` where the folder has none.
    ///
    /// # Errors
    /// [`Error::Malformed`] for a layer that does anything else than multiply and add.
    pub fn load(folder: &ModelFolder) -> Result<Option<Self>> {
        let place = folder.root().join(FOLDER);
        let path = place.join("model.safetensors");
        if !path.is_file() {
            return Ok(None);
        }
        let json = Json::read(&place, "config.json")?;
        if let Some(function) = json.text(&["activation_function"]).filter(|name| !name.ends_with("Identity")) {
            return Err(malformed(&path, format!("its activation function {function} is not known")));
        }
        if json.get(&["use_residual"]).and_then(serde_json::Value::as_bool) == Some(true) {
            return Err(malformed(&path, "it adds its input to its output, which is not known".into()));
        }
        let bytes = map(&path)?;
        let tensors = Safetensors::open(&path, &bytes)?;
        let (shape, weight) = tensors
            .floats("linear.weight")?
            .ok_or_else(|| malformed(&path, "it has no tensor linear.weight".into()))?;
        let [output, input] = shape[..] else {
            return Err(malformed(&path, format!("linear.weight has shape {shape:?}, not two dimensions")));
        };
        let bias = tensors.floats("linear.bias")?.map(|(_, bias)| bias);
        if bias.as_ref().is_some_and(|bias| bias.len() != output) || input == 0 || output == 0 {
            return Err(malformed(&path, format!("a layer from {input} to {output} with another bias")));
        }
        Ok(Some(Self { weight, bias, input, output }))
    }

    /// Width that it takes.
    pub fn input(&self) -> usize {
        self.input
    }

    /// Width that it gives.
    pub fn output(&self) -> usize {
        self.output
    }

    /// Projects rows.
    pub fn apply(&self, rows: &[f32]) -> Vec<f32> {
        let mut out = Vec::with_capacity(rows.len() / self.input * self.output);
        for row in rows.chunks_exact(self.input) {
            for (index, weights) in self.weight.chunks_exact(self.input).enumerate() {
                let sum: f32 = weights.iter().zip(row).map(|(a, b)| a * b).sum();
                out.push(sum + self.bias.as_ref().map_or(0.0, |bias| bias[index]));
            }
        }
        out
    }
}

/// The tensors of one file.
struct Safetensors<'a> {
    path: &'a Path,
    header: serde_json::Value,
    data: &'a [u8],
}

impl<'a> Safetensors<'a> {
    /// A length of eight bytes, a JSON header of that length, the data.
    fn open(path: &'a Path, bytes: &'a [u8]) -> Result<Self> {
        let cut_off = || malformed(path, "cut off, or no safetensors file".into());
        let (length, rest) = bytes.split_first_chunk::<8>().ok_or_else(cut_off)?;
        let length = usize::try_from(u64::from_le_bytes(*length)).unwrap_or(usize::MAX);
        if length > MOST_HEADER {
            return Err(cut_off());
        }
        let (header, data) = rest.split_at_checked(length).ok_or_else(cut_off)?;
        let header = serde_json::from_slice(header).map_err(|_| cut_off())?;
        Ok(Self { path, header, data })
    }

    fn floats(&self, name: &str) -> Result<Option<(Vec<usize>, Vec<f32>)>> {
        let Some(entry) = self.header.get(name) else {
            return Ok(None);
        };
        let wrong = || malformed(self.path, format!("the entry of {name} makes no sense"));
        let numbers = |key: &str| -> Option<Vec<usize>> {
            let list = entry.get(key)?.as_array()?;
            list.iter().map(|value| usize::try_from(value.as_u64()?).ok()).collect()
        };
        let (shape, offsets) = numbers("shape").zip(numbers("data_offsets")).ok_or_else(wrong)?;
        let [begin, end] = offsets[..] else { return Err(wrong()) };
        let bytes = self.data.get(begin..end).ok_or_else(wrong)?;
        let values: Vec<f32> = match entry.get("dtype").and_then(serde_json::Value::as_str) {
            Some("F32") => bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect(),
            Some("F16") => halves(bytes).map(|bits| half::f16::from_bits(bits).to_f32()).collect(),
            Some("BF16") => halves(bytes).map(|bits| half::bf16::from_bits(bits).to_f32()).collect(),
            other => return Err(malformed(self.path, format!("{name} has the element type {other:?}"))),
        };
        let elements = shape.iter().try_fold(1_usize, |product, size| product.checked_mul(*size));
        if elements != Some(values.len()) {
            return Err(wrong());
        }
        Ok(Some((shape, values)))
    }
}

fn halves(bytes: &[u8]) -> impl Iterator<Item = u16> {
    bytes.as_chunks::<2>().0.iter().map(|bytes| u16::from_le_bytes(*bytes))
}

fn malformed(path: &Path, reason: String) -> Error {
    Error::Malformed { path: PathBuf::from(path), reason, remedy: "download the folder again" }
}
