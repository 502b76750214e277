//! `org.eddy.Daemon1`: the configuration, and the daemon's numbers.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use eddy_config::{Applies, Capability};
use eddy_ipc::{Error, ModelState, Options, Result, accepts};
use tokio::sync::{mpsc, oneshot};
use zbus::message::Header;
use zbus::{OwnedVariant, Variant};

use super::core::Core;
use crate::engine::STEP_BUCKETS;

/// A reload that somebody asked for, and where its result goes.
pub type ReloadOrder = oneshot::Sender<Result<Vec<eddy_config::Change>>>;

/// The interface on the admin root.
#[derive(Debug)]
pub struct Daemon {
    core: Arc<Core>,
    reloads: mpsc::Sender<ReloadOrder>,
}

impl Daemon {
    /// Serves `core`; reloads are ordered through `reloads`.
    #[must_use]
    pub fn new(core: &Arc<Core>, reloads: mpsc::Sender<ReloadOrder>) -> Self {
        Self { core: Arc::clone(core), reloads }
    }
}

// A reload waits for the disk, so it runs beside other calls.
#[zbus::interface(name = "org.eddy.Daemon1", introspection_docs = false)]
impl Daemon {
    #[zbus(out_args("changes"))]
    async fn reload(
        &self,
        options: HashMap<String, OwnedVariant>,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<Vec<(String, String, String)>> {
        self.core.caller(&header, Capability::Manage).await?;
        Options::read(options, accepts::NONE)?;
        let (send, done) = oneshot::channel();
        self.reloads.try_send(send).map_err(|_| Error::Busy("a reload is on its way; try again later".into()))?;
        let changes = done.await.map_err(|_| Error::unavailable("the daemon", "it is ending"))??;
        let row = |change: eddy_config::Change| {
            let when = match change.applies {
                Applies::AtOnce => "now",
                Applies::AfterRestart => "restart",
            };
            (change.key, change.new.unwrap_or_default(), when.to_owned())
        };
        Ok(changes.into_iter().map(row).collect())
    }

    #[zbus(property(emits_changed_signal = "false"))]
    async fn report(&self, #[zbus(header)] header: Option<Header<'_>>) -> Result<HashMap<String, OwnedVariant>> {
        match &header {
            Some(header) => self.core.caller(header, Capability::Manage).await.map(drop)?,
            // Nobody asks: an object manager would show it to all.
            None => return Ok(HashMap::new()),
        }
        Ok(super::owned(self.numbers()))
    }
}

impl Daemon {
    fn numbers(&self) -> HashMap<&'static str, Variant<'static>> {
        let counters = self.core.engine.counters();
        let read = |counter: &std::sync::atomic::AtomicU64| Variant::from(counter.load(Ordering::Relaxed));
        let statuses = self.core.engine.statuses();
        let loaded: u64 = {
            let statuses = statuses.borrow();
            let loaded = statuses.iter().filter(|status| status.state == ModelState::Loaded);
            loaded.map(|status| status.folder.bytes).sum()
        };
        let bounds = STEP_BUCKETS.into_iter().chain([u64::MAX]);
        let steps: Vec<(u64, u64)> =
            bounds.zip(counters.steps.iter().map(|bucket| bucket.load(Ordering::Relaxed))).collect();
        HashMap::from([
            ("done", read(&counters.done)),
            ("cancelled", read(&counters.cancelled)),
            ("failed", read(&counters.failed)),
            ("stopped_steps", read(&counters.stopped_steps)),
            ("model_loads", read(&counters.loads)),
            ("model_unloads", read(&counters.unloads)),
            ("queue", Variant::from(self.core.engine.waiting() as u64)),
            ("callers", Variant::from(self.core.peers.count() as u64)),
            ("objects", Variant::from(self.core.objects.count() as u64)),
            ("loaded_bytes", Variant::from(loaded)),
            // Upper end of the bucket in milliseconds, and steps that took so long.
            ("steps_by_ms", Variant::from(steps)),
        ])
    }
}
