//! `org.eddy.Retrieval1`: search by meaning, which this version has no engine for.

use std::collections::HashMap;
use std::sync::Arc;

use eddy_config::Capability;
use eddy_ipc::{Options, Result, accepts};
use zbus::message::Header;
use zbus::{OwnedFd, OwnedObjectPath, OwnedVariant};

use super::core::Core;
use crate::engine::Task;

/// The interface on the assistant's root.
#[derive(Debug)]
pub struct Retrieval {
    core: Arc<Core>,
}

impl Retrieval {
    /// Serves `core`.
    #[must_use]
    pub fn new(core: &Arc<Core>) -> Self {
        Self { core: Arc::clone(core) }
    }
}

#[zbus::interface(name = "org.eddy.Retrieval1", spawn = false, introspection_docs = false)]
impl Retrieval {
    #[zbus(out_args("vectors"))]
    async fn encode(
        &self,
        texts: Vec<String>,
        is_query: bool,
        options: HashMap<String, OwnedVariant>,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<OwnedFd> {
        self.core.caller(&header, Capability::Converse).await?;
        let options = Options::read(options, accepts::ENCODE)?;
        let _ = (texts, is_query);
        Err(super::not_served(self.core.model(Task::Retrieval, &options), Task::Retrieval))
    }

    #[zbus(out_args("index"))]
    async fn create_index(
        &self,
        name: String,
        options: HashMap<String, OwnedVariant>,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<OwnedObjectPath> {
        self.core.caller(&header, Capability::Converse).await?;
        let options = Options::read(options, accepts::CREATE_INDEX)?;
        let _ = name;
        Err(super::not_served(self.core.model(Task::Retrieval, &options), Task::Retrieval))
    }

    #[zbus(out_args("indexes"))]
    async fn indexes(&self, #[zbus(header)] header: Header<'_>) -> Result<Vec<OwnedObjectPath>> {
        self.core.anybody(&header).await?;
        Ok(Vec::new())
    }
}
