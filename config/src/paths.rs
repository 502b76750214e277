//! The folders that Eddy keeps things in.
//!
//! Owns the choice between what systemd gives a unit (`STATE_DIRECTORY` and its like), the XDG base
//! directories, and their defaults under the home folder. Creates nothing.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::error::Problem;
use crate::sections::models::Models;

/// Eddy's own folders, each absolute. They need not exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paths {
    /// The user's configuration.
    pub config: PathBuf,
    /// What has to survive: indexes, the record of permissions.
    pub state: PathBuf,
    /// What was fetched and is large: models.
    pub data: PathBuf,
    /// What can be made again: the runtime library, compiled graphs.
    pub cache: PathBuf,
    /// Sockets. Gone after logout where the system has such a place.
    pub runtime: PathBuf,
    home: Option<PathBuf>,
    shipped: Vec<PathBuf>,
}

impl Paths {
    /// From this process's environment. An error names the variable to set.
    pub fn from_environment() -> Result<Self, Problem> {
        let shipped = std::env::current_exe().map(|binary| shipped(&binary)).unwrap_or_default();
        Ok(Self { shipped, ..Self::resolve(|name| std::env::var_os(name))? })
    }

    /// From any environment.
    pub fn resolve(variable: impl Fn(&str) -> Option<OsString>) -> Result<Self, Problem> {
        // The base directory specification has relative paths ignored, not repaired.
        let absolute = |name: &str| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
        // A unit may have several folders of a kind, separated by colons; the first is Eddy's.
        let unit = |name: &str| {
            let value = variable(name)?.into_string().ok()?;
            Some(PathBuf::from(value.split(':').next()?)).filter(|path| path.is_absolute())
        };
        let home = absolute("HOME");
        let find = |what, of_unit: &'static str, of_user: &'static str, under_home: &str| {
            unit(of_unit)
                .or_else(|| absolute(of_user).map(|base| base.join("eddy")))
                .or_else(|| home.as_ref().map(|home| home.join(under_home).join("eddy")))
                .ok_or(Problem::NoFolder { what, variable: of_user })
        };
        let state = find("state", "STATE_DIRECTORY", "XDG_STATE_HOME", ".local/state")?;
        let cache = find("the cache", "CACHE_DIRECTORY", "XDG_CACHE_HOME", ".cache")?;
        let config = find("the configuration", "CONFIGURATION_DIRECTORY", "XDG_CONFIG_HOME", ".config")?;
        let data = absolute("XDG_DATA_HOME")
            .map(|base| base.join("eddy"))
            .or_else(|| home.as_ref().map(|home| home.join(".local/share/eddy")))
            .unwrap_or_else(|| state.clone());
        let runtime = unit("RUNTIME_DIRECTORY")
            .or_else(|| absolute("XDG_RUNTIME_DIR").map(|base| base.join("eddy")))
            // Not the shared temporary folder, where anybody could have made the name first.
            .unwrap_or_else(|| cache.join("run"));
        Ok(Self { config, state, data, cache, runtime, home, shipped: Vec::new() })
    }

    /// The user's configuration file.
    pub fn user_file(&self) -> PathBuf {
        self.config.join("eddy.toml")
    }

    /// The folders that hold model folders, the first found first.
    pub fn models(&self, settings: &Models) -> Vec<PathBuf> {
        if !settings.directories.is_empty() {
            return settings.directories.iter().map(|path| self.expand(path)).collect();
        }
        let mut found = vec![self.downloads()];
        for base in ["/var/lib/eddy", "/usr/share/eddy"] {
            let path = Path::new(base).join("models");
            if !found.contains(&path) {
                found.push(path);
            }
        }
        // Last: what comes with Eddy serves until there is something better.
        for path in &self.shipped {
            if !found.contains(path) {
                found.push(path.clone());
            }
        }
        found
    }

    /// Folders that may hold what comes with Eddy: model folders, and recorded questions.
    pub fn shipped(&self) -> Vec<PathBuf> {
        self.shipped.clone()
    }

    /// The folder that fetched models go to when the configuration names none.
    pub fn downloads(&self) -> PathBuf {
        self.data.join("models")
    }

