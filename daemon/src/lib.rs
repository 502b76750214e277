//! The daemon and its command line.

pub mod access;
pub mod bus;
pub mod cli;
pub mod engine;
pub mod indexes;
mod jobs;
mod logs;
mod metrics;
pub mod service;
pub mod speech;
mod text;
pub mod voice;
