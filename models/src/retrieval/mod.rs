//! Late-interaction retrieval: a vector for every token, and search by how well they match.
//!
//! Texts are encoded exactly as pylate does it (model contract, section 6), in batches of like length; an
//! [`index`] keeps documents' vectors on disk and answers queries.

mod encoder;
mod head;
pub mod index;
mod ruler;
mod settings;
mod tokens;
mod vectors;

pub use encoder::{Batching, Encoder, Encoding, Progress};
pub use ruler::Ruler;
pub use settings::{Expansion, Settings, Side};
pub use tokens::Tokens;
pub use vectors::{Vectors, max_sim};
