//! Written answers, whoever asks: the command line in its own process, or a caller on the bus.

mod author;
mod turn;

pub use author::Author;
pub use turn::{Asked, Draw, Progress, Summary, TextTurn};
