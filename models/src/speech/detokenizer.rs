//! The detokenizer: audio codes to samples, while more codes are still being made.
//!
//! The graph is causal with a bounded memory, so a window of earlier codes in front of the new ones gives the new ones
//! the features they would have in the whole (model contract, section 5.7). The stream's samples equal the offline
//! result.

use crate::error::{Error, Result};
use crate::folder::GraphFile;
use crate::graph::{Graph, Stop};
use crate::onnx::{Dim, Model};
use crate::runtime::Runtime;
use crate::tensor::tensor;

use super::stft::{InverseStft, StftSettings};

/// Positions that a sliding attention layer of the reference sees.
const SLIDING_WINDOW: usize = 30;
/// Feature rows for each code frame in the published graph.
const UPSAMPLING: usize = 6;
/// Code frames that the published detokenizer looks back: 97 positions.
const PUBLISHED_CONTEXT: usize = 17;
/// Taps of the reference's causal convolutions.
const TAPS: usize = 3;

/// The detokenizer's session.
#[derive(Debug)]
pub struct Detokenizer {
    graph: Graph,
    input: String,
    output: String,
    settings: StftSettings,
    codebooks: usize,
    /// Highest code that has a row; the end code has none.
    highest: u32,
    /// Code frames of left context that decide a frame's features.
    context: usize,
}

/// One reply's way from codes to samples.
#[derive(Debug)]
pub struct SampleStream {
    stft: InverseStft,
    recent: Vec<Vec<u32>>,
}

impl Detokenizer {
    /// Builds the session.
    ///
    /// # Errors
    /// [`Error::UnknownGraph`] when it does not map codes to feature rows, and those of loading.
    pub fn load(
        runtime: &Runtime,
        file: &GraphFile,
        mut settings: StftSettings,
        codebooks: usize,
        end_code: u32,
        stop: &Stop,
    ) -> Result<Self> {
        let model = file.model();
        let ([input], [output, ..]) = (model.inputs.as_slice(), model.outputs.as_slice()) else {
            return Err(file.unknown("it does not map one input to features"));
        };
        if let Some(found) = input.dims.get(1).and_then(Dim::fixed).filter(|found| *found != codebooks) {
            return Err(file.unknown(format!("it takes {found} codes a frame and the folder describes {codebooks}")));
        }
        if let Some(row) = output.dims.last().and_then(Dim::fixed).filter(|row| *row != settings.row()) {
            // The graph is the authority on its transform; the hop keeps its share of the window.
            let window = (row / 2).saturating_sub(1) * 2;
            if !row.is_multiple_of(2) || window < 4 {
                return Err(file.unknown(format!("{row} features a row are no magnitudes and angles")));
            }
            settings.hop = settings.hop * window / settings.window;
            settings.window = window;
        }
        Ok(Self {
            input: input.name.clone(),
            output: output.name.clone(),
            context: match context_of(model) {
                // Nothing that is known reaches back: the graph hides how it does.
                0 => PUBLISHED_CONTEXT,
                positions => positions.div_ceil(UPSAMPLING),
            },
            graph: Graph::load(runtime, file, None, stop)?,
            settings,
            codebooks,
            highest: end_code.saturating_sub(1),
        })
    }

    /// The transform behind it.
    #[must_use]
    pub fn settings(&self) -> &StftSettings {
        &self.settings
    }

    /// Code frames of left context that a new frame needs.
    #[must_use]
    pub fn context(&self) -> usize {
        self.context
    }

    /// Samples that a code frame becomes.
    #[must_use]
    pub fn samples_per_frame(&self) -> usize {
        UPSAMPLING * self.settings.hop
    }

    /// Starts a stream.
    #[must_use]
    pub fn stream(&self) -> SampleStream {
        SampleStream { stft: InverseStft::new(&self.settings), recent: Vec::new() }
    }

    /// The feature rows of `frames`, `[rows, 2 * bins]` in one slice.
    ///
    /// # Errors
    /// [`Error::BadRequest`] for a frame of another size, [`Error::Graph`].
    pub fn features(&mut self, frames: &[Vec<u32>]) -> Result<Vec<f32>> {
        if frames.iter().any(|frame| frame.len() != self.codebooks) {
            return Err(Error::BadRequest(format!("not every frame has {} codes", self.codebooks)));
        }
        let highest = self.highest;
        let codes: Vec<i64> = (0..self.codebooks)
            .flat_map(|codebook| frames.iter().map(move |frame| i64::from(frame[codebook].min(highest))))
            .collect();
        let value = tensor(&[1, self.codebooks, frames.len()], &codes).map_err(|error| self.graph.failure(&error))?;
        Ok(self.graph.run(vec![(self.input.as_str(), value.into())])?.floats(&self.output)?.1)
    }

    /// The samples of all feature rows of a reply at once, appended to `out`.
    ///
    /// # Errors
    /// [`Error::BadRequest`] for features that are no whole rows.
    pub fn offline(&self, features: &[f32], out: &mut Vec<f32>) -> Result<()> {
        let mut stft = InverseStft::new(&self.settings);
        for row in features.chunks(self.settings.row()) {
            stft.push(row, out)?;
        }
        stft.finish(out);
        Ok(())
    }

    /// Adds `frames` to the stream and appends the samples that they settle to `out`. Several at once cost less than
    /// one by one, since each call computes the left context again.
    ///
    /// # Errors
    /// Those of [`Self::features`].
    pub fn push(&mut self, stream: &mut SampleStream, frames: &[Vec<u32>], out: &mut Vec<f32>) -> Result<()> {
        if frames.is_empty() {
            return Ok(());
        }
        stream.recent.extend_from_slice(frames);
        let features = self.features(&stream.recent)?;
        let new_share = features.len() / stream.recent.len() * frames.len();
        for row in features[features.len() - new_share..].chunks_exact(self.settings.row()) {
            stream.stft.push(row, out)?;
        }
        let passed = stream.recent.len().saturating_sub(self.context);
        stream.recent.drain(..passed);
        Ok(())
    }
}

impl SampleStream {
    /// Appends the last samples to `out`.
    pub fn finish(&mut self, out: &mut Vec<f32>) {
        self.stft.finish(out);
        self.recent.clear();
    }
}

/// Feature positions before a position that can change its features: every causal convolution reaches back by its taps
/// less one, every sliding attention layer by its window less one.
fn context_of(model: &Model) -> usize {
    let convolutions = model.nodes_of("Conv").map(|node| match node.ints("kernel_shape") {
        Some([taps]) => usize::try_from(*taps).unwrap_or(TAPS).saturating_sub(1),
        _ => TAPS - 1,
    });
    let stateful = model.nodes_of("CausalConvWithState").map(|_| TAPS - 1);
    // Attention is one Softmax in a plain graph and one fused node in an optimised one.
    let attention = ["Softmax", "GroupQueryAttention", "MultiHeadAttention", "Attention"]
        .into_iter()
        .flat_map(|op| model.nodes_of(op))
        .map(|node| {
            let window = node.int("local_window_size").and_then(|window| usize::try_from(window).ok());
            window.filter(|window| *window > 0).unwrap_or(SLIDING_WINDOW) - 1
        });
    convolutions.chain(stateful).chain(attention).sum()
}
