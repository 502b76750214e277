//! The JSON files of a folder, read leniently: a missing file is an empty one, a damaged file is an error.

use std::io::Read;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::error::{Error, Result};

/// Larger JSON than any published folder has; a tokenizer is read by its own crate.
const MOST_BYTES: u64 = 16 << 20;

/// One JSON file.
#[derive(Debug, Clone)]
pub(crate) struct Json {
    path: PathBuf,
    value: Value,
}

impl Json {
    /// Reads `folder/name`; an absent file gives an empty object.
    pub fn read(folder: &Path, name: &str) -> Result<Self> {
        let path = folder.join(name);
        let malformed = |reason: String| Error::Malformed {
            path: path.clone(),
            reason,
            remedy: "download or export the folder again",
        };
        let remedy = "check that the file may be read";
        match std::fs::metadata(&path) {
            Ok(metadata) if metadata.is_file() => {}
            Ok(_) => return Err(malformed("it is no plain file".into())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Self { value: Value::Object(Default::default()), path });
            }
            Err(error) => return Err(Error::io(&path, remedy)(error)),
        }
        let mut text = Vec::new();
        let file = std::fs::File::open(&path).map_err(Error::io(&path, remedy))?;
        file.take(MOST_BYTES + 1).read_to_end(&mut text).map_err(Error::io(&path, remedy))?;
        if text.len() as u64 > MOST_BYTES {
            return Err(malformed(format!("more than {MOST_BYTES} bytes are too many for a settings file")));
        }
        let value = serde_json::from_slice(&text).map_err(|error| malformed(format!("not JSON ({error})")))?;
        Ok(Self { path, value })
    }

    /// The value at a path of keys, such as `["model", "decoder", "filename"]`.
    pub fn get(&self, keys: &[&str]) -> Option<&Value> {
        keys.iter().try_fold(&self.value, |value, key| value.get(key)).filter(|value| !value.is_null())
    }

    /// The text at a path of keys.
    pub fn text(&self, keys: &[&str]) -> Option<&str> {
        self.get(keys)?.as_str()
    }

    /// The count at a path of keys.
    ///
    /// # Errors
    /// [`Error::Malformed`] when something else than a non-negative integer stands there.
    pub fn count(&self, keys: &[&str]) -> Result<Option<usize>> {
        let Some(value) = self.get(keys) else {
            return Ok(None);
        };
        match value.as_u64().and_then(|value| usize::try_from(value).ok()) {
            Some(count) => Ok(Some(count)),
            None => Err(self.wrong(keys, value, "a whole number")),
        }
    }

    /// The number at a path of keys.
    ///
    /// # Errors
    /// [`Error::Malformed`] when something else than a number stands there.
    pub fn number(&self, keys: &[&str]) -> Result<Option<f64>> {
        let Some(value) = self.get(keys) else {
            return Ok(None);
        };
        match value.as_f64() {
            Some(number) => Ok(Some(number)),
            None => Err(self.wrong(keys, value, "a number")),
        }
    }

    /// The ids at a path of keys, where one number and a list both count.
    ///
    /// # Errors
    /// [`Error::Malformed`] when something else stands there.
    pub fn ids(&self, keys: &[&str]) -> Result<Vec<u32>> {
        let Some(value) = self.get(keys) else {
            return Ok(Vec::new());
        };
        let one = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
        match value {
            Value::Array(values) => values.iter().map(one).collect::<Option<_>>(),
            value => one(value).map(|id| vec![id]),
        }
        .ok_or_else(|| self.wrong(keys, value, "a token id or a list of them"))
    }

    fn wrong(&self, keys: &[&str], value: &Value, expected: &str) -> Error {
        Error::Malformed {
            path: self.path.clone(),
            reason: format!("{} is {value}, not {expected}", keys.join(".")),
            remedy: "correct it, or download the folder again",
        }
    }
}
