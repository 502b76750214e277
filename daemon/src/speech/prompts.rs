//! The published prompts of the three modes.

use eddy_ipc::SpeakerVoice;

/// What the model is told before it answers in speech.
pub const CONVERSE: &str = "Respond with interleaved text and audio.";
/// What the model is told before a turn whose answer is to be short.
pub const BRIEFLY: &str = "Answer in one short sentence.";
/// What the model is told before it writes down what it hears.
pub const TRANSCRIBE: &str = "Perform ASR.";

/// What the model is told before it reads aloud in this voice.
#[must_use]
pub fn read_aloud(voice: SpeakerVoice) -> String {
    let voice = match voice {
        SpeakerVoice::UkFemale => "UK female",
        SpeakerVoice::UkMale => "UK male",
        SpeakerVoice::UsFemale => "US female",
        SpeakerVoice::UsMale => "US male",
    };
    format!("Perform TTS. Use the {voice} voice.")
}
