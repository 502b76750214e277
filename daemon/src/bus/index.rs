//! `org.eddy.Index1`: one index.

use std::collections::HashMap;
use std::sync::Arc;

use eddy_config::Capability;
use eddy_ipc::{Bus, Collection, Error, Options, Priority, Result, accepts, path, without_nul};
use eddy_models::retrieval::Side;
use eddy_models::retrieval::index::{Hit, Passage};
use zbus::message::Header;
use zbus::{OwnedObjectPath, OwnedVariant, Variant};

use super::core::Core;
use super::peers::Peer;
use super::request::Request;
use super::retrieval::{BATCH, check_texts, encode};
use crate::indexes::Shelved;
use crate::jobs::{EncodeJob, Shelving};

/// Documents that one search returns at most.
const MOST_HITS: u32 = 1000;

/// A document that was found: identifier, score, details.
type Found = (String, f64, HashMap<String, OwnedVariant>);

/// One index on the bus.
#[derive(Debug)]
pub struct Index {
    core: Arc<Core>,
    index: Arc<Shelved>,
}

/// Puts an index on the bus, and announces its changes from then on.
///
/// # Errors
/// When the bus has gone.
pub(super) async fn show(core: &Arc<Core>, index: Arc<Shelved>) -> zbus::Result<OwnedObjectPath> {
    let path = path(Bus::Assistant, Collection::Index(&index.name));
    let server = core.assistant.object_server();
    server.at(&path, Index { core: Arc::clone(core), index: Arc::clone(&index) }).await?;
    let object = server.interface::<_, Index>(&path).await?;
    tokio::spawn(async move {
        loop {
            index.changed.notified().await;
            if index.is_gone() {
                return;
            }
            let shown = object.get().await;
            let emitter = object.signal_emitter();
            let told = async {
                shown.count_changed(emitter).await?;
                shown.bytes_changed(emitter).await
            };
            if let Err(error) = told.await {
                tracing::debug!(%error, "signal not sent");
            }
        }
    });
    Ok(path)
}

impl Index {
    /// The caller, if it may change the index.
    async fn owner(&self, header: &Header<'_>) -> Result<Arc<Peer>> {
        let peer = self.core.caller(header, Capability::Converse).await?;
        if self.index.belongs_to(&peer.identities) { Ok(peer) } else { Err(Error::not_owner("index")) }
    }

    /// The model folder that its vectors come from.
    fn model(&self) -> Result<Arc<str>> {
        let wanted = self.index.model.as_str();
        let statuses = self.core.engine.statuses();
        let statuses = statuses.borrow();
        let same = |name: &str, path: &std::path::Path| name == wanted || path == std::path::Path::new(wanted);
        let found = statuses.iter().find(|status| same(&status.folder.name, &status.folder.path));
        found.map(|status| status.folder.name.as_str().into()).ok_or_else(|| Error::not_found("model", wanted))
    }
}

/// Work that touches the disk, on a thread that may wait.
async fn aside<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|error| Error::Internal(error.to_string()))?
}

fn details(passage: Passage) -> HashMap<String, OwnedVariant> {
    let mut details = HashMap::from([("text", Variant::from(without_nul(&passage.text).into_owned()))]);
    if let Some(place) = passage.place {
        details.insert("document", Variant::from(without_nul(&place.document).into_owned()));
        details.insert("line", Variant::from(place.line));
        details.insert("begin", Variant::from(place.begin));
        details.insert("end", Variant::from(place.end));
    }
    super::owned(details)
}

