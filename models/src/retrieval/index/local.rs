//! An index in a folder: `passages.sqlite` and one `vectors-N.bin`.
//!
//! A batch is written in this order: vectors to the file, file to the disk, rows to the table, commit. A crash before
//! the commit leaves vectors that nothing refers to; the next batch overwrites them. Room that removed passages leave
//! is taken back by writing the living rows to a file of the next number.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

use super::scan::{Entry, best, quantise};
use super::table::{self, Description, Place, Table};
use super::vector_file::VectorFile;
use super::{Hit, Index, Passage, check, check_width};
use crate::error::{Error, Result};
use crate::retrieval::Vectors;

const TABLE: &str = "passages.sqlite";
const LOCK: &str = "lock";
/// Rows below which taking room back is not worth a copy.
const FEW_ROWS: usize = 4096;

/// What an index is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Searching, also while another process writes.
    Read,
    /// Searching and changing; one process at a time.
    Write,
}

/// An index in a folder on this machine.
#[derive(Debug)]
pub struct LocalIndex {
    folder: PathBuf,
    table: Table,
    description: Description,
    vectors: VectorFile,
    entries: Vec<Entry>,
    /// Held as long as the index may be written to.
    writing: Option<File>,
}

impl LocalIndex {
    /// Makes an empty index for vectors of `width` floats, made by `model`, in a folder that holds none.
    ///
    /// # Errors
    /// [`Error::BadRequest`] when there is one already, [`Error::Io`], [`Error::Store`].
    pub fn create(folder: &Path, width: usize, model: &str) -> Result<Self> {
        if !(1..=1 << 16).contains(&width) {
            return Err(Error::BadRequest(format!("vectors of {width} floats cannot be indexed")));
        }
        let remedy = "check that the folder may be written to";
        std::fs::create_dir_all(folder).map_err(Error::io(folder, remedy))?;
        let lock = locked(folder)?;
        let path = folder.join(TABLE);
        if path.exists() {
            return Err(Error::BadRequest(format!("{}: an index is here already", folder.display())));
        }
        // The table comes last and under another name until it is whole: a folder with a table is an index.
        VectorFile::create(&vectors_path(folder, 0), width)?;
        let unfinished = folder.join("passages.new");
        for leftover in ["passages.new", "passages.new-wal", "passages.new-shm"] {
            // Left by a crash, or not there.
            let _ = std::fs::remove_file(folder.join(leftover));
        }
        drop(Table::create(&unfinished, width, model)?);
        std::fs::rename(&unfinished, &path).map_err(Error::io(&path, remedy))?;
        Self::with_lock(folder, Some(lock))
    }

    /// Opens an index.
    ///
    /// # Errors
    /// [`Error::NotAnIndex`] when there is none, [`Error::InUse`] when another process writes to it and `access` asks
    /// for writing, [`Error::Malformed`] and [`Error::Store`] when it is damaged.
    pub fn open(folder: &Path, access: Access) -> Result<Self> {
        if !folder.join(TABLE).is_file() {
            return Err(Error::NotAnIndex { path: folder.to_path_buf() });
        }
        let lock = match access {
            Access::Read => None,
            Access::Write => Some(locked(folder)?),
        };
        Self::with_lock(folder, lock)
    }

    fn with_lock(folder: &Path, writing: Option<File>) -> Result<Self> {
        let mut table = Table::open(&folder.join(TABLE), writing.is_some())?;
        let (description, entries, vectors) = load(folder, &mut table, writing.is_some())?;
        let index = Self { folder: folder.to_path_buf(), table, description, vectors, entries, writing };
        if index.writing.is_some() {
            index.sweep();
        }
        Ok(index)
    }

    /// Takes in what another process has written since, if it has.
    ///
    /// # Errors
    /// As for [`Self::open`].
    pub fn catch_up(&mut self) -> Result<()> {
        if self.table.was_changed()? { self.refresh() } else { Ok(()) }
    }

    /// Reads the table again.
    ///
    /// # Errors
    /// As for [`Self::open`].
    pub fn refresh(&mut self) -> Result<()> {
        let (description, entries, vectors) = load(&self.folder, &mut self.table, self.writing.is_some())?;
        (self.description, self.entries, self.vectors) = (description, entries, vectors);
        Ok(())
    }

    /// Number of passages.
    #[must_use]
    pub fn passages(&self) -> usize {
        self.entries.len()
    }

    fn check_writing(&self) -> Result<()> {
        match &self.writing {
            Some(_) => Ok(()),
            None => Err(Error::BadRequest(format!("{}: opened for reading", self.folder.display()))),
        }
    }

