//! The file of vectors: a header, then rows of fixed-point numbers that are only ever appended.
//!
//! How many rows count is not written in it: the table says so, and what a crash left behind the last of them is
//! overwritten by the next batch.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use memmap2::{Mmap, MmapOptions};

use super::scan::quantise;
use crate::error::{Error, Result};

const MAGIC: &[u8; 8] = b"eddyvec1";
/// The magic and the width; rows begin aligned to whatever reads them.
const HEADER: usize = 64;
const CHECK_DISK: &str = "check that the disk has room and the folder may be written to";

#[derive(Debug)]
pub(super) struct VectorFile {
    path: PathBuf,
    file: File,
    width: usize,
    rows: usize,
    map: Mmap,
}

impl VectorFile {
    /// Writes an empty file.
    pub fn create(path: &Path, width: usize) -> Result<Self> {
        let mut header = [0; HEADER];
        header[..8].copy_from_slice(MAGIC);
        header[8..12].copy_from_slice(&(width as u32).to_le_bytes());
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(true).open(path);
        let file = file.map_err(Error::io(path, CHECK_DISK))?;
        file.write_all_at(&header, 0).and_then(|()| file.sync_all()).map_err(Error::io(path, CHECK_DISK))?;
        drop(file);
        Self::open(path, width, 0, true)
    }

    /// Opens a file of which `rows` rows count.
    pub fn open(path: &Path, width: usize, rows: usize, write: bool) -> Result<Self> {
        let remedy = "remove the index and add its documents again";
        let malformed = |reason: String| Error::Malformed { path: path.to_path_buf(), reason, remedy };
        let file = OpenOptions::new().read(true).write(write).open(path).map_err(Error::io(path, remedy))?;
        let mut header = [0; HEADER];
        file.read_exact_at(&mut header, 0).map_err(|_| malformed("cut off: it has no whole header".into()))?;
        let found = u32::from_le_bytes([header[8], header[9], header[10], header[11]]) as usize;
        if &header[..8] != MAGIC || found != width || width == 0 {
            return Err(malformed(format!("it is no file of vectors of {width} numbers")));
        }
        let map = Self::map(path, &file, width, rows)?;
        Ok(Self { path: path.to_path_buf(), file, width, rows, map })
    }

    fn map(path: &Path, file: &File, width: usize, rows: usize) -> Result<Mmap> {
        let remedy = "remove the index and add its documents again";
        let needed = rows.checked_mul(width * 2).and_then(|bytes| bytes.checked_add(HEADER));
        let size = file.metadata().map_err(Error::io(path, remedy))?.len();
        let Some(needed) = needed.filter(|needed| *needed as u64 <= size) else {
            return Err(Error::Malformed {
                path: path.to_path_buf(),
                reason: format!("cut off: {size} bytes, and its table counts {rows} vectors of {width} numbers"),
                remedy,
            });
        };
        // SAFETY: the map is only read, over bytes that are never written again and never cut off: rows are appended
        // behind those that count, and a file that gets smaller is a new file under another name.
        unsafe { MmapOptions::new().len(needed).map(file) }.map_err(Error::io(path, remedy))
    }

    /// Rows that count.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Bytes of the rows that count.
    pub fn bytes(&self) -> u64 {
        self.map.len() as u64
    }

    /// All rows, one after the other.
    pub fn data(&self) -> &[i16] {
        // SAFETY: any two bytes are an i16, and the file's byte order is that of every machine this runs on.
        let (before, data, _) = unsafe { self.map[HEADER..].align_to::<i16>() };
        debug_assert!(before.is_empty() && cfg!(target_endian = "little"));
        data
    }

    /// Writes rows behind those that count and waits until they are on the disk. They count from the next
    /// [`Self::count`] on.
    pub fn append<'a>(&self, vectors: impl Iterator<Item = &'a [f32]>) -> Result<usize> {
        let bytes: Vec<u8> = vectors.flat_map(|data| quantise(data).flat_map(i16::to_le_bytes)).collect();
        self.write(&bytes)?;
        Ok(self.rows + bytes.len() / 2 / self.width)
    }

    /// Appends rows of another file of the same width.
    pub fn append_rows<'a>(&self, rows: impl Iterator<Item = &'a [i16]>) -> Result<usize> {
        let bytes: Vec<u8> = rows.flat_map(|row| row.iter().flat_map(|value| value.to_le_bytes())).collect();
        self.write(&bytes)?;
        Ok(self.rows + bytes.len() / 2 / self.width)
    }

    fn write(&self, bytes: &[u8]) -> Result<()> {
        let end = HEADER + self.rows * self.width * 2;
        self.file
            .write_all_at(bytes, end as u64)
            .and_then(|()| self.file.sync_data())
            .map_err(Error::io(&self.path, CHECK_DISK))
    }

    /// Lets `rows` rows count.
    pub fn count(&mut self, rows: usize) -> Result<()> {
        self.map = Self::map(&self.path, &self.file, self.width, rows)?;
        self.rows = rows;
        Ok(())
    }
}