// Searching waits for the engine, so calls run beside each other; a caller has a limited number of requests.
#[zbus::interface(name = "org.eddy.Index1", introspection_docs = false)]
impl Index {
    #[zbus(out_args("request"))]
    async fn add(
        &self,
        documents: Vec<(String, String)>,
        options: HashMap<String, OwnedVariant>,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<OwnedObjectPath> {
        let peer = self.owner(&header).await?;
        let mut options = Options::read(options, accepts::ADD)?;
        let bytes = check_texts(&self.core, "documents", documents.iter().map(|(_, text)| text.as_str()))?;
        let names = documents.iter().map(|(id, _)| id.len() as u64).sum::<u64>();
        if documents.iter().any(|(id, _)| id.is_empty()) {
            return Err(Error::invalid_argument("documents", "an identifier for each; one is empty"));
        }
        let model = self.model()?;
        let hold = peer.hold_bytes(bytes + names, self.core.config().limits.bytes_per_caller.0)?;
        let token = options.handle_token.take();
        let request = Request::open(&self.core, Bus::Assistant, &peer, Capability::Converse, token).await?;
        let path = request.path();
        let (core, index, threads) =
            (Arc::clone(&self.core), Arc::clone(&self.index), tokio::runtime::Handle::current());
        let priority = Some(options.priority.unwrap_or(Priority::Batch));
        // Opening an index for changes reads its table.
        tokio::task::spawn_blocking(move || match index.write() {
            Err(error) => request.feed().fail(&error),
            Ok(writing) => {
                let texts = documents.iter().map(|(_, text)| text.clone()).collect();
                let shelving = Shelving::new(writing, documents, Arc::clone(request.feed()), threads);
                let job = EncodeJob::new(texts, Side::Document, BATCH, shelving, Some(Box::new(hold)));
                core.submit(&request, Box::new(job), model, priority);
            }
        });
        Ok(path)
    }

    #[zbus(out_args("removed"))]
    async fn remove(
        &self,
        ids: Vec<String>,
        options: HashMap<String, OwnedVariant>,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<u32> {
        self.owner(&header).await?;
        Options::read(options, accepts::NONE)?;
        check_texts(&self.core, "ids", ids.iter().map(String::as_str))?;
        let index = Arc::clone(&self.index);
        let removed = aside(move || index.write()?.remove(&ids.iter().map(String::as_str).collect::<Vec<_>>())).await?;
        Ok(u32::try_from(removed).unwrap_or(u32::MAX))
    }

    #[zbus(out_args("hits"))]
    async fn search(
        &self,
        query: String,
        k: u32,
        options: HashMap<String, OwnedVariant>,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<Vec<Found>> {
        let peer = self.core.anybody(&header).await?;
        let capability = match self.index.belongs_to(&peer.identities) {
            true => Capability::Converse,
            false => Capability::ReadIndex,
        };
        self.core.access.check(&peer.identities, capability)?;
        let options = Options::read(options, accepts::SEARCH)?;
        self.core.check_text("query", &query)?;
        if !(1..=MOST_HITS).contains(&k) {
            return Err(Error::invalid_argument("k", format!("1 to {MOST_HITS}")));
        }
        let (_, mut vectors) = encode(&self.core, &peer, vec![query], self.model()?, options.priority).await?;
        let query = vectors.pop().ok_or_else(|| Error::Internal("a query was not encoded".into()))?;
        let index = Arc::clone(&self.index);
        let hits = aside(move || index.search(&query, k as usize)).await?;
        let found = |hit: Hit| (without_nul(&hit.passage.id).into_owned(), f64::from(hit.score), details(hit.passage));
        Ok(hits.into_iter().map(found).collect())
    }

    #[zbus(name = "Drop")]
    async fn drop_index(&self, #[zbus(header)] header: Header<'_>) -> Result<()> {
        self.owner(&header).await?;
        let (core, name) = (Arc::clone(&self.core), self.index.name.clone());
        aside(move || core.shelf.remove(&name)).await?;
        let path = path(Bus::Assistant, Collection::Index(&self.index.name));
        self.core.assistant.object_server().remove::<Self, _>(&path).await?;
        Ok(())
    }

    #[zbus(property)]
    fn count(&self) -> u64 {
        self.index.size().0
    }

    #[zbus(property)]
    fn bytes(&self) -> u64 {
        self.index.size().1
    }

    #[zbus(property(emits_changed_signal = "const"), name = "Model")]
    fn model_name(&self) -> String {
        self.index.model.clone()
    }
}
