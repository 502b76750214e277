//! Hashes: SHA-256 for everything, and git's SHA-1 of blobs, which is all that a hub tells of small files.

use std::fmt::Write as _;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use sha1::Sha1;
use sha2::{Digest, Sha256};

use crate::error::{CHECK_FOLDER, Error, Result};

/// The hash that a hub announces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hash {
    /// Of the content; hexadecimal.
    Sha256(String),
    /// Of git's blob, the content behind a short header; hexadecimal.
    GitSha1(String),
}

impl Hash {
    /// The hash that `etag` is: 64 digits are SHA-256, 40 are git's.
    #[must_use]
    pub fn of_etag(etag: &str) -> Option<Self> {
        let etag = etag.trim_start_matches("W/").trim_matches('"').to_ascii_lowercase();
        let hexadecimal = etag.bytes().all(|byte| byte.is_ascii_hexdigit());
        match etag.len() {
            64 if hexadecimal => Some(Self::Sha256(etag)),
            40 if hexadecimal => Some(Self::GitSha1(etag)),
            _ => None,
        }
    }

    /// The digits, which are also the file's name in the hub's cache.
    #[must_use]
    pub fn digits(&self) -> &str {
        match self {
            Self::Sha256(digits) | Self::GitSha1(digits) => digits,
        }
    }
}

/// Computes both hashes of a file whose length is known.
pub struct Hasher {
    sha256: Sha256,
    git: Sha1,
}

impl std::fmt::Debug for Hasher {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Hasher").finish_non_exhaustive()
    }
}

/// Both hashes of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hashes {
    /// Of the content.
    pub sha256: String,
    /// Of git's blob.
    pub git: String,
}

impl Hashes {
    /// The one of the kind of `announced`.
    pub fn like(&self, announced: &Hash) -> &str {
        match announced {
            Hash::Sha256(_) => &self.sha256,
            Hash::GitSha1(_) => &self.git,
        }
    }
}

impl Hasher {
    /// For a file of `length` bytes.
    #[must_use]
    pub fn new(length: u64) -> Self {
        let mut git = Sha1::new();
        git.update(format!("blob {length}\0"));
        Self { sha256: Sha256::new(), git }
    }

    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.sha256.update(bytes);
        self.git.update(bytes);
    }

    /// The hashes of all bytes.
    #[must_use]
    pub fn finish(self) -> Hashes {
        Hashes { sha256: hexadecimal(&self.sha256.finalize()), git: hexadecimal(&self.git.finalize()) }
    }
}

/// The hashes of a file.
pub fn of_file(path: &Path) -> Result<(u64, Hashes)> {
    let mut file = File::open(path).map_err(Error::io(path, CHECK_FOLDER))?;
    let length = file.metadata().map_err(Error::io(path, CHECK_FOLDER))?.len();
    let mut hasher = Hasher::new(length);
    let mut buffer = vec![0; 1 << 18];
    loop {
        match file.read(&mut buffer).map_err(Error::io(path, CHECK_FOLDER))? {
            0 => return Ok((length, hasher.finish())),
            count => hasher.update(&buffer[..count]),
        }
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_those_of_sha256sum_and_of_git_hash_object() {
        let mut hasher = Hasher::new(6);
        hasher.update(b"hel");
        hasher.update(b"lo\n");
        let hashes = hasher.finish();
        assert_eq!(hashes.sha256, "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03");
        assert_eq!(hashes.git, "ce013625030ba8dba906f756967f9e9ca394464a");
        assert_eq!(Hash::of_etag(&format!("\"{}\"", hashes.git)), Some(Hash::GitSha1(hashes.git)));
        assert_eq!(Hash::of_etag("\"abc\""), None);
    }
}
