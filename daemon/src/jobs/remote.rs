//! The job of a model that another engine serves: the question goes out, and pieces of the answer are passed on as they
//! come. A step computes nothing, so the engine's other work goes on beside it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use eddy_ipc::{Error, Failure, FinishReason, Outcome, RequestState};

use super::delivery::Delivery;
use super::loader::Model;
use super::memory::Hold;
use super::wrong_model;
use crate::engine::{Ending, Job, Step};
use crate::remote::{Ask, Client, Event, Reply, Stream};

enum Stage {
    Ask(Ask),
    Reply(Reply),
    Drain(Box<Stream>),
    Over,
}

/// One question to another engine.
pub struct RemoteJob {
    delivery: Delivery,
    /// What the caller's bytes are counted by.
    hold: Option<Hold>,
    stage: Stage,
    submitted: Instant,
    begun: Option<Instant>,
    first: Option<Duration>,
    said: String,
    /// Where it went, once it has gone.
    remote: Option<String>,
}

impl RemoteJob {
    /// A job that has `ask` answered.
    #[must_use]
    pub fn new(ask: Ask, delivery: Delivery, hold: Option<Hold>) -> Self {
        Self {
            delivery,
            hold,
            stage: Stage::Ask(ask),
            submitted: Instant::now(),
            begun: None,
            first: None,
            said: String::new(),
            remote: None,
        }
    }

    fn advance(&mut self, client: &Client) -> Result<Step, Error> {
        match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::Ask(ask) => {
                self.remote = Some(client.url().to_owned());
                self.stage = Stage::Reply(client.ask(ask)?);
            }
            Stage::Reply(reply) => match reply.next() {
                None => {
                    self.stage = Stage::Reply(reply);
                    return Ok(Step::Full);
                }
                Some(Event::Text(text)) => {
                    let begun = self.begun.unwrap_or(self.submitted);
                    self.first.get_or_insert_with(|| begun.elapsed());
                    self.said.push_str(&text);
                    self.delivery.text(&text);
                    self.stage = Stage::Reply(reply);
                }
                Some(Event::Done(stream)) => self.stage = Stage::Drain(stream),
                Some(Event::Failed(error)) => return Err(error),
            },
            Stage::Drain(stream) => {
                self.stage = Stage::Drain(stream);
                return Ok(if self.delivery.is_clear() { Step::Done } else { Step::Full });
            }
            Stage::Over => return Err(Error::Internal("a job went on after its end".into())),
        }
        Ok(Step::More)
    }

    fn outcome(&self, stream: Option<&Stream>, reason: Option<FinishReason>) -> Outcome {
        let mut latency: BTreeMap<String, f64> = BTreeMap::new();
        let mut stage = |name: &str, time: Option<Duration>| {
            if let Some(time) = time {
                latency.insert(name.into(), time.as_secs_f64());
            }
        };
        stage("wait", self.begun.map(|begun| begun - self.submitted));
        stage("first_text", self.first);
        stage("reply", self.begun.map(|begun| begun.elapsed()));
        let prompt = stream.and_then(|stream| stream.prompt);
        Outcome {
            text: Some(self.said.clone()),
            finish_reason: reason,
            tokens: stream.and_then(|stream| stream.tokens),
            prompt_tokens: prompt.map(|(all, _)| all),
            prompt_tokens_reused: prompt.map(|(_, reused)| reused),
            remote: self.remote.clone(),
            latency,
            ..Outcome::default()
        }
    }
}

impl Job<Model> for RemoteJob {
    fn step(&mut self, model: &mut Model) -> Step {
        let Model::Remote(client) = model else { return Step::Failed(wrong_model()) };
        self.begun.get_or_insert_with(Instant::now);
        if let Some(step) = self.delivery.flush() {
            return step;
        }
        self.advance(client).unwrap_or_else(Step::Failed)
    }

    fn end(&mut self, _: Option<&mut Model>, ending: Ending) {
        // What is dropped here ends the thread and the connection.
        let stream = match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::Drain(stream) => Some(stream),
            Stage::Ask(_) | Stage::Reply(_) | Stage::Over => None,
        };
        let called = stream.as_ref().map_or(Ok(None), |stream| stream.tool_calls());
        let reason = stream.as_ref().map(|stream| stream.reason.unwrap_or(FinishReason::Stop));
        let (state, outcome) = match (ending, called) {
            (Ending::Done, Ok(calls)) => {
                let reason = if calls.is_some() { Some(FinishReason::ToolCalls) } else { reason };
                (RequestState::Done, Outcome { tool_calls: calls, ..self.outcome(stream.as_deref(), reason) })
            }
            (Ending::Cancelled, _) => {
                (RequestState::Cancelled, self.outcome(stream.as_deref(), Some(FinishReason::Cancelled)))
            }
            (Ending::Done, Err(sentence)) => {
                let failure = Some(Failure::from(&Error::InvalidContent(sentence)));
                (RequestState::Failed, Outcome { failure, ..self.outcome(stream.as_deref(), None) })
            }
            (Ending::Failed(error), _) => {
                let failure = Some(Failure::from(&error));
                (RequestState::Failed, Outcome { failure, ..self.outcome(stream.as_deref(), None) })
            }
        };
        self.delivery.close();
        self.hold = None;
        self.delivery.feed().end(state, outcome);
    }
}
