//! Leases on the files that a model maps into memory.
//!
//! A mapped file that somebody cuts short ends the process at the next look at it. Whoever opens a leased file to write waits
//! until the lease is given back (up to a minute by default, see fcntl(2)); the kernel tells the daemon with SIGIO, and the
//! engine lets the model go meanwhile. Files of other users cannot be leased; package managers put new files in their place
//! and leave the mapped ones whole.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::Path;

use crate::engine::Guard;

/// Folders inside a model folder, and files in all of them, at most: more hold no model.
const DEEPEST: usize = 3;
const MOST_FILES: usize = 256;

/// Leases on a folder's files, given back when this is dropped.
#[derive(Debug, Default)]
pub struct Leases(Vec<File>);

impl Leases {
    /// Takes what can be had.
    #[must_use]
    pub fn take(folder: &Path) -> Self {
        let mut leases = Self::default();
        leases.descend(folder, 0);
        tracing::debug!(folder = %folder.display(), files = leases.0.len(), "leased");
        leases
    }

    fn descend(&mut self, folder: &Path, depth: usize) {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            // Links are followed: the hub's cache is made of them.
            match std::fs::metadata(&path) {
                Ok(about) if about.is_dir() && depth < DEEPEST => self.descend(&path, depth + 1),
                Ok(about) if about.is_file() && self.0.len() < MOST_FILES => {
                    self.0.extend(File::open(&path).ok().filter(set_lease));
                }
                Ok(_) | Err(_) => {}
            }
        }
    }
}

impl Guard for Leases {
    fn is_broken(&self) -> bool {
        self.0.iter().any(|file| !has_lease(file))
    }
}

fn set_lease(file: &File) -> bool {
    // The signal goes to the process: by default it would go to the thread that loads, which the kernel then does not find.
    // SAFETY: the commands take and return plain numbers, and the descriptor is open as long as `file` lives.
    unsafe {
        libc::fcntl(file.as_raw_fd(), libc::F_SETOWN, libc::getpid());
        libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, libc::F_RDLCK) == 0
    }
}

fn has_lease(file: &File) -> bool {
    // SAFETY: as above.
    unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETLEASE) == libc::F_RDLCK }
}
