//! A conversation that remembers its turns: `org.eddy.Conversation1`.

use std::collections::HashMap;

use zbus::{Fd, OwnedFd, OwnedObjectPath, OwnedVariant, proxy};

use crate::error::Result;
use crate::options::Options;

/// A conversation of the caller's own.
#[proxy(interface = "org.eddy.Conversation1", default_service = "org.eddy.Assistant1")]
pub trait Conversation {
    /// A written turn; the path of a [`super::RequestProxy`].
    fn ask(&self, text: &str, options: &Options) -> Result<OwnedObjectPath>;
    /// A spoken turn; the path of a [`super::RequestProxy`] and the read end of a pipe.
    fn ask_spoken(&self, wav: Fd<'_>, options: &Options) -> Result<(OwnedObjectPath, OwnedFd)>;
    /// Forgets every turn.
    fn reset(&self) -> Result<()>;
    /// Cancels what runs and removes the object.
    fn close(&self) -> Result<()>;

    /// The turns, the oldest first; read each with [`crate::Turn::from_dictionary`].
    #[zbus(property(emits_changed_signal = "false"))]
    fn history(&self) -> zbus::Result<Vec<HashMap<String, OwnedVariant>>>;
}
