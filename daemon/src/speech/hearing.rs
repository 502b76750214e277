//! From a WAV recording to mel features, refused before anything is computed if the model cannot hear it.

use std::time::Duration;

use eddy_audio::wav::Clip;
use eddy_models::speech::{MelClip, MelFeatures, Speech};

/// Why a recording was not heard.
#[derive(Debug, thiserror::Error)]
pub enum Unheard {
    /// The file is no recording that can be used.
    #[error(transparent)]
    Recording(#[from] eddy_audio::Error),
    /// The model cannot hear, or not this.
    #[error(transparent)]
    Model(#[from] eddy_models::Error),
}

/// The features of a recording; `read` is told how long it may be, because a model can only attend to so much.
///
/// # Errors
/// For every kind of unusable recording, and when the model cannot hear.
pub fn hear(
    speech: &mut Speech,
    read: impl FnOnce(Duration) -> Result<Clip, eddy_audio::Error>,
) -> Result<MelFeatures, Unheard> {
    let mel = speech.settings().mel.clone();
    // One sample more would begin another frame.
    let longest = speech.encoder()?.longest().saturating_mul(mel.hop).saturating_sub(1);
    let longest = Duration::from_secs_f64(longest as f64 / f64::from(mel.sample_rate));
    let recording = read(longest)?.at_rate(mel.sample_rate)?;
    let mut clip = MelClip::new(speech.front_end());
    clip.push(&recording.samples);
    Ok(clip.features()?)
}
