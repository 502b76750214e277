//! What a speech model is told: turns of text and sound, in liquid-audio's order of pieces.
//!
//! Pieces are tokenised one by one, as the reference does, so that no token spans a turn's header and its text.

use super::mel::MelFeatures;

/// Who speaks in a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Instructions.
    System,
    /// The person.
    User,
    /// The model.
    Assistant,
    /// What became of a tool that the model called.
    Tool,
}

impl Role {
    fn name(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
            Self::Tool => "tool",
        }
    }
}

/// One piece of a prompt.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Piece {
    /// The prompt's own markers.
    Markup(String),
    /// A caller's words: special tokens in them are plain text, or a caller could end its own turn.
    Words(String),
    /// Sound.
    Sound(MelFeatures),
}

/// A prompt, or what continues one.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Prompt {
    pub(super) pieces: Vec<Piece>,
}

impl Prompt {
    /// The start of a conversation.
    #[must_use]
    pub fn opening() -> Self {
        Self::default().markup("<|startoftext|>".into())
    }

    /// A conversation that begins with `instructions` and whose first user turn is open.
    #[must_use]
    pub fn instructed(instructions: &str) -> Self {
        Self::opening().turn(Role::System).words(instructions).end_turn().turn(Role::User)
    }

    /// Ends the open turn and opens the reply's.
    #[must_use]
    pub fn awaiting_reply(self) -> Self {
        self.end_turn().turn(Role::Assistant)
    }

    /// What stands between a reply that is in the cache and the next turn.
    #[must_use]
    pub fn continuation() -> Self {
        Self::default().end_turn()
    }

    /// Opens a turn.
    #[must_use]
    pub fn turn(self, role: Role) -> Self {
        self.markup(format!("<|im_start|>{}\n", role.name()))
    }

    /// Adds words to the open turn.
    #[must_use]
    pub fn words(mut self, words: &str) -> Self {
        self.pieces.push(Piece::Words(words.to_owned()));
        self
    }

    /// Adds sound to the open turn.
    #[must_use]
    pub fn sound(mut self, features: MelFeatures) -> Self {
        self.pieces.push(Piece::Sound(features));
        self
    }

    /// Ends the open turn.
    #[must_use]
    pub fn end_turn(self) -> Self {
        self.markup("<|im_end|>\n".into())
    }

    fn markup(mut self, text: String) -> Self {
        self.pieces.push(Piece::Markup(text));
        self
    }
}
