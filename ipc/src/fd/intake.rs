//! Reading what a caller hands over, whole, within bounds of size and time.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::PollFlags;
use rustix::fs::{FileType, Mode, OFlags, fcntl_getfl, fcntl_setfl, fstat, open};
use rustix::io::{Errno, read};

use super::{Sealed, wait};
use crate::error::{Error, Result};

/// How long a writer may take.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// Without a single byte.
    pub idle: Duration,
    /// Altogether, so that a byte now and then does not hold a place for ever.
    pub total: Duration,
}

impl Patience {
    /// From the setting `limits.descriptor_timeout`: so long for one byte, twelve times as long for all.
    pub fn from_idle(idle: Duration) -> Self {
        Self { idle, total: idle.saturating_mul(12) }
    }
}

/// Looks at a descriptor that a caller passed as `argument`, without reading from it: whether [`read_whole`] would
/// begin. Returns how many bytes there are, where that is certain beforehand. Never waits.
pub fn look(fd: &OwnedFd, argument: &str, limit: u64, key: &str) -> Result<Option<u64>> {
    let broken = |error: Errno| Error::invalid_descriptor(argument, error);
    let stat = fstat(fd).map_err(broken)?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => {
            let copy = fd.try_clone().map_err(|error| Error::invalid_descriptor(argument, error))?;
            Ok(Some(Sealed::open(copy, argument, limit, key)?.len()))
        }
        FileType::Fifo | FileType::Socket => {
            if fcntl_getfl(fd).map_err(broken)? & OFlags::ACCMODE == OFlags::WRONLY {
                return Err(Error::invalid_descriptor(argument, "this is the write end; pass the read end"));
            }
            Ok(None)
        }
        FileType::Directory => Err(refused(argument, "a folder")),
        FileType::CharacterDevice | FileType::BlockDevice => Err(refused(argument, "a device")),
        _ => Err(refused(argument, "this kind of file")),
    }
}

fn refused(argument: &str, kind: &str) -> Error {
    Error::invalid_descriptor(argument, format!("{kind} is not read; pass a sealed memfd or a pipe"))
}

/// Everything in a descriptor that a caller passed as `argument`: a sealed memory file at once, a pipe or
/// a socket until its end. Nothing else is read: an ordinary file may lie on a file system that never
/// answers, and a device never ends.
///
/// `limit` is in bytes, at least 1 and at most that many are returned; `key` is the setting it comes from.
pub fn read_whole(fd: OwnedFd, argument: &str, limit: u64, key: &str, patience: Patience) -> Result<Vec<u8>> {
    match look(&fd, argument, limit, key)? {
        Some(_) => {
            Sealed::open(fd, argument, limit, key)?.read().map_err(|error| Error::invalid_descriptor(argument, error))
        }
        None => read_stream(fd, argument, limit, key, patience),
    }
}

fn read_stream(fd: OwnedFd, argument: &str, limit: u64, key: &str, patience: Patience) -> Result<Vec<u8>> {
    let broken = |error: Errno| Error::invalid_descriptor(argument, error);
    let fd = unblocked(fd, OFlags::RDONLY).map_err(broken)?;
    let late = |after| Error::timed_out(&format!("{argument}: waiting for the writer"), after);
    let end = Instant::now() + patience.total;
    let mut bytes = Vec::new();
    let mut piece = [0u8; 64 << 10];
    loop {
        let now = Instant::now();
        // Looked at here and not only by waiting: a writer that always has a byte ready never makes us wait.
        if now >= end {
            return Err(late(patience.total));
        }
        if wait(&fd, PollFlags::IN, end.min(now + patience.idle)).map_err(broken)?.is_empty() {
            return Err(late(if Instant::now() >= end { patience.total } else { patience.idle }));
        }
        match read(&fd, &mut piece[..]) {
            Ok(0) if bytes.is_empty() => {
                return Err(Error::invalid_content(argument, "there is nothing in it"));
            }
            Ok(0) => return Ok(bytes),
            Ok(count) => {
                let size = bytes.len() as u64 + count as u64;
                if size > limit {
                    return Err(Error::TooLarge(format!(
                        "{argument} has more than the {limit} bytes that {key} allows"
                    )));
                }
                bytes.extend_from_slice(&piece[..count]);
            }
            // Somebody else read what poll had seen: the caller kept a copy of the read end.
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(error) => return Err(broken(error)),
        }
    }
}

/// The same pipe or socket, not blocking. A pipe is opened anew, because the flag belongs to the open file
/// that the caller shares and could clear while we read; where that is not possible (a socket, a pipe of
/// another user) the flag is set on what is there.
pub(super) fn unblocked(fd: OwnedFd, access: OFlags) -> Result<OwnedFd, Errno> {
    use std::os::fd::AsRawFd;
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    if let Ok(own) = open(path, access | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty()) {
        return Ok(own);
    }
    set_nonblocking(&fd)?;
    Ok(fd)
}

pub(super) fn set_nonblocking(fd: &impl AsFd) -> Result<(), Errno> {
    let flags = fcntl_getfl(fd)?;
    fcntl_setfl(fd, flags | OFlags::NONBLOCK)
}
