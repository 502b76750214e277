//! Lays the layers over each other and remembers which one each value came from.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use crate::config::{Config, Entry};
use crate::error::{Invalid, Problem};
use crate::paths::Paths;
use crate::place::{Place, Value, parse_file, parse_value};

/// The administrator's file.
const SYSTEM_FILE: &str = "/etc/eddy/eddy.toml";

/// Where the layers come from. Empty by default, so that tests see the built-in values alone.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// Files from the weakest to the strongest. One that does not exist is skipped.
    pub files: Vec<PathBuf>,
    /// A file that takes the place of all of the above and has to exist.
    pub only: Option<PathBuf>,
    /// The environment's variables. Those without `EDDY_` in front and `__` inside are none of ours,
    /// except `EDDY_LOG`, which is `log.filter`.
    pub environment: Vec<(String, String)>,
    /// Overrides from the command line, each `section.key=value`.
    pub overrides: Vec<String>,
}

impl Sources {
    /// What a daemon or a command reads: the system's file, the user's, and this process's environment.
    /// Variables that are not UTF-8 cannot be ours and are left out.
    pub fn standard(paths: &Paths) -> Self {
        let mut files = vec![PathBuf::from(SYSTEM_FILE), paths.user_file()];
        // The system's unit has /etc/eddy for its own configuration folder.
        files.dedup();
        Self {
            files,
            only: None,
            environment: std::env::vars_os()
                .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
                .collect(),
            overrides: Vec::new(),
        }
    }

    /// Reads and checks every layer. The error holds every problem found, not the first alone.
    pub fn load(&self) -> Result<Loaded, Invalid> {
        let mut config = Config::default();
        let mut set = Vec::new();
        let mut problems = Vec::new();
        let mut files = Vec::new();

        let candidates = match &self.only {
            Some(path) => vec![(path, true)],
            None => self.files.iter().map(|path| (path, false)).collect(),
        };
        for (path, required) in candidates {
            match read(path, required) {
                Ok(None) => {}
                Ok(Some(text)) => {
                    files.push(path.clone());
                    match parse_file(path, &text) {
                        Ok(sections) => problems.extend(config.absorb(&sections, &mut set)),
                        Err(syntax) => problems.extend(syntax),
                    }
                }
                Err(problem) => problems.push(problem),
            }
        }
        problems.extend(self.apply_environment(&mut config, &mut set));
        problems.extend(self.apply_overrides(&mut config, &mut set));

        let loaded = Loaded { config, files, places: set.into_iter().collect() };
        if problems.is_empty() {
            // Only then: a value that was refused would show up again as a conflict with its default.
            problems.extend(loaded.config.conflicts().into_iter().map(|(key, message)| Problem::Conflict {
                place: loaded.origin(key),
                key: key.to_owned(),
                message,
            }));
        }
        if problems.is_empty() { Ok(loaded) } else { Err(Invalid { problems }) }
    }

    fn apply_environment(&self, config: &mut Config, set: &mut Vec<(String, Place)>) -> Vec<Problem> {
        // Sorted, because the environment's order means nothing and reports should not change with it.
        let mut variables: Vec<_> = self.environment.iter().collect();
        variables.sort();
        let mut problems = Vec::new();
        for (variable, text) in variables {
            let key = match variable.strip_prefix("EDDY_") {
                Some("LOG") => "LOG__FILTER",
                Some(key) => key,
                None => continue,
            };
            let Some((section, name)) = key.split_once("__") else {
                continue;
            };
            let place = Place::Environment(variable.clone());
            problems.extend(assign(config, &section.to_lowercase(), &name.to_lowercase(), text, &place, set));
        }
        problems
    }

    fn apply_overrides(&self, config: &mut Config, set: &mut Vec<(String, Place)>) -> Vec<Problem> {
        let mut problems = Vec::new();
        for argument in &self.overrides {
            let Some((key, text)) = argument.split_once('=') else {
                problems.push(Problem::NotAnAssignment { argument: argument.clone() });
                continue;
            };
            let place = Place::CommandLine(argument.clone());
            let (section, name) = key.trim().split_once('.').unwrap_or((key.trim(), ""));
            problems.extend(assign(config, section, name, text.trim(), &place, set));
        }
        problems
    }
}

/// Sets a key from bare text. Text that reads as a number or a flag is tried as that first and as plain
/// text second, because a shell user writes `3` for a device called "3" too.
fn assign(
    config: &mut Config,
    section: &str,
    name: &str,
    text: &str,
    place: &Place,
    set: &mut Vec<(String, Place)>,
) -> Vec<Problem> {
    let node = parse_value(text, place);
    let problems = config.set(section, name, place, &node, set);
    if problems.is_empty() || matches!(node.value, Value::Text(_) | Value::Table(_)) {
        return problems;
    }
    let plain = crate::place::Node { value: Value::Text(text.to_owned()), place: place.clone() };
    if config.set(section, name, place, &plain, set).is_empty() { Vec::new() } else { problems }
}

fn read(path: &Path, required: bool) -> Result<Option<String>, Problem> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound && !required => Ok(None),
        Err(source) => Err(Problem::Unreadable { path: path.to_path_buf(), source }),
    }
}

/// A configuration that was read and found right.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The values in effect.
    pub config: Config,
    /// The files that exist and were read, the weakest first.
    pub files: Vec<PathBuf>,
    places: BTreeMap<String, Place>,
}

impl Loaded {
    /// Who set a key (`voice.barge_in`). Built in for keys that nobody set, known or not.
    pub fn origin(&self, key: &str) -> Place {
        self.places.get(key).cloned().unwrap_or(Place::BuiltIn)
    }

    /// Every value in effect with its origin, in the order of the example file.
    pub fn show(&self) -> Vec<Entry> {
        self.config.entries().into_iter().map(|(key, value)| Entry { place: self.origin(&key), key, value }).collect()
    }
}
