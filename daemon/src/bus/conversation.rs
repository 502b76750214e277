//! `org.eddy.Conversation1`: a conversation of one caller's, with its memory.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use eddy_config::Capability;
use eddy_ipc::{Bus, Error, Options, Result, accepts, owned_by};
use eddy_models::speech::Mode;
use zbus::message::Header;
use zbus::{OwnedFd, OwnedObjectPath, OwnedVariant};

use super::core::{Core, Incoming};
use super::objects::{Kind, Object};
use super::peers::{Held, Peer};
use super::speech::{Asked, Beginning, instructions, with_sound};
use crate::engine::Task;
use crate::jobs::{Drawn, Memory, Words, reply_options};

/// A conversation, for as long as its caller wants it.
#[derive(Debug)]
pub struct Conversation {
    path: OwnedObjectPath,
    /// The defaults of its turns.
    options: Options,
    model: Arc<str>,
    memory: Arc<Memory>,
    /// Requests of its turns; those that are over are forgotten when a next one begins.
    turns: Mutex<Vec<OwnedObjectPath>>,
    _held: Held,
}

impl Conversation {
    /// Opens a conversation for a caller and puts it on the bus.
    ///
    /// # Errors
    /// [`Error::LimitReached`], [`Error::Exists`], and those of choosing a model.
    pub async fn open(core: &Arc<Core>, peer: &Arc<Peer>, mut options: Options) -> Result<OwnedObjectPath> {
        let model = core.model(Task::Speech, &options)?;
        let memory = Memory::new(instructions(core, &mut options)?);
        let held = peer.hold_conversation(core.config().limits.conversations_per_caller)?;
        let token = options.handle_token.take();
        let make = |path| {
            let turns = Mutex::default();
            Object::Conversation(Arc::new(Self { path, options, model, memory, turns, _held: held }))
        };
        core.objects.add(core, (Bus::Assistant, Kind::Conversation), peer, Capability::Converse, token, make).await
    }

    /// Ends it: its memory goes, in the model too.
    pub fn close(&self, core: &Core) {
        self.memory.reset();
        let id = self.memory.id();
        // If the queue is full it stays until the model goes, which only costs memory.
        let _ = core.engine.tidy(Arc::clone(&self.model), move |model| model.forget(id));
    }
}

/// The conversation on the bus.
#[derive(Debug)]
pub struct ConversationObject {
    core: Arc<Core>,
    conversation: Arc<Conversation>,
}

impl ConversationObject {
    pub(super) fn new(core: &Arc<Core>, conversation: Arc<Conversation>) -> Self {
        Self { core: Arc::clone(core), conversation }
    }

    async fn owner(&self, header: &Header<'_>) -> Result<Arc<Peer>> {
        if !owned_by(self.conversation.path.as_str(), header.sender().map(|sender| sender.as_str())) {
            return Err(Error::not_owner("conversation"));
        }
        self.core.caller(header, Capability::Converse).await
    }

    /// A turn in words (`Sequential`: no sound is made that nobody hears) or in speech.
    async fn turn(
        &self,
        peer: &Arc<Peer>,
        mut options: Options,
        asked: Asked,
        mode: Mode,
    ) -> Result<(OwnedObjectPath, Option<OwnedFd>)> {
        let conversation = &self.conversation;
        options.model = Some(conversation.model.to_string());
        let reply = reply_options(mode, Drawn::Text, [&options, &conversation.options], &self.core.config());
        let memory = Some(Arc::clone(&conversation.memory));
        let (instructions, words) = (String::new(), Words::Answer);
        let beginning = Beginning { core: &self.core, peer, options, instructions, reply, words, memory };
        let begun = beginning.begin(asked, mode == Mode::Interleaved).await?;
        let mut turns = conversation.turns.lock().unwrap_or_else(PoisonError::into_inner);
        turns.retain(|path| self.core.objects.is_running(path));
        turns.push(begun.0.clone());
        Ok(begun)
    }
}

#[zbus::interface(name = "org.eddy.Conversation1", spawn = false, introspection_docs = false)]
impl ConversationObject {
    #[zbus(out_args("request"))]
    async fn ask(
        &self,
        text: String,
        options: HashMap<String, OwnedVariant>,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<OwnedObjectPath> {
        let peer = self.owner(&header).await?;
        let options = Options::read(options, accepts::TURN)?;
        self.core.check_text("text", &text)?;
        Ok(self.turn(&peer, options, Asked::Text(text), Mode::Sequential).await?.0)
    }

    #[zbus(out_args("request", "audio"))]
    async fn ask_spoken(
        &self,
        wav: OwnedFd,
        options: HashMap<String, OwnedVariant>,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<(OwnedObjectPath, OwnedFd)> {
        let peer = self.owner(&header).await?;
        let options = Options::read(options, accepts::TURN)?;
        let intake = self.core.intake(&peer, Incoming::Recording, vec![wav.into()])?;
        with_sound(self.turn(&peer, options, Asked::Recording(intake), Mode::Interleaved).await?)
    }

    async fn reset(&self, #[zbus(header)] header: Header<'_>) -> Result<()> {
        self.owner(&header).await?;
        self.conversation.memory.reset();
        Ok(())
    }

    async fn close(&self, #[zbus(header)] header: Header<'_>) -> Result<()> {
        self.owner(&header).await?;
        let turns = std::mem::take(&mut *self.conversation.turns.lock().unwrap_or_else(PoisonError::into_inner));
        for turn in turns {
            self.core.objects.cancel(&self.core, &turn);
        }
        self.core.objects.remove(&self.core, &self.conversation.path).await;
        Ok(())
    }

    /// Empty for everybody but the owner, and where nobody asks: `GetManagedObjects` would show it to all.
    #[zbus(property(emits_changed_signal = "false"))]
    fn history(&self, #[zbus(header)] header: Option<Header<'_>>) -> Vec<HashMap<String, OwnedVariant>> {
        let sender = header.as_ref().and_then(|header| header.sender()).map(|sender| sender.as_str());
        if sender.is_none() || !owned_by(self.conversation.path.as_str(), sender) {
            return Vec::new();
        }
        self.conversation.memory.history().iter().map(|turn| super::owned(turn.to_dictionary())).collect()
    }
}
