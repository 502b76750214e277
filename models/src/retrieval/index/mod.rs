//! Documents' vectors, kept and searched.
//!
//! [`Index`] is what a place that keeps them can do; [`LocalIndex`] keeps them in a folder on this machine. Every
//! search is exact MaxSim over all passages: at the sizes that one person's notes have, a scan is as fast as anything
//! cleverer, finds what there is to find, and has nothing to rebuild when a passage comes or goes.

mod local;
mod scan;
mod table;
mod vector_file;

pub use local::{Access, LocalIndex};
pub use table::Place;

use super::vectors::Vectors;
use crate::error::Result;

/// A piece of text that can be found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passage {
    /// What it is called; a passage that comes with the id of another takes its place.
    pub id: String,
    /// The text, as it is shown.
    pub text: String,
    /// Where it was cut from, if it was.
    pub place: Option<Place>,
}

/// A passage that was found.
#[derive(Debug, Clone, PartialEq)]
pub struct Hit {
    /// MaxSim with the query.
    pub score: f32,
    /// The passage.
    pub passage: Passage,
}

/// A place that keeps passages and finds them again.
pub trait Index {
    /// Floats in the vectors that it holds.
    fn width(&self) -> usize;

    /// Number of passages.
    fn count(&self) -> usize;

    /// Bytes that it occupies.
    fn bytes(&self) -> u64;

    /// Adds passages with their vectors, all of them or, after an error or a crash, none; those whose ids are there
    /// already are replaced.
    ///
    /// # Errors
    /// [`crate::Error::BadRequest`] for vectors that do not fit, and those of the storage.
    fn add(&mut self, passages: &[Passage], vectors: &[Vectors]) -> Result<()>;

    /// Removes passages and returns how many were there.
    ///
    /// # Errors
    /// Those of the storage.
    fn remove(&mut self, ids: &[&str]) -> Result<usize>;

    /// The `most` best passages for `query`, best first.
    ///
    /// # Errors
    /// [`crate::Error::BadRequest`] for a query of another width, and those of the storage.
    fn search(&self, query: &Vectors, most: usize) -> Result<Vec<Hit>>;
}
