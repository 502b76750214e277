//! The retrieval job: texts in, vectors out, to wherever they are wanted. One batch of texts is one step.

use std::time::Instant;

use eddy_models::retrieval::{Encoding, Progress, Side, Vectors};

use super::loader::Model;
use super::memory::Hold;
use super::{refusal, wrong_model};
use crate::engine::{Ending, Job, Step};

/// Where vectors go. Nothing here waits: what cannot be taken yet is said to be [`Step::Full`].
pub trait Receiver: Send {
    /// Called before any other, once the model is there, with the floats in a vector.
    fn open(&mut self, width: usize) -> Option<Step>;

    /// Gets rid of what is there already. `None` when there is room for more.
    fn flush(&mut self) -> Option<Step>;

    /// Takes the vectors of the next texts, in the texts' order.
    fn take(&mut self, vectors: Vec<Vectors>);

    /// Whether everything has been delivered.
    fn is_clear(&self) -> bool;

    /// The end.
    fn end(&mut self, ending: Ending, began: Option<Instant>);
}

/// Texts on their way through an encoder.
pub struct EncodeJob<R> {
    /// Texts of one step, the next ones last.
    batches: Vec<Vec<String>>,
    side: Side,
    receiver: R,
    hold: Option<Hold>,
    encoding: Option<Encoding>,
    begun: Option<Instant>,
}

impl<R: Receiver> EncodeJob<R> {
    /// A job that encodes `texts`, `batch` of them before their vectors are handed on.
    #[must_use]
    pub fn new(texts: Vec<String>, side: Side, batch: usize, receiver: R, hold: Option<Hold>) -> Self {
        let mut batches: Vec<Vec<String>> = texts.chunks(batch.max(1)).map(<[String]>::to_vec).collect();
        batches.reverse();
        Self { batches, side, receiver, hold, encoding: None, begun: None }
    }

    fn advance(&mut self, encoder: &mut eddy_models::retrieval::Encoder) -> eddy_models::Result<Step> {
        if self.encoding.is_none() {
            let Some(texts) = self.batches.pop() else {
                return Ok(if self.receiver.is_clear() { Step::Done } else { Step::Full });
            };
            self.encoding = Some(Encoding::new(encoder, &texts, self.side)?);
            // A step of its own, so that every run of the graph can give way.
            return Ok(Step::More);
        }
        let Some(encoding) = &mut self.encoding else { return Ok(Step::More) };
        if encoding.step(encoder)? == Progress::Finished
            && let Some(finished) = self.encoding.take()
        {
            self.receiver.take(finished.into_vectors());
        }
        Ok(Step::More)
    }
}

impl<R: Receiver> Job<Model> for EncodeJob<R> {
    fn step(&mut self, model: &mut Model) -> Step {
        let Model::Retrieval(encoder) = model else { return Step::Failed(wrong_model()) };
        if self.begun.is_none() {
            self.begun = Some(Instant::now());
            if let Some(step) = self.receiver.open(encoder.width()) {
                return step;
            }
        }
        if let Some(step) = self.receiver.flush() {
            return step;
        }
        self.advance(encoder).unwrap_or_else(|error| Step::Failed(refusal(&error)))
    }

    fn can_repeat(&self) -> bool {
        // Texts are cut into tokens once; from then on a step is a batch, which comes again after an error.
        self.encoding.is_some()
    }

    fn end(&mut self, _: Option<&mut Model>, ending: Ending) {
        self.encoding = None;
        self.receiver.end(ending, self.begun);
        self.hold = None;
    }
}
