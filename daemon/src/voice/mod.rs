//! The live voice: when to listen, when to answer, when to be quiet.
//!
//! [`turn`] hears where a person's turn begins and ends, [`state`] decides what follows from it. Neither touches a device or
//! a model, so every case can be played through.

pub mod state;
pub mod turn;
