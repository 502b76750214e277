//! Documents' vectors, kept and searched.
//!
//! [`Index`] is what a place that keeps them can do, and [`LocalIndex`] keeps them in a folder on this machine. Every search
//! is exact MaxSim over all passages: at the sizes that one person's notes have, a scan is as fast as anything cleverer,
//! finds what there is to find, and has nothing to rebuild when a passage comes or goes.

mod local;
mod scan;
mod table;
mod vector_file;

pub use local::{Access, LocalIndex};
pub use table::Place;

use super::vectors::Vectors;
use crate::error::{Error, Result};

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

    /// The model whose vectors it holds.
    fn model(&self) -> &str;

    /// Number of passages.
    ///
    /// # Errors
    /// Those of the storage.
    fn count(&self) -> Result<usize>;

    /// Bytes that it occupies, where the storage tells.
    fn bytes(&self) -> Option<u64>;

    /// The documents that its passages were cut from, with the number of passages.
    ///
    /// # Errors
    /// Those of the storage.
    fn documents(&self) -> Result<Vec<(String, u64)>>;

    /// The passages that were cut from `document`, in its order.
    ///
    /// # Errors
    /// Those of the storage.
    fn passages_of(&self, document: &str) -> Result<Vec<Passage>>;

    /// Writes down new places of passages whose text has not changed.
    ///
    /// # Errors
    /// Those of the storage.
    fn relocate(&mut self, moved: &[(&str, &Place)]) -> Result<()>;

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

/// How much longer than one a vector may be.
const SLACK: f32 = 1e-3;

/// Whether `passages` with `vectors` can be added to an index of `width` floats that `model` has made.
///
/// # Errors
/// [`Error::BadRequest`] for numbers that differ, and those of [`check_width`].
pub fn check(passages: &[Passage], vectors: &[Vectors], width: usize, model: &str) -> Result<()> {
    if passages.len() != vectors.len() {
        return Err(Error::BadRequest(format!("{} passages with {} vectors", passages.len(), vectors.len())));
    }
    vectors.iter().try_for_each(|vectors| check_width(vectors, width, model))
}

/// Whether `vectors` are such as an index of `width` floats holds, all of length one at most.
///
/// # Errors
/// [`Error::BadRequest`].
pub fn check_width(vectors: &Vectors, width: usize, model: &str) -> Result<()> {
    if vectors.width() != width {
        return Err(Error::BadRequest(format!(
            "vectors of {} floats do not fit an index of {width}; it was made by {model}",
            vectors.width(),
        )));
    }
    // Longer ones would leave the range of fixed-point numbers, and win where they should not.
    let long = |row: &[f32]| {
        let length = row.iter().map(|value| value * value).sum::<f32>();
        length.is_nan() || length > (1.0 + SLACK).powi(2)
    };
    if vectors.rows().any(long) {
        return Err(Error::BadRequest("vectors to be indexed have length one".into()));
    }
    Ok(())
}
