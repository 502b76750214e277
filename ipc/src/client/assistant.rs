//! The voice: `org.eddy.Assistant1`.

use zbus::{OwnedFd, OwnedObjectPath, proxy};

use crate::error::Result;
use crate::options::Options;

/// When Eddy listens, what it is doing, and how to make it stop.
#[proxy(
    interface = "org.eddy.Assistant1",
    default_service = "org.eddy.Assistant1",
    default_path = "/org/eddy/Assistant1"
)]
pub trait Assistant {
    /// Opens a conversation; the path of a [`super::ConversationProxy`].
    fn open_conversation(&self, options: &Options) -> Result<OwnedObjectPath>;
    /// Opens the microphone for one turn.
    fn listen(&self, options: &Options) -> Result<()>;
    /// Ends the turn that is being spoken, and has it answered.
    fn stop_listening(&self) -> Result<()>;
    /// Ends the reply that is being made or spoken.
    fn interrupt(&self) -> Result<()>;
    /// Speaks a text through the speaker; the path of a [`super::RequestProxy`].
    fn say(&self, text: &str, options: &Options) -> Result<OwnedObjectPath>;
    /// Mutes the microphone for as long as the descriptor is held.
    fn acquire_mute(&self) -> Result<OwnedFd>;

    /// The daemon's version.
    #[zbus(property(emits_changed_signal = "const"))]
    fn version(&self) -> zbus::Result<String>;
    /// What the voice is doing, one of the words of [`crate::VoiceState`].
    #[zbus(property)]
    fn state(&self) -> zbus::Result<String>;
    /// Why.
    #[zbus(property)]
    fn state_reason(&self) -> zbus::Result<String>;
    /// Whether the microphone is muted.
    #[zbus(property)]
    fn muted(&self) -> zbus::Result<bool>;
    /// Mutes the microphone, or takes this caller's wish back.
    #[zbus(property)]
    fn set_muted(&self, muted: bool) -> zbus::Result<()>;
    /// Whether the capture stream is open.
    #[zbus(property)]
    fn microphone_in_use(&self) -> zbus::Result<bool>;
    /// Whether sound is being played.
    #[zbus(property)]
    fn speaker_in_use(&self) -> zbus::Result<bool>;

    /// The state changed.
    #[zbus(signal, name = "StateChanged")]
    fn voice_state_changed(&self, old: &str, new: &str, reason: &str) -> zbus::Result<()>;
}
