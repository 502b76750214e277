//! The short words that stand for states and choices on the bus.

/// Declares an enum whose variants are written as fixed words.
macro_rules! words {
    (
        $(#[$attribute:meta])*
        pub enum $name:ident {
            $( $(#[doc = $doc:expr])* $variant:ident = $word:literal, )*
        }
    ) => {
        $(#[$attribute])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            $( $(#[doc = $doc])* $variant, )*
        }

        impl $name {
            /// Every variant.
            pub const ALL: &'static [Self] = &[$( Self::$variant ),*];

            /// The word on the bus.
            pub const fn as_str(self) -> &'static str {
                match self { $( Self::$variant => $word, )* }
            }

            /// What a word on the bus means; `None` for one that this version does not know.
            pub fn from_word(word: &str) -> Option<Self> {
                match word { $( $word => Some(Self::$variant), )* _ => None }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}
pub(crate) use words;

words! {
    /// What the voice is doing: `State` of `org.eddy.Assistant1`.
    pub enum VoiceState {
        /// The microphone is muted.
        Muted = "muted",
        /// Nobody is being listened to.
        Idle = "idle",
        /// Somebody is being listened to.
        Listening = "listening",
        /// Somebody may have finished.
        Endpointing = "endpointing",
        /// A reply is being made and not heard yet.
        Thinking = "thinking",
        /// A reply is being played.
        Speaking = "speaking",
        /// A reply is paused, because somebody may be interrupting.
        Holding = "holding",
        /// There is no voice; the reason says why.
        Unavailable = "unavailable",
    }
}

words! {
    /// How a request stands: `State` of `org.eddy.Request1`.
    pub enum RequestState {
        /// Waiting or being worked on.
        Running = "running",
        /// Finished as asked.
        Done = "done",
        /// Finished with an error.
        Failed = "failed",
        /// Ended before it was finished.
        Cancelled = "cancelled",
    }
}

words! {
    /// How a model stands: `State` of `org.eddy.Model1`.
    pub enum ModelState {
        /// On the disk.
        Unloaded = "unloaded",
        /// On the way into memory.
        Loading = "loading",
        /// In memory.
        Loaded = "loaded",
        /// Not usable; the reason says why.
        Failed = "failed",
    }
}

words! {
    /// Why an answer ended.
    pub enum FinishReason {
        /// The model had said everything.
        Stop = "stop",
        /// It reached the caller's or the configuration's limit.
        Length = "length",
        /// The model asks for tools to be called.
        ToolCalls = "tool_calls",
        /// It was cancelled or interrupted.
        Cancelled = "cancelled",
    }
}

words! {
    /// How urgent a request is. What the person at the microphone waits for comes before both.
    pub enum Priority {
        /// Somebody waits for it.
        Interactive = "interactive",
        /// Nobody does.
        Batch = "batch",
    }
}

words! {
    /// Who said a message.
    pub enum Role {
        /// What the model is told first.
        System = "system",
        /// The person.
        User = "user",
        /// The model.
        Assistant = "assistant",
        /// The answer of a tool.
        Tool = "tool",
    }
}

words! {
    /// The voice that a text is spoken with.
    pub enum SpeakerVoice {
        /// American, male.
        UsMale = "us-male",
        /// American, female.
        UsFemale = "us-female",
        /// British, male.
        UkMale = "uk-male",
        /// British, female.
        UkFemale = "uk-female",
    }
}
