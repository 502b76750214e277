//! `org.eddy.Retrieval1`: texts to vectors, and the indexes.

use std::collections::HashMap;
use std::sync::Arc;

use eddy_config::{Application, Capability};
use eddy_ipc::fd::outgoing_pipe;
use eddy_ipc::{Bus, Collection, Error, Options, Priority, Result, accepts, path};
use eddy_models::retrieval::{Side, Vectors};
use zbus::message::Header;
use zbus::{OwnedFd, OwnedObjectPath, OwnedVariant};

use super::core::Core;
use super::index;
use super::peers::Peer;
use crate::engine::Task;
use crate::jobs::{EncodeJob, Piped, Waiting};

/// Texts whose vectors are handed on together.
pub(super) const BATCH: usize = 16;

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

/// Checks texts that a caller hands over; their bytes.
pub(super) fn check_texts<'a>(core: &Core, name: &str, texts: impl ExactSizeIterator<Item = &'a str>) -> Result<u64> {
    let limits = &core.config().limits;
    let count = texts.len() as u64;
    if count > u64::from(limits.texts_per_request) {
        let limit = u64::from(limits.texts_per_request);
        return Err(Error::too_large(name, count, limit, "texts", "limits.texts_per_request"));
    }
    let mut bytes = 0;
    for text in texts {
        let length = text.len() as u64;
        if length > limits.text_bytes.0 {
            return Err(Error::too_large(name, length, limits.text_bytes.0, "bytes in one text", "limits.text_bytes"));
        }
        bytes += length;
    }
    Ok(bytes)
}

/// Encodes texts for one who waits: floats in a vector, and the texts' vectors. Without texts the width alone, which
/// brings the model into memory.
pub(super) async fn encode(
    core: &Arc<Core>,
    peer: &Arc<Peer>,
    texts: Vec<String>,
    model: Arc<str>,
    priority: Option<Priority>,
) -> Result<(usize, Vec<Vectors>)> {
    let ticket = peer.caller.ticket(core.config().limits.requests_per_caller)?;
    let (waiting, answered) = Waiting::new();
    let job = EncodeJob::new(texts, Side::Query, BATCH, waiting, None);
    core.engine.submit(Box::new(job), model, priority.unwrap_or(Priority::Interactive).into(), ticket)?;
    answered.await.unwrap_or_else(|_| Err(Error::unavailable("the engine", "the daemon is ending")))
}

/// The name under which an index belongs to a caller's application. The unit of a program in a terminal is another one
/// in each terminal, its executable is not.
fn owner(peer: &Peer) -> Option<&Application> {
    let rank = |application: &Application| match application {
        Application::Sandboxed(_) => 0,
        Application::Executable(_) => 1,
        Application::Unit(_) => 2,
        Application::User(_) => 3,
        Application::Any => 4,
    };
    peer.identities.iter().min_by_key(|identity| rank(identity))
}

// Making an index waits for its model, so these calls run beside others.
#[zbus::interface(name = "org.eddy.Retrieval1", introspection_docs = false)]
impl Retrieval {
    #[zbus(out_args("vectors"))]
    async fn encode(
        &self,
        texts: Vec<String>,
        is_query: bool,
        options: HashMap<String, OwnedVariant>,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<OwnedFd> {
        let peer = self.core.caller(&header, Capability::Converse).await?;
        let options = Options::read(options, accepts::ENCODE)?;
        let bytes = check_texts(&self.core, "texts", texts.iter().map(String::as_str))?;
        let model = self.core.model(Task::Retrieval, &options)?;
        let limits = &self.core.config().limits;
        let hold = peer.hold_bytes(bytes, limits.bytes_per_caller.0)?;
        let ticket = peer.caller.ticket(limits.requests_per_caller)?;
        let (reader, outlet) = outgoing_pipe().map_err(|error| Error::unavailable("a pipe for the vectors", error))?;
        let count = u32::try_from(texts.len()).unwrap_or(u32::MAX);
        let side = if is_query { Side::Query } else { Side::Document };
        let receiver = Piped::new(self.core.pipe(outlet), count);
        let job = EncodeJob::new(texts, side, BATCH, receiver, Some(Box::new(hold)));
        let urgency = options.priority.unwrap_or(Priority::Interactive).into();
        self.core.engine.submit(Box::new(job), model, urgency, ticket)?;
        Ok(reader.into())
    }

    #[zbus(out_args("index"))]
    async fn create_index(
        &self,
        name: String,
        options: HashMap<String, OwnedVariant>,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<OwnedObjectPath> {
        let peer = self.core.caller(&header, Capability::Converse).await?;
        let options = Options::read(options, accepts::CREATE_INDEX)?;
        let model = self.core.model(Task::Retrieval, &options)?;
        let (width, _) = encode(&self.core, &peer, Vec::new(), Arc::clone(&model), None).await?;
        let limit = self.core.config().limits.indexes_per_caller;
        let (core, owner) = (Arc::clone(&self.core), owner(&peer).cloned());
        let make = move || core.shelf.create(&name, width, &model, owner.as_ref(), limit);
        let made = tokio::task::spawn_blocking(make).await.map_err(|error| Error::Internal(error.to_string()))??;
        Ok(index::show(&self.core, made).await?)
    }

    #[zbus(out_args("indexes"))]
    async fn indexes(&self, #[zbus(header)] header: Header<'_>) -> Result<Vec<OwnedObjectPath>> {
        let peer = self.core.anybody(&header).await?;
        let core = Arc::clone(&self.core);
        let new = tokio::task::spawn_blocking(move || core.shelf.catch_up()).await;
        for made in new.map_err(|error| Error::Internal(error.to_string()))? {
            index::show(&self.core, made).await?;
        }
        let all = self.core.access.check(&peer.identities, Capability::ReadIndex).is_ok();
        let shown = self.core.shelf.all().into_iter().filter(|index| all || index.belongs_to(&peer.identities));
        Ok(shown.map(|index| path(Bus::Assistant, Collection::Index(&index.name))).collect())
    }
}
