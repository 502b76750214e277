//! The live voice: when to listen, when to answer, when to be quiet.
//!
//! [`turn`] hears where a person's turn begins and ends, [`barge_in`] whether they interrupt, [`state`] decides what follows
//! from it; none of them touches a device or a model, so every case can be played through. One thread joins them with the
//! microphone, the loudspeaker and the engine; [`Voice`] is how others hold it.

pub mod barge_in;
mod devices;
mod exchange;
mod handle;
mod listener;
mod live;
mod player;
pub mod state;
pub mod turn;

pub use handle::{Change, Observer, Parts, Status, Voice};
pub use state::State;
