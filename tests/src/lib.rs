//! What the end-to-end tests share: fixtures, reference numbers, comparisons.
//!
//! A fixture that is missing fails the test that asks for it; nothing is skipped.

// A helper that cannot go on ends the test; there is no caller to hand an error to.
#![allow(clippy::unwrap_used, missing_docs)]

pub mod bus;
pub mod compare;
pub mod eddy;
pub mod fixtures;
pub mod heard;
pub mod hub;
pub mod load;
pub mod npy;
pub mod room;
pub mod soak;
#[path = "../../audio/tests/common/mod.rs"]
pub mod sounds;
pub use sounds::server;
