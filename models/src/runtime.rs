//! Finding and starting ONNX Runtime.
//!
//! Owns the search for the shared library and the process-wide environment, and says what sessions
//! compute with. Promises that a
//! missing or unusable library is an [`Error`], never a panic: the binding would panic on first use of a library that
//! it loads lazily, so the library is always loaded here, by an explicit path.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use ort::environment::Environment;
use ort::session::Session;
use ort::session::builder::SessionBuilder;

use crate::error::{Error, Result};

/// The oldest release with every operator of the published folders (`CausalConvWithState.state_window`), and the
/// one that the binding's API level asks for.
const OLDEST_VERSION: &str = "1.31";
/// The name that the library has in system folders and beside the binary.
const LIBRARY: &str = "libonnxruntime.so";
/// Where distributions put shared libraries.
const SYSTEM_FOLDERS: [&str; 6] = [
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/usr/local/lib",
    "/usr/lib64",
    "/usr/lib",
    "/usr/lib/eddy",
];

/// What the library looks at before it begins to record.
const NO_TELEMETRY: &str = "ORT_DISABLE_TELEMETRY";

/// How ONNX Runtime is started.
#[derive(Debug, Clone)]
pub struct RuntimeOptions {
    /// The library's path from the configuration; searched for when `None`.
    pub library: Option<PathBuf>,
    /// Folder in which set-up unpacks the library, usually `~/.cache/eddy/runtime`.
    pub cache: Option<PathBuf>,
    /// Threads that compute one graph; `None` stands for as many as there are cores that this process may use.
    pub threads: Option<usize>,
    /// How long a thread that has done its part of an operator waits awake for its part of the next one.
    pub spin: Duration,
    /// Keep vocabulary heads and projections that were published in 32-bit floats as they are, instead of storing them
    /// in 8-bit blocks.
    pub keep_heads: bool,
}

impl Default for RuntimeOptions {
    fn default() -> Self {
        Self { library: None, cache: None, threads: None, spin: Duration::from_micros(10), keep_heads: false }
    }
}

/// A started ONNX Runtime: the environment that every session of the process belongs to.
#[derive(Debug, Clone)]
pub struct Runtime {
    environment: Environment,
    library: PathBuf,
    threads: usize,
    spin: Duration,
    keep_heads: bool,
}

impl Runtime {
    /// Finds the library and starts the environment; later calls return the one that was started first, because
    /// ONNX Runtime allows one environment in a process.
    ///
    /// Searched in this order: `options.library`, `ORT_DYLIB_PATH`, beside the running binary, the system's library
    /// folders, `options.cache`.
    ///
    /// # Errors
    /// [`Error::RuntimeMissing`] when there is none, [`Error::RuntimeUnusable`] when it cannot be loaded.
    pub fn start(options: &RuntimeOptions) -> Result<Self> {
        static STARTED: OnceLock<Runtime> = OnceLock::new();
        static STARTING: Mutex<()> = Mutex::new(());

        let _one_at_a_time = STARTING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(runtime) = STARTED.get() {
            return Ok(runtime.clone());
        }
        let library = find_library(options)?;
        let environment = load(&library)?;
        let RuntimeOptions { spin, keep_heads, .. } = *options;
        // The library's own choice would tie each thread to a core, also to one that this process may not use.
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        let threads = options.threads.unwrap_or_else(cores);
        Ok(STARTED.get_or_init(|| Self { environment, library, threads, spin, keep_heads }).clone())
    }

    /// The library that is in use.
    #[must_use]
    pub fn library(&self) -> &Path {
        &self.library
    }

    /// Whether large heads in 32-bit floats stay what they are.
    pub(crate) fn keeps_heads(&self) -> bool {
        self.keep_heads
    }

    /// A session that computes with as many threads as were asked for.
    ///
    /// Every session has threads of its own, because only those can be told how long to stay awake: between the operators
    /// of one run, and no longer. One pool for all would sleep after every operator, or go on spinning after the last.
    pub(crate) fn session(&self) -> ort::Result<SessionBuilder> {
        let builder = self.quiet_session()?.with_intra_threads(self.threads)?;
        if self.spin.is_zero() {
            return Ok(builder.with_intra_op_spinning(false)?);
        }
        let builder = builder
            .with_intra_op_spinning(true)?
            .with_config_entry("session.intra_op.spin_duration_us", self.spin.as_micros().to_string())?;
        Ok(builder.with_config_entry("session.force_spinning_stop", "1")?)
    }

