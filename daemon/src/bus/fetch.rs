//! `Models1.Pull`: an order in the queue, a process that works it off, and its reports until the end.
//!
//! Under systemd a path unit sees the order and starts the fetching unit, which has the network that the daemon's unit has
//! not; the daemon needs no right to start units for that. Without systemd the daemon starts the same program itself.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use eddy_ipc::{Bus, Collection, Error, Outcome, RequestState, Result, path};
use eddy_store::{Answer, Order, Queue};
use tokio::sync::{mpsc, oneshot};

use super::core::Core;
use super::daemon::ReloadOrder;
use super::request::Request;

/// How often reports are read while a pull is on its way.
const GLANCE: Duration = Duration::from_millis(100);
/// How long nobody may work on an order before it is given up.
const UNSERVED: Duration = Duration::from_secs(20);
/// How long a model that is in place may take to appear on the bus.
const APPEARING: Duration = Duration::from_secs(5);

/// Who starts the process that has network.
#[derive(Debug, Clone)]
enum Starter {
    /// The path unit.
    Unit,
    /// The daemon, which runs outside of any unit.
    Daemon(PathBuf),
}

/// Where pulls are ordered.
#[derive(Debug)]
pub struct Fetch {
    queue: Queue,
    starter: Starter,
    reloads: mpsc::Sender<ReloadOrder>,
    orders: AtomicU64,
}

impl Fetch {
    /// With the queue in the folder of what has to survive.
    #[must_use]
    pub fn new(state: &std::path::Path, reloads: mpsc::Sender<ReloadOrder>) -> Self {
        // systemd gives every invocation of a unit an identity.
        let program = std::env::current_exe().ok().and_then(|daemon| Some(daemon.parent()?.join("eddy")));
        let starter = match program.filter(|_| std::env::var_os("INVOCATION_ID").is_none()) {
            Some(program) => Starter::Daemon(program),
            None => Starter::Unit,
        };
        Self { queue: Queue::new(state), starter, reloads, orders: AtomicU64::new(0) }
    }

    /// Orders it, and follows it until it ends.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when nothing can be ordered.
    pub fn begin(self: &Arc<Self>, core: &Arc<Core>, request: Arc<Request>, order: Order) -> Result<()> {
        let since = std::time::UNIX_EPOCH.elapsed().unwrap_or_default().as_nanos();
        let id = format!("{since:x}_{}", self.orders.fetch_add(1, Ordering::Relaxed));
        self.queue.place(&id, &order).map_err(|error| crate::fetching::refusal(&error))?;
        let started = match self.start() {
            Ok(started) => started,
            Err(error) => {
                self.queue.withdraw(&id);
                self.queue.forget(&id);
                return Err(error);
            }
        };
        tracing::info!(model = order.model, id, "pull ordered");
        tokio::spawn(follow(Arc::clone(self), Arc::clone(core), request, id, started));
        Ok(())
    }

    fn start(&self) -> Result<Option<Child>> {
        let Starter::Daemon(program) = &self.starter else { return Ok(None) };
        let mut command = Command::new(program);
        command.args(["models", "pull", "--queued"]).stdin(Stdio::null()).stdout(Stdio::null());
        // It is none of the supervisor's business.
        command.env_remove("NOTIFY_SOCKET").env_remove("WATCHDOG_USEC");
        let child = command.spawn().map_err(|error| {
            Error::unavailable("the fetching process", format!("{} cannot be started ({error})", program.display()))
        })?;
        Ok(Some(child))
    }
}

/// Tells the request how its order goes.
async fn follow(fetch: Arc<Fetch>, core: Arc<Core>, request: Arc<Request>, id: String, mut child: Option<Child>) {
    let (queue, feed) = (&fetch.queue, request.feed());
    let mut served = Instant::now();
    let mut told = (0, 0);
    loop {
        tokio::time::sleep(GLANCE).await;
        let report = queue.report(&id).unwrap_or_default();
        if (report.done, report.total) != told {
            told = (report.done, report.total);
            feed.progress(report.done, report.total);
        }
        // Read before the child's end is looked at: it tells first and ends then.
        let ended = child.as_mut().is_some_and(|child| !matches!(child.try_wait(), Ok(None)));
        if queue.is_served() {
            served = Instant::now();
        }
        match report.answer {
            Some(Answer::Done { model, .. }) => {
                // A model that is in place is so even if the configuration cannot be read again.
                let outcome = Outcome { model: Some(appeared(&fetch, &core, &model).await), ..Outcome::default() };
                feed.end(RequestState::Done, outcome);
                break;
            }
            Some(Answer::Failed { error, message }) => {
                feed.fail(&Error::from_name(&error, message.clone()).unwrap_or(Error::Internal(message)));
                break;
            }
            Some(Answer::Cancelled) => {
                feed.cancel();
                break;
            }
            None if request.is_over() => break,
            None if ended && queue.report(&id).is_none_or(|report| report.answer.is_none()) && !queue.is_served() => {
                feed.fail(&Error::unavailable("the fetching process", "it ended without an answer; its log says why"));
                break;
            }
            None if served.elapsed() > UNSERVED => {
                feed.fail(&Error::unavailable(
                    "the fetching unit",
                    "nobody took the order; `systemctl --user enable --now eddy-fetch.path`, or `eddy models pull`",
                ));
                break;
            }
            None => {}
        }
    }
    queue.withdraw(&id);
    queue.forget(&id);
    if let Some(mut child) = child {
        // It ends with its last order; whoever waits for it is not the runtime.
        tokio::task::spawn_blocking(move || child.wait());
    }
}

/// The model's object, once it is on the bus.
async fn appeared(fetch: &Fetch, core: &Core, name: &str) -> zbus::OwnedObjectPath {
    let (send, done) = oneshot::channel();
    if fetch.reloads.send(send).await.is_ok()
        && let Ok(Err(error)) = done.await
    {
        tracing::error!(%error, "the model folders were not read again");
    }
    let mut statuses = core.engine.statuses();
    let there = statuses.wait_for(|statuses| statuses.iter().any(|status| status.folder.name == name));
    let _ = tokio::time::timeout(APPEARING, async { there.await.is_ok() }).await;
    let path = path(Bus::Admin, Collection::Model(name));
    let server = core.admin.object_server();
    let begun = Instant::now();
    while server.interface::<_, super::model::Model>(&path).await.is_err() && begun.elapsed() < APPEARING {
        tokio::time::sleep(GLANCE / 10).await;
    }
    path
}
