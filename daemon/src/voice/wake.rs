//! The enrolled wake word on disk: where it lies, how it is read, written and forgotten.
//!
//! Only what the models made of the phrase is kept, never sound; nobody but its owner may read it.

use std::io::Read;
use std::path::PathBuf;

use anyhow::Context;
use eddy_config::{Config, Paths};
use eddy_models::listening::wake_word::Examples;

use crate::replace::replace;

/// More than any enrolment makes.
const MOST_BYTES: u64 = 8 << 20;
const NAME: &str = "wake-word.json";
const REMEDY: &str = "run `eddy wake enroll` to record it";

/// The file.
///
/// # Errors
/// When no folder of states can be found.
pub fn file(config: &Config) -> Result<PathBuf, String> {
    let paths = Paths::from_environment().map_err(|problem| problem.to_string())?;
    let configured = &config.voice.wake_word_file;
    Ok(if configured.as_os_str().is_empty() { paths.state.join(NAME) } else { paths.expand(configured) })
}

/// What was enrolled.
///
/// # Errors
/// A sentence with the file and the remedy.
pub fn enrolled(config: &Config) -> Result<Examples, String> {
    let path = file(config)?;
    let told = |reason: String| format!("{}: {reason}; {REMEDY}", path.display());
    let file = match std::fs::File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(format!("no wake word is enrolled ({} is missing); {REMEDY}", path.display()));
        }
        Err(error) => return Err(told(error.to_string())),
    };
    let mut text = Vec::new();
    file.take(MOST_BYTES).read_to_end(&mut text).map_err(|error| told(error.to_string()))?;
    let examples: Examples = serde_json::from_slice(&text).map_err(|error| told(error.to_string()))?;
    examples.check().map_err(|error| told(error.to_string()))?;
    Ok(examples)
}

/// Writes it, whole or not at all.
///
/// # Errors
/// Those of the system, with the path.
pub fn keep(config: &Config, examples: &Examples) -> anyhow::Result<PathBuf> {
    let path = file(config).map_err(anyhow::Error::msg)?;
    replace(&path, &serde_json::to_vec(examples)?, 0o600).with_context(|| path.display().to_string())?;
    Ok(path)
}

/// Removes it; says whether there was one.
///
/// # Errors
/// Those of the system, with the path.
pub fn forget(config: &Config) -> anyhow::Result<bool> {
    let path = file(config).map_err(anyhow::Error::msg)?;
    match std::fs::remove_file(&path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(anyhow::anyhow!("{}: {error}", path.display())),
    }
}
