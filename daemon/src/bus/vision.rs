//! `org.eddy.Vision1`: questions about images, which this version has no engine for.

use std::collections::HashMap;
use std::sync::Arc;

use eddy_config::Capability;
use eddy_ipc::{Error, Options, Result, accepts};
use zbus::message::Header;
use zbus::{OwnedFd, OwnedObjectPath, OwnedVariant};

use super::core::Core;
use crate::engine::Task;

/// The interface on the assistant's root.
#[derive(Debug)]
pub struct Vision {
    core: Arc<Core>,
}

impl Vision {
    /// Serves `core`.
    #[must_use]
    pub fn new(core: &Arc<Core>) -> Self {
        Self { core: Arc::clone(core) }
    }
}

#[zbus::interface(name = "org.eddy.Vision1", spawn = false, introspection_docs = false)]
impl Vision {
    #[zbus(out_args("request"))]
    async fn ask(
        &self,
        images: Vec<OwnedFd>,
        question: String,
        options: HashMap<String, OwnedVariant>,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<OwnedObjectPath> {
        self.core.caller(&header, Capability::See).await?;
        let options = Options::read(options, accepts::LOOK)?;
        self.core.check_text("question", &question)?;
        if images.is_empty() {
            return Err(Error::invalid_argument("images", "at least one image"));
        }
        Err(super::not_served(self.core.model(Task::Vision, &options), Task::Vision))
    }
}
