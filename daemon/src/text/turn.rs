//! One written answer on its way: from messages to a prompt, from what was read before to the first token, and on to the
//! end, a step at a time.

use std::time::{Duration, Instant};

use eddy_ipc::FinishReason;
use eddy_models::chat::tools::{Reply, read_cut_reply, read_reply};
use eddy_models::chat::{Constraint, Conversation};
use eddy_models::sampler::Sampling;
use eddy_models::text::{Event, Finish, Generation, GenerationOptions, TextSession};
use eddy_models::tokenizer::Special;
use eddy_models::{Error, Result};
use serde_json::{Value, json};

use super::author::Author;

/// Written by models that keep their special tokens, and no part of what they say.
const TURN_END: &str = "<|im_end|>";

/// What is asked.
#[derive(Debug, Clone, Default)]
pub struct Asked {
    /// The conversation, as chat templates take it: a list of `{"role", "content", …}`.
    pub messages: Vec<Value>,
    /// Functions that the model may call, as a list; null for none.
    pub tools: Value,
    /// The reply is calls and nothing else.
    pub call: bool,
    /// The reply is JSON of this schema.
    pub schema: Option<Value>,
    /// Where a conversation that is too long loses its oldest turns instead of being refused.
    pub drop_oldest: bool,
    /// How tokens are chosen.
    pub draw: Draw,
    /// How the reply is generated otherwise.
    pub options: GenerationOptions,
}

/// How tokens are chosen where it is not left to the model's habits.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Draw {
    /// Always the likeliest, whatever else is said here.
    pub greedy: bool,
    /// See [`Sampling`].
    pub temperature: Option<f32>,
    /// See [`Sampling`].
    pub top_k: Option<usize>,
    /// See [`Sampling`].
    pub top_p: Option<f32>,
    /// See [`Sampling`].
    pub min_p: Option<f32>,
    /// See [`Sampling`].
    pub repetition_penalty: Option<f32>,
}

impl Draw {
    /// These choices over a model's habits.
    #[must_use]
    pub fn over(self, habits: Sampling) -> Sampling {
        if self.greedy {
            return Sampling::GREEDY;
        }
        Sampling {
            temperature: self.temperature.unwrap_or(habits.temperature),
            top_k: self.top_k.unwrap_or(habits.top_k),
            top_p: self.top_p.unwrap_or(habits.top_p),
            min_p: self.min_p.unwrap_or(habits.min_p),
            repetition_penalty: self.repetition_penalty.unwrap_or(habits.repetition_penalty),
        }
    }
}

/// Whether there is more to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// There is.
    More,
    /// The reply is complete; take the rest with [`TextTurn::finish`].
    Complete(FinishReason),
}

/// What a reply came to.
#[derive(Debug, Clone, Default)]
pub struct Summary {
    /// What was said, calls included as the model wrote them.
    pub said: String,
    /// Tokens generated.
    pub tokens: u64,
    /// Positions of the prompt, and how many of them had been read before.
    pub prompt: (usize, usize),
    /// Messages that were left out because the context is too short.
    pub dropped: u32,
    /// Time on the prompt, and on the tokens.
    pub times: (Duration, Duration),
    /// From the start to the first token.
    pub first: Option<Duration>,
    /// From the start until now.
    pub whole: Duration,
}

/// A reply in progress.
#[derive(Debug)]
pub struct TextTurn {
    session: TextSession,
    generation: Generation,
    constraint: Option<Constraint>,
    tools: bool,
    begun: Instant,
    summary: Summary,
}

