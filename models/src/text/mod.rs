//! Text in, text out: the dense models and the mixture of experts, and the text side of every other family.

mod generation;
mod model;
mod prefixes;
mod session;
mod stops;

pub use generation::{Event, Finish, Generation, GenerationOptions};
pub use model::{Identity, TextModel};
pub use prefixes::{PrefixCounts, Prefixes};
pub use session::TextSession;
