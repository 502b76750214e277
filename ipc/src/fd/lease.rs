//! A right that lasts for as long as a descriptor is held open.
//!
//! A descriptor cannot leak past the death of its holder, which a pair of methods could.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use rustix::event::PollFlags;
use rustix::pipe::{PipeFlags, pipe_with};

use super::wait;

/// The daemon's side of a right that it gave away.
#[derive(Debug)]
pub struct Lease {
    watched: OwnedFd,
}

/// The descriptor to give away and the lease that watches it. Drop the descriptor here once it is sent.
pub fn lease() -> io::Result<(OwnedFd, Lease)> {
    let (watched, held) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
    Ok((held, Lease { watched }))
}

impl Lease {
    /// Whether every copy of the descriptor has been closed.
    pub fn is_over(&self) -> bool {
        wait(&self.watched, PollFlags::empty(), Instant::now()).is_ok_and(|flags| flags.contains(PollFlags::HUP))
    }
}

/// Hangs up (`POLLHUP`) when the right ends, for waiting on it in an event loop. What the holder writes
/// into it means nothing and may be left unread.
impl AsFd for Lease {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.watched.as_fd()
    }
}

/// For an event loop that wants to own what it waits on: reading finds the end when the right ends.
impl From<Lease> for OwnedFd {
    fn from(lease: Lease) -> Self {
        lease.watched
    }
}