impl TextTurn {
    /// Begins the reply to `asked`.
    ///
    /// # Errors
    /// [`Error::ContextFull`], [`Error::BadRequest`] for messages, tools or a schema that cannot be used.
    pub fn begin(author: &mut Author, mut asked: Asked) -> Result<Self> {
        let constraint = match (&asked.schema, asked.call) {
            (Some(schema), _) => Some(author.constrainer()?.json(schema)?),
            (None, true) => Some(author.constrainer()?.calls(&asked.tools)?),
            (None, false) => None,
        };
        let tools = !asked.tools.is_null();
        asked.options.sampling = asked.draw.over(author.model.habits());
        asked.options.special = if tools { Special::Keep } else { Special::Drop };
        let (prompt, dropped) = prompt(author, &mut asked)?;
        let mut session = author.prefixes.session(&mut author.model, &prompt)?;
        let generation = match session.begin(&mut author.model, &prompt, asked.options) {
            Ok(generation) => generation,
            Err(error) => {
                author.prefixes.keep(session);
                return Err(error);
            }
        };
        let summary = Summary { prompt: (prompt.len(), session.reused()), dropped, ..Summary::default() };
        Ok(Self { session, generation, constraint, tools, begun: Instant::now(), summary })
    }

    /// Does one step; text that is settled by it is added to `made`. After an error the turn can be stepped again.
    ///
    /// # Errors
    /// Those of the model.
    pub fn step(&mut self, author: &mut Author, made: &mut String) -> Result<Progress> {
        let allowed = |id| self.constraint.as_ref().is_none_or(|constraint| constraint.allows(id));
        match self.session.step(&mut author.model, &mut self.generation, allowed)? {
            Event::Prefilled { .. } => {}
            Event::Token { id, text } => {
                self.summary.tokens += 1;
                self.summary.first.get_or_insert_with(|| self.begun.elapsed());
                if let Some(constraint) = self.constraint.as_mut().filter(|_| !author.model.ends_with(id)) {
                    constraint.take(id)?;
                }
                self.tell(&text, made);
            }
            Event::Finished(Finish::Stop) => return Ok(Progress::Complete(FinishReason::Stop)),
            Event::Finished(Finish::Length) => return Ok(Progress::Complete(FinishReason::Length)),
        }
        Ok(Progress::More)
    }

    /// Takes what was held back. Also after a reply was cut short.
    ///
    /// # Errors
    /// Those of the tokenizer.
    pub fn finish(&mut self, author: &Author, made: &mut String) -> Result<()> {
        let rest = self.generation.finish_text(&author.model)?;
        self.tell(&rest, made);
        Ok(())
    }

    /// Gives back what the turn has read, for the next one, and its account.
    pub fn close(self, author: Option<&mut Author>) -> Summary {
        let summary = self.summary();
        if let Some(author) = author {
            author.prefixes.keep(self.session);
        }
        summary
    }

    /// The account until now.
    #[must_use]
    pub fn summary(&self) -> Summary {
        Summary { times: self.generation.times(), whole: self.begun.elapsed(), ..self.summary.clone() }
    }

    /// What was said until it ended for `reason`, with the calls taken out of it, and the reason that a caller is told.
    ///
    /// # Errors
    /// [`Error::BadRequest`] for calls that the model has finished and that cannot be read.
    pub fn reply(&self, reason: FinishReason) -> Result<(Reply, FinishReason)> {
        if !self.tools {
            return Ok((Reply { text: self.summary.said.clone(), calls: Vec::new() }, reason));
        }
        match reason {
            FinishReason::Length | FinishReason::Cancelled => Ok((read_cut_reply(&self.summary.said), reason)),
            FinishReason::Stop | FinishReason::ToolCalls => {
                let reply = read_reply(&self.summary.said)?;
                let reason = if reply.calls.is_empty() { reason } else { FinishReason::ToolCalls };
                Ok((reply, reason))
            }
        }
    }

    fn tell(&mut self, text: &str, made: &mut String) {
        let text = text.replace(TURN_END, "");
        self.summary.said.push_str(&text);
        made.push_str(&text);
    }
}

/// Gives the calls that a model wrote in an earlier turn to the template as calls: as words they would be kept from acting as
/// the markers that they are, and the model would read another conversation than it was trained on.
fn type_calls(message: &mut Value) {
    let is_said = message["role"] == "assistant" && message["tool_calls"].is_null();
    let Some(said) = message["content"].as_str().filter(|_| is_said) else { return };
    let Ok(Reply { text, calls }) = read_reply(said) else { return };
    if calls.is_empty() {
        return;
    }
    let calls = calls.iter().map(|call| json!({ "type": "function", "function": call }));
    message["tool_calls"] = Value::from_iter(calls);
    message["content"] = text.into();
}

