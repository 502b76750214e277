//! Room on the disk, asked before anything is written.

use std::path::Path;

use crate::error::{CHECK_FOLDER, Error, Result};

/// Left free beside what is fetched: the disk belongs to others too.
const RESERVE: u64 = 64 << 20;

/// Refuses when `needed` bytes and a reserve do not fit beside `folder`, which exists.
///
/// # Errors
/// [`Error::NoSpace`], [`Error::Io`].
pub fn check(folder: &Path, needed: u64) -> Result<()> {
    let room = rustix::fs::statvfs(folder).map_err(|error| Error::io(folder, CHECK_FOLDER)(error.into()))?;
    let free = room.f_bavail.saturating_mul(room.f_frsize);
    match needed == 0 || free >= needed.saturating_add(RESERVE) {
        true => Ok(()),
        false => Err(Error::NoSpace { path: folder.to_path_buf(), needed: needed.saturating_add(RESERVE), free }),
    }
}
