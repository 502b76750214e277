//! `org.eddy.Model1`: one model folder, and the task that keeps these objects as the engine has them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use eddy_config::Capability;
use eddy_ipc::{Bus, Collection, Options, Result, accepts, path};
use zbus::message::Header;
use zbus::{OwnedObjectPath, OwnedVariant};

use super::core::Core;
use crate::engine::{ModelStatus, answer};

/// One model folder on the bus.
#[derive(Debug)]
pub struct Model {
    core: Arc<Core>,
    status: Mutex<ModelStatus>,
}

impl Model {
    fn status(&self) -> MutexGuard<'_, ModelStatus> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn key(&self) -> String {
        self.status().folder.name.clone()
    }
}

// Its methods wait for the engine between two steps, so they run beside other calls.
#[zbus::interface(name = "org.eddy.Model1", introspection_docs = false)]
impl Model {
    async fn load(&self, options: HashMap<String, OwnedVariant>, #[zbus(header)] header: Header<'_>) -> Result<()> {
        self.core.caller(&header, Capability::Manage).await?;
        Options::read(options, accepts::NONE)?;
        let name = self.key();
        answer(|answer| self.core.engine.load(&name, answer)).await
    }

    async fn unload(&self, #[zbus(header)] header: Header<'_>) -> Result<()> {
        self.core.caller(&header, Capability::Manage).await?;
        let name = self.key();
        answer(|answer| self.core.engine.unload(&name, answer)).await
    }

    #[zbus(property(emits_changed_signal = "const"))]
    fn name(&self) -> String {
        self.key()
    }

    #[zbus(property)]
    fn family(&self) -> String {
        self.status().folder.family.clone()
    }

    #[zbus(property)]
    fn precision(&self) -> String {
        self.status().folder.precision.clone()
    }

    #[zbus(property(emits_changed_signal = "const"))]
    fn path(&self) -> String {
        self.status().folder.path.to_string_lossy().into_owned()
    }

    #[zbus(property)]
    fn license(&self) -> String {
        self.status().folder.license.clone()
    }

    #[zbus(property)]
    fn bytes(&self) -> u64 {
        self.status().folder.bytes
    }

    #[zbus(property)]
    fn state(&self) -> String {
        self.status().state.as_str().to_owned()
    }

    #[zbus(property)]
    fn state_reason(&self) -> String {
        self.status().reason.clone()
    }

    #[zbus(property)]
    fn resident(&self) -> bool {
        self.status().resident
    }
}

/// Keeps the objects as the engine has the models, until the engine ends; `shown` are on the bus already.
///
/// # Errors
/// When the bus has gone.
pub(super) async fn follow(core: Arc<Core>, mut shown: HashMap<OwnedObjectPath, ModelStatus>) -> zbus::Result<()> {
    let mut statuses = core.engine.statuses();
    loop {
        let now: HashMap<OwnedObjectPath, ModelStatus> = statuses
            .borrow_and_update()
            .iter()
            .map(|status| (path(Bus::Admin, Collection::Model(&status.folder.name)), status.clone()))
            .collect();
        show(&core, &shown, &now).await?;
        shown = now;
        if statuses.changed().await.is_err() {
            return Ok(());
        }
    }
}

/// Brings the objects from one listing to the next.
pub(super) async fn show(
    core: &Arc<Core>,
    old: &HashMap<OwnedObjectPath, ModelStatus>,
    new: &HashMap<OwnedObjectPath, ModelStatus>,
) -> zbus::Result<()> {
    let server = core.admin.object_server();
    for path in old.keys().filter(|path| !new.contains_key(*path)) {
        server.remove::<Model, _>(path).await?;
    }
    for (path, status) in new {
        match old.get(path) {
            Some(before) if before == status => {}
            // What never changes has changed: it is another folder of that name.
            Some(before) if before.folder.path == status.folder.path => {
                let object = server.interface::<_, Model>(path).await?;
                let model = object.get().await;
                *model.status() = status.clone();
                announce(&model, object.signal_emitter(), before, status).await?;
            }
            other => {
                if other.is_some() {
                    server.remove::<Model, _>(path).await?;
                }
                let model = Model { core: Arc::clone(core), status: Mutex::new(status.clone()) };
                server.at(path, model).await?;
            }
        }
    }
    Ok(())
}

async fn announce(
    model: &Model,
    emitter: &zbus::object_server::SignalEmitter<'_>,
    old: &ModelStatus,
    new: &ModelStatus,
) -> zbus::Result<()> {
    if old.folder.family != new.folder.family {
        model.family_changed(emitter).await?;
    }
    if old.folder.precision != new.folder.precision {
        model.precision_changed(emitter).await?;
    }
    if old.folder.license != new.folder.license {
        model.license_changed(emitter).await?;
    }
    if old.folder.bytes != new.folder.bytes {
        model.bytes_changed(emitter).await?;
    }
    if old.state != new.state {
        model.state_changed(emitter).await?;
    }
    if old.reason != new.reason {
        model.state_reason_changed(emitter).await?;
    }
    if old.resident != new.resident {
        model.resident_changed(emitter).await?;
    }
    Ok(())
}
