//! The enrolled wake word on disk: where it lies, how it is read, written and forgotten.
//!
//! Only what the models made of the phrase is kept, never sound; nobody but its owner may read it.

use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use eddy_config::{Config, Paths};
use eddy_models::listening::wake_word::Examples;

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
    use anyhow::Context;
    let path = file(config).map_err(anyhow::Error::msg)?;
    let shown = || path.display().to_string();
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).with_context(shown)?;
    }
    let beside = path.with_extension("new");
    let mut options = OpenOptions::new();
    let mut file = match std::fs::remove_file(&beside) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error).with_context(shown),
        _ => options.write(true).create_new(true).mode(0o600).open(&beside).with_context(shown)?,
    };
    file.write_all(&serde_json::to_vec(examples)?).and_then(|()| file.sync_all()).with_context(shown)?;
    std::fs::rename(&beside, &path).with_context(shown)?;
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