    /// Copies the living rows to a new file once most rows are dead.
    fn compact(&mut self) -> Result<()> {
        let living: usize = self.entries.iter().map(|entry| entry.count).sum();
        if self.vectors.rows() < FEW_ROWS || living * 2 > self.vectors.rows() {
            return Ok(());
        }
        let (width, generation) = (self.description.width, self.description.generation + 1);
        let mut fresh = VectorFile::create(&vectors_path(&self.folder, generation), width)?;
        let (mut first, mut moved) = (0, Vec::with_capacity(self.entries.len()));
        for entry in &self.entries {
            moved.push(Entry { first, ..*entry });
            first += entry.count;
        }
        let data = self.vectors.data();
        let rows = self.entries.iter().map(|entry| &data[entry.first * width..(entry.first + entry.count) * width]);
        let total = fresh.append_rows(rows)?;
        fresh.count(total)?;
        self.table.change(|change| {
            let mut statement = change.prepare_cached("UPDATE passages SET first = ?2 WHERE key = ?1")?;
            for entry in &moved {
                statement.execute([entry.key, entry.first as i64])?;
            }
            change.execute("UPDATE description SET generation = ?1, rows = ?2", [generation as i64, total as i64])?;
            Ok(())
        })?;
        (self.entries, self.vectors) = (moved, fresh);
        (self.description.generation, self.description.rows) = (generation, total);
        self.sweep();
        Ok(())
    }

    /// Removes vector files that do not count, which a crash or a copy has left.
    fn sweep(&self) {
        let current = vectors_path(&self.folder, self.description.generation);
        for entry in std::fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if name.starts_with("vectors-") && name.ends_with(".bin") && entry.path() != current {
                // What cannot be removed now costs room and nothing else.
                let _ = std::fs::remove_file(entry.path());
            }
        }
    }
}

impl Index for LocalIndex {
    fn width(&self) -> usize {
        self.description.width
    }

    fn model(&self) -> &str {
        &self.description.model
    }

    fn count(&self) -> Result<usize> {
        Ok(self.passages())
    }

    fn bytes(&self) -> Option<u64> {
        Some(self.vectors.bytes() + self.table.bytes().ok()?)
    }

    fn documents(&self) -> Result<Vec<(String, u64)>> {
        self.table.documents()
    }

    fn passages_of(&self, document: &str) -> Result<Vec<Passage>> {
        self.table.passages_of(document)
    }

    fn relocate(&mut self, moved: &[(&str, &Place)]) -> Result<()> {
        self.check_writing()?;
        self.table.change(|change| moved.iter().try_for_each(|(id, place)| table::relocate(change, id, place)))
    }

    fn add(&mut self, passages: &[Passage], vectors: &[Vectors]) -> Result<()> {
        self.check_writing()?;
        check(passages, vectors, self.width(), self.model())?;
        let mut first = self.vectors.rows();
        let rows = self.vectors.append(vectors.iter().map(Vectors::data))?;
        self.table.change(|change| {
            for (passage, vectors) in passages.iter().zip(vectors) {
                table::insert(change, passage, first, vectors.len())?;
                first += vectors.len();
            }
            change.execute("UPDATE description SET rows = ?1", [rows as i64])?;
            Ok(())
        })?;
        self.refresh()?;
        self.compact()
    }

    fn remove(&mut self, ids: &[&str]) -> Result<usize> {
        self.check_writing()?;
        let removed = self.table.change(|change| {
            ids.iter().try_fold(0, |removed, id| Ok(removed + usize::from(table::remove(change, id)?)))
        })?;
        self.refresh()?;
        self.compact()?;
        Ok(removed)
    }

    fn search(&self, query: &Vectors, most: usize) -> Result<Vec<Hit>> {
        check_width(query, self.width(), self.model())?;
        let query: Vec<i16> = quantise(query.data()).collect();
        let found = best(self.vectors.data(), self.description.width, &self.entries, &query, most);
        let mut hits = Vec::with_capacity(found.len());
        for (score, key) in found {
            // A passage that another process has removed meanwhile is no hit.
            if let Some(passage) = self.table.passage(key)? {
                hits.push(Hit { score, passage });
            }
        }
        Ok(hits)
    }
}

fn vectors_path(folder: &Path, generation: u64) -> PathBuf {
    folder.join(format!("vectors-{generation}.bin"))
}

/// The lock that one writer holds; the system gives it back when the process ends, however it ends.
fn locked(folder: &Path) -> Result<File> {
    let path = folder.join(LOCK);
    let remedy = "check that the folder may be written to";
    let file = File::options().create(true).append(true).open(&path).map_err(Error::io(&path, remedy))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::InUse { path: folder.to_path_buf() }),
        Err(TryLockError::Error(error)) => Err(Error::io(&path, remedy)(error)),
    }
}

/// Reads the table and opens the vector file that it names.
fn load(folder: &Path, table: &mut Table, write: bool) -> Result<(Description, Vec<Entry>, VectorFile)> {
    let mut tries = 3;
    loop {
        let (description, entries) = table.read()?;
        let path = vectors_path(folder, description.generation);
        match VectorFile::open(&path, description.width, description.rows, write) {
            Ok(vectors) => return Ok((description, entries, vectors)),
            // A writer has gone on to the next file since the table was read.
            Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound && tries > 0 => tries -= 1,
            Err(error) => return Err(error),
        }
    }
}
