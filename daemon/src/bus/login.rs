//! What logind tells: the machine goes to sleep and wakes, the session leaves the foreground and comes back.
//!
//! The streams are closed before the machine sleeps, for which a delay inhibitor makes it wait, and while somebody else sits
//! at the machine: nobody is to be heard by a session that they do not see. Without a system bus or a logind there is
//! nothing to follow, and the voice is as it was.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use zbus::connection::Builder;
use zbus::proxy::CacheProperties;
use zbus::{Connection, OwnedFd, OwnedObjectPath};

use super::core::Core;

/// How long the system's bus may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why nothing is heard or said.
const ASLEEP: &str = "the machine goes to sleep";
const AWAY: &str = "this session is not in the foreground";

#[zbus::proxy(
    interface = "org.freedesktop.login1.Manager",
    default_service = "org.freedesktop.login1",
    default_path = "/org/freedesktop/login1"
)]
trait Manager {
    async fn inhibit(&self, what: &str, who: &str, why: &str, mode: &str) -> zbus::Result<OwnedFd>;
    async fn get_session(&self, id: &str) -> zbus::Result<OwnedObjectPath>;
    #[zbus(signal)]
    async fn session_new(&self, id: &str, path: OwnedObjectPath) -> zbus::Result<()>;
    #[zbus(signal)]
    async fn session_removed(&self, id: &str, path: OwnedObjectPath) -> zbus::Result<()>;
    #[zbus(signal)]
    async fn prepare_for_sleep(&self, begins: bool) -> zbus::Result<()>;
}

#[zbus::proxy(interface = "org.freedesktop.login1.Session", default_service = "org.freedesktop.login1")]
trait Session {
    #[zbus(property)]
    fn active(&self) -> zbus::Result<bool>;
    #[zbus(property(emits_changed_signal = "const"))]
    fn remote(&self) -> zbus::Result<bool>;
}

/// The system's bus.
///
/// # Errors
/// When there is none.
pub async fn system_bus() -> zbus::Result<Connection> {
    Builder::system().method_timeout(PATIENCE).build().await
}

/// What keeps the streams closed.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Away {
    asleep: bool,
    inactive: bool,
}

impl Away {
    fn reason(self) -> Option<String> {
        match (self.asleep, self.inactive) {
            (true, _) => Some(ASLEEP.to_owned()),
            (false, true) => Some(AWAY.to_owned()),
            (false, false) => None,
        }
    }
}

/// Follows logind as long as the daemon lives; `own_session` says whether the daemon belongs to a person's session.
pub async fn follow(core: Arc<Core>, own_session: bool) {
    if let Err(error) = try_follow(&core, own_session).await {
        tracing::debug!(%error, "nothing is told of sleep and of sessions");
    }
    // Nobody is left who would say that it is over.
    let _ = core.voice.suspend(None).await;
}

async fn try_follow(core: &Core, own_session: bool) -> zbus::Result<()> {
    let bus = system_bus().await?;
    let manager = ManagerProxy::builder(&bus).cache_properties(CacheProperties::No).build().await?;
    let mut sleeps = manager.receive_prepare_for_sleep().await?;
    let came = manager.receive_session_new().await?.map(drop);
    let went = manager.receive_session_removed().await?.map(drop);
    let mut sessions = futures_util::stream::select(came, went);
    let mut lock = Some(delay(&manager).await?);
    let mut followed = Followed::find(&bus, &manager, own_session).await;
    let mut away = Away { asleep: false, inactive: !followed.is_active().await };
    tracing::debug!(session = followed.0.is_some(), ?away, "logind is followed");
    core.voice.suspend(away.reason()).await.map_err(|error| zbus::Error::Failure(error.to_string()))?;
    let mut activity = followed.changes().await;
    loop {
        let before = away;
        tokio::select! {
            told = sleeps.next() => match told {
                Some(told) => away.asleep = told.args()?.begins,
                None => return Ok(()),
            },
            _ = activity.next() => away.inactive = !followed.is_active().await,
            Some(()) = sessions.next() => {
                followed = Followed::find(&bus, &manager, own_session).await;
                activity = followed.changes().await;
                away.inactive = !followed.is_active().await;
            }
        }
        if away != before {
            core.voice.suspend(away.reason()).await.map_err(|error| zbus::Error::Failure(error.to_string()))?;
        }
        // Given up only now that the streams are closed; taken again for the next time.
        match (away.asleep, lock.is_some()) {
            (true, true) => lock = None,
            (false, false) => lock = delay(&manager).await.ok(),
            (true, false) | (false, true) => {}
        }
    }
}

/// The session of the person whom the daemon serves, if they sit at this machine.
struct Followed(Option<SessionProxy<'static>>);

impl Followed {
    async fn find(bus: &Connection, manager: &ManagerProxy<'_>, own_session: bool) -> Self {
        if !own_session {
            return Self(None);
        }
        let found = async {
            // For a service of the user's manager, which is in no session, this is the user's session on the display.
            let path = manager.get_session("auto").await.ok()?;
            let session = SessionProxy::builder(bus).path(path).build().await.ok()?;
            (!session.remote().await.unwrap_or(false)).then_some(session)
        };
        Self(found.await)
    }

    /// Whether it is in the foreground; a daemon without a session is nobody's background.
    async fn is_active(&self) -> bool {
        match &self.0 {
            Some(session) => session.active().await.unwrap_or(true),
            None => true,
        }
    }

    async fn changes(&self) -> BoxStream<'static, ()> {
        match &self.0 {
            Some(session) => {
                let ended = futures_util::stream::pending();
                session.receive_active_changed().await.map(drop).chain(ended).boxed()
            }
            None => futures_util::stream::pending().boxed(),
        }
    }
}

async fn delay(manager: &ManagerProxy<'_>) -> zbus::Result<OwnedFd> {
    manager.inhibit("sleep", "Eddy", "closes the microphone and the loudspeaker", "delay").await
}
