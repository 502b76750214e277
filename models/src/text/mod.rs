//! Text in, text out: the dense models and the mixture of experts, and the text side of every other family.

mod features;
mod generation;
mod model;
mod prefixes;
mod prompt;
mod session;
mod stops;

pub(crate) use features::Features;
pub use generation::{Event, Finish, Generation, GenerationOptions};
pub use model::{Identity, TextModel};
pub use prefixes::{PrefixCounts, Prefixes};
pub use prompt::Prompt;
pub use session::TextSession;
