//! Written answers: `org.eddy.Text1`.

use zbus::{OwnedObjectPath, proxy};

use crate::error::Result;
use crate::options::Options;

/// Written answers.
#[proxy(interface = "org.eddy.Text1", default_service = "org.eddy.Assistant1", default_path = "/org/eddy/Assistant1")]
pub trait Text {
    /// Answers the last of the messages (role and text); the path of a [`super::RequestProxy`].
    fn generate(&self, messages: &[(&str, &str)], options: &Options) -> Result<OwnedObjectPath>;
}
