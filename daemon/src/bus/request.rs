//! `org.eddy.Request1`: one piece of work, its signals to its owner, its end.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use eddy_config::Capability;
use eddy_ipc::{Bus, Error, Outcome, RequestState, Result, Token, interface, owned_by};
use zbus::message::Header;
use zbus::names::UniqueName;
use zbus::{OwnedObjectPath, OwnedVariant};

use super::core::Core;
use super::objects::{Kind, Object};
use super::peers::Peer;
use crate::engine::{Engine, Ticket};
use crate::jobs::{Feed, Model};

/// A request, wherever it is: being read, in the engine, or finished.
#[derive(Debug)]
pub struct Request {
    path: OwnedObjectPath,
    owner: String,
    feed: Arc<Feed>,
    /// Whether the engine has it.
    submitted: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug)]
enum State {
    /// With the ticket that the owner's work is counted by.
    Running(Arc<Ticket>),
    Ended(RequestState, Box<Outcome>),
}

impl Request {
    /// Opens a request for a caller and puts it on the bus.
    ///
    /// # Errors
    /// [`Error::LimitReached`], [`Error::Exists`].
    pub async fn open(
        core: &Arc<Core>,
        bus: Bus,
        peer: &Arc<Peer>,
        capability: Capability,
        token: Option<Token>,
    ) -> Result<Arc<Self>> {
        let ticket = peer.caller.ticket(core.config().limits.requests_per_caller)?;
        let mut opened = None;
        let make = |path| {
            let request = Arc::new(Self {
                path,
                owner: peer.name.clone(),
                feed: Arc::default(),
                submitted: AtomicBool::new(false),
                state: Mutex::new(State::Running(ticket)),
            });
            opened = Some(Arc::clone(&request));
            Object::Request(request)
        };
        core.objects.add(core, (bus, Kind::Request), peer, capability, token, make).await?;
        let request = opened.ok_or_else(|| Error::Internal("a request was not made".into()))?;
        tokio::spawn(accompany(Arc::clone(core), bus, Arc::clone(&request)));
        Ok(request)
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> OwnedObjectPath {
        self.path.clone()
    }

    /// Where news of it goes.
    #[must_use]
    pub fn feed(&self) -> &Arc<Feed> {
        &self.feed
    }

    /// Notes that the engine is about to have it, and gives the ticket for that; `None` if it is over.
    #[must_use]
    pub fn submitted(&self) -> Option<Arc<Ticket>> {
        self.submitted.store(true, Ordering::Release);
        match &*self.state() {
            State::Running(ticket) if !ticket.is_over() => Some(Arc::clone(ticket)),
            State::Running(_) | State::Ended(..) => {
                self.feed.cancel();
                None
            }
        }
    }

    /// Whether nobody wants it any more, or it has finished.
    #[must_use]
    pub fn is_over(&self) -> bool {
        match &*self.state() {
            State::Running(ticket) => ticket.is_over(),
            State::Ended(..) => true,
        }
    }

    /// Whether it has finished.
    #[must_use]
    pub fn has_finished(&self) -> bool {
        matches!(&*self.state(), State::Ended(..))
    }

    /// Ends the work at the next step; does nothing to one that has finished.
    pub fn cancel(&self, engine: &Engine<Model>) {
        if let State::Running(ticket) = &*self.state() {
            ticket.cancel();
        }
        if self.submitted.load(Ordering::Acquire) {
            engine.nudge();
        } else {
            self.feed.cancel();
        }
    }

    fn word(&self) -> RequestState {
        match &*self.state() {
            State::Running(_) => RequestState::Running,
            State::Ended(state, _) => *state,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells the owner, and nobody else, what is new until the request has ended.
async fn accompany(core: Arc<Core>, bus: Bus, request: Arc<Request>) {
    let connection = core.connection(bus).clone();
    let owner = UniqueName::try_from(request.owner.as_str()).ok();
    let path = request.path();
    loop {
        let mut news = request.feed.next().await;
        for delta in news.deltas() {
            let value = delta.to_signal();
            let sent = connection.emit_signal(owner.as_ref(), &path, interface::REQUEST, "Delta", &value).await;
            if let Err(error) = sent {
                tracing::debug!(%path, %error, "signal not sent");
            }
        }
        let Some((state, outcome)) = news.end else { continue };
        core.metrics.ended(&outcome, core.config().metrics.turns as usize);
        let message = (state.as_str(), outcome.to_dictionary());
        // The state first, so that whoever hears of the end finds it there.
        *request.state() = State::Ended(state, Box::new(outcome.clone()));
        if let Ok(object) = connection.object_server().interface::<_, RequestObject>(&path).await {
            let announced = object.get().await.state_changed(object.signal_emitter()).await;
            let finished =
                connection.emit_signal(owner.as_ref(), &path, interface::REQUEST, "Finished", &message).await;
            if let Err(error) = announced.and(finished) {
                tracing::debug!(%path, %error, "signal not sent");
            }
        }
        core.objects.finished(&core, &path).await;
        return;
    }
}

/// The request on the bus.
#[derive(Debug)]
pub struct RequestObject {
    core: Arc<Core>,
    request: Arc<Request>,
}

impl RequestObject {
    pub(super) fn new(core: &Arc<Core>, request: Arc<Request>) -> Self {
        Self { core: Arc::clone(core), request }
    }
}

#[zbus::interface(name = "org.eddy.Request1", spawn = false, introspection_docs = false)]
impl RequestObject {
    fn cancel(&self, #[zbus(header)] header: Header<'_>) -> Result<()> {
        if !owned_by(self.request.path.as_str(), header.sender().map(|sender| sender.as_str())) {
            return Err(Error::not_owner("request"));
        }
        self.request.cancel(&self.core.engine);
        Ok(())
    }

    #[zbus(property)]
    fn state(&self) -> &str {
        self.request.word().as_str()
    }

    /// Empty for everybody but the owner, and where nobody asks: `GetManagedObjects` would show it to all.
    #[zbus(property(emits_changed_signal = "false"))]
    fn result(&self, #[zbus(header)] header: Option<Header<'_>>) -> HashMap<String, OwnedVariant> {
        let sender = header.as_ref().and_then(|header| header.sender()).map(|sender| sender.as_str());
        match &*self.request.state() {
            State::Ended(_, outcome) if sender.is_some() && owned_by(self.request.path.as_str(), sender) => {
                super::owned(outcome.to_dictionary())
            }
            State::Ended(..) | State::Running(_) => HashMap::new(),
        }
    }

    #[zbus(signal)]
    async fn delta(
        emitter: &zbus::object_server::SignalEmitter<'_>,
        kind: &str,
        value: zbus::Variant<'_>,
    ) -> zbus::Result<()>;

    #[zbus(signal)]
    async fn finished(
        emitter: &zbus::object_server::SignalEmitter<'_>,
        state: &str,
        result: HashMap<&str, zbus::Variant<'_>>,
    ) -> zbus::Result<()>;
}
