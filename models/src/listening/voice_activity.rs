//! Silero's voice activity detector: the probability that 32 ms of sound hold speech.
//!
//! The weights are built in (MIT, `models/embedded/silero-vad`). A chunk is seen together with the last 4 ms before it, and
//! a recurrent state goes from chunk to chunk; both belong to one stream of sound.

use crate::error::{Error, Result};
use crate::graph::{Graph, Stop};
use crate::runtime::Runtime;
use crate::tensor::tensor;

const WEIGHTS: &[u8] = include_bytes!("../../embedded/silero-vad/silero_vad_16k.onnx");
const NAME: &str = "silero-vad (built in)";
/// Samples before a chunk that are seen with it.
const CONTEXT: usize = 64;
const STATE: [usize; 3] = [2, 1, 128];

/// The detector, listening to one stream of sound.
#[derive(Debug)]
pub struct VoiceActivity {
    graph: Graph,
    context: [f32; CONTEXT],
    state: Vec<f32>,
}

impl VoiceActivity {
    /// Samples per second that it listens to.
    pub const SAMPLE_RATE: u32 = 16_000;
    /// Samples in a chunk: 32 ms.
    pub const CHUNK: usize = 512;

    /// Builds the session and starts a stream.
    ///
    /// # Errors
    /// [`Error::Graph`] when the runtime refuses it.
    pub fn load(runtime: &Runtime, stop: &Stop) -> Result<Self> {
        let graph = Graph::carried_alone(runtime, NAME, WEIGHTS, stop)?;
        Ok(Self { graph, context: [0.0; CONTEXT], state: vec![0.0; STATE.iter().product()] })
    }

    /// The probability of speech in `chunk`, [`Self::CHUNK`] mono samples in [-1, 1] that follow the ones before.
    ///
    /// # Errors
    /// [`Error::BadRequest`] for a chunk of another length, [`Error::Graph`], [`Error::Stopped`]; the stream is then as
    /// it was.
    pub fn probability(&mut self, chunk: &[f32]) -> Result<f32> {
        if chunk.len() != Self::CHUNK {
            return Err(Error::BadRequest(format!("a chunk of {} samples, not {}", chunk.len(), Self::CHUNK)));
        }
        let failed = |error: ort::Error| self.graph.failure(&error);
        let sound = [&self.context, chunk].concat();
        let inputs = vec![
            ("input", tensor(&[1, sound.len()], &sound).map_err(failed)?.into()),
            ("state", tensor(&STATE, &self.state).map_err(failed)?.into()),
            ("sr", tensor(&[], &[i64::from(Self::SAMPLE_RATE)]).map_err(failed)?.into()),
        ];
        let outputs = self.graph.run(inputs)?;
        let (_, probability) = outputs.floats("output")?;
        let (_, state) = outputs.floats("stateN")?;
        drop(outputs);
        self.state = state;
        self.context.copy_from_slice(&chunk[Self::CHUNK - CONTEXT..]);
        probability.first().copied().ok_or_else(|| self.graph.unusable())
    }

    /// Starts another stream.
    pub fn reset(&mut self) {
        self.context.fill(0.0);
        self.state.fill(0.0);
    }
}
