//! Sound for Eddy: devices, resampling, echo cancellation, rings and WAV files.
//!
//! Samples are `f32` in [-1, 1] and mono unless a name says otherwise; rates are in Hz. Nothing here knows of models
//! or of the bus. What fails, fails with an [`Error`] that names the file or device and the remedy.

pub mod capture;
pub mod device;
pub mod drift;
pub mod ear;
pub mod echo;
pub mod error;
pub mod playback;
mod pulse;
pub mod realtime;
pub mod resample;
pub mod watch;
pub mod wav;

pub use error::{Error, Result};
