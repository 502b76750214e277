//! `org.eddy.Models1`: the machine's model folders, and the memory they share.

use std::collections::HashMap;
use std::sync::Arc;

use eddy_config::{Capability, Paths};
use eddy_ipc::{Bus, Error, Options, Result, accepts};
use eddy_models::folder::Wanted;
use eddy_store::{Catalogue, Order};
use zbus::message::Header;
use zbus::{OwnedObjectPath, OwnedVariant};

use super::core::Core;
use super::fetch::Fetch;
use super::request::Request;
use crate::fetching::refusal;

/// The interface on the admin root.
#[derive(Debug)]
pub struct Models {
    core: Arc<Core>,
    paths: Paths,
    fetch: Arc<Fetch>,
}

impl Models {
    /// Serves `core`; models are ordered through `fetch`.
    #[must_use]
    pub fn new(core: &Arc<Core>, paths: Paths, fetch: Fetch) -> Self {
        Self { core: Arc::clone(core), paths, fetch: Arc::new(fetch) }
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
        let peer = self.core.caller(&header, Capability::Manage).await?;
        let options = Options::read(options, accepts::PULL)?;
        let precision = options.precision.unwrap_or_else(|| "auto".into());
        let known = precision.parse::<Wanted>();
        known
            .map_err(|_| Error::InvalidOption(format!("the option \"precision\": {precision:?} is not a precision")))?;
        // A name that cannot be right is refused here, where somebody hears of it at once.
        let catalogue = Catalogue::load(&self.paths.catalogue()).map_err(|error| refusal(&error))?;
        catalogue.source(&repository).map_err(|error| refusal(&error))?;
        let order = Order {
            root: self.paths.store(&self.core.config().models),
            model: repository,
            precision,
            accept_license: options.accept_license.unwrap_or_default(),
            metered: options.metered.unwrap_or_default(),
        };
        let request = Request::open(&self.core, Bus::Admin, &peer, Capability::Manage, options.handle_token).await?;
        let path = request.path();
        if let Err(error) = self.fetch.begin(&self.core, Arc::clone(&request), order) {
            request.feed().fail(&error);
        }
        Ok(path)
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