    /// The folder that fetched models go to: the first one of the configuration, or [`Self::downloads`].
    pub fn store(&self, settings: &Models) -> PathBuf {
        settings.directories.first().map_or_else(|| self.downloads(), |path| self.expand(path))
    }

    /// The user's additions to the catalogue of models.
    pub fn catalogue(&self) -> PathBuf {
        self.config.join("models.toml")
    }

    /// The folder that holds the indexes.
    pub fn indexes(&self) -> PathBuf {
        self.state.join("indexes")
    }

    /// A path from the configuration with `~/` replaced. Without a home folder it stays as it is, and
    /// opening it fails with its name.
    pub fn expand(&self, path: &Path) -> PathBuf {
        match (&self.home, path.strip_prefix("~")) {
            (Some(home), Ok(rest)) => home.join(rest),
            _ => path.to_path_buf(),
        }
    }
}

/// Where what comes with Eddy lies, by where this program lies: beside its prefix, or in the source tree it was built in.
fn shipped(binary: &Path) -> Vec<PathBuf> {
    let Some(folder) = binary.parent() else { return Vec::new() };
    let prefix = folder.parent().map(|prefix| prefix.join("share/eddy/models"));
    let tree = folder.ancestors().find(|path| path.ends_with("target")).and_then(Path::parent);
    prefix.into_iter().chain(tree.map(|tree| tree.join("models/embedded"))).filter(|path| path.is_dir()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(variables: &[(&str, &str)]) -> Result<Paths, Problem> {
        Paths::resolve(|name| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into()))
    }

    #[test]
    fn defaults_lie_under_the_home_folder() {
        let paths = paths(&[("HOME", "/home/ada")]).expect("a home folder is enough");
        assert_eq!(paths.user_file(), Path::new("/home/ada/.config/eddy/eddy.toml"));
        assert_eq!(paths.state, Path::new("/home/ada/.local/state/eddy"));
        assert_eq!(paths.data, Path::new("/home/ada/.local/share/eddy"));
        assert_eq!(paths.cache, Path::new("/home/ada/.cache/eddy"));
        assert_eq!(paths.runtime, Path::new("/home/ada/.cache/eddy/run"));
        assert_eq!(paths.expand(Path::new("~/models")), Path::new("/home/ada/models"));
        assert_eq!(paths.expand(Path::new("/~/models")), Path::new("/~/models"));
    }

    #[test]
    fn base_directories_come_before_home_and_the_unit_before_both() {
        let paths = paths(&[
            ("HOME", "/home/ada"),
            ("XDG_CONFIG_HOME", "/c"),
            ("XDG_CACHE_HOME", "relative/is/ignored"),
            ("XDG_RUNTIME_DIR", "/run/user/1000"),
            ("STATE_DIRECTORY", "/var/lib/eddy:/var/lib/other"),
        ])
        .expect("complete");
        assert_eq!(paths.config, Path::new("/c/eddy"));
        assert_eq!(paths.cache, Path::new("/home/ada/.cache/eddy"));
        assert_eq!(paths.runtime, Path::new("/run/user/1000/eddy"));
        assert_eq!(paths.state, Path::new("/var/lib/eddy"));
    }

    #[test]
    fn a_system_unit_needs_no_home() {
        let paths = paths(&[
            ("STATE_DIRECTORY", "/var/lib/eddy"),
            ("CACHE_DIRECTORY", "/var/cache/eddy"),
            ("RUNTIME_DIRECTORY", "/run/eddy"),
            ("CONFIGURATION_DIRECTORY", "/etc/eddy"),
        ])
        .expect("the unit gives every folder");
        assert_eq!(paths.downloads(), Path::new("/var/lib/eddy/models"));
        assert_eq!(
            paths.models(&Models::default()),
            [Path::new("/var/lib/eddy/models"), Path::new("/usr/share/eddy/models")]
        );
    }

    #[test]
    fn without_any_folder_the_error_names_the_variable() {
        let problem = paths(&[("HOME", "")]).expect_err("nowhere to go").to_string();
        assert!(problem.contains("XDG_STATE_HOME"), "{problem}");
    }
}