/// The prompt of a conversation, and how many messages were left out of it.
fn prompt(author: &mut Author, asked: &mut Asked) -> Result<(Vec<u32>, u32)> {
    let now = jiff::Zoned::now();
    let context = author.model.backbone().context();
    // An answer that is cut off after a word is of no use: as much as is asked for, or a quarter of the context.
    let answer = asked.options.max_tokens.min(context / 4);
    if !asked.tools.is_null() && author.template.writes_calls() {
        asked.messages.iter_mut().for_each(type_calls);
    }
    let without = |author: &mut Author, dropped: &std::ops::Range<usize>| -> Result<Vec<u32>> {
        let kept = asked.messages.iter().enumerate().filter(|(at, _)| !dropped.contains(at));
        let conversation = Conversation {
            messages: kept.map(|(_, message)| message.clone()).collect(),
            tools: asked.tools.clone(),
            add_generation_prompt: true,
            ..Conversation::default()
        };
        author.template.guarded_ids(&conversation, &now, author.model.tokenizer_mut())
    };
    let questions = questions(&asked.messages);
    let first = questions.first().copied().unwrap_or_default();
    let whole = without(author, &(first..first))?;
    let fits = |prompt: &[u32]| prompt.len() + answer <= context;
    if !asked.drop_oldest || fits(&whole) {
        return Ok((whole, 0));
    }
    // Whole turns, from the first question to the one before another. As few as possible are found by halves: each try
    // renders the conversation again.
    let (mut too_few, mut enough) = (0, questions.len().saturating_sub(1));
    let mut prompt = without(author, &(first..questions.get(enough).copied().unwrap_or(first)))?;
    if enough == 0 || !fits(&prompt) {
        return Err(Error::ContextFull { needed: prompt.len() + 1, limit: context });
    }
    while enough - too_few > 1 {
        let middle = too_few.midpoint(enough);
        let tried = without(author, &(first..questions[middle]))?;
        match fits(&tried) {
            true => (enough, prompt) = (middle, tried),
            false => too_few = middle,
        }
    }
    let dropped = first..questions[enough];
    let count = u32::try_from(dropped.len()).unwrap_or(u32::MAX);
    asked.messages.drain(dropped);
    Ok((prompt, count))
}

/// Where turns begin: each with a question, and the last one is that which is to be answered.
fn questions(messages: &[Value]) -> Vec<usize> {
    (0..messages.len()).filter(|at| messages[*at]["role"] == "user").collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_begin_with_what_a_person_asks() {
        let messages = |roles: &[&str]| -> Vec<Value> {
            roles.iter().map(|role| json!({ "role": role, "content": "x" })).collect()
        };
        let long = messages(&["system", "user", "assistant", "tool", "assistant", "user", "assistant", "user"]);
        assert_eq!(questions(&long), [1, 5, 7]);
        assert_eq!(questions(&messages(&["system", "user"])), [1]);
        assert!(questions(&messages(&["system"])).is_empty());
    }

    #[test]
    fn calls_of_earlier_turns_are_calls_again() {
        let said = "One moment.<|tool_call_start|>[light(room=\"hall\", level=3)]<|tool_call_end|>";
        let mut message = json!({ "role": "assistant", "content": said });
        type_calls(&mut message);
        let call = json!({ "name": "light", "arguments": { "room": "hall", "level": 3 } });
        let wanted = json!({
            "role": "assistant", "content": "One moment.", "tool_calls": [{ "type": "function", "function": call }],
        });
        assert_eq!(message, wanted);
        for other in [
            json!({ "role": "user", "content": said }),
            json!({ "role": "assistant", "content": "<|tool_call_start|>[light(" }),
            json!({ "role": "assistant", "content": "none" }),
        ] {
            let mut same = other.clone();
            type_calls(&mut same);
            assert_eq!(same, other);
        }
    }
}
