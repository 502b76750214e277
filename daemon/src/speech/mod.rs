//! Speech as both the daemon and the command line make it: what the model is told, a recording heard, a reply driven
//! one step at a time to text and samples. Neither a bus nor a file appears here.

mod hearing;
mod pace;
mod prompts;
mod turn;

pub use hearing::{Unheard, hear};
pub use pace::Paces;
pub use prompts::{BRIEFLY, CONVERSE, TRANSCRIBE, read_aloud};
pub use turn::{Made, Progress, RTF, Summary, Turn};
