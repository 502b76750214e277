//! Archives of model folders: `.tar`, `.tar.gz` and `.zip`, told apart by how they begin.
//!
//! Only what a model consists of is unpacked. Links, devices, and paths that lead out of the archive end it, and so does
//! a file that is longer than the archive says.

use std::fs::File;
use std::io::{BufReader, Read, Seek, Write};
use std::path::{Path, PathBuf};

use zip::ZipArchive;

use crate::choice::inside;
use crate::error::{CHECK_FOLDER, Error, Result};
use crate::import::belongs;
use crate::space;
use crate::versions::drop_folder;

/// How the names of archives end.
pub(crate) const ENDINGS: [&str; 4] = [".tar.gz", ".tgz", ".tar", ".zip"];

/// An archive of more files than this is no model.
const MOST_FILES: usize = 100_000;
/// Bytes that are unpacked at a time.
const PIECE: usize = 1 << 20;

/// Unpacks `archive` into `staging`, which is made.
///
/// # Errors
/// [`Error::Malformed`] for what is no archive of a model, [`Error::Escapes`], [`Error::NoSpace`], [`Error::Io`].
pub(crate) fn unpack(archive: &Path, staging: &Path) -> Result<()> {
    let unreadable = || Error::io(archive, "check that the file may be read");
    let mut file = BufReader::new(File::open(archive).map_err(unreadable())?);
    let mut magic = [0; 4];
    let read = file.read(&mut magic).and_then(|_| file.rewind());
    read.map_err(unreadable())?;
    std::fs::create_dir_all(staging).map_err(Error::io(staging, CHECK_FOLDER))?;
    let mut unpacking = Unpacking { archive, staging, seen: 0, taken: 0 };
    match magic {
        [0x1f, 0x8b, ..] => unpacking.tar(flate2::read::MultiGzDecoder::new(file))?,
        [b'P', b'K', ..] => unpacking.zip(file)?,
        _ => unpacking.tar(file)?,
    }
    if unpacking.taken == 0 {
        return Err(unpacking.malformed("it holds no file of a model".into()));
    }
    while lift(staging)? {}
    Ok(())
}

/// What an entry of an archive is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    File,
    Folder,
    /// A link or a device.
    Special,
}

struct Unpacking<'a> {
    archive: &'a Path,
    staging: &'a Path,
    /// Entries that were looked at, and those that were unpacked.
    seen: usize,
    taken: usize,
}

