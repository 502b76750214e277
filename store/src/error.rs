//! The one error type of this crate: what happened, to which model, file or address, and what to do.

use std::path::PathBuf;

/// The result of everything in this crate that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong between a model's name and a folder that can be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A name that is neither in the catalogue nor a repository's.
    #[error(
        "{name}: not in the catalogue{}; `eddy models list --available` shows it, a repository is named OWNER/NAME",
        near.as_ref().map_or_else(String::new, |near| format!(" (did you mean {near}?)"))
    )]
    UnknownModel {
        /// The name that was given.
        name: String,
        /// The nearest name in the catalogue.
        near: Option<String>,
    },
    /// A repository's or revision's name that no hub would give.
    #[error("{given:?} is no {what}: {expected}")]
    BadName {
        /// What it should be.
        what: &'static str,
        /// What was given.
        given: String,
        /// What fits.
        expected: &'static str,
    },
    /// A file that describes models or settings cannot be understood.
    #[error("{path}: {reason}; {remedy}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
        /// What to do.
        remedy: &'static str,
    },
    /// The hub does not have it.
    #[error("{url}: the hub has no such {what}; check the name and the revision")]
    NotOnHub {
        /// What was asked for.
        what: &'static str,
        /// Its address.
        url: String,
    },
    /// The hub wants to know who asks.
    #[error(
        "{url}: the hub refuses access ({status}); accept the model's terms on the hub, and set HF_TOKEN to a token of your account"
    )]
    Refused {
        /// The address.
        url: String,
        /// The HTTP status.
        status: u16,
    },
    /// The hub did not answer, or with something else than was asked for.
    #[error("{url}: {reason}; {remedy}")]
    Hub {
        /// The address.
        url: String,
        /// What happened.
        reason: String,
        /// What to do.
        remedy: &'static str,
    },
    /// Something is not here, and the network may not be used.
    #[error("{what} is not on this machine, and the offline mode is on; unset HF_HUB_OFFLINE, or leave out --offline")]
    Offline {
        /// What is missing.
        what: String,
    },
    /// A repository holds no model that Eddy could use.
    #[error(
        "{repository}: {reason}; choose a repository with *.onnx graphs, such as those of `eddy models list --available`"
    )]
    NoModel {
        /// The repository.
        repository: String,
        /// What is missing.
        reason: String,
    },
    /// A file's length is not the one that was announced.
    #[error("{file}: {found} bytes came and the hub's listing says {expected}; {remedy}")]
    WrongLength {
        /// The file, as the hub names it.
        file: String,
        /// Bytes by the listing.
        expected: u64,
        /// Bytes by the server, or on the disk.
        found: u64,
        /// What to do.
        remedy: &'static str,
    },
    /// A file's content is not the one that was announced.
    #[error(
        "{file}: damaged on the way: its hash is {found} and should be {expected}; it was thrown away, fetch it again"
    )]
    WrongHash {
        /// The file, as the hub names it.
        file: String,
        /// The hash by the listing.
        expected: String,
        /// The hash of what came.
        found: String,
    },
    /// A path that would leave the model's folder.
    #[error("{path:?} in {source_name} leads out of the model's folder; do not use this source")]
    Escapes {
        /// The path as it was given.
        path: String,
        /// The repository or archive.
        source_name: String,
    },
    /// The licence has not been accepted.
    #[error(
        "{repository}: its licence {license} has to be accepted first{}; read it, and give --accept-license",
        link.as_ref().map_or_else(String::new, |link| format!(" ({link})"))
    )]
    LicenseNotAccepted {
        /// The repository.
        repository: String,
        /// The licence's name.
        license: String,
        /// Where it can be read.
        link: Option<String>,
    },
    /// The connection costs money by the byte.
    #[error(
        "this connection is metered and {bytes} bytes are to be fetched; give --metered to fetch them all the same"
    )]
    Metered {
        /// Bytes to fetch.
        bytes: u64,
    },
    /// The disk has no room.
    #[error(
        "{path}: {needed} bytes are needed and {free} are free; make room, or set models.directories to another disk"
    )]
    NoSpace {
        /// The folder.
        path: PathBuf,
        /// Bytes needed.
        needed: u64,
        /// Bytes free.
        free: u64,
    },
    /// A file or folder could not be read or written.
    #[error("{path}: {source}; {remedy}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
        /// What to do.
        remedy: &'static str,
    },
    /// There is no model of this name in the store.
    #[error("{name}: no model of this name was fetched or imported; `eddy models list` shows what there is")]
    NotHere {
        /// The name.
        name: String,
    },
    /// There is only one version.
    #[error("{name}: there is no earlier version to go back to; `eddy models pull` fetches the current one")]
    NoEarlier {
        /// The name.
        name: String,
    },
    /// A folder of this name was put there by somebody else.
    #[error("{path}: {reason}; give --name another name, or move the folder away")]
    InTheWay {
        /// The folder.
        path: PathBuf,
        /// Whose it is.
        reason: String,
    },
    /// What was fetched is no usable model folder.
    #[error(transparent)]
    Model(#[from] eddy_models::Error),
    /// Somebody asked to end it. What was fetched stays for the next time.
    #[error("cancelled; what was fetched stays, and the next pull goes on from there")]
    Cancelled,
}

impl Error {
    /// Wraps an input-output error with the path and the remedy.
    pub(crate) fn io(path: impl Into<PathBuf>, remedy: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source, remedy }
    }
}

/// What to do when a file of the store cannot be read or written.
pub(crate) const CHECK_FOLDER: &str = "check that the folder exists and may be written to";