    /// A session that computes on the calling thread alone: for a small graph that has to be done in time, whatever other
    /// threads are busy with.
    pub(crate) fn session_alone(&self) -> ort::Result<SessionBuilder> {
        Ok(self.quiet_session()?.with_intra_threads(1)?)
    }

    fn quiet_session(&self) -> ort::Result<SessionBuilder> {
        Ok(Session::builder(&self.environment)?.with_flush_to_zero()?)
    }
}

/// Switches the library's own reporting off. Microsoft's builds for Linux write an identifier of the machine and a database
/// of events below `~/.cache/Microsoft` as soon as an environment is made, to be sent when there is a network, and asking
/// that environment to stop comes too late. [`Runtime::start`] refuses to load the library before this was called.
///
/// # Safety
/// The process has no other thread yet: one that reads the environment through the C library would race with this.
pub unsafe fn forbid_telemetry() {
    // SAFETY: as promised by the caller.
    unsafe { std::env::set_var(NO_TELEMETRY, "1") };
}

fn load(library: &Path) -> Result<Environment> {
    let unusable = |reason: String| Error::RuntimeUnusable {
        path: library.to_path_buf(),
        reason: one_line(&reason),
        wanted: OLDEST_VERSION,
    };
    if std::env::var_os(NO_TELEMETRY).is_none_or(|value| value != "1") {
        return Err(unusable(format!("it would record what it does; set {NO_TELEMETRY}=1 before it is loaded")));
    }
    let builder = ort::init_from(library).map_err(|error| unusable(error.to_string()))?;
    builder.with_name("eddy").with_telemetry(false).build().map_err(|error| unusable(error.to_string()))
}

fn find_library(options: &RuntimeOptions) -> Result<PathBuf> {
    // A path that somebody chose is used or refused, never replaced by another library.
    for (source, chosen) in [
        ("the configuration", options.library.clone()),
        ("ORT_DYLIB_PATH", std::env::var_os("ORT_DYLIB_PATH").map(PathBuf::from)),
    ] {
        match chosen {
            Some(path) if path.as_os_str().is_empty() => {}
            Some(path) if path.is_file() => return Ok(path),
            Some(path) => {
                return Err(Error::RuntimeMissing { searched: format!("{source}: {}", path.display()) });
            }
            None => {}
        }
    }

    let beside = std::env::current_exe().ok().and_then(|exe| exe.parent().map(Path::to_path_buf));
    let folders: Vec<PathBuf> =
        beside.into_iter().chain(SYSTEM_FOLDERS.map(PathBuf::from)).chain(options.cache.clone()).collect();
    folders.iter().find_map(|folder| library_in(folder)).ok_or_else(|| Error::RuntimeMissing {
        searched: folders.iter().map(|folder| folder.display().to_string()).collect::<Vec<_>>().join(", "),
    })
}

/// The library in `folder`: the plain name, or else the newest `libonnxruntime.so.VERSION`.
fn library_in(folder: &Path) -> Option<PathBuf> {
    let plain = folder.join(LIBRARY);
    if plain.is_file() {
        return Some(plain);
    }
    let versioned = format!("{LIBRARY}.");
    let mut found: Vec<(Vec<u32>, PathBuf)> = std::fs::read_dir(folder)
        .ok()?
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let version = path.file_name()?.to_str()?.strip_prefix(&versioned)?;
            let numbers = version.split('.').map(|part| part.parse().ok()).collect::<Option<Vec<u32>>>()?;
            Some((numbers, path))
        })
        .collect();
    found.sort();
    found.pop().map(|(_, path)| path)
}

/// Folds the loader's several lines into one.
pub(crate) fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_versioned_library_is_taken() {
        let folder = std::env::temp_dir().join(format!("eddy-runtime-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("temporary folder");
        for version in ["1.9.1", "1.32.0", "1.4.0"] {
            std::fs::write(folder.join(format!("{LIBRARY}.{version}")), b"").expect("temporary file");
        }
        assert_eq!(library_in(&folder), Some(folder.join(format!("{LIBRARY}.1.32.0"))));
        std::fs::remove_dir_all(&folder).expect("clean up");
    }

    #[test]
    fn a_chosen_library_that_is_missing_is_an_error() {
        let options = RuntimeOptions { library: Some("/nonexistent/lib.so".into()), ..Default::default() };
        let error = find_library(&options).expect_err("must not fall back");
        assert!(error.to_string().contains("/nonexistent/lib.so"), "{error}");
    }
}
