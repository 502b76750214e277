//! `remote.toml`: where an engine is and how long it is waited for.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use crate::engine::Task;

/// The name of the file in the model's folder.
pub const FILE: &str = "remote.toml";

/// A model that another engine serves.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Description {
    /// The address below which `/chat/completions` is, such as `http://192.168.1.5:8080/v1`.
    pub url: String,
    /// What the engine calls the model; its only one if this is not given.
    pub model: Option<String>,
    /// `text` or `vision`.
    #[serde(default)]
    task: Serves,
    /// A file with the key that the engine asks for.
    pub key_file: Option<PathBuf>,
    /// Seconds for a connection.
    #[serde(default = "ten")]
    connect_timeout: u32,
    /// Seconds until the first piece of an answer, and between two.
    #[serde(default = "sixty")]
    answer_timeout: u32,
    /// How often an engine that is busy or away is asked before the first piece has come.
    #[serde(default = "four")]
    pub tries: u32,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Serves {
    #[default]
    Text,
    Vision,
}

fn ten() -> u32 {
    10
}

fn sixty() -> u32 {
    60
}

fn four() -> u32 {
    4
}

impl Description {
    /// Reads that of a folder; `None` where there is none.
    ///
    /// # Errors
    /// A sentence about what is wrong with it.
    pub fn read(folder: &Path) -> Option<Result<Self, String>> {
        let path = folder.join(FILE);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
            Err(error) => return Some(Err(format!("{}: {error}; check that the file may be read", path.display()))),
        };
        let read = toml::from_str::<Self>(&text)
            .map_err(|error| error.to_string().trim().replace('\n', " "))
            .and_then(Self::checked);
        Some(read.map_err(|reason| format!("{}: {reason}; correct the description", path.display())))
    }

    fn checked(mut self) -> Result<Self, String> {
        self.url = self.url.trim_end_matches('/').to_owned();
        let host = ["http://", "https://"].iter().find_map(|scheme| self.url.strip_prefix(scheme));
        match host {
            None | Some("") => Err(format!("url is {:?}, not an address with http:// or https://", self.url)),
            Some(host) if host.split('/').next().is_some_and(|host| host.contains('@')) => {
                Err("url holds a name or password; put the key into key_file".into())
            }
            Some(_) if self.key_file.as_ref().is_some_and(|path| !path.is_absolute()) => {
                Err("key_file is no absolute path".into())
            }
            Some(_) if self.connect_timeout == 0 || self.answer_timeout == 0 || self.tries == 0 => {
                Err("connect_timeout, answer_timeout and tries are at least 1".into())
            }
            Some(_) => Ok(self),
        }
    }

    /// What it can be asked for.
    #[must_use]
    pub fn task(&self) -> Task {
        match self.task {
            Serves::Text => Task::Text,
            Serves::Vision => Task::Vision,
        }
    }

    /// For a connection.
    #[must_use]
    pub fn connect_timeout(&self) -> Duration {
        Duration::from_secs(self.connect_timeout.into())
    }

    /// Until the first piece of an answer, and between two.
    #[must_use]
    pub fn answer_timeout(&self) -> Duration {
        Duration::from_secs(self.answer_timeout.into())
    }
}

/// Why the unit that this process runs in does not let it reach anything, if so. The unit's sandbox would refuse the
/// connection anyway; this says it at once, and with what to do.
#[must_use]
pub fn refused_by_unit() -> Option<String> {
    // systemd gives every invocation of a unit an identity.
    let unit = std::env::var_os("INVOCATION_ID").is_some();
    let allowed = std::env::var_os("EDDY_NETWORK").is_some_and(|word| word == "allowed");
    (unit && !allowed).then(|| {
        "the daemon's unit has no network; put remote.conf, which comes with Eddy, into eddy.service.d/ to allow it, \
         and restart the daemon"
            .to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptions_are_read_and_wrong_ones_named() {
        let folder = tempfile::tempdir().expect("temporary folder");
        assert!(Description::read(folder.path()).is_none());
        let read = |text: &str| {
            std::fs::write(folder.path().join(FILE), text).expect("written");
            Description::read(folder.path()).expect("there")
        };
        let plain = read("url = \"http://localhost:8080/v1/\"").expect("right");
        assert_eq!((plain.url.as_str(), plain.task(), plain.tries), ("http://localhost:8080/v1", Task::Text, 4));
        let full = read("url = \"https://x/v1\"\ntask = \"vision\"\nmodel = \"m\"\nanswer_timeout = 5").expect("right");
        assert_eq!((full.task(), full.answer_timeout()), (Task::Vision, Duration::from_secs(5)));
        for (text, expected) in [
            ("url = \"localhost:8080\"", "not an address"),
            ("url = \"http://me:secret@x/v1\"", "key_file"),
            ("url = \"http://x\"\ntries = 0", "at least 1"),
            ("url = \"http://x\"\nkey_file = \"~/key\"", "absolute"),
            ("url = \"http://x\"\ntask = \"speech\"", "speech"),
            ("url = \"http://x\"\nuri = 1", "uri"),
            ("model = \"m\"", "url"),
        ] {
            let error = read(text).expect_err(text);
            assert!(error.contains(expected) && error.contains(FILE), "{text}: {error}");
        }
    }
}
