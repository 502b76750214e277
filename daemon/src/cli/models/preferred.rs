//! `eddy models use`: which model serves a task, written into the user's configuration.
//!
//! One line of the file is changed and everything else stays as the person wrote it. The result is read again as the
//! daemon will read it; what it does not accept is put back.

use std::path::Path;

use anyhow::Context;
use eddy_config::{Paths, Sources};
use eddy_models::folder::Wanted;

use super::super::Outcome;
use super::super::daemon::BusArguments;
use super::super::output::Output;
use super::tell_daemon;
use crate::engine::{Task, catalog};
use crate::replace::replace;

/// Arguments of the verb.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The model's name.
    name: String,
    /// What it is to serve [default: what it can do].
    #[arg(long = "for", value_enum)]
    task: Option<Serves>,
}

/// A task as it is named in the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Serves {
    Speech,
    Text,
    Vision,
    Retrieval,
}

impl Serves {
    fn key(self) -> &'static str {
        match self {
            Self::Speech => "speech",
            Self::Text => "text",
            Self::Vision => "vision",
            Self::Retrieval => "retrieval",
        }
    }

    fn task(self) -> Task {
        match self {
            Self::Speech => Task::Speech,
            Self::Text => Task::Text,
            Self::Vision => Task::Vision,
            Self::Retrieval => Task::Retrieval,
        }
    }

    fn of(task: Task) -> Self {
        match task {
            Task::Speech => Self::Speech,
            Task::Text => Self::Text,
            Task::Vision => Self::Vision,
            Task::Retrieval => Self::Retrieval,
        }
    }
}

/// Runs the verb.
///
/// # Errors
/// When there is no such model, it is for something else, or the file cannot be written.
pub fn run(arguments: &Arguments, bus: &BusArguments) -> anyhow::Result<Outcome> {
    let paths = Paths::from_environment()?;
    let sources = Sources::standard(&paths);
    let config = sources.load()?.config;
    let name = &arguments.name;
    let found = catalog::scan(&paths.models(&config.models), Wanted::Auto).into_iter().find(|f| f.name == *name);
    let folder = found.with_context(|| format!("{name}: there is no such model; `eddy models list` shows them"))?;
    let task = folder.task.with_context(|| {
        format!("{name}: cannot be used: {}", folder.problem.clone().unwrap_or_else(|| "no known model".into()))
    })?;
    let serves = arguments.task.unwrap_or_else(|| Serves::of(task));
    anyhow::ensure!(serves.task() == task, "{name}: it is for {} and cannot do {}", task.name(), serves.task().name());
    let key = serves.key();
    edit_setting(&paths, "models", key, &format!("\"{name}\""))?;
    tell_daemon(bus);
    Output::new(false).line(&format!("models.{key} = \"{name}\" in {}", paths.user_file().display()))?;
    Ok(Outcome::Done)
}

/// Writes `key = literal` into a section of the user's configuration, and takes it back if that does not hold then.
///
/// # Errors
/// When the file cannot be written, the value is not accepted, or another layer sets it too.
pub fn edit_setting(paths: &Paths, section: &str, key: &str, literal: &str) -> anyhow::Result<()> {
    let file = paths.user_file();
    let before = match std::fs::read_to_string(&file) {
        Ok(text) => Some(text),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => return Err(error).with_context(|| file.display().to_string()),
    };
    write(&file, &with_setting(before.as_deref().unwrap_or_default(), section, key, literal))?;
    let full = format!("{section}.{key}");
    let loaded = Sources::standard(paths).load();
    let holds = loaded
        .as_ref()
        .is_ok_and(|loaded| loaded.show().into_iter().any(|entry| entry.key == full && entry.value == literal));
    if holds {
        return Ok(());
    }
    match before {
        Some(before) => write(&file, &before)?,
        None => std::fs::remove_file(&file)?,
    }
    loaded?;
    anyhow::bail!("{full} is set elsewhere too; `eddy config show` says where, set it there");
}

fn write(file: &Path, text: &str) -> anyhow::Result<()> {
    replace(file, text.as_bytes(), 0o666).with_context(|| format!("{}: cannot be written", file.display()))
}

/// `text` with `key = literal` in its `[section]`.
fn with_setting(text: &str, section: &str, key: &str, literal: &str) -> String {
    let (setting, header) = (format!("{key} = {literal}"), format!("[{section}]"));
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let place = lines.iter().position(|line| line.trim() == header);
    let Some(place) = place else {
        if lines.last().is_some_and(|line| !line.trim().is_empty()) {
            lines.push(String::new());
        }
        lines.extend([header, setting]);
        return lines.join("\n") + "\n";
    };
    let sets = |line: &&String| line.split_once('=').is_some_and(|(name, _)| name.trim() == key);
    let end = lines[place + 1..].iter().position(|line| line.trim_start().starts_with('['));
    let end = end.map_or(lines.len(), |at| place + 1 + at);
    match lines[place + 1..end].iter().position(|line| sets(&line)) {
        Some(at) => lines[place + 1 + at] = setting,
        None => lines.insert(place + 1, setting),
    }
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_changes_and_the_rest_stays() {
        assert_eq!(with_setting("", "models", "text", "\"a\""), "[models]\ntext = \"a\"\n");
        let file = "# mine\n[models]\n# text = \"x\"\ntext=\"old\" # why\nspeech = \"s\"\n[voice]\ntext = 1\n";
        let expected = "# mine\n[models]\n# text = \"x\"\ntext = \"a\"\nspeech = \"s\"\n[voice]\ntext = 1\n";
        assert_eq!(with_setting(file, "models", "text", "\"a\""), expected);
        assert_eq!(
            with_setting("[voice]\nx = 1", "models", "text", "\"a\""),
            "[voice]\nx = 1\n\n[models]\ntext = \"a\"\n"
        );
        assert_eq!(with_setting("[models]\n[voice]\n", "models", "text", "\"a\""), "[models]\ntext = \"a\"\n[voice]\n");
    }
}
