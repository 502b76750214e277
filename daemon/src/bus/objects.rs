//! What callers hold on the bus: their requests and conversations by path, and how each goes.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use eddy_config::Capability;
use eddy_ipc::{Bus, Collection, Error, Result, Token, path};
use zbus::OwnedObjectPath;

use super::conversation::{Conversation, ConversationObject};
use super::core::Core;
use super::peers::Peer;
use super::request::{Request, RequestObject};

/// A kind of object, as it is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// One piece of work.
    Request,
    /// A conversation.
    Conversation,
}

/// An object.
#[derive(Debug, Clone)]
pub enum Object {
    /// One piece of work.
    Request(Arc<Request>),
    /// A conversation.
    Conversation(Arc<Conversation>),
}

#[derive(Debug, Clone)]
struct Entry {
    bus: Bus,
    peer: Arc<Peer>,
    capability: Capability,
    object: Object,
}

/// All objects that belong to callers.
#[derive(Debug, Default)]
pub struct Objects {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    entries: HashMap<OwnedObjectPath, Entry>,
    /// Finished requests of each caller, the oldest first.
    finished: HashMap<String, VecDeque<OwnedObjectPath>>,
    made: u64,
}

impl Objects {
    /// Puts an object on the bus under the token that the caller chose, or one that is made for it. `make` is told the
    /// path.
    ///
    /// # Errors
    /// [`Error::Exists`] for a token in use, [`Error::NotPermitted`] if the caller has left meanwhile.
    pub async fn add(
        &self,
        core: &Arc<Core>,
        (bus, kind): (Bus, Kind),
        peer: &Arc<Peer>,
        capability: Capability,
        token: Option<Token>,
        make: impl FnOnce(OwnedObjectPath) -> Object,
    ) -> Result<OwnedObjectPath> {
        let replaced = token.as_ref().and_then(|token| self.finished_at(&place(bus, kind, peer, token)));
        if let Some(old) = replaced {
            self.remove(core, &old).await;
        }
        let (path, object) = {
            let mut state = self.state();
            let path = match &token {
                Some(token) => place(bus, kind, peer, token),
                None => loop {
                    let path = place(bus, kind, peer, &Token::numbered(state.made));
                    state.made += 1;
                    if !state.entries.contains_key(&path) {
                        break path;
                    }
                },
            };
            if state.entries.contains_key(&path) {
                let name = token.as_ref().map_or("", Token::as_str);
                let what = match kind {
                    Kind::Request => "request",
                    Kind::Conversation => "conversation",
                };
                return Err(Error::exists(what, name));
            }
            let object = make(path.clone());
            let entry = Entry { bus, peer: Arc::clone(peer), capability, object: object.clone() };
            state.entries.insert(path.clone(), entry);
            (path, object)
        };
        let server = core.connection(bus).object_server();
        let added = match object {
            Object::Request(request) => server.at(&path, RequestObject::new(core, request)).await.map(drop),
            Object::Conversation(conversation) => {
                server.at(&path, ConversationObject::new(core, conversation)).await.map(drop)
            }
        };
        // A caller that left before the object was there left nobody to remove it.
        if added.is_err() || peer.caller.has_left() {
            self.remove(core, &path).await;
        }
        added?;
        Ok(path)
    }

    /// Notes that a request has finished; the oldest ones beyond what is kept for late readers go.
    pub async fn finished(&self, core: &Core, path: &OwnedObjectPath) {
        let keep = core.config().limits.finished_requests_kept as usize;
        let old: Vec<OwnedObjectPath> = {
            let mut state = self.state();
            let Some(entry) = state.entries.get(path) else { return };
            let name = entry.peer.name.clone();
            let finished = state.finished.entry(name).or_default();
            finished.push_back(path.clone());
            let over = finished.len().saturating_sub(keep);
            finished.drain(..over).collect()
        };
        for path in old {
            self.remove(core, &path).await;
        }
    }

    /// Takes an object off the bus and cancels what it stands for.
    pub async fn remove(&self, core: &Core, path: &OwnedObjectPath) {
        let entry = {
            let mut state = self.state();
            let entry = state.entries.remove(path);
            if let Some(entry) = &entry
                && let Some(finished) = state.finished.get_mut(&entry.peer.name)
            {
                finished.retain(|other| other != path);
                if finished.is_empty() {
                    state.finished.remove(&entry.peer.name);
                }
            }
            entry
        };
        let Some(entry) = entry else { return };
        let server = core.connection(entry.bus).object_server();
        let removed = match &entry.object {
            Object::Request(request) => {
                request.cancel(&core.engine);
                server.remove::<RequestObject, _>(path).await
            }
            Object::Conversation(conversation) => {
                conversation.close(core);
                server.remove::<ConversationObject, _>(path).await
            }
        };
        if let Err(error) = removed {
            tracing::debug!(%path, %error, "object was not on the bus");
        }
    }

    /// Removes everything that a caller held.
    pub async fn leave(&self, core: &Core, name: &str) {
        let paths: Vec<OwnedObjectPath> = {
            let state = self.state();
            state.entries.iter().filter(|(_, entry)| entry.peer.name == name).map(|(path, _)| path.clone()).collect()
        };
        for path in paths {
            self.remove(core, &path).await;
        }
    }

    /// Cancels what runs on the strength of a permission that is no longer there.
    pub async fn enforce(&self, core: &Core) {
        let denied: Vec<OwnedObjectPath> = {
            let state = self.state();
            let denied = |entry: &Entry| core.access.check(&entry.peer.identities, entry.capability).is_err();
            state.entries.iter().filter(|(_, entry)| denied(entry)).map(|(path, _)| path.clone()).collect()
        };
        for path in denied {
            match self.object(&path) {
                // Its owner still reads how it ended.
                Some(Object::Request(request)) => request.cancel(&core.engine),
                Some(Object::Conversation(_)) => self.remove(core, &path).await,
                None => {}
            }
        }
    }

    /// Cancels a request, which stays for its owner to read.
    pub fn cancel(&self, core: &Core, path: &OwnedObjectPath) {
        if let Some(Object::Request(request)) = self.object(path) {
            request.cancel(&core.engine);
        }
    }

    /// Whether there is a request that has not finished.
    #[must_use]
    pub fn is_running(&self, path: &OwnedObjectPath) -> bool {
        matches!(self.object(path), Some(Object::Request(request)) if !request.has_finished())
    }

    /// Whether any request has not finished.
    #[must_use]
    pub fn any_running(&self) -> bool {
        let running = |entry: &Entry| matches!(&entry.object, Object::Request(request) if !request.has_finished());
        self.state().entries.values().any(running)
    }

    /// Objects on the bus.
    #[must_use]
    pub fn count(&self) -> usize {
        self.state().entries.len()
    }

    fn object(&self, path: &OwnedObjectPath) -> Option<Object> {
        self.state().entries.get(path).map(|entry| entry.object.clone())
    }

    fn finished_at(&self, path: &OwnedObjectPath) -> Option<OwnedObjectPath> {
        match self.object(path)? {
            Object::Request(request) if request.has_finished() => Some(path.clone()),
            Object::Request(_) | Object::Conversation(_) => None,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn place(bus: Bus, kind: Kind, peer: &Peer, token: &Token) -> OwnedObjectPath {
    let sender = Some(peer.name.as_str());
    let collection = match kind {
        Kind::Request => Collection::Request { sender, token },
        Kind::Conversation => Collection::Conversation { sender, token },
    };
    path(bus, collection)
}
