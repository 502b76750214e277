//! The hub's cache on this machine, in the layout of the hub's own tools:
//! `models--OWNER--NAME/{blobs/HASH, snapshots/COMMIT/PATH → ../../blobs/HASH, refs/REVISION}`.
//!
//! What is there already is not fetched again, and what is fetched is put there too. Both by hard links, so that it
//! takes room once and either side may be cleared without harm to the other; where links cannot be, a file is copied
//! out of the cache and nothing is put in.

use std::path::{Path, PathBuf};

use super::{Listing, Remote, Repository};
use crate::choice::inside;
use crate::digest::{Hash, Hashes, of_file};
use crate::error::Result;

/// A hub's cache.
#[derive(Debug, Clone)]
pub struct Cache {
    root: PathBuf,
}

impl Cache {
    /// The cache in `root`, which exists.
    #[must_use]
    pub fn new(root: PathBuf) -> Self {
        Self { root }
    }

    fn folder(&self, repository: &Repository) -> PathBuf {
        self.root.join(format!("models--{}", repository.id.replace('/', "--")))
    }

    /// Puts a file that the cache has at `place`, if it is what it is called; its hashes.
    pub fn give(&self, repository: &Repository, file: &Remote, place: &Path) -> Option<Hashes> {
        let hash = file.hash.as_ref()?;
        let blob = self.folder(repository).join("blobs").join(hash.digits());
        let (length, hashes) = of_file(&blob).ok()?;
        if length != file.size || hashes.like(hash) != hash.digits() {
            tracing::warn!(blob = %blob.display(), "damaged in the hub's cache; it is fetched instead");
            return None;
        }
        let _ = std::fs::remove_file(place);
        std::fs::hard_link(&blob, place).or_else(|_| std::fs::copy(&blob, place).map(drop)).ok()?;
        Some(hashes)
    }

    /// Takes a file that was fetched, as the hub's tools would have. That it cannot is no failure.
    pub fn take(&self, listing: &Listing, file: &Remote, place: &Path) {
        let folder = self.folder(&listing.repository);
        let Some(hash) = &file.hash else { return };
        let put = || -> std::io::Result<()> {
            let blob = folder.join("blobs").join(hash.digits());
            let pointer = folder.join("snapshots").join(&listing.commit).join(&file.path);
            if blob.exists() && pointer.exists() {
                return Ok(());
            }
            std::fs::create_dir_all(folder.join("blobs"))?;
            if !blob.exists() {
                std::fs::hard_link(place, &blob)?;
            }
            if let Some(parent) = pointer.parent() {
                std::fs::create_dir_all(parent)?;
            }
            let up = "../".repeat(file.path.matches('/').count() + 2);
            std::os::unix::fs::symlink(format!("{up}blobs/{}", hash.digits()), &pointer)
        };
        if let Err(error) = put() {
            tracing::debug!(file = file.path, %error, "not put into the hub's cache");
        }
    }

    /// Notes which commit a revision means.
    pub fn note(&self, listing: &Listing) {
        let name = self.folder(&listing.repository).join("refs").join(&listing.repository.revision);
        let write = || -> std::io::Result<()> {
            if let Some(parent) = name.parent() {
                std::fs::create_dir_all(parent)?;
            }
            std::fs::write(&name, &listing.commit)
        };
        if listing.repository.revision != listing.commit
            && let Err(error) = write()
        {
            tracing::debug!(%error, "revision not noted in the hub's cache");
        }
    }

    /// What the cache has of a repository.
    #[must_use]
    pub fn listing(&self, repository: &Repository) -> Option<Listing> {
        let folder = self.folder(repository);
        let noted = std::fs::read_to_string(folder.join("refs").join(&repository.revision)).ok();
        let commit = noted.map_or_else(|| repository.revision.clone(), |commit| commit.trim().to_owned());
        inside(&commit, &repository.id).ok()?;
        let snapshot = folder.join("snapshots").join(&commit);
        let mut files = Vec::new();
        gather(&snapshot, "", &mut files).ok()?;
        (!files.is_empty()).then(|| Listing {
            repository: repository.clone(),
            commit,
            files,
            license: None,
            license_link: None,
        })
    }
}

/// The files below a snapshot; the blob that each points to is called by its hash.
fn gather(folder: &Path, before: &str, files: &mut Vec<Remote>) -> Result<(), std::io::Error> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let path = format!("{before}{}", entry.file_name().to_string_lossy());
        if entry.path().is_dir() && !entry.path().is_symlink() {
            gather(&entry.path(), &format!("{path}/"), files)?;
            continue;
        }
        let (Ok(blob), Ok(metadata)) = (std::fs::canonicalize(entry.path()), std::fs::metadata(entry.path())) else {
            continue;
        };
        let hash = blob.file_name().and_then(|name| Hash::of_etag(&name.to_string_lossy()));
        files.push(Remote { path, size: metadata.len(), hash });
    }
    Ok(())
}
