//! Running the `eddy` binary as a user does.

use std::path::PathBuf;
use std::process::{Command, Output};

/// The binary that `make` built beside this test.
pub fn binary() -> PathBuf {
    built("eddy")
}

/// A binary of the workspace, by its name.
pub fn built(name: &str) -> PathBuf {
    let own = std::env::current_exe().unwrap();
    // Tests lie in a folder of their own, programs do not.
    let folder = own.ancestors().skip(1).find(|folder| !folder.ends_with("deps")).unwrap();
    let built = folder.join(name);
    assert!(built.is_file(), "{} is missing; `cargo build --workspace` builds it", built.display());
    built
}

/// `eddy ARGUMENTS`, with no configuration but the built-in one.
pub fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(binary());
    command.args(arguments).env("XDG_CONFIG_HOME", "/nonexistent").env_remove("EDDY_LOG");
    command
}

/// Runs `eddy ARGUMENTS` to its end.
pub fn eddy(arguments: &[&str]) -> Output {
    command(arguments).output().unwrap()
}

/// Runs `eddy ARGUMENTS`, which has to succeed, and parses what it prints.
pub fn eddy_json(arguments: &[&str]) -> serde_json::Value {
    let output = eddy(arguments);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "eddy {arguments:?}: {}\n{errors}", output.status);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("eddy {arguments:?}: {error}"))
}

/// Runs `eddy ARGUMENTS`, which has to fail with one line on standard error; returns the line.
pub fn eddy_error(arguments: &[&str]) -> String {
    let output = eddy(arguments);
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "eddy {arguments:?}: {}\n{errors}", output.status);
    let lines: Vec<&str> = errors.lines().collect();
    let [line] = lines.as_slice() else { panic!("eddy {arguments:?}: not one line but\n{errors}") };
    assert!(line.starts_with("eddy: "), "{line}");
    assert!(!line.contains("panicked"), "{line}");
    (*line).to_owned()
}
