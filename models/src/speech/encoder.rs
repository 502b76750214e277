//! The audio encoder: mel features to rows that the backbone reads, one for every 80 ms.

use crate::error::{Error, Result};
use crate::folder::{GraphFile, ModelFolder};
use crate::graph::{Graph, Stop};
use crate::onnx::{Dim, ElementType, Port};
use crate::runtime::Runtime;
use crate::tensor::{floats_as, tensor};

use super::mel::MelFeatures;

/// Rows that the published encoder's positional table reaches to: 400 s.
const PUBLISHED_ROWS: usize = 5000;
/// Frames that become one row.
const FRAMES_PER_ROW: usize = 8;
/// The subsampling convolutions need this many.
const FEWEST_FRAMES: usize = 9;

/// The encoder's session.
#[derive(Debug)]
pub struct AudioEncoder {
    graph: Graph,
    mel: Port,
    lengths: Option<String>,
    output: String,
    longest: usize,
}

impl AudioEncoder {
    /// Builds the session.
    ///
    /// # Errors
    /// [`Error::UnknownGraph`] when it does not map mel features to rows of `hidden`, and those of loading.
    pub fn load(
        runtime: &Runtime,
        folder: &ModelFolder,
        file: &GraphFile,
        [hidden, bins]: [usize; 2],
        stop: &Stop,
    ) -> Result<Self> {
        let model = file.model();
        let features = ["mel_spectrogram", "mel_features"].into_iter().find_map(|name| model.input(name));
        let mel = features.ok_or_else(|| file.unknown("it has no input mel_spectrogram"))?;
        if let Some(found) = mel.dims.last().and_then(Dim::fixed).filter(|found| *found != bins) {
            return Err(file.unknown(format!("it takes {found} mel bins and the folder describes {bins}")));
        }
        let stray = model.inputs.iter().find(|port| port.name != mel.name && port.element != ElementType::I64);
        if let Some(port) = stray {
            return Err(file.unknown(format!("the input {} is not one of a known export", port.name)));
        }
        let lengths = model.inputs.iter().find(|port| port.element == ElementType::I64).map(|port| port.name.clone());
        let output = model
            .outputs
            .iter()
            .find(|port| matches!(port.element, ElementType::F32 | ElementType::F16))
            .ok_or_else(|| file.unknown("it has no output of floats"))?;
        if let Some(found) = output.dims.last().and_then(Dim::fixed).filter(|found| *found != hidden) {
            return Err(file.unknown(format!("its rows have {found} floats and the decoder takes {hidden}")));
        }
        Ok(Self {
            mel: mel.clone(),
            lengths,
            output: output.name.clone(),
            longest: longest_clip(folder, file)?,
            graph: Graph::load(runtime, file, None, stop)?,
        })
    }

    /// Frames of the longest clip that it can encode.
    #[must_use]
    pub fn longest(&self) -> usize {
        self.longest
    }

    /// Encodes one clip into `ceil(frames / 8)` rows.
    ///
    /// # Errors
    /// [`Error::Unhearable`] for a clip that is too short or too long, [`Error::Graph`].
    pub fn encode(&mut self, mel: &MelFeatures) -> Result<Vec<f32>> {
        if mel.frames < FEWEST_FRAMES {
            return Err(Error::Unhearable {
                reason: format!("{} frames of sound are too few", mel.frames),
                remedy: "record at least 0.1 s",
            });
        }
        if mel.frames > self.longest {
            return Err(Error::Unhearable {
                reason: format!("{} frames of sound are more than the encoder's limit of {}", mel.frames, self.longest),
                remedy: "cut the recording into shorter pieces",
            });
        }
        let shape = [1, mel.frames, mel.data.len() / mel.frames];
        let features = floats_as(self.mel.element, &shape, &mel.data).map_err(|error| self.graph.failure(&error))?;
        let mut inputs = vec![(self.mel.name.as_str(), features.into())];
        if let Some(name) = &self.lengths {
            // All frames count here, although the statistics leave the last one out: the reference passes the length
            // of the tensor.
            let count = tensor(&[1], &[mel.frames as i64]).map_err(|error| self.graph.failure(&error))?;
            inputs.push((name, count.into()));
        }
        Ok(self.graph.run(inputs)?.floats(&self.output)?.1)
    }
}

/// The longest clip in frames: what the relative positional table reaches to. The graph does not fail on a longer clip,
/// it reads the wrong rows, so the limit has to be known: from `config.json`, or from the table of `2 * rows - 1`
/// entries.
fn longest_clip(folder: &ModelFolder, file: &GraphFile) -> Result<usize> {
    let described = folder.config().count(&["encoder", "pos_emb_max_len"])?;
    let table = file.model().initializers.iter().filter_map(|tensor| {
        let positional = ["pos_enc", "pos_emb"].iter().any(|part| tensor.name.contains(part));
        match tensor.dims.as_slice() {
            [1, entries, _] | [entries, _] if positional && *entries >= 3 && !entries.is_multiple_of(2) => {
                Some(entries.div_ceil(2))
            }
            _ => None,
        }
    });
    let rows = table.chain(described).min().unwrap_or(PUBLISHED_ROWS);
    Ok(rows.saturating_mul(FRAMES_PER_ROW))
}
