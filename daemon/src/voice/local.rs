//! The voice in a process of its own: a model folder, an engine for it, and nothing else.

use std::path::Path;
use std::sync::Arc;

use eddy_config::Config;
use eddy_models::RuntimeOptions;
use eddy_models::folder::Wanted;

use super::handle::{Parts, Voice};
use super::status::Observer;
use crate::engine::{Engine, EngineOptions, catalog};
use crate::jobs::{Audience, Model, OnnxLoader};

/// A voice and the engine that it has to itself. Both end when this is dropped.
pub struct Local {
    voice: Voice,
    engine: Engine<Model>,
}

impl Local {
    /// Starts both with the model in `folder`, which begins to be brought into memory.
    ///
    /// # Errors
    /// A sentence when the folder holds no usable model; those of the system.
    pub fn start(
        folder: &Path,
        wanted: Wanted,
        runtime: RuntimeOptions,
        config: Arc<Config>,
        audience: Arc<dyn Audience>,
        observer: Observer,
    ) -> anyhow::Result<Self> {
        let folder = folder.canonicalize().map_err(|error| anyhow::anyhow!("{}: {error}", folder.display()))?;
        let folders = catalog::scan(std::slice::from_ref(&folder), wanted);
        let Some(found) = folders.first().cloned() else {
            anyhow::bail!("{}: there is no model folder here", folder.display());
        };
        if let Some(problem) = found.problem {
            anyhow::bail!("{problem}");
        }
        let loader = Arc::new(OnnxLoader { runtime: runtime.clone(), prefix_cache: 0, leases: false });
        let engine = Engine::start(loader, folders, EngineOptions::default(), || {})?;
        let (loaded, wait) = std::sync::mpsc::channel();
        engine.load(&found.name, move |result| drop(loaded.send(result)))?;
        wait.recv()??;
        let parts = Parts { engine: engine.clone(), runtime, config, muted: false, audience: Some(audience), observer };
        Ok(Self { voice: Voice::start(parts)?, engine })
    }

    /// The engine, for whoever has more for it to do.
    #[must_use]
    pub fn engine(&self) -> &Engine<Model> {
        &self.engine
    }

    /// The voice.
    #[must_use]
    pub fn voice(&self) -> &Voice {
        &self.voice
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        self.voice.stop();
        self.engine.stop();
    }
}
