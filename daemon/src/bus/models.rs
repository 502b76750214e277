//! `org.eddy.Models1`: the machine's model folders, and the memory they share.

use std::collections::HashMap;
use std::sync::Arc;

use eddy_config::Capability;
use eddy_ipc::{Error, Options, Result, accepts};
use zbus::message::Header;
use zbus::{OwnedObjectPath, OwnedVariant};

use super::core::Core;

/// The interface on the admin root.
#[derive(Debug)]
pub struct Models {
    core: Arc<Core>,
}

impl Models {
    /// Serves `core`.
    #[must_use]
    pub fn new(core: &Arc<Core>) -> Self {
        Self { core: Arc::clone(core) }
    }
}

#[zbus::interface(name = "org.eddy.Models1", spawn = false, introspection_docs = false)]
impl Models {
    #[zbus(out_args("request"))]
    async fn pull(
        &self,
        repository: String,
        options: HashMap<String, OwnedVariant>,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<OwnedObjectPath> {
        self.core.caller(&header, Capability::Manage).await?;
        Options::read(options, accepts::PULL)?;
        Err(Error::Unsupported(format!(
            "this version cannot fetch {repository}; put the folder where `eddy config show` says models.directories is"
        )))
    }

    #[zbus(property)]
    fn memory_budget(&self) -> u64 {
        self.core.budget()
    }

    #[zbus(property)]
    async fn set_memory_budget(&self, bytes: u64, #[zbus(header)] header: Option<Header<'_>>) -> Result<()> {
        if let Some(header) = &header {
            self.core.caller(header, Capability::Manage).await?;
        }
        self.core.set_budget(bytes)
    }
}
