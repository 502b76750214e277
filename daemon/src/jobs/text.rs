//! The text job: messages in, text out. Steps: the prompt, its prefill chunk by chunk, a token at a time, then waiting until
//! everything has been taken.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use eddy_ipc::{Error, Failure, FinishReason, Outcome, RequestState};
use serde_json::json;

use super::delivery::Delivery;
use super::loader::Model;
use super::memory::Hold;
use super::{refusal, wrong_model};
use crate::engine::{Ending, Job, Step};
use crate::text::{Asked, Author, Progress, Summary, TextTurn};

enum Stage {
    Ask(Box<Asked>),
    Reply(Box<TextTurn>),
    Drain(Box<TextTurn>, FinishReason),
    Over,
}

/// One request for a written answer in the engine.
pub struct TextJob {
    delivery: Delivery,
    /// What the caller's bytes are counted by.
    hold: Option<Hold>,
    stage: Stage,
    submitted: Instant,
    begun: Option<Instant>,
}

impl TextJob {
    /// A job that answers `asked`.
    #[must_use]
    pub fn new(asked: Asked, delivery: Delivery, hold: Option<Hold>) -> Self {
        Self { delivery, hold, stage: Stage::Ask(Box::new(asked)), submitted: Instant::now(), begun: None }
    }

    fn advance(&mut self, author: &mut Author) -> Result<Step, Error> {
        let mut made = String::new();
        match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::Ask(asked) => {
                let turn = TextTurn::begin(author, *asked).map_err(|error| refusal(&error))?;
                self.stage = Stage::Reply(Box::new(turn));
            }
            Stage::Reply(mut turn) => {
                let stepped = turn.step(author, &mut made).map_err(|error| refusal(&error));
                let finished = match stepped {
                    Ok(Progress::Complete(reason)) => {
                        turn.finish(author, &mut made).map_err(|error| refusal(&error)).map(|()| Some(reason))
                    }
                    Ok(Progress::More) => Ok(None),
                    Err(error) => Err(error),
                };
                // Kept in any case: what was read and said until an error is of use.
                self.stage = match &finished {
                    Ok(Some(reason)) => Stage::Drain(turn, *reason),
                    Ok(None) | Err(_) => Stage::Reply(turn),
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

    fn outcome(&self, summary: &Summary, reason: Option<FinishReason>) -> Outcome {
        account(self.begun.map(|begun| begun - self.submitted), summary, reason)
    }
}

/// What a written answer came to, for its caller; `waited` is the time until it had its first turn.
pub(super) fn account(waited: Option<Duration>, summary: &Summary, reason: Option<FinishReason>) -> Outcome {
    let mut latency: BTreeMap<String, f64> = BTreeMap::new();
    let mut stage = |name: &str, time: Option<Duration>| {
        if let Some(time) = time {
            latency.insert(name.into(), time.as_secs_f64());
        }
    };
    stage("wait", waited);
    stage("prefill", Some(summary.times.0));
    stage("decode", Some(summary.times.1));
    stage("first_text", summary.first);
    stage("reply", Some(summary.whole));
    Outcome {
        text: Some(summary.said.clone()),
        finish_reason: reason,
        tokens: Some(summary.tokens),
        prompt_tokens: Some(summary.prompt.0 as u64),
        prompt_tokens_reused: Some(summary.prompt.1 as u64),
        dropped: (summary.dropped > 0).then_some(summary.dropped),
        latency,
        ..Outcome::default()
    }
}

/// What is left of a reply beside its calls.
struct Called {
    text: String,
    /// A JSON list, in the form that chat templates take back.
    calls: String,
    reason: FinishReason,
}

/// The calls of a reply that ended for `reason`, if it has any.
fn called(turn: &TextTurn, reason: FinishReason) -> Result<Option<Called>, Error> {
    let (reply, reason) = turn.reply(reason).map_err(|error| refusal(&error))?;
    if reply.calls.is_empty() {
        return Ok(None);
    }
    Ok(Some(Called { calls: json!(reply.calls).to_string(), text: reply.text, reason }))
}

impl Job<Model> for TextJob {
    fn step(&mut self, model: &mut Model) -> Step {
        let Model::Text(author) = model else { return Step::Failed(wrong_model()) };
        self.begun.get_or_insert_with(Instant::now);
        if let Some(step) = self.delivery.flush() {
            return step;
        }
        self.advance(author).unwrap_or_else(Step::Failed)
    }

    fn can_repeat(&self) -> bool {
        matches!(self.stage, Stage::Reply(_))
    }

    fn end(&mut self, model: Option<&mut Model>, ending: Ending) {
        let (turn, reason) = match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::Drain(turn, reason) => (Some(turn), Some(reason)),
            Stage::Reply(turn) => (Some(turn), None),
            Stage::Ask(_) | Stage::Over => (None, None),
        };
        let called = match (&ending, &turn, reason) {
            (Ending::Done, Some(turn), Some(reason)) => called(turn, reason),
            (Ending::Done, _, _) | (Ending::Cancelled | Ending::Failed(_), _, _) => Ok(None),
        };
        let author = match model {
            Some(Model::Text(author)) => Some(author.as_mut()),
            Some(Model::Speech(_) | Model::Vision(_) | Model::Retrieval(_) | Model::Remote(_)) | None => None,
        };
        let summary = turn.map(|turn| turn.close(author)).unwrap_or_default();
        let (state, outcome) = match (ending, called) {
            (Ending::Done, Ok(None)) => (RequestState::Done, self.outcome(&summary, reason)),
            (Ending::Done, Ok(Some(Called { text, calls, reason }))) => {
                let outcome = self.outcome(&summary, Some(reason));
                (RequestState::Done, Outcome { text: Some(text), tool_calls: Some(calls), ..outcome })
            }
            (Ending::Cancelled, _) => (RequestState::Cancelled, self.outcome(&summary, Some(FinishReason::Cancelled))),
            (Ending::Failed(error), _) | (Ending::Done, Err(error)) => {
                let failure = Some(Failure::from(&error));
                (RequestState::Failed, Outcome { failure, ..self.outcome(&summary, None) })
            }
        };
        self.delivery.close();
        self.hold = None;
        self.delivery.feed().end(state, outcome);
    }
}
