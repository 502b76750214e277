//! One ONNX Runtime session: building it from a looked-at file, running it, and stopping it from outside.

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use ort::session::IoBinding;
use ort::session::builder::SessionBuilder;
use ort::session::{NoSelectedOutputs, RunOptions, Session, SessionInputValue, SessionOutputs};
use ort::value::DynValue;

use crate::error::{Error, Result};
use crate::folder::GraphFile;
use crate::onnx::Edit;
use crate::runtime::{Runtime, one_line};
use crate::tensor::floats;

/// Ends what runs now and refuses what would run next, until it is cleared. Clones share the state.
///
/// ONNX Runtime looks at the flag between nodes of a graph, so a stop takes at most one node's time.
#[derive(Clone)]
pub struct Stop {
    options: Arc<RunOptions<NoSelectedOutputs>>,
    stopped: Arc<AtomicBool>,
    /// Keeps the two flags together while they change.
    changing: Arc<Mutex<()>>,
}

impl std::fmt::Debug for Stop {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Stop({})", self.is_set())
    }
}

impl Stop {
    /// A flag that is not set.
    ///
    /// # Errors
    /// [`Error::Graph`] when ONNX Runtime cannot allocate it.
    pub fn new(runtime: &Runtime) -> Result<Self> {
        let options = RunOptions::new().map_err(|error| Error::Graph {
            path: runtime.library().to_path_buf(),
            reason: one_line(&error.to_string()),
        })?;
        Ok(Self { options: Arc::new(options), stopped: Arc::default(), changing: Arc::default() })
    }

    /// Stops. May be called from any thread.
    pub fn set(&self) {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        self.stopped.store(true, Ordering::Release);
        // Failing to set the flag leaves the stop to the next boundary between graphs.
        let _ = self.options.terminate();
    }

    /// Lets graphs run again.
    pub fn clear(&self) {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        self.stopped.store(false, Ordering::Release);
        let _ = self.options.unterminate();
    }

    /// Whether it is set.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }
}

/// Where ONNX Runtime looks for the external data of a graph that comes from memory.
const EXTERNAL_DATA_FOLDER: &str = "session.model_external_initializers_file_folder_path";

/// A session, with the path that errors name.
#[derive(Debug)]
pub(crate) struct Graph {
    session: Session,
    path: PathBuf,
    stop: Stop,
}

impl Graph {
    /// Builds the session for `file`, after `edit` where there is one.
    ///
    /// Weights in external data stay memory-mapped by ONNX Runtime.
    pub fn load(runtime: &Runtime, file: &GraphFile, edit: Option<&Edit>, stop: &Stop) -> Result<Self> {
        match edit {
            Some(edit) => {
                let bytes = edit.apply(file.bytes()).map_err(|reason| failed(file, reason))?;
                Self::from_bytes(runtime, file, &bytes, stop)
            }
            None if file.weights_home()?.is_some() => Self::from_bytes(runtime, file, file.bytes(), stop),
            None => {
                let session = runtime.session().and_then(|mut builder| builder.commit_from_file(file.path()));
                Self::built(file, session, stop)
            }
        }
    }

    /// Builds the session for `bytes`, which were made from `file` and refer to its external data.
    pub fn from_bytes(runtime: &Runtime, file: &GraphFile, bytes: &[u8], stop: &Stop) -> Result<Self> {
        let (folder, bytes) = match file.weights_home()? {
            Some(home) => {
                let moved = Edit { locations: home.locations, ..Edit::default() };
                (home.folder, Cow::Owned(moved.apply(bytes).map_err(|reason| failed(file, reason))?))
            }
            None => (file.path().parent().unwrap_or(Path::new(".")).to_path_buf(), Cow::Borrowed(bytes)),
        };
        let session = runtime
            .session()
            .and_then(|builder| Ok(builder.with_config_entry(EXTERNAL_DATA_FOLDER, folder.to_string_lossy())?))
            .and_then(|mut builder| builder.commit_from_memory(&bytes));
        Self::built(file, session, stop)
    }

    /// Builds the session for a graph that is built into the binary; `name` is what errors call it.
    pub fn carried(runtime: &Runtime, name: &str, bytes: &[u8], stop: &Stop) -> Result<Self> {
        Self::carried_by(runtime.session(), name, bytes, stop)
    }

