//! Models as the daemon holds them, by family, and how they come into memory.

use std::collections::HashMap;
use std::sync::Arc;

use eddy_models::folder::Wanted;
use eddy_models::retrieval::Encoder;
use eddy_models::speech::{Parts, Speech};
use eddy_models::{Runtime, RuntimeOptions, Stop};

use super::lease::Leases;
use super::memory::Kept;
use crate::engine::{Brake, Folder, Loaded, Loader, Task};
use crate::remote::Client;
use crate::speech::Paces;
use crate::text::Author;
use crate::vision::Viewer;

/// A model in memory.
#[derive(Debug)]
pub enum Model {
    /// Speech in and out.
    Speech(Box<SpeechModel>),
    /// Written answers.
    Text(Box<Author>),
    /// Questions about images.
    Vision(Box<Viewer>),
    /// Search by meaning.
    Retrieval(Box<Encoder>),
    /// One that another engine serves.
    Remote(Box<Client>),
}

/// A speech model and the conversations that are in its memory. They go when it goes, because a cache keeps the
/// session alive that made it; a conversation that goes on later is read again.
#[derive(Debug)]
pub struct SpeechModel {
    /// The model.
    pub speech: Speech,
    pub(super) kept: HashMap<u64, Kept>,
    /// How fast it spoke.
    pub(super) paces: Paces,
}

impl Model {
    /// Forgets what it holds of a conversation.
    pub fn forget(&mut self, conversation: u64) {
        match self {
            Self::Speech(model) => drop(model.kept.remove(&conversation)),
            Self::Text(_) | Self::Vision(_) | Self::Retrieval(_) | Self::Remote(_) => {}
        }
    }
}

/// Loads models with ONNX Runtime, which is started with the first of them: a daemon without the library answers, and
/// says with each model what is missing.
#[derive(Debug)]
pub struct OnnxLoader {
    /// How the runtime is started.
    pub runtime: RuntimeOptions,
    /// Bytes in which a text model keeps what it has read.
    pub prefix_cache: usize,
    /// Whether the files are leased; the process has to handle SIGIO, which ends it otherwise.
    pub leases: bool,
}

impl Loader<Model> for OnnxLoader {
    fn load(&self, folder: &Folder) -> Result<Loaded<Model>, String> {
        // What kept it from being measured keeps it from being loaded; a reload looks at it again.
        folder.problem.clone().map_or(Ok(()), Err)?;
        if let Some(description) = &folder.remote {
            let client = Client::new(description.clone())?;
            let remarks = vec![format!("answers are made by {}, not on this machine's models", description.url)];
            let (model, guard) = (Model::Remote(Box::new(client)), Box::<Leases>::default());
            return Ok(Loaded { model, brake: Arc::new(NoBrake), remarks, guard });
        }
        self.try_load(folder).map_err(|error| error.to_string())
    }
}

/// For models that run no graph here.
struct NoBrake;

impl Brake for NoBrake {
    fn set(&self) {}
    fn clear(&self) {}
}

impl OnnxLoader {
    fn try_load(&self, folder: &Folder) -> eddy_models::Result<Loaded<Model>> {
        let runtime = Runtime::start(&self.runtime)?;
        let stop = Stop::new(&runtime)?;
        let wanted: Wanted = folder.precision.parse()?;
        // Before anything is read, so that nothing changes between the reading and the lease.
        let leases = if self.leases { Leases::take(&folder.path) } else { Leases::default() };
        let guard = Box::new(leases);
        match folder.task {
            Some(Task::Speech) => {
                let speech = Speech::load(&runtime, &folder.path, wanted, Parts::ALL, &stop)?;
                let identity = speech.identity();
                let changed = identity.repairs.iter().chain(&identity.rounded).cloned();
                let remarks = changed.chain(speech.lacking()).collect();
                let model =
                    Model::Speech(Box::new(SpeechModel { speech, kept: HashMap::new(), paces: Paces::default() }));
                Ok(Loaded { model, brake: Arc::new(stop), remarks, guard })
            }
            Some(Task::Text) => {
                let author = Author::load(&runtime, &folder.path, wanted, self.prefix_cache, &stop)?;
                Ok(Loaded { model: Model::Text(Box::new(author)), brake: Arc::new(stop), remarks: Vec::new(), guard })
            }
            Some(Task::Retrieval) => {
                let encoder = Encoder::load(&runtime, &folder.path, wanted, &stop)?;
                Ok(Loaded {
                    model: Model::Retrieval(Box::new(encoder)),
                    brake: Arc::new(stop),
                    remarks: Vec::new(),
                    guard,
                })
            }
            Some(Task::Vision) => {
                let viewer = Viewer::load(&runtime, &folder.path, wanted, &stop)?;
                let remarks = viewer.model.repairs().to_vec();
                Ok(Loaded { model: Model::Vision(Box::new(viewer)), brake: Arc::new(stop), remarks, guard })
            }
            None => Err(eddy_models::Error::BadRequest("the folder holds no model that is known".into())),
        }
    }
}
