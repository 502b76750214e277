//! Texts to vectors for the verbs that search: by a model in this process, or by the daemon's.

use std::path::Path;

use eddy_ipc::client::RetrievalProxy;
use eddy_ipc::fd::vectors;
use eddy_models::retrieval::{Encoder, Ruler, Side, Vectors};

use super::daemon::{BusArguments, Daemon};
use super::model::{Engine, LoadArguments, Place, place};
use super::models;

/// What encodes.
pub enum Encoding {
    /// A model in this process.
    Here { encoder: Box<Encoder>, engine: Engine },
    /// The daemon's model of that name, or its choice; with what its folder says, where this process may read that.
    Daemon { daemon: Box<Daemon>, model: Option<String>, ruler: Option<Box<Ruler>> },
}

impl Encoding {
    /// By the model that `--model` names.
    ///
    /// # Errors
    /// Those of the folder, or of the bus.
    pub fn open(model: Option<&str>, load: &LoadArguments, bus: &BusArguments) -> anyhow::Result<Self> {
        match place(model, load)? {
            Place::Here(folder) => {
                let engine = load.engine()?;
                let encoder = Encoder::load(&engine.runtime, &folder, load.wanted()?, engine.interrupt.stop())?;
                Ok(Self::Here { encoder: Box::new(encoder), engine })
            }
            Place::Daemon(model) => {
                let daemon = Daemon::connect(bus)?;
                let folder = model.as_deref().and_then(|name| models::folder(&daemon, name).ok());
                let ruler = folder.and_then(|folder| Ruler::open(Path::new(&folder)).ok()).map(Box::new);
                Ok(Self::Daemon { daemon: Box::new(daemon), model, ruler })
            }
        }
    }

    /// Encodes texts.
    ///
    /// # Errors
    /// Those of the model, or of the daemon.
    pub fn encode(&mut self, texts: &[&str], side: Side) -> anyhow::Result<Vec<Vectors>> {
        match self {
            Self::Here { encoder, .. } => Ok(encoder.encode(texts, side)?),
            Self::Daemon { daemon, model, .. } => {
                let options = eddy_ipc::Options { model: model.clone(), ..eddy_ipc::Options::default() };
                let pipe = daemon.call(async |connection| {
                    RetrievalProxy::new(connection).await?.encode(texts, side == Side::Query, &options).await
                })?;
                let pipe: std::os::fd::OwnedFd = pipe.into();
                let read = vectors(&mut std::io::BufReader::new(std::fs::File::from(pipe)));
                let (texts, width) = read.map_err(|error| {
                    anyhow::anyhow!("the daemon did not encode the texts ({error}); its log says why")
                })?;
                Ok(texts.into_iter().map(|data| Vectors::new(width as usize, data)).collect())
            }
        }
    }

    /// How long texts are for the model, where that can be told.
    #[must_use]
    pub fn ruler(&self) -> Option<&Ruler> {
        match self {
            Self::Here { encoder, .. } => Some(encoder.ruler()),
            Self::Daemon { ruler, .. } => ruler.as_deref(),
        }
    }

    /// Whether the person has asked to end.
    #[must_use]
    pub fn interrupted(&self) -> bool {
        match self {
            Self::Here { engine, .. } => engine.interrupt.asked(),
            Self::Daemon { daemon, .. } => daemon.interrupted(),
        }
    }
}
