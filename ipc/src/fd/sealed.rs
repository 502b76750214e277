//! Memory files whose contents can no longer change.
//!
//! The seals are what makes a caller's file safe to read twice: without them, a length that was
//! checked can shrink before it is read, and a header can change after it was believed.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, fstat, memfd_create};

use crate::error::{Error, Result};

/// What a file may no longer do before Eddy reads it.
const NEEDED: SealFlags = SealFlags::SHRINK.union(SealFlags::GROW).union(SealFlags::WRITE);

/// A sealed memory file with these bytes, to be passed to a method. `name` shows in `/proc` alone.
pub fn seal(name: &str, bytes: &[u8]) -> io::Result<OwnedFd> {
    let fd = memfd_create(name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    let mut file = File::from(fd);
    file.write_all(bytes)?;
    let fd = OwnedFd::from(file);
    fcntl_add_seals(&fd, NEEDED | SealFlags::SEAL)?;
    Ok(fd)
}

/// A memory file that was looked at: sealed, not empty, not too large.
#[derive(Debug)]
pub struct Sealed {
    file: File,
    len: u64,
}

impl Sealed {
    /// Looks at a descriptor passed as `argument`. `limit` is in bytes, and `key` the setting it comes
    /// from.
    pub fn open(fd: OwnedFd, argument: &str, limit: u64, key: &str) -> Result<Self> {
        let seals = fcntl_get_seals(&fd).map_err(|_| {
            Error::invalid_descriptor(
                argument,
                "an ordinary file could change or block while it is read; copy it into a memfd and seal that, \
                 or write it into a pipe",
            )
        })?;
        if !seals.contains(NEEDED) {
            return Err(Error::invalid_descriptor(
                argument,
                "the memfd lacks seals; set F_SEAL_SHRINK, F_SEAL_GROW and F_SEAL_WRITE",
            ));
        }
        let stat = fstat(&fd).map_err(|error| Error::invalid_descriptor(argument, error))?;
        let len = u64::try_from(stat.st_size).unwrap_or(0);
        if len == 0 {
            return Err(Error::invalid_content(argument, "there is nothing in it"));
        }
        if len > limit {
            return Err(Error::too_large(argument, len, limit, "bytes", key));
        }
        Ok(Self { file: File::from(fd), len })
    }

    /// The length in bytes, at least 1.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// All of it, wherever the file's position is.
    pub fn read(&self) -> io::Result<Vec<u8>> {
        let len = usize::try_from(self.len).map_err(|_| io::ErrorKind::OutOfMemory)?;
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(len).map_err(|_| io::ErrorKind::OutOfMemory)?;
        bytes.resize(len, 0);
        self.file.read_exact_at(&mut bytes, 0)?;
        Ok(bytes)
    }
}

/// For mapping it, which the seals make sound.
impl AsFd for Sealed {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}
