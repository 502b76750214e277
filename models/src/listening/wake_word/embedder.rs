//! The front end: sound in, one embedding of its last 0.8 s every 80 ms.
//!
//! The weights are built in (Apache-2.0, `models/embedded/wake-word`). One graph makes log-mel frames, the other embeds 76
//! of them; the tests hold both against the package that they come from.

use crate::error::Result;
use crate::graph::{Graph, Stop};
use crate::runtime::Runtime;
use crate::tensor::tensor;

const MEL: &[u8] = include_bytes!("../../../embedded/wake-word/melspectrogram.onnx");
const EMBEDDING: &[u8] = include_bytes!("../../../embedded/wake-word/embedding_model.onnx");
/// Samples of a frame (32 ms) that belong to the piece before: a frame begins every 10 ms.
const CONTEXT: usize = 512 - 160;
const BINS: usize = 32;
/// Frames that one embedding sees.
const WINDOW: usize = 76;
/// The level below which a frame is silence (-70 dB). The graph itself cuts at 80 dB below the loudest frame of a piece,
/// which would make a quiet piece look different beside a loud one.
const FLOOR: f32 = -5.0;

/// What a window of sound sounds like.
pub type Embedding = [f32; Embedder::WIDTH];

/// The front end, listening to one stream of sound.
#[derive(Debug)]
pub struct Embedder {
    mel: Graph,
    embedding: Graph,
    /// The context, and what is no whole piece yet.
    waiting: Vec<f32>,
    /// The last frames, `[frames, BINS]`.
    frames: Vec<f32>,
}

impl Embedder {
    /// Samples per second that it listens to.
    pub const SAMPLE_RATE: u32 = 16_000;
    /// Floats of an embedding.
    pub const WIDTH: usize = 96;
    /// Samples from one embedding to the next: 80 ms.
    pub const PIECE: usize = 1280;
    /// Samples that the first embedding of a stream needs.
    pub const FIRST: usize = WINDOW * 160;

    /// Builds both sessions and starts a stream.
    ///
    /// # Errors
    /// [`Error::Graph`](crate::Error::Graph) when the runtime refuses them.
    pub fn load(runtime: &Runtime, stop: &Stop) -> Result<Self> {
        Ok(Self {
            mel: Graph::carried_alone(runtime, "wake-word/melspectrogram (built in)", MEL, stop)?,
            embedding: Graph::carried_alone(runtime, "wake-word/embedding (built in)", EMBEDDING, stop)?,
            waiting: vec![0.0; CONTEXT],
            frames: Vec::new(),
        })
    }

    /// Takes mono samples in [-1, 1] that follow the ones before, and gives what embeddings came of them.
    ///
    /// # Errors
    /// [`Error::Graph`](crate::Error::Graph), [`Error::Stopped`](crate::Error::Stopped).
    pub fn push(&mut self, samples: &[f32]) -> Result<Vec<Embedding>> {
        self.waiting.extend_from_slice(samples);
        let mut made = Vec::new();
        while self.waiting.len() >= CONTEXT + Self::PIECE {
            let frames = self.frames_of(CONTEXT + Self::PIECE)?;
            self.waiting.drain(..Self::PIECE);
            self.frames.extend(frames);
            let whole = WINDOW * BINS;
            // Eight frames a piece, of which the first window needs four more.
            if self.frames.len() >= whole {
                made.push(self.embed()?);
                self.frames.drain(..Self::PIECE / 160 * BINS);
            }
        }
        Ok(made)
    }

    /// Samples that were taken behind the end of the last embedding.
    #[must_use]
    pub fn behind(&self) -> usize {
        self.waiting.len() - CONTEXT + self.frames.len().saturating_sub((WINDOW - 8) * BINS) / BINS * 160
    }

    /// Starts another stream.
    pub fn reset(&mut self) {
        self.waiting.clear();
        self.waiting.resize(CONTEXT, 0.0);
        self.frames.clear();
    }

    fn frames_of(&mut self, count: usize) -> Result<Vec<f32>> {
        let value = tensor(&[1, count], &self.waiting[..count]).map_err(|error| self.mel.failure(&error))?;
        let (_, decibels) = self.mel.run(vec![("input", value.into())])?.floats("output")?;
        self.mel.expect(decibels.len(), Self::PIECE / 160 * BINS)?;
        Ok(decibels.into_iter().map(|level| (level / 10.0 + 2.0).max(FLOOR)).collect())
    }

    fn embed(&mut self) -> Result<Embedding> {
        let value = tensor(&[1, WINDOW, BINS, 1], &self.frames[..WINDOW * BINS])
            .map_err(|error| self.embedding.failure(&error))?;
        let (_, embedding) = self.embedding.run(vec![("input_1", value.into())])?.floats("conv2d_19")?;
        self.embedding.expect(embedding.len(), Self::WIDTH)?;
        embedding.try_into().map_err(|_| self.embedding.unusable())
    }
}
