//! Listening: is this speech, and has the speaker finished. Small models that Eddy carries.

mod end_of_turn;
mod voice_activity;

pub use end_of_turn::EndOfTurn;
pub use voice_activity::VoiceActivity;
