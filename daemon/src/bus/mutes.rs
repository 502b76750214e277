//! Who wants the microphone muted: the switch, and everybody who holds a lock.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use eddy_ipc::fd::lease;
use eddy_ipc::{Bus, Error, Result};
use tokio::net::unix::pipe::Receiver;
use zbus::object_server::SignalEmitter;

use super::assistant::Assistant;
use super::core::Core;

/// Locks that all callers together may hold: each is a descriptor of ours.
const LOCKS: u32 = 64;

/// The wishes for silence.
#[derive(Debug, Default)]
pub struct Mutes {
    switched: AtomicBool,
    locks: AtomicU32,
}

impl Mutes {
    /// Whether anybody wants it.
    #[must_use]
    pub fn is_muted(&self) -> bool {
        self.switched.load(Ordering::Acquire) || self.locks.load(Ordering::Acquire) > 0
    }

    /// Sets the switch.
    pub fn set(&self, muted: bool) {
        self.switched.store(muted, Ordering::Release);
    }

    /// Mutes until every copy of the descriptor is closed.
    ///
    /// # Errors
    /// [`Error::LimitReached`], and when the system has no descriptor left.
    pub async fn acquire(self: &Arc<Self>, core: &Arc<Core>, emitter: SignalEmitter<'static>) -> Result<OwnedFd> {
        self.locks
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |locks| (locks < LOCKS).then_some(locks + 1))
            .map_err(|_| Error::LimitReached(format!("{LOCKS} locks hold the microphone muted already")))?;
        let held = Held(Arc::clone(self));
        let broken = |error: std::io::Error| Error::unavailable("a lock", error);
        let (lock, lease) = lease().map_err(broken)?;
        let watched = Receiver::from_owned_fd(lease.into()).map_err(broken)?;
        // Whoever holds the lock may rely on it.
        core.voice.mute(true).await?;
        let core = Arc::clone(core);
        let mutes = Arc::clone(self);
        tokio::spawn(async move {
            announce(&core, &emitter).await;
            wait_for_end(&watched).await;
            drop(held);
            if let Err(error) = core.voice.mute_soon(mutes.is_muted()) {
                tracing::warn!(%error, "the microphone stays muted");
            }
            announce(&core, &emitter).await;
        });
        Ok(lock)
    }
}

/// Until every copy of the lock is closed. What a holder writes into it means nothing.
async fn wait_for_end(watched: &Receiver) {
    let mut ignored = [0; 512];
    while watched.readable().await.is_ok() {
        match watched.try_read(&mut ignored) {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
    }
}

/// Counts one lock less when it goes.
struct Held(Arc<Mutes>);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.locks.fetch_sub(1, Ordering::AcqRel);
    }
}

async fn announce(core: &Core, emitter: &SignalEmitter<'static>) {
    let server = core.connection(Bus::Assistant).object_server();
    if let Ok(object) = server.interface::<_, Assistant>(emitter.path()).await
        && let Err(error) = object.get().await.muted_changed(emitter).await
    {
        tracing::debug!(%error, "signal not sent");
    }
}
