//! One process at a time changes a model. The lock goes with the process, however it ends.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};

use crate::error::{CHECK_FOLDER, Error, Result};

/// How often a lock that somebody else holds is tried.
const RETRY: Duration = Duration::from_millis(50);

/// A lock that is held until it is dropped.
#[derive(Debug)]
pub struct Lock {
    file: File,
}

impl Lock {
    /// Waits for the lock at `path`; `waiting` hears when somebody else has it, and may end the wait with an error.
    pub fn take(path: &Path, mut waiting: impl FnMut() -> Result<()>) -> Result<Self> {
        let io = |error| Error::io(path, CHECK_FOLDER)(error);
        let file = File::options().create(true).truncate(false).write(true).open(path).map_err(io)?;
        loop {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Self { file }),
                Err(rustix::io::Errno::WOULDBLOCK) => waiting()?,
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(Error::io(path, CHECK_FOLDER)(error.into())),
            }
            std::thread::sleep(RETRY);
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing the file would do, unless a child has inherited it.
        let _ = flock(&self.file, FlockOperation::Unlock);
    }
}
