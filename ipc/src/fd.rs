//! File descriptors that carry what is too large or too steady for messages.
//!
//! Recordings and images come in as sealed memory files or pipes ([`read_whole`]); text and sound go
//! out through pipes ([`Outlet`]); a mute is a descriptor held open ([`lease`]). Every function here
//! distrusts the other side: it checks what kind of file it got before it reads, bounds how much and
//! how long, and never blocks without a deadline. They block the calling thread for up to that deadline
//! and belong on a thread that may wait.

mod intake;
mod lease;
mod outlet;
mod sealed;
mod vectors;

pub use intake::{Patience, look, read_whole};
pub use lease::{Lease, lease};
pub use outlet::{Outlet, Stop, outgoing_pipe, s16le};
pub use sealed::{Sealed, seal};
pub use vectors::{VectorsHeader, text_vectors, vectors};

use std::os::fd::AsFd;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

/// Waits for a descriptor until the deadline. Empty flags mean that it passed.
fn wait(fd: &impl AsFd, flags: PollFlags, deadline: Instant) -> Result<PollFlags, Errno> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(left.subsec_nanos()),
        };
        let mut fds = [PollFd::new(fd, flags)];
        match poll(&mut fds, Some(&timeout)) {
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
            Ok(_) => return Ok(fds[0].revents()),
        }
    }
}
