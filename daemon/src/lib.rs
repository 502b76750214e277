//! The daemon and its command line.

pub mod cli;
pub mod voice;
