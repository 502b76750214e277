//! The wake word: a phrase that one person has recorded a few times, found again in what the microphone hears.
//!
//! [`Embedder`] turns speech into a vector every 80 ms, with weights that know no phrase; [`Examples`] are the vectors of the
//! recordings and how alike they are; [`WakeWord`] looks for them while somebody speaks. Nothing is trained: fixed windows
//! compared by their cosine did as well as whitened ones, and a head of its own would need thousands of recordings.

mod embedder;
mod examples;
mod spotter;

pub use embedder::{Embedder, Embedding};
pub use examples::{Examples, TAKES};
pub use spotter::{Spotted, WakeWord};
