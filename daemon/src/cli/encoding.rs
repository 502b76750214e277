//! Texts to vectors for the verbs that search: by a model in this process, or by the daemon's.

use std::cell::OnceCell;
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
    Daemon { daemon: Box<Daemon>, model: Option<String>, ruler: Box<OnceCell<Option<Ruler>>> },
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
                let daemon = Box::new(Daemon::connect(bus)?);
                Ok(Self::Daemon { daemon, model, ruler: Box::default() })
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
            // A tokenizer is no small thing to read for those who only search.
            Self::Daemon { daemon, model, ruler } => ruler
                .get_or_init(|| {
                    let folder = models::folder(daemon, model.as_deref()?).ok()?;
                    Ruler::open(Path::new(&folder)).ok()
                })
                .as_ref(),
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
