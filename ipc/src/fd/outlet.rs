//! Writing text and sound to a caller that may be slow, or gone.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::PollFlags;
use rustix::fs::{FileType, OFlags, fcntl_getfl, fstat};
use rustix::io::{Errno, write};
use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};

use super::intake::{set_nonblocking, unblocked};
use super::wait;
use crate::error::{Error, Result};

/// About five seconds of sound: enough that a reader which sleeps now and then loses nothing, little
/// enough that what a cancelled reader never reads was not made in vain.
const PIPE_BYTES: usize = 256 << 10;

/// Why nothing more can be written. None of these is a fault of ours, and generation stops at each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// The reader closed its end: the way to cancel.
    Closed,
    /// The reader took nothing for as long as it was given.
    Stalled,
    /// The system refused; the reason as an error number.
    Failed(Errno),
}

/// The write end of a pipe, or a socket. Dropping it is the end of the stream.
#[derive(Debug)]
pub struct Outlet {
    fd: OwnedFd,
}

impl Outlet {
    /// Looks at a descriptor passed as `argument`: a pipe or a socket that can be written to.
    pub fn open(fd: OwnedFd, argument: &str) -> Result<Self> {
        let broken = |error: Errno| Error::invalid_descriptor(argument, error);
        match FileType::from_raw_mode(fstat(&fd).map_err(broken)?.st_mode) {
            FileType::Fifo | FileType::Socket => {}
            _ => {
                return Err(Error::invalid_descriptor(argument, "pass the write end of a pipe"));
            }
        }
        if fcntl_getfl(&fd).map_err(broken)? & OFlags::ACCMODE == OFlags::RDONLY {
            return Err(Error::invalid_descriptor(argument, "this is the read end; pass the write end"));
        }
        Ok(Self { fd: unblocked(fd, OFlags::WRONLY).map_err(broken)? })
    }

    /// Writes what the pipe takes at once and tells how much that was, 0 if it is full. Never waits.
    pub fn offer(&mut self, bytes: &[u8]) -> Result<usize, Stop> {
        loop {
            return match write(&self.fd, bytes) {
                Ok(count) => Ok(count),
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => Ok(0),
                Err(Errno::PIPE | Errno::CONNRESET) => Err(Stop::Closed),
                Err(error) => Err(Stop::Failed(error)),
            };
        }
    }

    /// Writes all of it, waiting for the reader for up to `idle` at a time.
    pub fn write_all(&mut self, mut bytes: &[u8], idle: Duration) -> Result<(), Stop> {
        while !bytes.is_empty() {
            let count = self.offer(bytes)?;
            bytes = &bytes[count..];
            if count == 0 && wait(&self.fd, PollFlags::OUT, Instant::now() + idle).map_err(Stop::Failed)?.is_empty() {
                return Err(Stop::Stalled);
            }
        }
        Ok(())
    }

    /// Whether the reader has gone, without writing anything.
    pub fn is_closed(&self) -> bool {
        wait(&self.fd, PollFlags::empty(), Instant::now())
            .is_ok_and(|flags| flags.intersects(PollFlags::ERR | PollFlags::HUP))
    }
}

/// For waiting on it in an event loop.
impl AsFd for Outlet {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// A pipe for sound or vectors: the read end goes to the caller, the outlet stays. Only the write end does not
/// block, so that callers may read as they please. The read end has to be dropped here once it is sent,
/// or its closing on the other side goes unnoticed.
pub fn outgoing_pipe() -> io::Result<(OwnedFd, Outlet)> {
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
    set_nonblocking(&writer)?;
    // The user may have too many large pipes already; the usual 64 KiB do.
    let _ = fcntl_setpipe_size(&writer, PIPE_BYTES);
    Ok((reader, Outlet { fd: writer }))
}

/// Appends samples (-1 to 1, clipped beyond) as signed 16-bit little-endian numbers, the form in which sound
/// leaves Eddy. What is not a number becomes silence.
pub fn s16le(samples: &[f32], out: &mut Vec<u8>) {
    out.reserve(samples.len() * 2);
    for sample in samples {
        // Full scale is 32,768, as in WAV files, so that both hold the same numbers. The cast saturates and turns what is
        // not a number into 0.
        #[allow(clippy::cast_possible_truncation)]
        let value = (sample * 32_768.0).round() as i16;
        out.extend_from_slice(&value.to_le_bytes());
    }
}
