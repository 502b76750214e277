//! The keys of `eddy.toml`, one file for each section.

pub(crate) mod access;
pub(crate) mod audio;
pub(crate) mod generation;
pub(crate) mod limits;
pub(crate) mod log;
pub(crate) mod metrics;
pub(crate) mod models;
pub(crate) mod runtime;
pub(crate) mod voice;
