//! The models on this machine: what there is, whether it is whole, and which version of each is in use.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::digest::of_file;
use crate::error::{CHECK_FOLDER, Error, Result};
use crate::hub::Repository;
use crate::lock::Lock;
use crate::manifest::Manifest;
use crate::versions::{STORE, Versions, drop_folder};

/// A model in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Model {
    /// The name of its folder.
    pub name: String,
    /// Its folder.
    pub path: PathBuf,
    /// The version in use.
    pub version: u32,
    /// The versions that it can go back to.
    pub earlier: Vec<u32>,
    /// What the version in use consists of.
    pub manifest: Manifest,
}

/// Something wrong with a file of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Damage {
    /// It is not there, or cannot be read.
    Missing {
        /// The file.
        path: String,
    },
    /// It has another length than it had.
    Length {
        /// The file.
        path: String,
        /// Bytes that it had.
        expected: u64,
        /// Bytes that it has.
        found: u64,
    },
    /// It has another content than it had.
    Content {
        /// The file.
        path: String,
    },
}

impl std::fmt::Display for Damage {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Missing { path } => write!(out, "{path} is missing"),
            Self::Length { path, expected, found } => write!(out, "{path} has {found} bytes instead of {expected}"),
            Self::Content { path } => write!(out, "{path} has changed since it was verified"),
        }
    }
}

/// The models below one folder.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
}

impl Store {
    /// The store below `root`, which is made when something is put there.
    #[must_use]
    pub fn new(root: PathBuf) -> Self {
        Self { root }
    }

    /// The folder of models.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// All models that were fetched or imported, by name.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Malformed`].
    pub fn models(&self) -> Result<Vec<Model>> {
        self.names()?.iter().filter_map(|name| self.find(name).transpose()).collect()
    }

    /// A model by its name.
    ///
    /// # Errors
    /// [`Error::NotHere`].
    pub fn model(&self, name: &str) -> Result<Model> {
        self.find(name)?.ok_or_else(|| Error::NotHere { name: name.to_owned() })
    }

    fn names(&self) -> Result<BTreeSet<String>> {
        let home = self.root.join(STORE);
        let entries = match std::fs::read_dir(&home) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
            Err(error) => return Err(Error::io(home, CHECK_FOLDER)(error)),
        };
        let folders = entries.flatten().filter(|entry| entry.path().is_dir());
        Ok(folders.filter_map(|entry| entry.file_name().into_string().ok()).collect())
    }

    pub(crate) fn find(&self, name: &str) -> Result<Option<Model>> {
        check_name(name)?;
        let versions = self.versions(name);
        let Some(version) = versions.current() else { return Ok(None) };
        let all = versions.all()?;
        let earlier = all.iter().map(|(number, _)| *number).filter(|number| *number < version).collect();
        let manifest = all.into_iter().find(|(number, _)| *number == version).map(|(_, manifest)| manifest);
        let name = name.to_owned();
        Ok(manifest.map(|manifest| Model { path: versions.link(), name, version, earlier, manifest }))
    }

    pub(crate) fn versions(&self, name: &str) -> Versions {
        Versions::of(&self.root, name)
    }

    /// Compares every file of a model with what it was when it was verified.
    ///
    /// # Errors
    /// [`Error::NotHere`].
    pub fn verify(&self, name: &str) -> Result<Vec<Damage>> {
        let model = self.model(name)?;
        let mut found = Vec::new();
        for piece in &model.manifest.files {
            let path = piece.path.clone();
            match of_file(&model.path.join(&piece.path)) {
                Err(_) => found.push(Damage::Missing { path }),
                Ok((length, _)) if length != piece.size => {
                    found.push(Damage::Length { path, expected: piece.size, found: length });
                }
                Ok((_, hashes)) if hashes.sha256 != piece.sha256 => found.push(Damage::Content { path }),
                Ok(_) => {}
            }
        }
        Ok(found)
    }

    /// Takes a model away with all its versions; the bytes that this sets free.
    ///
    /// # Errors
    /// [`Error::NotHere`], [`Error::Io`].
    pub fn remove(&self, name: &str) -> Result<u64> {
        check_name(name)?;
        let versions = self.versions(name);
        if !versions.home().is_dir() {
            return Err(Error::NotHere { name: name.to_owned() });
        }
        let _lock = self.lock(name, || Ok(()))?;
        // The name first: a model that is half gone has none.
        if versions.check_free().is_ok() {
            let _ = std::fs::remove_file(versions.link());
        }
        drop_folder(&versions.home())
    }

    /// Takes away every version that is not in use and what unfinished pulls left; the bytes that this sets free.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn prune(&self) -> Result<u64> {
        let mut freed = 0;
        for name in self.names()? {
            let _lock = self.lock(&name, || Ok(()))?;
            let versions = self.versions(&name);
            let current = versions.current();
            freed += versions.drop_staging()?;
            for (number, _) in versions.all()?.into_iter().filter(|(number, _)| Some(*number) != current) {
                freed += versions.drop_version(number)?;
            }
        }
        Ok(freed)
    }

    /// Goes back to the version before the one in use.
    ///
    /// # Errors
    /// [`Error::NotHere`], [`Error::NoEarlier`].
    pub fn rollback(&self, name: &str) -> Result<Model> {
        let _lock = match self.model(name) {
            Ok(_) => self.lock(name, || Ok(()))?,
            Err(error) => return Err(error),
        };
        let model = self.model(name)?;
        let Some(before) = model.earlier.last() else { return Err(Error::NoEarlier { name: name.to_owned() }) };
        self.versions(name).switch(*before)?;
        self.model(name)
    }

    /// Waits until nobody else changes the model.
    pub(crate) fn lock(&self, name: &str, waiting: impl FnMut() -> Result<()>) -> Result<Lock> {
        check_name(name)?;
        let home = self.root.join(STORE);
        std::fs::create_dir_all(&home).map_err(Error::io(&home, CHECK_FOLDER))?;
        // Beside the model's folder and not in it, where a removal would take it from under whoever waits.
        Lock::take(&home.join(format!("{name}.lock")), waiting)
    }

    /// Whether a licence has been accepted on this machine.
    #[must_use]
    pub fn accepted(&self, license: &str) -> bool {
        self.licenses().contains(license)
    }

    /// Notes that a licence has been accepted.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn accept(&self, license: &str) -> Result<()> {
        let home = self.root.join(STORE);
        std::fs::create_dir_all(&home).map_err(Error::io(&home, CHECK_FOLDER))?;
        let _lock = Lock::take(&home.join("licenses.lock"), || Ok(()))?;
        let mut accepted = self.licenses();
        accepted.insert(license.to_owned());
        let path = home.join("licenses.json");
        let text = serde_json::to_vec_pretty(&accepted).unwrap_or_default();
        let aside = home.join("licenses.new");
        std::fs::write(&aside, text)
            .and_then(|()| std::fs::rename(&aside, &path))
            .map_err(Error::io(path, CHECK_FOLDER))
    }

    fn licenses(&self) -> BTreeSet<String> {
        let text = std::fs::read(self.root.join(STORE).join("licenses.json")).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    }
}

/// A name for a model's folder: that of a repository.
pub(crate) fn check_name(name: &str) -> Result<()> {
    match Repository::parse(&format!("eddy/{name}")) {
        Ok(repository) if repository.revision == "main" && !name.contains('@') => Ok(()),
        _ => Err(Error::BadName {
            what: "model's name",
            given: name.to_owned(),
            expected: "letters, digits, hyphens, points and underscores, as in LFM2.5-350M-ONNX",
        }),
    }
}
