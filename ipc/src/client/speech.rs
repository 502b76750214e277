//! Speech from and to the caller: `org.eddy.Speech1`.

use zbus::{Fd, OwnedFd, OwnedObjectPath, proxy};

use crate::error::Result;
use crate::options::Options;

/// Speech without the microphone and the speaker. Recordings are WAV files, each a sealed memory file
/// ([`crate::fd::seal`]) or a pipe; sound comes out as signed 16-bit little-endian mono at 24 kHz.
#[proxy(interface = "org.eddy.Speech1", default_service = "org.eddy.Assistant1", default_path = "/org/eddy/Assistant1")]
pub trait Speech {
    /// Writes down what is said; the path of a [`super::RequestProxy`].
    fn transcribe(&self, wav: Fd<'_>, options: &Options) -> Result<OwnedObjectPath>;
    /// Speaks a text; the path of a [`super::RequestProxy`] and the read end of a pipe.
    fn synthesize(&self, text: &str, options: &Options) -> Result<(OwnedObjectPath, OwnedFd)>;
    /// Answers a spoken question; the path of a [`super::RequestProxy`] and the read end of a pipe.
    fn converse(&self, wav: Fd<'_>, options: &Options) -> Result<(OwnedObjectPath, OwnedFd)>;
}
