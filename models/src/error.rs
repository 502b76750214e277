//! The one error type of this crate.
//!
//! Every variant says what happened, to which path, and what to do about it, in one line that can be shown to a
//! person as it stands.

use std::path::PathBuf;

/// The result of everything in this crate that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong between a model folder and an answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No shared library of ONNX Runtime was found in any of the places that were searched.
    #[error(
        "ONNX Runtime's library was not found (searched {searched}); run `make runtime`, or set ORT_DYLIB_PATH to libonnxruntime.so"
    )]
    RuntimeMissing {
        /// The places that were searched, in order.
        searched: String,
    },
    /// A library was found and could not be used.
    #[error(
        "{path}: cannot be used as ONNX Runtime's library: {reason}; version {wanted} or newer is needed, `make runtime` fetches it"
    )]
    RuntimeUnusable {
        /// The library.
        path: PathBuf,
        /// The loader's own words.
        reason: String,
        /// The oldest version that works.
        wanted: &'static str,
    },
    /// A file or folder could not be read or written.
    #[error("{path}: {source}; {remedy}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
        /// What to do.
        remedy: &'static str,
    },
    /// A folder holds nothing that looks like a published model.
    #[error("{path}: no model here: {reason}; expected {expected}")]
    NotAModel {
        /// The folder.
        path: PathBuf,
        /// What was looked for and not found.
        reason: String,
        /// What a model folder holds.
        expected: &'static str,
    },
    /// A part of the model that the request needs is not in the folder.
    #[error("{what} not found in {path}: {consequence}")]
    PartMissing {
        /// The file pattern, such as `audio_encoder*.onnx`.
        what: String,
        /// Where it was looked for.
        path: PathBuf,
        /// What does not work without it, and what to do.
        consequence: String,
    },
    /// The name of a precision is not one of the known ones.
    #[error("unknown precision {given:?}; use one of auto, fp32, fp16, q8, q4, q4f16, q4f32")]
    UnknownPrecision {
        /// The name that was given.
        given: String,
    },
    /// A file of the folder is not what it claims to be.
    #[error("{path}: {reason}; {remedy}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
        /// What to do.
        remedy: &'static str,
    },
    /// A graph's inputs or outputs are not those of any known export.
    #[error("{path}: {reason}; its inputs are {inputs}; export the model again or use a published folder")]
    UnknownGraph {
        /// The graph.
        path: PathBuf,
        /// The difference.
        reason: String,
        /// The inputs that it has.
        inputs: String,
    },
    /// ONNX Runtime refused or failed to run a graph.
    #[error("{path}: ONNX Runtime: {reason}")]
    Graph {
        /// The graph.
        path: PathBuf,
        /// The runtime's own words.
        reason: String,
    },
    /// A folder holds no index.
    #[error("{path}: no index here; make one with `eddy index create`")]
    NotAnIndex {
        /// The folder.
        path: PathBuf,
    },
    /// Another process is writing to an index.
    #[error("{path}: another process is changing this index; wait until it is done")]
    InUse {
        /// The index.
        path: PathBuf,
    },
    /// The table of an index could not be read or written.
    #[error("{path}: {reason}; check the disk, or remove the index and add its documents again")]
    Store {
        /// The table.
        path: PathBuf,
        /// The database's own words.
        reason: String,
    },
    /// A server that keeps an index did not do what it was asked.
    #[error("{url}: {reason}; check that the server runs and that the address is right")]
    Server {
        /// What was asked.
        url: String,
        /// Why it came to nothing.
        reason: String,
    },
    /// The computation was stopped from outside.
    #[error("stopped")]
    Stopped,
    /// A request does not fit the model.
    #[error("{0}")]
    BadRequest(String),
    /// A recording cannot be used as speech.
    #[error("{reason}; {remedy}")]
    Unhearable {
        /// What is wrong with it.
        reason: String,
        /// What to do.
        remedy: &'static str,
    },
    /// A file or its contents cannot be used as an image.
    #[error("{reason}; {remedy}")]
    Unseeable {
        /// What is wrong with it.
        reason: String,
        /// What to do.
        remedy: &'static str,
    },
    /// The conversation would grow past what the model can attend to.
    #[error(
        "the conversation needs {needed} positions and the model has {limit}; start a new conversation or shorten the input"
    )]
    ContextFull {
        /// Positions needed.
        needed: usize,
        /// Positions available.
        limit: usize,
    },
}

impl Error {
    /// Wraps an input-output error with the path and the remedy.
    pub fn io(path: impl Into<PathBuf>, remedy: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source, remedy }
    }
}
