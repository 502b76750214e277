//! Listening: is this speech, has the speaker finished, and was Eddy called. Small models that Eddy carries.

mod end_of_turn;
mod voice_activity;
pub mod wake_word;

pub use end_of_turn::EndOfTurn;
pub use voice_activity::VoiceActivity;
