//! The daemon and its command line.

pub mod access;
pub mod bus;
pub mod cli;
pub mod engine;
pub mod jobs;
mod logs;
pub mod service;
pub mod speech;
pub mod voice;
