//! Models as the daemon holds them, by family, and how they come into memory.

use std::collections::HashMap;
use std::sync::Arc;

use eddy_models::folder::Wanted;
use eddy_models::retrieval::Encoder;
use eddy_models::speech::{Parts, Speech};
use eddy_models::{Runtime, RuntimeOptions, Stop};

use super::memory::Kept;
use crate::engine::{Folder, Loaded, Loader, Task};
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
}

/// A speech model and the conversations that are in its memory. They go when it goes, because a cache keeps the
/// session alive that made it; a conversation that goes on later is read again.
#[derive(Debug)]
pub struct SpeechModel {
    /// The model.
    pub speech: Speech,
    pub(super) kept: HashMap<u64, Kept>,
}

impl Model {
    /// Forgets what it holds of a conversation.
    pub fn forget(&mut self, conversation: u64) {
        match self {
            Self::Speech(model) => drop(model.kept.remove(&conversation)),
            Self::Text(_) | Self::Vision(_) | Self::Retrieval(_) => {}
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
}

impl Loader<Model> for OnnxLoader {
    fn load(&self, folder: &Folder) -> Result<Loaded<Model>, String> {
        // What kept it from being measured keeps it from being loaded; a reload looks at it again.
        folder.problem.clone().map_or(Ok(()), Err)?;
        self.try_load(folder).map_err(|error| error.to_string())
    }
}

impl OnnxLoader {
    fn try_load(&self, folder: &Folder) -> eddy_models::Result<Loaded<Model>> {
        let runtime = Runtime::start(&self.runtime)?;
        let stop = Stop::new(&runtime)?;
        let wanted: Wanted = folder.precision.parse()?;
        match folder.task {
            Some(Task::Speech) => {
                let speech = Speech::load(&runtime, &folder.path, wanted, Parts::ALL, &stop)?;
                let remarks = speech.identity().repairs.iter().cloned().chain(speech.lacking()).collect();
                let model = Model::Speech(Box::new(SpeechModel { speech, kept: HashMap::new() }));
                Ok(Loaded { model, brake: Arc::new(stop), remarks })
            }
            Some(Task::Text) => {
                let author = Author::load(&runtime, &folder.path, wanted, self.prefix_cache, &stop)?;
                Ok(Loaded { model: Model::Text(Box::new(author)), brake: Arc::new(stop), remarks: Vec::new() })
            }
            Some(Task::Retrieval) => {
                let encoder = Encoder::load(&runtime, &folder.path, wanted, &stop)?;
                Ok(Loaded { model: Model::Retrieval(Box::new(encoder)), brake: Arc::new(stop), remarks: Vec::new() })
            }
            Some(Task::Vision) => {
                let viewer = Viewer::load(&runtime, &folder.path, wanted, &stop)?;
                let remarks = viewer.model.repairs().to_vec();
                Ok(Loaded { model: Model::Vision(Box::new(viewer)), brake: Arc::new(stop), remarks })
            }
            None => Err(eddy_models::Error::BadRequest("the folder holds no model that is known".into())),
        }
    }
}
