//! The vision job: image files and a question in, text out. Steps: an image decoded, the prompt, a tile, a chunk of the
//! prefill, a token at a time, then waiting until everything has been taken.

use std::time::Instant;

use eddy_ipc::{Error, Failure, FinishReason, Outcome, RequestState};
use eddy_models::vision::{Image, Knobs, Limits, Picture};

use super::delivery::Delivery;
use super::loader::Model;
use super::memory::Hold;
use super::text::account;
use super::{refusal, wrong_model};
use crate::engine::{Ending, Job, Step};
use crate::vision::{LookTurn, Looked, Question, Seen, Viewer};

/// What a caller asks of the images that it handed over.
#[derive(Debug)]
pub struct Look {
    /// Image files.
    pub files: Vec<Vec<u8>>,
    /// What may be in them.
    pub limits: Limits,
    /// How they are cut.
    pub knobs: Knobs,
    /// What is asked.
    pub question: Question,
}

enum Stage {
    See { look: Box<Look>, images: Vec<Image> },
    Answer(Box<LookTurn>),
    Drain(Box<LookTurn>, FinishReason),
    Over,
}

/// One question about images in the engine.
pub struct VisionJob {
    delivery: Delivery,
    /// What the caller's bytes are counted by.
    hold: Option<Hold>,
    stage: Stage,
    submitted: Instant,
    begun: Option<Instant>,
}

impl VisionJob {
    /// A job that answers `look`.
    #[must_use]
    pub fn new(mut look: Look, delivery: Delivery, hold: Option<Hold>) -> Self {
        // Taken from the end.
        look.files.reverse();
        let stage = Stage::See { look: Box::new(look), images: Vec::new() };
        Self { delivery, hold, stage, submitted: Instant::now(), begun: None }
    }

    fn advance(&mut self, viewer: &mut Viewer) -> Result<Step, Error> {
        let mut made = String::new();
        match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::See { mut look, mut images } => {
                // One at a time, because a decoded image is many times the size of its file.
                self.stage = match look.files.pop() {
                    Some(file) => {
                        let number = images.len() + 1;
                        let seen = Picture::decode(&file, &look.limits)
                            .and_then(|picture| viewer.model.image(&picture, &look.knobs));
                        images.push(seen.map_err(|error| about(number, &error))?);
                        Stage::See { look, images }
                    }
                    None => {
                        // The files have been read, and the caller may hand over others.
                        self.hold = None;
                        let turn = LookTurn::begin(viewer, images, look.question).map_err(|error| refusal(&error))?;
                        Stage::Answer(Box::new(turn))
                    }
                };
            }
            Stage::Answer(mut turn) => {
                let stepped = turn.step(viewer, &mut made).map_err(|error| refusal(&error));
                let finished = match stepped {
                    Ok(Looked::Complete(reason)) => {
                        turn.finish(viewer, &mut made).map_err(|error| refusal(&error)).map(|()| Some(reason))
                    }
                    Ok(Looked::At(done, total)) => {
                        self.delivery.feed().progress(done as u64, total as u64);
                        Ok(None)
                    }
                    Ok(Looked::More) => Ok(None),
                    Err(error) => Err(error),
                };
                // Kept in any case: what was read and said until an error is of use.
                self.stage = match &finished {
                    Ok(Some(reason)) => Stage::Drain(turn, *reason),
                    Ok(None) | Err(_) => Stage::Answer(turn),
                };
                self.delivery.text(&made);
                finished?;
            }
            drain @ Stage::Drain(..) => {
                self.stage = drain;
                return Ok(if self.delivery.is_clear() { Step::Done } else { Step::Full });
            }
            Stage::Over => return Err(Error::Internal("a job went on after its end".into())),
        }
        Ok(Step::More)
    }

    fn outcome(&self, seen: &Seen, reason: Option<FinishReason>) -> Outcome {
        let mut outcome = account(self.begun.map(|begun| begun - self.submitted), &seen.answer, reason);
        outcome.latency.insert("look".into(), seen.looking.as_secs_f64());
        outcome
    }
}

/// An image's error, with which one it is.
fn about(number: usize, error: &eddy_models::Error) -> Error {
    match refusal(error) {
        Error::InvalidContent(sentence) => Error::InvalidContent(format!("image {number}: {sentence}")),
        other => other,
    }
}

impl Job<Model> for VisionJob {
    fn can_repeat(&self) -> bool {
        matches!(self.stage, Stage::Answer(_))
    }

    fn step(&mut self, model: &mut Model) -> Step {
        let Model::Vision(viewer) = model else { return Step::Failed(wrong_model()) };
        self.begun.get_or_insert_with(Instant::now);
        if let Some(step) = self.delivery.flush() {
            return step;
        }
        self.advance(viewer).unwrap_or_else(Step::Failed)
    }

    fn end(&mut self, model: Option<&mut Model>, ending: Ending) {
        let (turn, reason) = match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::Drain(turn, reason) => (Some(turn), Some(reason)),
            Stage::Answer(turn) => (Some(turn), None),
            Stage::See { .. } | Stage::Over => (None, None),
        };
        let viewer = match model {
            Some(Model::Vision(viewer)) => Some(viewer.as_mut()),
            Some(Model::Speech(_) | Model::Text(_) | Model::Retrieval(_) | Model::Remote(_)) | None => None,
        };
        let seen = turn.map(|turn| turn.close(viewer)).unwrap_or_default();
        let (state, outcome) = match ending {
            Ending::Done => (RequestState::Done, self.outcome(&seen, reason)),
            Ending::Cancelled => (RequestState::Cancelled, self.outcome(&seen, Some(FinishReason::Cancelled))),
            Ending::Failed(error) => {
                let failure = Some(Failure::from(&error));
                (RequestState::Failed, Outcome { failure, ..self.outcome(&seen, None) })
            }
        };
        self.delivery.close();
        self.hold = None;
        self.delivery.feed().end(state, outcome);
    }
}
