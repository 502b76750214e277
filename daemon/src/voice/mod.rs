//! The live voice: when to listen, when to answer, when to be quiet.
//!
//! [`turn`] hears where a person's turn begins and ends, [`barge_in`] whether they interrupt, [`state`] decides what follows
//! from it; none of them touches a device or a model, so every case can be played through. One thread joins them with the
//! microphone, the loudspeaker and the engine; [`Voice`] is how others hold it.

mod barge_in;
mod devices;
mod exchange;
mod foresight;
mod handle;
mod hearing;
mod listener;
mod live;
mod local;
mod player;
mod priority;
mod quiet;
mod state;
mod status;
mod streams;
mod turn;
pub mod wake;

pub use crate::jobs::{Account, Audience, RATE, Told, TurnEnd, remark};
pub use barge_in::Echo;
pub(crate) use devices::{loudspeaker, microphone};
pub use foresight::Foresight;
pub use handle::{Parts, Voice};
pub use hearing::{Attention, Frame, Hearing, Noticed};
pub use local::Local;
pub use state::State;
pub use status::{Change, Observer, Status};
pub use turn::Why;
