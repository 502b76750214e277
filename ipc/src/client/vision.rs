//! Questions about images: `org.eddy.Vision1`.

use zbus::{Fd, OwnedObjectPath, proxy};

use crate::error::Result;
use crate::options::Options;

/// Questions about images.
#[proxy(interface = "org.eddy.Vision1", default_service = "org.eddy.Assistant1", default_path = "/org/eddy/Assistant1")]
pub trait Vision {
    /// Answers a question about image files, each a sealed memory file ([`crate::fd::seal`]) or a pipe; the
    /// path of a [`super::RequestProxy`].
    fn ask(&self, images: &[Fd<'_>], question: &str, options: &Options) -> Result<OwnedObjectPath>;
}
