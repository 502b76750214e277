//! Search by meaning: `org.eddy.Retrieval1` and `org.eddy.Index1`.

use std::collections::HashMap;

use zbus::{OwnedFd, OwnedObjectPath, OwnedVariant, proxy};

use crate::error::Result;
use crate::options::Options;

/// A document that was found: its identifier, its score (higher is nearer), and details.
pub type Hit = (String, f64, HashMap<String, OwnedVariant>);

/// Vectors and indexes.
#[proxy(
    interface = "org.eddy.Retrieval1",
    default_service = "org.eddy.Assistant1",
    default_path = "/org/eddy/Assistant1"
)]
pub trait Retrieval {
    /// Turns texts into vectors; the read end of a pipe for [`crate::fd::vectors`].
    fn encode(&self, texts: &[&str], is_query: bool, options: &Options) -> Result<OwnedFd>;
    /// Makes an empty index; the path of an [`IndexProxy`].
    fn create_index(&self, name: &str, options: &Options) -> Result<OwnedObjectPath>;
    /// The indexes that the caller may search.
    fn indexes(&self) -> Result<Vec<OwnedObjectPath>>;
}

/// One index.
#[proxy(interface = "org.eddy.Index1", default_service = "org.eddy.Assistant1")]
pub trait Index {
    /// Adds documents (identifier and text); the path of a [`super::RequestProxy`].
    fn add(&self, documents: &[(&str, &str)], options: &Options) -> Result<OwnedObjectPath>;
    /// Removes documents; how many of them were there.
    fn remove(&self, ids: &[&str], options: &Options) -> Result<u32>;
    /// Finds at most `k` documents, the nearest in meaning first.
    fn search(&self, query: &str, k: u32, options: &Options) -> Result<Vec<Hit>>;
    /// Removes the index with everything in it.
    #[zbus(name = "Drop")]
    fn drop_index(&self) -> Result<()>;

    /// Documents in the index.
    #[zbus(property)]
    fn count(&self) -> zbus::Result<u64>;
    /// What the index takes on the disk.
    #[zbus(property)]
    fn bytes(&self) -> zbus::Result<u64>;
    /// The model folder that its documents were encoded with.
    #[zbus(property(emits_changed_signal = "const"))]
    fn model(&self) -> zbus::Result<String>;
}
