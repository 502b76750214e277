//! Connections, names, root objects, and the watch for callers that leave.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use eddy_config::Paths;
use eddy_ipc::{Bus, Collection, path};
use futures_util::StreamExt;
use tokio::sync::mpsc;
use zbus::connection::Builder;
use zbus::fdo::{DBusProxy, ObjectManager, RequestNameFlags, RequestNameReply};
use zbus::{Connection, MatchRule, MessageStream};

use super::core::Core;
use super::daemon::ReloadOrder;
use super::fetch::Fetch;
use super::{access, assistant, daemon, index, model, models, retrieval, speech, text, vision};

/// How long the bus daemon may take to answer.
const BUS_PATIENCE: Duration = Duration::from_secs(5);

/// Which bus.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// The user's.
    Session,
    /// The machine's.
    System,
    /// One by its address.
    Given(String),
}

impl std::fmt::Display for Address {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Session => out.write_str("the session's"),
            Self::System => out.write_str("the system's"),
            Self::Given(address) => out.write_str(address),
        }
    }
}

/// Completes when the bus has gone.
pub type Ended = tokio::task::JoinHandle<()>;

/// The daemon's connections. What the bus says of callers comes over one of its own.
#[derive(Debug)]
pub struct Buses {
    /// For `org.eddy.Assistant1`.
    pub assistant: Connection,
    /// For `org.eddy.Admin1`.
    pub admin: Connection,
    /// The bus daemon itself.
    pub bus: DBusProxy<'static>,
}

/// Connects, without taking a name yet.
///
/// # Errors
/// When there is no such bus.
pub async fn connect(address: &Address) -> zbus::Result<Buses> {
    let open = async || {
        let builder = match address {
            Address::Session => Builder::session(),
            Address::System => Builder::system(),
            Address::Given(address) => Builder::address(address.as_str()),
        };
        builder.method_timeout(BUS_PATIENCE).build().await
    };
    let bus = DBusProxy::new(&open().await?).await?;
    Ok(Buses { assistant: open().await?, admin: open().await?, bus })
}

/// Puts every object in place and takes the names, in this order: whoever sees a name finds everything there.
///
/// # Errors
/// When the bus refuses a name, because another daemon has it or a policy forbids it.
pub async fn serve(
    core: &Arc<Core>,
    bus: DBusProxy<'static>,
    reloads: mpsc::Sender<ReloadOrder>,
    paths: &Paths,
) -> zbus::Result<Ended> {
    let root = Bus::Assistant.root();
    let server = core.assistant.object_server();
    server.at(root, ObjectManager).await?;
    server.at(root, assistant::Assistant::new(core)).await?;
    server.at(root, text::Text::new(core)).await?;
    server.at(root, vision::Vision::new(core)).await?;
    server.at(root, speech::Speech::new(core)).await?;
    server.at(root, retrieval::Retrieval::new(core)).await?;

    for shelved in core.shelf.all() {
        index::show(core, shelved).await?;
    }

    let root = Bus::Admin.root();
    let server = core.admin.object_server();
    server.at(root, ObjectManager).await?;
    let fetch = Fetch::new(&paths.state, reloads.clone());
    server.at(root, models::Models::new(core, paths.clone(), fetch)).await?;
    server.at(root, access::Access::new(core)).await?;
    server.at(root, daemon::Daemon::new(core, reloads)).await?;
    let listed: HashMap<_, _> = core
        .engine
        .statuses()
        .borrow()
        .iter()
        .map(|status| (path(Bus::Admin, Collection::Model(&status.folder.name)), status.clone()))
        .collect();
    model::show(core, &HashMap::new(), &listed).await?;

    // Before the names too: nobody may leave unseen.
    let leaving = MatchRule::builder()
        .msg_type(zbus::message::Type::Signal)
        .sender("org.freedesktop.DBus")
        .interface("org.freedesktop.DBus")
        .member("NameOwnerChanged")
        .arg(2, "")
        .build()?;
    let left = MessageStream::for_match_rule(leaving, bus.inner().connection(), None).await?;
    let leaving = tokio::spawn(watch_leaving(Arc::clone(core), left));
    // A daemon that has lost one of its connections is of no use, whatever the others do.
    let [assistant, admin] = [&core.assistant, &core.admin].map(MessageStream::from);
    let ended = tokio::spawn(async move {
        tokio::select! {
            _ = leaving => {}
            () = drained(assistant) => {}
            () = drained(admin) => {}
        }
    });
    let following = Arc::clone(core);
    tokio::spawn(async move {
        if let Err(error) = model::follow(following, listed).await {
            tracing::error!(%error, "models on the bus are no longer up to date");
        }
    });
    for bus in [Bus::Admin, Bus::Assistant] {
        let flags = RequestNameFlags::DO_NOT_QUEUE;
        match core.connection(bus).request_name_with_flags(bus.name(), flags).await? {
            RequestNameReply::PrimaryOwner | RequestNameReply::AlreadyOwner => {}
            RequestNameReply::InQueue | RequestNameReply::Exists => return Err(zbus::Error::NameTaken),
        }
    }
    Ok(ended)
}

/// Tells clients of a configuration that was read again, and acts on its rules.
pub async fn reconfigured(core: &Arc<Core>) {
    core.objects.enforce(core).await;
    let announced = async {
        let server = core.admin.object_server();
        let rules = server.interface::<_, access::Access>(Bus::Admin.root()).await?;
        rules.get().await.rules_invalidate(rules.signal_emitter()).await?;
        let models = server.interface::<_, models::Models>(Bus::Admin.root()).await?;
        models.get().await.memory_budget_changed(models.signal_emitter()).await
    };
    if let Err(error) = announced.await {
        tracing::debug!(%error, "signal not sent");
    }
}

/// Completes when a connection has ended.
async fn drained(mut messages: MessageStream) {
    while messages.next().await.is_some() {}
}

/// Frees everything of a caller as soon as it has left the bus.
async fn watch_leaving(core: Arc<Core>, mut left: MessageStream) {
    while let Some(message) = left.next().await {
        let Ok(message) = message else { continue };
        let body = message.body();
        let Ok((name, _, _)) = body.deserialize::<(&str, &str, &str)>() else { continue };
        // Names that others chose for themselves come and go without their owners.
        if name.starts_with(':') && core.peers.leave(name).is_some() {
            core.engine.nudge();
            core.objects.leave(&core, name).await;
            tracing::debug!(name, "a caller has left");
        }
    }
}
