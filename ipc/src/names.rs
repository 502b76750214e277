//! The names on the bus. They are public and never change within version 1.

/// What every error name begins with.
pub const PREFIX: &str = "org.eddy.Assistant1.Error.";

/// One of the daemon's connections. Each has a name of its own, because a sandbox that may talk to a
/// name may talk to every name of the same connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Bus {
    /// Speech, text, vision and retrieval, for applications.
    Assistant,
    /// Models, permissions and the daemon itself, for what manages the machine.
    Admin,
}

impl Bus {
    /// The well-known bus name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Assistant => "org.eddy.Assistant1",
            Self::Admin => "org.eddy.Admin1",
        }
    }

    /// The path of the object that all others are below.
    pub const fn root(self) -> &'static str {
        match self {
            Self::Assistant => "/org/eddy/Assistant1",
            Self::Admin => "/org/eddy/Admin1",
        }
    }
}

/// The names of the interfaces.
pub mod interface {
    /// Listening, speaking, muting; on the assistant's root.
    pub const ASSISTANT: &str = "org.eddy.Assistant1";
    /// Written answers; on the assistant's root.
    pub const TEXT: &str = "org.eddy.Text1";
    /// Questions about images; on the assistant's root.
    pub const VISION: &str = "org.eddy.Vision1";
    /// Speech from and to the caller; on the assistant's root.
    pub const SPEECH: &str = "org.eddy.Speech1";
    /// Search by meaning; on the assistant's root.
    pub const RETRIEVAL: &str = "org.eddy.Retrieval1";
    /// One index.
    pub const INDEX: &str = "org.eddy.Index1";
    /// One piece of work.
    pub const REQUEST: &str = "org.eddy.Request1";
    /// A conversation that remembers its turns.
    pub const CONVERSATION: &str = "org.eddy.Conversation1";
    /// The machine's model folders; on the admin root.
    pub const MODELS: &str = "org.eddy.Models1";
    /// One model folder.
    pub const MODEL: &str = "org.eddy.Model1";
    /// Which application may do what; on the admin root.
    pub const ACCESS: &str = "org.eddy.Access1";
    /// The daemon's configuration and numbers; on the admin root.
    pub const DAEMON: &str = "org.eddy.Daemon1";
}
