//! What can be wrong with a configuration, in sentences that say where and what to write instead.

use std::fmt;
use std::path::PathBuf;

use crate::place::Place;

/// One thing wrong with the configuration.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// A configuration file exists but could not be read, or was named explicitly and does not exist.
    #[error("{}: cannot read this configuration file: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file is not TOML.
    #[error("{place}: not valid TOML: {message}")]
    Syntax {
        /// Where the parser stopped understanding.
        place: Place,
        /// What it expected.
        message: String,
    },
    /// A section or key that does not exist.
    #[error("{place}: there is no setting \"{key}\"{}", hint(suggestion.as_deref()))]
    UnknownKey {
        /// Where it is written.
        place: Place,
        /// The name as it was written, with its section.
        key: String,
        /// The known name nearest to it, if any is near.
        suggestion: Option<String>,
    },
    /// A value of the wrong type, outside the range, or not among the choices.
    #[error("{place}: {key} is {found}: expected {expected}")]
    WrongValue {
        /// Where it is written.
        place: Place,
        /// The key with its section.
        key: String,
        /// The value as it was written.
        found: String,
        /// What fits.
        expected: String,
    },
    /// Two values that are each fine but do not go together.
    #[error("{place}: {key} {message}")]
    Conflict {
        /// Where the later of the two is written.
        place: Place,
        /// The key with its section.
        key: String,
        /// Why the two exclude each other.
        message: String,
    },
    /// An override from the command line without an equals sign.
    #[error("command line: \"{argument}\" sets nothing: write section.key=value")]
    NotAnAssignment {
        /// The argument as it was given.
        argument: String,
    },
    /// The environment names no folder to keep files in.
    #[error(
        "cannot tell where to keep {what}: neither {variable} nor HOME is set to an absolute path; set one of them"
    )]
    NoFolder {
        /// What would be kept there.
        what: &'static str,
        /// The variable that names this folder alone.
        variable: &'static str,
    },
}

fn hint(suggestion: Option<&str>) -> String {
    suggestion
        .map_or_else(|| "; `eddy config show` lists them all".to_owned(), |name| format!("; did you mean \"{name}\"?"))
}

/// Everything wrong with a configuration, in the order of the layers. One line for each problem.
#[derive(Debug)]
pub struct Invalid {
    /// The problems, at least one.
    pub problems: Vec<Problem>,
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            write!(f, "{}{problem}", if index == 0 { "" } else { "\n" })?;
        }
        Ok(())
    }
}

impl std::error::Error for Invalid {}

impl From<Problem> for Invalid {
    fn from(problem: Problem) -> Self {
        Self { problems: vec![problem] }
    }
}
