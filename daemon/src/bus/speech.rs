//! `org.eddy.Speech1`: recordings and texts from callers, transcripts and sound back to them.

use std::collections::HashMap;
use std::sync::Arc;

use eddy_config::Capability;
use eddy_ipc::fd::outgoing_pipe;
use eddy_ipc::{Bus, Error, Key, Options, Result, accepts};
use eddy_models::speech::{Mode, ReplyOptions};
use zbus::message::Header;
use zbus::{OwnedFd, OwnedObjectPath, OwnedVariant};

use super::core::{Core, Incoming, Intake};
use super::peers::Peer;
use super::request::Request;
use crate::engine::Task;
use crate::jobs::{Delivery, Drawn, Input, Memory, Pipe, Sound, SpeechJob, SpeechWork, Words, reply_options};
use crate::speech::{CONVERSE, TRANSCRIBE, read_aloud};

/// The interface on the assistant's root.
#[derive(Debug)]
pub struct Speech {
    core: Arc<Core>,
}

impl Speech {
    /// Serves `core`.
    #[must_use]
    pub fn new(core: &Arc<Core>) -> Self {
        Self { core: Arc::clone(core) }
    }
}

/// A speech request that is about to begin.
pub(super) struct Beginning<'a> {
    pub core: &'a Arc<Core>,
    pub peer: &'a Arc<Peer>,
    pub options: Options,
    pub instructions: String,
    pub reply: ReplyOptions,
    pub words: Words,
    pub memory: Option<Arc<Memory>>,
}

/// What a speech request is about.
pub(super) enum Asked {
    Recording(Intake),
    Text(String),
}

impl Beginning<'_> {
    /// Opens the request, with a pipe for the sound if `audible`, and sets it going.
    pub async fn begin(mut self, asked: Asked, audible: bool) -> Result<(OwnedObjectPath, Option<OwnedFd>)> {
        let model = self.core.model(Task::Speech, &self.options)?;
        let stream = self.core.stream(&mut self.options)?;
        let (reader, sound) = match audible {
            true => {
                let (reader, outlet) =
                    outgoing_pipe().map_err(|error| Error::unavailable("a pipe for the sound", error))?;
                (Some(OwnedFd::from(reader)), Some(self.core.pipe(outlet)))
            }
            false => (None, None),
        };
        let token = self.options.handle_token.take();
        let request = Request::open(self.core, Bus::Assistant, self.peer, Capability::Converse, token).await?;
        let priority = self.options.priority;
        let (core, feed) = (Arc::clone(self.core), Arc::clone(request.feed()));
        let job = job(self, feed, sound, stream);
        match asked {
            Asked::Text(text) => core.submit(&request, Box::new(job(Input::Text(text), None)), model, priority),
            Asked::Recording(intake) => {
                let theirs = Arc::clone(&request);
                intake.read(&request, move |files, held| {
                    let job =
                        Box::new(job(Input::Wav(files.into_iter().next().unwrap_or_default()), Some(Box::new(held))));
                    core.submit(&theirs, job, model, priority);
                });
            }
        }
        Ok((request.path(), reader))
    }
}

/// The job, but for what it is about.
fn job(
    beginning: Beginning<'_>,
    feed: Arc<crate::jobs::Feed>,
    sound: Option<Pipe>,
    stream: Option<Pipe>,
) -> impl FnOnce(Input, Option<crate::jobs::Hold>) -> SpeechJob + Send + 'static {
    let Beginning { instructions, reply, words, memory, .. } = beginning;
    let delivery = Delivery::new(feed, words, sound.map(Sound::Pipe), stream);
    move |input, hold| SpeechJob::new(SpeechWork { input, instructions, options: reply, memory }, delivery, hold)
}

/// What the model is told first in a conversation: the caller's words, or the published ones and the configuration's.
pub(super) fn instructions(core: &Core, options: &mut Options) -> Result<String> {
    if let Some(own) = options.instructions.take() {
        core.check_text("instructions", &own)?;
        return Ok(own);
    }
    let configured = &core.config().generation.instructions;
    Ok(if configured.is_empty() { CONVERSE.to_owned() } else { format!("{CONVERSE} {configured}") })
}

/// The reading end, where there has to be one.
pub(super) fn with_sound((path, sound): (OwnedObjectPath, Option<OwnedFd>)) -> Result<(OwnedObjectPath, OwnedFd)> {
    sound.map(|sound| (path, sound)).ok_or_else(|| Error::Internal("a pipe was not made".into()))
}

#[zbus::interface(name = "org.eddy.Speech1", spawn = false, introspection_docs = false)]
impl Speech {
    #[zbus(out_args("request"))]
    async fn transcribe(
        &self,
        wav: OwnedFd,
        options: HashMap<String, OwnedVariant>,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<OwnedObjectPath> {
        let (peer, options) = self.open(&header, options, accepts::TRANSCRIBE).await?;
        let intake = self.core.intake(&peer, Incoming::Recording, vec![wav.into()])?;
        let none = Options::default();
        let reply = reply_options(Mode::Sequential, Drawn::Nothing, [&options, &none], &self.core.config());
        let instructions = TRANSCRIBE.to_owned();
        let words = Words::Transcript;
        let beginning = Beginning { core: &self.core, peer: &peer, options, instructions, reply, words, memory: None };
        Ok(beginning.begin(Asked::Recording(intake), false).await?.0)
    }

    #[zbus(out_args("request", "audio"))]
    async fn synthesize(
        &self,
        text: String,
        options: HashMap<String, OwnedVariant>,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<(OwnedObjectPath, OwnedFd)> {
        let (peer, options) = self.open(&header, options, accepts::SYNTHESIZE).await?;
        self.core.check_text("text", &text)?;
        let none = Options::default();
        let reply = reply_options(Mode::Sequential, Drawn::Sound, [&options, &none], &self.core.config());
        let voice = match options.voice {
            Some(voice) => voice,
            None => self.core.voice_of(&self.core.model(Task::Speech, &options)?),
        };
        let instructions = read_aloud(voice);
        let words = Words::Answer;
        let beginning = Beginning { core: &self.core, peer: &peer, options, instructions, reply, words, memory: None };
        with_sound(beginning.begin(Asked::Text(text), true).await?)
    }

    #[zbus(out_args("request", "audio"))]
    async fn converse(
        &self,
        wav: OwnedFd,
        options: HashMap<String, OwnedVariant>,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<(OwnedObjectPath, OwnedFd)> {
        let (peer, mut options) = self.open(&header, options, accepts::CONVERSE).await?;
        let instructions = instructions(&self.core, &mut options)?;
        let intake = self.core.intake(&peer, Incoming::Recording, vec![wav.into()])?;
        let none = Options::default();
        let reply = reply_options(Mode::Interleaved, Drawn::Text, [&options, &none], &self.core.config());
        let words = Words::Answer;
        let beginning = Beginning { core: &self.core, peer: &peer, options, instructions, reply, words, memory: None };
        with_sound(beginning.begin(Asked::Recording(intake), true).await?)
    }
}

impl Speech {
    async fn open(
        &self,
        header: &Header<'_>,
        options: HashMap<String, OwnedVariant>,
        accepted: &[Key],
    ) -> Result<(Arc<Peer>, Options)> {
        let peer = self.core.caller(header, Capability::Converse).await?;
        Ok((peer, Options::read(options, accepted)?))
    }
}
