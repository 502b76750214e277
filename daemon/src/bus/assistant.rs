//! `org.eddy.Assistant1`: the voice. The live voice is not part of this daemon yet, and its state says so.

use std::collections::HashMap;
use std::sync::Arc;

use eddy_config::Capability;
use eddy_ipc::{Error, Options, Result, VoiceState, accepts};
use zbus::message::Header;
use zbus::object_server::SignalEmitter;
use zbus::{OwnedFd, OwnedObjectPath, OwnedVariant};

use super::conversation::Conversation;
use super::core::Core;
use super::mutes::Mutes;

/// Why there is no voice.
const NO_VOICE: &str = "this version does not open the microphone or the speaker; recordings and texts are answered through org.eddy.Speech1";

/// The interface on the assistant's root.
#[derive(Debug)]
pub struct Assistant {
    core: Arc<Core>,
    mutes: Arc<Mutes>,
}

impl Assistant {
    /// Serves `core`.
    #[must_use]
    pub fn new(core: &Arc<Core>) -> Self {
        Self { core: Arc::clone(core), mutes: Arc::default() }
    }
}

#[zbus::interface(name = "org.eddy.Assistant1", spawn = false, introspection_docs = false)]
impl Assistant {
    #[zbus(out_args("conversation"))]
    async fn open_conversation(
        &self,
        options: HashMap<String, OwnedVariant>,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<OwnedObjectPath> {
        let peer = self.core.caller(&header, Capability::Converse).await?;
        Conversation::open(&self.core, &peer, Options::read(options, accepts::OPEN_CONVERSATION)?).await
    }

    async fn listen(&self, options: HashMap<String, OwnedVariant>, #[zbus(header)] header: Header<'_>) -> Result<()> {
        self.core.caller(&header, Capability::Listen).await?;
        Options::read(options, accepts::NONE)?;
        if self.mutes.is_muted() {
            return Err(Error::muted());
        }
        Err(Error::unavailable("the microphone", NO_VOICE))
    }

    async fn stop_listening(&self, #[zbus(header)] header: Header<'_>) -> Result<()> {
        self.core.caller(&header, Capability::Listen).await.map(drop)
    }

    async fn interrupt(&self, #[zbus(header)] header: Header<'_>) -> Result<()> {
        self.core.anybody(&header).await.map(drop)
    }

    #[zbus(out_args("request"))]
    async fn say(
        &self,
        text: String,
        options: HashMap<String, OwnedVariant>,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<OwnedObjectPath> {
        self.core.caller(&header, Capability::Speak).await?;
        Options::read(options, accepts::SAY)?;
        self.core.check_text("text", &text)?;
        Err(Error::unavailable("the speaker", NO_VOICE))
    }

    #[zbus(out_args("lock"))]
    async fn acquire_mute(
        &self,
        #[zbus(header)] header: Header<'_>,
        #[zbus(signal_emitter)] emitter: SignalEmitter<'_>,
    ) -> Result<OwnedFd> {
        self.core.anybody(&header).await?;
        let lock = self.mutes.acquire(&self.core, emitter.into_owned())?;
        Ok(lock.into())
    }

    #[zbus(property(emits_changed_signal = "const"))]
    fn version(&self) -> &str {
        env!("CARGO_PKG_VERSION")
    }

    #[zbus(property)]
    fn state(&self) -> &str {
        VoiceState::Unavailable.as_str()
    }

    #[zbus(property)]
    fn state_reason(&self) -> &str {
        NO_VOICE
    }

    #[zbus(property)]
    pub(super) fn muted(&self) -> bool {
        self.mutes.is_muted()
    }

    #[zbus(property)]
    async fn set_muted(&self, muted: bool, #[zbus(header)] header: Option<Header<'_>>) -> Result<()> {
        if let Some(header) = &header {
            // Everybody may mute; to let the microphone hear again is to listen.
            match muted {
                true => self.core.anybody(header).await?,
                false => self.core.caller(header, Capability::Listen).await?,
            };
        }
        self.mutes.set(muted);
        Ok(())
    }

    #[zbus(property)]
    fn microphone_in_use(&self) -> bool {
        false
    }

    #[zbus(property)]
    fn speaker_in_use(&self) -> bool {
        false
    }

    #[zbus(signal, name = "StateChanged")]
    async fn voice_state_changed(emitter: &SignalEmitter<'_>, old: &str, new: &str, reason: &str) -> zbus::Result<()>;
}
