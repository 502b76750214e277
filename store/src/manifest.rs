//! What a version of a model consists of and where it came from: `eddy-model.json` in its folder.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{CHECK_FOLDER, Error, Result};

/// The file's name.
pub const FILE: &str = "eddy-model.json";

/// One file of a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Piece {
    /// Below the model's folder, with `/`.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// Hexadecimal.
    pub sha256: String,
}

/// A version of a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// `OWNER/NAME` on the hub, or the path that it was imported from.
    pub repository: String,
    /// The commit, where it came from a hub.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// The precisions that it was fetched for; `auto` for what suits a CPU best.
    pub precisions: Vec<String>,
    /// The licence that was accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub license: Option<String>,
    /// Every file.
    pub files: Vec<Piece>,
}

impl Manifest {
    /// Reads that of a folder; `None` where there is none.
    ///
    /// # Errors
    /// [`Error::Malformed`] when it cannot be understood.
    pub fn read(folder: &Path) -> Result<Option<Self>> {
        let path = folder.join(FILE);
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::io(path, CHECK_FOLDER)(error)),
        };
        let read = serde_json::from_slice(&text);
        read.map(Some).map_err(|error| Error::Malformed {
            path,
            reason: format!("not a list of a model's files ({error})"),
            remedy: "remove the model and pull it again",
        })
    }

    /// Writes it into a folder.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn write(&self, folder: &Path) -> Result<()> {
        let path = folder.join(FILE);
        // A structure of texts and numbers is always JSON.
        let text = serde_json::to_vec_pretty(self).unwrap_or_default();
        std::fs::write(&path, text).map_err(Error::io(path, CHECK_FOLDER))
    }

    /// Bytes of all files.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.files.iter().fold(0, |bytes, piece| bytes.saturating_add(piece.size))
    }
}
