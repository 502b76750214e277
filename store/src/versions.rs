//! The versions of one model below `.store/NAME`, and which of them the model's name leads to.
//!
//! A version is a folder with a number that never changes once it has one. The model's name is a symbolic link to one of
//! them, exchanged by a rename, so that whoever opens the name finds one whole version or the other.

use std::path::{Path, PathBuf};

use crate::error::{CHECK_FOLDER, Error, Result};
use crate::manifest::Manifest;

/// Where the versions are, below the folder of models. Hidden, so that they are no models themselves.
pub const STORE: &str = ".store";

/// One model's versions.
#[derive(Debug, Clone)]
pub struct Versions {
    root: PathBuf,
    name: String,
}

impl Versions {
    /// Those of `name` below the folder of models.
    pub fn of(root: &Path, name: &str) -> Self {
        Self { root: root.to_owned(), name: name.to_owned() }
    }

    /// The folder that holds them.
    pub fn home(&self) -> PathBuf {
        self.root.join(STORE).join(&self.name)
    }

    /// What the model is called on the disk.
    pub fn link(&self) -> PathBuf {
        self.root.join(&self.name)
    }

    /// The folder of a version.
    pub fn folder(&self, number: u32) -> PathBuf {
        self.home().join(number.to_string())
    }

    /// The folder that a version grows in.
    pub fn staging(&self, key: &str) -> PathBuf {
        self.home().join(format!("fetching-{key}"))
    }

    /// All of them with their lists of files, the oldest first.
    pub fn all(&self) -> Result<Vec<(u32, Manifest)>> {
        let home = self.home();
        let entries = match std::fs::read_dir(&home) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(Error::io(home, CHECK_FOLDER)(error)),
        };
        let mut found = Vec::new();
        for entry in entries.flatten() {
            let Some(number) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
            if let Some(manifest) = Manifest::read(&entry.path())? {
                found.push((number, manifest));
            }
        }
        found.sort_by_key(|(number, _)| *number);
        Ok(found)
    }

    /// The version that the name leads to.
    pub fn current(&self) -> Option<u32> {
        let target = std::fs::read_link(self.link()).ok()?;
        let number = target.strip_prefix(Path::new(STORE).join(&self.name)).ok()?.to_str()?.parse().ok()?;
        self.folder(number).is_dir().then_some(number)
    }

    /// Refuses a name that is taken by something else.
    pub fn check_free(&self) -> Result<()> {
        let link = self.link();
        let ours = std::fs::read_link(&link).is_ok_and(|target| target.starts_with(Path::new(STORE).join(&self.name)));
        match ours || link.symlink_metadata().is_err() {
            true => Ok(()),
            false => Err(Error::InTheWay { path: link, reason: "it was put there by hand and is left alone".into() }),
        }
    }

    /// Makes the finished folder `staging` a version, and the one that the name leads to.
    pub fn install(&self, staging: &Path) -> Result<u32> {
        // One more than any folder there, whole or not.
        let numbers = std::fs::read_dir(self.home()).into_iter().flatten().flatten();
        let highest = numbers.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok()).max();
        let number = highest.unwrap_or_default() + 1;
        let folder = self.folder(number);
        std::fs::rename(staging, &folder).map_err(Error::io(&folder, CHECK_FOLDER))?;
        self.switch(number)?;
        Ok(number)
    }

    /// Lets the name lead to a version.
    pub fn switch(&self, number: u32) -> Result<()> {
        let aside = self.home().join("link");
        let _ = std::fs::remove_file(&aside);
        let target = Path::new(STORE).join(&self.name).join(number.to_string());
        let link = self.link();
        std::os::unix::fs::symlink(target, &aside).map_err(Error::io(&aside, CHECK_FOLDER))?;
        std::fs::rename(&aside, &link).map_err(Error::io(link, CHECK_FOLDER))?;
        // The names are what a loss of power would take back.
        for folder in [self.home(), self.root.clone()] {
            let _ = std::fs::File::open(folder).and_then(|folder| folder.sync_all());
        }
        Ok(())
    }

    /// Takes a version away; the bytes that were its own.
    pub fn drop_version(&self, number: u32) -> Result<u64> {
        drop_folder(&self.folder(number))
    }

    /// Takes away what unfinished pulls left; the bytes.
    pub fn drop_staging(&self) -> Result<u64> {
        let entries = std::fs::read_dir(self.home()).into_iter().flatten().flatten();
        let staging = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with("fetching-"));
        staging.map(|entry| drop_folder(&entry.path())).sum()
    }
}

/// Removes a folder; the bytes that this sets free.
pub fn drop_folder(folder: &Path) -> Result<u64> {
    let bytes = bytes_of(folder);
    std::fs::remove_dir_all(folder).map_err(Error::io(folder, CHECK_FOLDER))?;
    Ok(bytes)
}

/// Bytes below a folder that no other link holds.
fn bytes_of(folder: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => bytes_of(&entry.path()),
            Ok(metadata) if metadata.nlink() == 1 => metadata.len(),
            Ok(_) | Err(_) => 0,
        })
        .sum()
}