impl Unpacking<'_> {
    fn tar(&mut self, source: impl Read) -> Result<()> {
        let mut reader = tar::Archive::new(source);
        let entries = reader.entries().map_err(|error| self.malformed(format!("no archive ({})", brief(&error))))?;
        for entry in entries {
            let entry = entry.map_err(|error| self.malformed(format!("cannot be read ({})", brief(&error))))?;
            let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            let kind = match entry.header().entry_type() {
                tar::EntryType::Directory | tar::EntryType::XGlobalHeader | tar::EntryType::XHeader => Kind::Folder,
                kind if kind.is_file() => Kind::File,
                _ => Kind::Special,
            };
            let size = entry.size();
            self.take(&path, kind, size, entry)?;
        }
        Ok(())
    }

    fn zip(&mut self, source: impl Read + Seek) -> Result<()> {
        let mut reader =
            ZipArchive::new(source).map_err(|error| self.malformed(format!("cannot be read ({})", brief(&error))))?;
        // What it says of itself; each file is held to it.
        let bytes = reader.decompressed_size().and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or_default();
        space::check(self.staging, bytes)?;
        for index in 0..reader.len() {
            let entry = reader
                .by_index(index)
                .map_err(|error| self.malformed(format!("cannot be read ({})", brief(&error))))?;
            let path = String::from_utf8_lossy(entry.name_raw()).into_owned();
            let kind = match (entry.is_dir(), entry.is_symlink()) {
                (true, _) => Kind::Folder,
                (false, true) => Kind::Special,
                (false, false) => Kind::File,
            };
            let size = entry.size();
            self.take(&path, kind, size, entry)?;
        }
        Ok(())
    }

    /// Writes one entry, if a model needs it.
    fn take(&mut self, path: &str, kind: Kind, size: u64, content: impl Read) -> Result<()> {
        let path = path.strip_prefix("./").unwrap_or(path);
        self.seen += 1;
        if self.seen > MOST_FILES {
            return Err(self.malformed(format!("it holds more than {MOST_FILES} files")));
        }
        if kind == Kind::Folder {
            return Ok(());
        }
        inside(path, &self.archive.display().to_string())?;
        if kind == Kind::Special {
            let source_name = format!("{} (a link or a device)", self.archive.display());
            return Err(Error::Escapes { path: path.to_owned(), source_name });
        }
        // What other systems note beside files has names like theirs.
        let noted = |part: &str| part.starts_with('.') || part == "__MACOSX";
        // Archives usually hold one folder with the model in it.
        let model = path.match_indices('/').map(|(at, _)| &path[at + 1..]).chain([path]).any(belongs);
        if path.split('/').any(noted) || !model {
            return Ok(());
        }
        space::check(self.staging, size)?;
        let place = self.staging.join(path);
        if let Some(parent) = place.parent() {
            std::fs::create_dir_all(parent).map_err(Error::io(parent, CHECK_FOLDER))?;
        }
        let mut out = File::create(&place).map_err(|_| self.malformed(format!("it holds {path} twice")))?;
        // What is packed may be far more than the room that was checked for.
        let (mut content, mut left, mut piece) = (content.take(size.saturating_add(1)), size, vec![0; PIECE]);
        loop {
            let read =
                content.read(&mut piece).map_err(|error| self.malformed(format!("{path}: {}", brief(&error))))?;
            let Some(after) = left.checked_sub(read as u64) else { return Err(self.wrong_length(path)) };
            if read == 0 {
                break;
            }
            left = after;
            out.write_all(&piece[..read]).map_err(Error::io(&place, "make room on the disk"))?;
        }
        if left > 0 {
            return Err(self.wrong_length(path));
        }
        self.taken += 1;
        Ok(())
    }

    fn wrong_length(&self, path: &str) -> Error {
        self.malformed(format!("{path} has another length than it says"))
    }

    fn malformed(&self, reason: String) -> Error {
        Error::Malformed {
            path: self.archive.to_path_buf(),
            reason,
            remedy: "give a .tar, .tar.gz or .zip of a model folder, without a password, or the folder itself",
        }
    }
}

/// The first line of an error, which may hold what was read.
fn brief(error: &impl std::fmt::Display) -> String {
    error.to_string().lines().next().unwrap_or_default().chars().take(200).collect()
}

/// Takes the contents of a single folder up by one, in place of what lies beside it; whether there was one that is not the
/// model's own.
fn lift(staging: &Path) -> Result<bool> {
    let entries: Vec<PathBuf> = std::fs::read_dir(staging)
        .map_err(Error::io(staging, CHECK_FOLDER))?
        .flatten()
        .map(|entry| entry.path())
        .collect();
    let (folders, files): (Vec<_>, Vec<_>) = entries.into_iter().partition(|path| path.is_dir());
    let [only] = folders.as_slice() else { return Ok(false) };
    let own = |path: &PathBuf| path.ends_with("config.json") || path.extension().is_some_and(|ending| ending == "onnx");
    if only.ends_with("onnx") || files.iter().any(own) {
        return Ok(false);
    }
    let aside = staging.with_extension("lifted");
    if aside.exists() {
        // Left by an import that was ended in between.
        drop_folder(&aside)?;
    }
    std::fs::rename(only, &aside).map_err(Error::io(staging, CHECK_FOLDER))?;
    drop_folder(staging)?;
    std::fs::rename(&aside, staging).map_err(Error::io(staging, CHECK_FOLDER))?;
    Ok(true)
}
