//! `org.eddy.Assistant1`: the voice.

use std::collections::HashMap;
use std::sync::Arc;

use eddy_config::Capability;
use eddy_ipc::{Bus, Error, Options, Result, accepts};
use eddy_models::speech::Mode;
use zbus::message::Header;
use zbus::object_server::SignalEmitter;
use zbus::{OwnedFd, OwnedObjectPath, OwnedVariant};

use super::conversation::Conversation;
use super::core::Core;
use super::mutes::Mutes;
use super::request::Request;
use super::voice::{Asker, word};
use crate::engine::Task;
use crate::jobs::{Delivery, Drawn, Input, Sound, SoundLine, SpeechJob, SpeechWork, Words, reply_options};
use crate::speech::read_aloud;

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
        let peer = self.core.caller(&header, Capability::Listen).await?;
        let options = Options::read(options, accepts::LISTEN)?;
        if self.mutes.is_muted() {
            return Err(Error::muted());
        }
        let Some(token) = options.handle_token else { return self.core.voice.listen(None).await };
        let request = Request::open(&self.core, Bus::Assistant, &peer, Capability::Listen, Some(token)).await?;
        let listening = self.core.voice.listen(Some(Asker::new(Arc::clone(&request)))).await;
        match &listening {
            // From now on the turn tells of its end, also of one that was cancelled.
            Ok(()) => drop(request.submitted()),
            Err(error) => request.feed().fail(error),
        }
        listening
    }

    async fn stop_listening(&self, #[zbus(header)] header: Header<'_>) -> Result<()> {
        self.core.caller(&header, Capability::Listen).await?;
        self.core.voice.stop_listening()
    }

    async fn interrupt(&self, #[zbus(header)] header: Header<'_>) -> Result<()> {
        self.core.anybody(&header).await?;
        self.core.voice.interrupt()
    }

    #[zbus(out_args("request"))]
    async fn say(
        &self,
        text: String,
        options: HashMap<String, OwnedVariant>,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<OwnedObjectPath> {
        let peer = self.core.caller(&header, Capability::Speak).await?;
        let mut options = Options::read(options, accepts::SAY)?;
        self.core.check_text("text", &text)?;
        let model = self.core.model(Task::Speech, &options)?;
        let config = self.core.config();
        let audio = config.audio.clone();
        let found = tokio::task::spawn_blocking(move || crate::voice::loudspeaker(&audio)).await;
        found
            .map_err(|error| Error::Internal(error.to_string()))?
            .map_err(|error| Error::unavailable("the speaker", error))?;
        let reply = reply_options(Mode::Sequential, Drawn::Sound, [&options, &Options::default()], &config);
        let instructions = read_aloud(options.voice.unwrap_or_else(|| self.core.voice_of(&model)));
        let token = options.handle_token.take();
        let request = Request::open(&self.core, Bus::Assistant, &peer, Capability::Speak, token).await?;
        let line = SoundLine::new(config.voice.longest_hold);
        let sound = Some(Sound::Loudspeaker(Arc::clone(&line)));
        let delivery = Delivery::new(Arc::clone(request.feed()), Words::Answer, sound, None);
        let work = SpeechWork { input: Input::Text(text), instructions, options: reply, memory: None };
        let job = Box::new(SpeechJob::new(work, delivery, None));
        self.core.voice.play(line)?;
        self.core.submit(&request, job, model, options.priority);
        Ok(request.path())
    }

    #[zbus(out_args("lock"))]
    async fn acquire_mute(
        &self,
        #[zbus(header)] header: Header<'_>,
        #[zbus(signal_emitter)] emitter: SignalEmitter<'_>,
    ) -> Result<OwnedFd> {
        self.core.anybody(&header).await?;
        let lock = self.mutes.acquire(&self.core, emitter.into_owned()).await?;
        Ok(lock.into())
    }

    #[zbus(property(emits_changed_signal = "const"))]
    fn version(&self) -> &str {
        env!("CARGO_PKG_VERSION")
    }

    #[zbus(property)]
    pub(super) fn state(&self) -> &str {
        word(self.core.voice.statuses().borrow().state).as_str()
    }

    #[zbus(property)]
    pub(super) fn state_reason(&self) -> String {
        self.core.voice.statuses().borrow().reason.clone()
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
        self.core.voice.mute(self.mutes.is_muted()).await
    }

    #[zbus(property)]
    pub(super) fn microphone_in_use(&self) -> bool {
        self.core.voice.statuses().borrow().microphone
    }

    #[zbus(property)]
    pub(super) fn speaker_in_use(&self) -> bool {
        self.core.voice.statuses().borrow().speaker
    }

    #[zbus(signal, name = "StateChanged")]
    pub(super) async fn voice_state_changed(
        emitter: &SignalEmitter<'_>,
        old: &str,
        new: &str,
        reason: &str,
    ) -> zbus::Result<()>;
}
