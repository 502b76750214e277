//! Which options each method takes. The interface files say the same in words, and a test compares
//! the two.

use crate::names::interface;
use crate::options::Key::{
    self, AcceptLicense, DropOldest, Greedy, HandleToken, Instructions, MaxImageTokens, MaxTokens, Metered, Model,
    Precision, Priority, Schema, Seed, Stop, Stream, Temperature, Thumbnail, Tiles, Tools, TopK, Voice,
};

/// `OpenConversation`.
pub const OPEN_CONVERSATION: &[Key] = &[HandleToken, Model, Instructions, Seed, Greedy, MaxTokens, Temperature, TopK];
/// `Listen`.
pub const LISTEN: &[Key] = &[HandleToken];
/// `Say`.
pub const SAY: &[Key] = &[HandleToken, Model, Voice, Seed, Greedy, Priority];
/// `Text1.Generate`.
pub const GENERATE: &[Key] = &[
    HandleToken,
    Model,
    Seed,
    Greedy,
    MaxTokens,
    Temperature,
    TopK,
    Priority,
    Stream,
    Stop,
    Tools,
    Schema,
    DropOldest,
];
/// `Vision1.Ask`.
pub const LOOK: &[Key] = &[
    HandleToken,
    Model,
    Seed,
    Greedy,
    MaxTokens,
    Temperature,
    TopK,
    Priority,
    Stream,
    MaxImageTokens,
    Tiles,
    Thumbnail,
];
/// `Speech1.Transcribe`.
pub const TRANSCRIBE: &[Key] = &[HandleToken, Model, MaxTokens, Priority, Stream];
/// `Speech1.Synthesize`.
pub const SYNTHESIZE: &[Key] = &[HandleToken, Model, Voice, Seed, Greedy, Temperature, TopK, MaxTokens, Priority];
/// `Speech1.Converse`.
pub const CONVERSE: &[Key] =
    &[HandleToken, Model, Instructions, Seed, Greedy, MaxTokens, Temperature, TopK, Priority, Stream];
/// `Conversation1.Ask` and `Conversation1.AskSpoken`.
pub const TURN: &[Key] = &[HandleToken, Seed, Greedy, MaxTokens, Temperature, TopK, Priority, Stream];
/// `Retrieval1.Encode`.
pub const ENCODE: &[Key] = &[Model, Priority];
/// `Retrieval1.CreateIndex`.
pub const CREATE_INDEX: &[Key] = &[Model];
/// `Index1.Add`.
pub const ADD: &[Key] = &[HandleToken, Priority];
/// `Index1.Search`.
pub const SEARCH: &[Key] = &[Priority];
/// `Models1.Pull`.
pub const PULL: &[Key] = &[HandleToken, Precision, AcceptLicense, Metered];
/// Methods that take no option yet.
pub const NONE: &[Key] = &[];

/// Interface, method and keys of every method that has options.
pub const ALL: &[(&str, &str, &[Key])] = &[
    (interface::ASSISTANT, "OpenConversation", OPEN_CONVERSATION),
    (interface::ASSISTANT, "Listen", LISTEN),
    (interface::ASSISTANT, "Say", SAY),
    (interface::TEXT, "Generate", GENERATE),
    (interface::VISION, "Ask", LOOK),
    (interface::SPEECH, "Transcribe", TRANSCRIBE),
    (interface::SPEECH, "Synthesize", SYNTHESIZE),
    (interface::SPEECH, "Converse", CONVERSE),
    (interface::CONVERSATION, "Ask", TURN),
    (interface::CONVERSATION, "AskSpoken", TURN),
    (interface::RETRIEVAL, "Encode", ENCODE),
    (interface::RETRIEVAL, "CreateIndex", CREATE_INDEX),
    (interface::INDEX, "Add", ADD),
    (interface::INDEX, "Remove", NONE),
    (interface::INDEX, "Search", SEARCH),
    (interface::MODELS, "Pull", PULL),
    (interface::MODEL, "Load", NONE),
    (interface::ACCESS, "SetRule", NONE),
    (interface::DAEMON, "Reload", NONE),
];
