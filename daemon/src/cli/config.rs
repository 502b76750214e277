//! `eddy config`: the configuration, where it comes from, and whether it is right.

use std::process::Command;

use anyhow::Context;
use eddy_config::{Paths, Sources};
use serde_json::{Map, Value, json};

use super::Outcome;
use super::output::Output;

/// Arguments of the verb.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Say whether the configuration is right, and what is wrong with it.
    Check,
    /// Show every value in effect and where it was set.
    Show {
        /// Only what was set somewhere.
        #[arg(long)]
        set: bool,
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Print the path of the user's file.
    Path,
    /// Open the user's file in $EDITOR, and check it afterwards; a new one holds every key with its explanation.
    Edit,
}

/// Runs the verb.
///
/// # Errors
/// One line about what went wrong, or one for each mistake in the configuration.
pub fn run(arguments: Arguments) -> anyhow::Result<Outcome> {
    let paths = Paths::from_environment()?;
    let sources = Sources::standard(&paths);
    match arguments.action {
        Action::Check => check(&sources)?,
        Action::Show { set, json } => show(&sources, set, json)?,
        Action::Path => Output::new(false).line(&paths.user_file().display().to_string())?,
        Action::Edit => edit(&paths, &sources)?,
    }
    Ok(Outcome::Done)
}

fn check(sources: &Sources) -> anyhow::Result<()> {
    let loaded = sources.load()?;
    // What only its user can read is read by its user.
    crate::logs::filter(&loaded.config.log)?;
    let mut output = Output::new(false);
    for file in &loaded.files {
        output.line(&format!("{}: right", file.display()))?;
    }
    if loaded.files.is_empty() {
        output.line("no configuration file; the built-in values hold")?;
    }
    Ok(())
}

fn show(sources: &Sources, set: bool, json: bool) -> anyhow::Result<()> {
    let mut output = Output::new(json);
    let mut fields = Map::new();
    for entry in sources.load()?.show() {
        if set && entry.place == eddy_config::Place::BuiltIn {
            continue;
        }
        output.line(&format!("{} = {}  # {}", entry.key, entry.value, entry.place))?;
        fields.insert(entry.key, json!({ "value": entry.value, "from": entry.place.to_string() }));
    }
    Ok(output.finish(Map::from_iter([("settings".to_owned(), Value::Object(fields))]))?)
}

fn edit(paths: &Paths, sources: &Sources) -> anyhow::Result<()> {
    let file = paths.user_file();
    if !file.exists() {
        std::fs::create_dir_all(&paths.config).with_context(|| paths.config.display().to_string())?;
        std::fs::write(&file, eddy_config::example()).with_context(|| file.display().to_string())?;
    }
    let editor =
        ["VISUAL", "EDITOR"].iter().find_map(|name| std::env::var(name).ok().filter(|value| !value.is_empty()));
    let editor = editor.unwrap_or_else(|| "vi".to_owned());
    // An editor may be named with arguments, as git and others take it.
    let mut words = editor.split_whitespace();
    let program = words.next().unwrap_or("vi");
    let status = Command::new(program).args(words).arg(&file).status();
    let status = status.with_context(|| format!("{program} cannot be run; set EDITOR to an editor that is there"))?;
    anyhow::ensure!(status.success(), "{program} ended with {status}; nothing was checked");
    check(sources)
}