    /// The same on the calling thread alone: for a small graph that has to be done in time whatever other threads are busy
    /// with.
    pub fn carried_alone(runtime: &Runtime, name: &str, bytes: &[u8], stop: &Stop) -> Result<Self> {
        Self::carried_by(runtime.session_alone(), name, bytes, stop)
    }

    fn carried_by(builder: Result<SessionBuilder, ort::Error>, name: &str, bytes: &[u8], stop: &Stop) -> Result<Self> {
        let path = PathBuf::from(name);
        match builder.and_then(|mut builder| builder.commit_from_memory(bytes)) {
            Ok(session) => Ok(Self { session, path, stop: stop.clone() }),
            Err(error) => Err(Error::Graph { path, reason: one_line(&error.to_string()) }),
        }
    }

    fn built(file: &GraphFile, session: Result<Session, ort::Error>, stop: &Stop) -> Result<Self> {
        let session = session.map_err(|error| failed(file, &error.to_string()))?;
        Ok(Self { session, path: file.path().to_path_buf(), stop: stop.clone() })
    }

    /// Runs the graph on named inputs.
    pub fn run<'s>(&'s mut self, inputs: Vec<(&str, SessionInputValue<'_>)>) -> Result<Outputs<'s>> {
        let (path, stop) = (&self.path, &self.stop);
        if stop.is_set() {
            return Err(Error::Stopped);
        }
        let outputs =
            self.session.run_with_options(inputs, &*stop.options).map_err(|error| failure(path, stop, &error))?;
        Ok(Outputs { outputs, path })
    }

    /// An empty set of bound tensors for this session.
    pub fn binding(&self) -> Result<IoBinding> {
        self.session.create_binding().map_err(|error| self.failure(&error))
    }

    /// Runs the graph on bound tensors.
    pub fn run_bound<'b>(&'b mut self, binding: &'b IoBinding) -> Result<Outputs<'b>> {
        let (path, stop) = (&self.path, &self.stop);
        if stop.is_set() {
            return Err(Error::Stopped);
        }
        let outputs = self
            .session
            .run_binding_with_options(binding, &stop.options)
            .map_err(|error| failure(path, stop, &error))?;
        Ok(Outputs { outputs, path })
    }

    /// The error for logits among which nothing can be chosen.
    pub fn unusable(&self) -> Error {
        Error::Graph {
            path: self.path.clone(),
            reason: "it computed no usable numbers; its weights are damaged or overflow in this precision".into(),
        }
    }

    /// The error for a result that is not what the graph promised.
    pub fn odd(&self, reason: String) -> Error {
        Error::Graph { path: self.path.clone(), reason }
    }

    /// Checks the number of floats that came out.
    pub fn expect(&self, found: usize, wanted: usize) -> Result<()> {
        match found == wanted {
            true => Ok(()),
            false => Err(Error::Graph {
                path: self.path.clone(),
                reason: format!("it gave {found} floats where {wanted} belong; it is not the graph of this model"),
            }),
        }
    }

    /// An error of the runtime about this graph.
    pub fn failure(&self, error: &ort::Error) -> Error {
        failure(&self.path, &self.stop, error)
    }
}

fn failed(file: &GraphFile, reason: &str) -> Error {
    Error::Graph { path: file.path().to_path_buf(), reason: one_line(reason) }
}

fn failure(path: &Path, stop: &Stop, error: &ort::Error) -> Error {
    if stop.is_set() {
        Error::Stopped
    } else {
        Error::Graph { path: path.to_path_buf(), reason: one_line(&error.to_string()) }
    }
}

/// What a run produced.
pub(crate) struct Outputs<'s> {
    outputs: SessionOutputs<'s>,
    path: &'s Path,
}

impl Outputs<'_> {
    /// Output `name` as f32, converted where the graph computes in 16 bits; with its shape.
    pub fn floats(&self, name: &str) -> Result<(Vec<usize>, Vec<f32>)> {
        let value = self.outputs.get(name).ok_or_else(|| Error::Graph {
            path: self.path.to_path_buf(),
            reason: format!("it has no output {name:?}"),
        })?;
        floats(value).map_err(|reason| Error::Graph { path: self.path.to_path_buf(), reason })
    }

    /// Takes output `name` out, as the runtime's own tensor.
    pub fn take(&mut self, name: &str) -> Result<DynValue> {
        self.outputs
            .remove(name)
            .ok_or_else(|| Error::Graph { path: self.path.to_path_buf(), reason: format!("it has no output {name:?}") })
    }
}
