//! Who is on the other side: each caller by its unique bus name, with its identity, what it holds, and its end.
//!
//! Promises that nothing can be opened for a caller that has left: a caller is marked before it is asked about, and its
//! leaving takes the mark away.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use eddy_config::Application;
use eddy_ipc::{Error, Result};
use zbus::fdo::DBusProxy;
use zbus::names::BusName;

use crate::access::{Credentials, identify};
use crate::engine::Caller;

/// One caller.
#[derive(Debug)]
pub struct Peer {
    /// Its unique bus name.
    pub name: String,
    /// What the system calls it, the most telling first.
    pub identities: Vec<Application>,
    /// It as the engine knows it.
    pub caller: Arc<Caller>,
    bytes: AtomicU64,
    conversations: AtomicU32,
}

/// Something of a caller's that is counted; it is given back when this is dropped.
#[derive(Debug)]
pub struct Held {
    peer: Arc<Peer>,
    bytes: u64,
    conversations: u32,
}

impl Peer {
    /// Counts so many bytes as the caller's.
    ///
    /// # Errors
    /// [`Error::LimitReached`].
    pub fn hold_bytes(self: &Arc<Self>, bytes: u64, limit: u64) -> Result<Held> {
        self.bytes
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |held| {
                held.checked_add(bytes).filter(|sum| *sum <= limit)
            })
            .map_err(|held| {
                Error::limit_reached(&format!("of {limit} bytes {held} in use"), limit, "limits.bytes_per_caller")
            })?;
        Ok(Held { peer: Arc::clone(self), bytes, conversations: 0 })
    }

    /// Bytes that are the caller's now.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Counts one more conversation as the caller's.
    ///
    /// # Errors
    /// [`Error::LimitReached`].
    pub fn hold_conversation(self: &Arc<Self>, limit: u32) -> Result<Held> {
        self.conversations
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |held| (held < limit).then_some(held + 1))
            .map_err(|_| Error::limit_reached("conversations", u64::from(limit), "limits.conversations_per_caller"))?;
        Ok(Held { peer: Arc::clone(self), bytes: 0, conversations: 1 })
    }
}

impl Held {
    /// Gives back what is more than `bytes`.
    pub fn shrink(&mut self, bytes: u64) {
        if bytes < self.bytes {
            self.peer.bytes.fetch_sub(self.bytes - bytes, Ordering::AcqRel);
            self.bytes = bytes;
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.peer.bytes.fetch_sub(self.bytes, Ordering::AcqRel);
        self.peer.conversations.fetch_sub(self.conversations, Ordering::AcqRel);
    }
}

/// All callers that have called.
#[derive(Debug)]
pub struct Peers {
    /// On a connection of its own, so that an answer never waits behind a flood of calls.
    bus: DBusProxy<'static>,
    /// Refuses other users than this one and root; the system bus has a policy for that.
    only_user: Option<u32>,
    /// `None` while a caller is being asked about.
    live: Mutex<HashMap<String, Option<Arc<Peer>>>>,
}

impl Peers {
    /// Asks `bus` about callers.
    #[must_use]
    pub fn new(bus: DBusProxy<'static>, only_user: Option<u32>) -> Self {
        Self { bus, only_user, live: Mutex::default() }
    }

    /// The caller with this unique name.
    ///
    /// # Errors
    /// [`Error::NotPermitted`] for other users, and for a caller that has left.
    pub async fn identify(&self, name: &str) -> Result<Arc<Peer>> {
        {
            let mut live = self.live();
            match live.get(name) {
                Some(Some(peer)) => return Ok(Arc::clone(peer)),
                Some(None) => {}
                None => drop(live.insert(name.to_owned(), None)),
            }
        }
        let asked = self.ask(name).await;
        let mut live = self.live();
        let Some(slot) = live.get_mut(name) else { return Err(gone()) };
        match asked {
            Ok(identities) => Ok(Arc::clone(slot.get_or_insert_with(|| {
                Arc::new(Peer {
                    name: name.to_owned(),
                    identities,
                    caller: Caller::new(),
                    bytes: AtomicU64::new(0),
                    conversations: AtomicU32::new(0),
                })
            }))),
            Err(error) => {
                if slot.is_none() {
                    live.remove(name);
                }
                Err(error)
            }
        }
    }

    async fn ask(&self, name: &str) -> Result<Vec<Application>> {
        let unique = BusName::try_from(name.to_owned()).map_err(|_| gone())?;
        let told = self.bus.get_connection_credentials(unique.clone()).await.map_err(|_| gone())?;
        if let (Some(wanted), Some(user)) = (self.only_user, told.unix_user_id())
            && user != wanted
            && user != 0
        {
            return Err(Error::NotPermitted(format!("this is the daemon of user {wanted}, not of user {user}")));
        }
        let label = told.linux_security_label().map(|label| String::from_utf8_lossy(label).into_owned());
        let credentials = Credentials { user: told.unix_user_id(), process: told.process_id(), label };
        let identities = identify(&credentials);
        // If it is still connected, its process number was its own while it was looked at.
        match self.bus.name_has_owner(unique).await {
            Ok(true) => Ok(identities),
            Ok(false) | Err(_) => Err(gone()),
        }
    }

    /// A caller has left the bus.
    pub fn leave(&self, name: &str) -> Option<Arc<Peer>> {
        let peer = self.live().remove(name).flatten()?;
        peer.caller.leave();
        Some(peer)
    }

    /// Callers that are there.
    #[must_use]
    pub fn count(&self) -> usize {
        self.live().len()
    }

    fn live(&self) -> MutexGuard<'_, HashMap<String, Option<Arc<Peer>>>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn gone() -> Error {
    Error::NotPermitted("the caller has left the bus".into())
}
