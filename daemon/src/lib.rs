//! The daemon and its command line.

pub mod cli;
pub mod engine;
pub mod voice;
