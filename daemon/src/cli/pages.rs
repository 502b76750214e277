//! `eddy completions` and `eddy man`: what a package installs beside the binaries, made from the same definitions.

use std::path::PathBuf;

use anyhow::Context;
use clap::CommandFactory;

use super::Outcome;

/// Arguments of `eddy completions`.
#[derive(Debug, clap::Args)]
pub struct Completions {
    /// The shell.
    #[arg(value_enum)]
    shell: clap_complete::Shell,
}

/// Prints the completions of one shell.
///
/// # Errors
/// When standard output is closed.
pub fn completions(arguments: &Completions) -> anyhow::Result<Outcome> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut super::Cli::command(), "eddy", &mut script);
    std::io::Write::write_all(&mut std::io::stdout().lock(), &script)?;
    Ok(Outcome::Done)
}

/// Arguments of `eddy man`.
#[derive(Debug, clap::Args)]
pub struct Man {
    /// Folder for the pages.
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

/// Writes `eddy.1`, a page for each verb, and `eddyd.8`.
///
/// # Errors
/// When they cannot be written.
pub fn man(arguments: &Man) -> anyhow::Result<Outcome> {
    let folder = &arguments.folder;
    let refused = || format!("{}: cannot be written to", folder.display());
    std::fs::create_dir_all(folder).with_context(refused)?;
    clap_mangen::generate_to(super::Cli::command(), folder).with_context(refused)?;
    let mut daemon = Vec::new();
    clap_mangen::Man::new(crate::service::command()).section("8").render(&mut daemon)?;
    std::fs::write(folder.join("eddyd.8"), daemon).with_context(refused)?;
    Ok(Outcome::Done)
}
