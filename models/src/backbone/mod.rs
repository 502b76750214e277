//! The LFM2 backbone: the graph that every family shares, its cache, and the token table that feeds it.
//!
//! Gated short convolutions keep a state of two or three columns, grouped-query attention keeps keys and values; both
//! are described by the graph's own `past*` inputs (technical report, section 2; names and widths differ between
//! export generations and are never assumed).

mod cache;
mod decoder;
mod embedding;
mod plan;
mod table;

pub use cache::{Cache, Snapshot};
pub use decoder::{Backbone, Input, Output};
pub use embedding::TokenEmbedding;
pub use plan::Plan;
pub use table::Table;
