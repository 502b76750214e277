//! The daemon and its command line.

pub mod access;
pub mod bus;
mod card;
pub mod cli;
pub mod engine;
mod fetching;
pub mod indexes;
mod jobs;
mod logs;
mod memory;
mod metrics;
pub mod qdrant;
mod remote;
mod replace;
mod runtime;
pub mod service;
pub mod speech;
mod text;
mod timers;
mod vision;
pub mod voice;
