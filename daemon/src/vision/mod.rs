//! Questions about images, whoever asks: the command line in its own process, or a caller on the bus.

mod turn;
mod viewer;

pub use turn::{LookTurn, Looked, Question, Seen, asked_about};
pub use viewer::Viewer;
