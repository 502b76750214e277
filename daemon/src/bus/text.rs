//! `org.eddy.Text1`: written answers, which this version has no engine for.

use std::collections::HashMap;
use std::sync::Arc;

use eddy_config::Capability;
use eddy_ipc::{Error, Options, Result, accepts};
use zbus::message::Header;
use zbus::{OwnedObjectPath, OwnedVariant};

use super::core::Core;
use crate::engine::Task;

/// The interface on the assistant's root.
#[derive(Debug)]
pub struct Text {
    core: Arc<Core>,
}

impl Text {
    /// Serves `core`.
    #[must_use]
    pub fn new(core: &Arc<Core>) -> Self {
        Self { core: Arc::clone(core) }
    }
}

#[zbus::interface(name = "org.eddy.Text1", spawn = false, introspection_docs = false)]
impl Text {
    #[zbus(out_args("request"))]
    async fn generate(
        &self,
        messages: Vec<(String, String)>,
        options: HashMap<String, OwnedVariant>,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<OwnedObjectPath> {
        self.core.caller(&header, Capability::Converse).await?;
        let options = Options::read(options, accepts::GENERATE)?;
        if messages.is_empty() {
            return Err(Error::invalid_argument("messages", "at least one message"));
        }
        Err(super::not_served(self.core.model(Task::Text, &options), Task::Text))
    }
}
