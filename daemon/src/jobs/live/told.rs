//! What a turn of the live voice tells, and to whom.

use std::time::Duration;

use eddy_ipc::{Error, FinishReason};

/// What a turn tells the one who asked for it, and nobody else.
pub trait Audience: Send + Sync {
    /// Takes one piece of news. Called on the engine's thread and the voice's, so it may not wait.
    fn tell(&self, told: Told<'_>);

    /// Whether nobody is there any more to hear of it, so that the turn is to end.
    fn has_left(&self) -> bool {
        false
    }
}

/// News of a turn.
#[derive(Debug, Clone, Copy)]
pub enum Told<'a> {
    /// A further piece of what the person said.
    Transcript(&'a str),
    /// What the person said is going to be written down.
    Writing,
    /// It is, or cannot be.
    Written,
    /// The answer begins to sound: how long after the last word the turn was taken as over, and from there on.
    Answering {
        /// From the last chunk of speech to the decision.
        wait: Duration,
        /// From the decision to the first sample.
        think: Duration,
    },
    /// The model called this tool, and answers when it is done.
    Called(&'a str),
    /// A further piece of the answer.
    Text(&'a str),
    /// Further samples of the answer, mono at [`RATE`].
    Sound(&'a [f32]),
    /// So many of the oldest exchanges were dropped, so that the conversation fits the model.
    Folded(usize),
    /// The turn is over.
    Ended(&'a TurnEnd),
    /// The turn came to nothing.
    Failed(&'a Error),
}

/// How a turn went.
#[derive(Debug, Clone, Default)]
pub struct TurnEnd {
    /// What was audible of the answer, as text.
    pub text: String,
    /// Why it ended.
    pub reason: Option<FinishReason>,
    /// Samples of the answer that were played.
    pub played: u64,
    /// Samples that are in the conversation: whole frames.
    pub remembered: u64,
    /// Seconds by stage, and how the sound kept up.
    pub latency: Vec<(&'static str, f64)>,
}
