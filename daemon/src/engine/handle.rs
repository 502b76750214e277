//! The engine as the rest of the daemon holds it: admission, choosing a model, commands.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crossbeam_channel::{Sender, TrySendError};
use eddy_ipc::{Error, ModelState, Result};
use tokio::sync::{oneshot, watch};

use super::caller::Ticket;
use super::job::{Job, Loader, Urgency};
use super::slot::{Entry, Folder, Task};
use super::status::{Counters, ModelStatus};
use super::thread::{Answer, Command, Ties, Worker};
use super::watch::Watch;

/// Commands that may be on their way to the thread. Jobs are counted apart, by [`Permit`].
const COMMANDS: usize = 1024;

/// Waits for the engine's answer, which comes between two of its steps.
///
/// # Errors
/// The answer's, and [`Error::Unavailable`] when the engine has ended.
pub async fn answer(begin: impl FnOnce(Answer) -> Result<()>) -> Result<()> {
    let (send, answered) = oneshot::channel();
    begin(Box::new(move |result| drop(send.send(result))))?;
    answered.await.unwrap_or_else(|_| Err(Error::unavailable("the engine", "the daemon is ending")))
}

/// How the engine runs.
#[derive(Debug, Clone, PartialEq)]
pub struct EngineOptions {
    /// Jobs waiting or running, of all callers together.
    pub queue: u32,
    /// Bytes of weights in memory at a time.
    pub budget: u64,
    /// How long a model may be idle; for ever if `None`.
    pub idle: Option<Duration>,
    /// Models that are never unloaded.
    pub pinned: Vec<String>,
    /// How long one step may take before it is stopped.
    pub step_limit: Duration,
    /// How often the heart beats at least.
    pub beat: Duration,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            queue: 256,
            budget: u64::MAX,
            idle: None,
            pinned: Vec::new(),
            step_limit: Duration::from_secs(20),
            beat: Duration::from_secs(10),
        }
    }
}

/// Which model a caller wants.
#[derive(Debug, Clone, Copy)]
pub struct Choice<'a> {
    /// What it has to be able to do.
    pub task: Task,
    /// The one that the caller names.
    pub named: Option<&'a str>,
    /// The one that the configuration names, or nothing.
    pub preferred: &'a str,
}

/// The engine. Clones are the same one; it ends when [`Self::stop`] is called.
pub struct Engine<M> {
    shared: Arc<Shared<M>>,
}

impl<M> Clone for Engine<M> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

struct Shared<M> {
    commands: Sender<Command<M>>,
    gate: Arc<Gate>,
    nudged: Arc<AtomicBool>,
    ending: Arc<AtomicBool>,
    statuses: watch::Receiver<Arc<Vec<ModelStatus>>>,
    counters: Arc<Counters>,
    stop_step: Box<dyn Fn() + Send + Sync>,
    hurried: Arc<AtomicBool>,
    stop_for_voice: Box<dyn Fn() + Send + Sync>,
    thread: Mutex<Option<std::thread::JoinHandle<()>>>,
}

impl<M: Send + 'static> Engine<M> {
    /// Starts the thread with the models of `folders`. `heartbeat` is called on the thread, between steps and while
    /// there is nothing to do.
    ///
    /// # Errors
    /// When the system refuses a thread.
    pub fn start(
        loader: Arc<dyn Loader<M>>,
        folders: Vec<Folder>,
        options: EngineOptions,
        heartbeat: impl FnMut() + Send + 'static,
    ) -> std::io::Result<Self> {
        let (commands, received) = crossbeam_channel::bounded(COMMANDS);
        let (status, statuses) = watch::channel(Arc::new(Vec::new()));
        let gate = Arc::new(Gate { limit: AtomicUsize::new(options.queue as usize), inside: AtomicUsize::new(0) });
        let watch = Watch::start(options.step_limit)?;
        let stop_step = Box::new(watch.stopper());
        let stop_for_voice = Box::new(watch.hurrier());
        let hurried = Arc::new(AtomicBool::new(false));
        let counters = Arc::new(Counters::default());
        let (nudged, ending) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let ties = Ties {
            watch,
            status,
            counters: Arc::clone(&counters),
            nudged: Arc::clone(&nudged),
            hurried: Arc::clone(&hurried),
            ending: Arc::clone(&ending),
            heartbeat: Box::new(heartbeat),
        };
        let worker = Worker::new(loader, options, folders, ties);
        let thread = std::thread::Builder::new().name("engine".into()).spawn(move || worker.run(&received))?;
        let thread = Mutex::new(Some(thread));
        let shared =
            Shared { commands, gate, nudged, statuses, counters, ending, stop_step, hurried, stop_for_voice, thread };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// The model that serves `choice`.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Unsupported`] when it is for something else, [`Error::ModelMissing`],
    /// [`Error::ModelFailed`] when the folder is known to hold no usable model.
    pub fn choose(&self, choice: Choice<'_>) -> Result<Arc<str>> {
        let statuses = self.shared.statuses.borrow();
        let named = choice.named.or(Some(choice.preferred).filter(|name| !name.is_empty()));
        let found = match named {
            Some(name) => {
                let found = statuses.iter().find(|status| status.folder.name == name);
                Some(found.ok_or_else(|| Error::not_found("model", name))?)
            }
            None => {
                // What leaves the daemon does so only where somebody has named it.
                let here = statuses.iter().filter(|status| status.folder.remote.is_none());
                let mut able = here.filter(|status| status.folder.task == Some(choice.task));
                let first = able.clone().next();
                able.find(|status| status.state != ModelState::Failed).or(first)
            }
        };
        let found = found.ok_or_else(|| Error::model_missing(choice.task.name()))?;
        match found.folder.task {
            Some(task) if task == choice.task => Ok(found.folder.name.as_str().into()),
            Some(task) => Err(Error::Unsupported(format!(
                "the model {} is for {} and cannot do {}",
                found.folder.name,
                task.name(),
                choice.task.name()
            ))),
            None => Err(Error::model_failed(&found.folder.name, &found.reason)),
        }
    }

    /// Whether another engine serves a model.
    #[must_use]
    pub fn is_remote(&self, model: &str) -> bool {
        let statuses = self.shared.statuses.borrow();
        statuses.iter().any(|status| status.folder.name == model && status.folder.remote.is_some())
    }

    /// Puts a job into the queue and tells how many are before it. After an error the job has been dropped, and its
    /// `end` is not called.
    ///
    /// # Errors
    /// [`Error::Busy`] when the queue is full, [`Error::Unavailable`] when the engine has ended.
    pub fn submit(
        &self,
        job: Box<dyn Job<M>>,
        model: Arc<str>,
        urgency: Urgency,
        ticket: Arc<Ticket>,
    ) -> Result<usize> {
        let (permit, before) = self.shared.gate.enter()?;
        self.send(Command::Submit(Entry { job, ticket, urgency, model, _permit: permit }))?;
        if urgency == Urgency::Voice {
            self.hurry();
        }
        Ok(before)
    }

    /// A person at the microphone waits: stops the step that runs, if it is nobody's there and can be done again.
    pub fn hurry(&self) {
        self.shared.hurried.store(true, Ordering::Release);
        (self.shared.stop_for_voice)();
    }

    /// Has the thread drop what nobody wants any more, now and not when its turn comes.
    pub fn nudge(&self) {
        // One nudge on its way is as good as many.
        if !self.shared.nudged.swap(true, Ordering::AcqRel) {
            let _ = self.shared.commands.try_send(Command::Nudge);
        }
    }

    /// Does `work` to a model between two steps, if it is in memory.
    ///
    /// # Errors
    /// As for [`Self::submit`].
    pub fn tidy(&self, model: Arc<str>, work: impl FnOnce(&mut M) + Send + 'static) -> Result<()> {
        self.send(Command::Tidy { model, work: Box::new(work) })
    }

    /// Begins to load a model; `answer` is told whether it may.
    ///
    /// # Errors
    /// As for [`Self::submit`].
    pub fn load(&self, model: &str, answer: impl FnOnce(Result<()>) + Send + 'static) -> Result<()> {
        self.send(Command::Load { model: model.into(), answer: Box::new(answer) })
    }

    /// Unloads a model that nobody uses; `answer` is told whether it was.
    ///
    /// # Errors
    /// As for [`Self::submit`].
    pub fn unload(&self, model: &str, answer: impl FnOnce(Result<()>) + Send + 'static) -> Result<()> {
        self.send(Command::Unload { model: model.into(), answer: Box::new(answer) })
    }

    /// Takes new options; the step limit and the heart's beat stay as they were at the start.
    ///
    /// # Errors
    /// As for [`Self::submit`].
    pub fn configure(&self, options: EngineOptions) -> Result<()> {
        self.shared.gate.limit.store(options.queue as usize, Ordering::Relaxed);
        self.send(Command::Configure(options))
    }

    /// Takes a new listing of the model folders; `answer` is told when the statuses show it.
    ///
    /// # Errors
    /// As for [`Self::submit`].
    pub fn catalog(&self, folders: Vec<Folder>, answer: impl FnOnce(Result<()>) + Send + 'static) -> Result<()> {
        self.send(Command::Catalog { folders, answer: Box::new(answer) })
    }

    /// Looks whether files of models in memory are about to be changed, and lets those models go.
    ///
    /// # Errors
    /// As for [`Self::submit`].
    pub fn inspect(&self) -> Result<()> {
        self.send(Command::Inspect)
    }

    /// Every model as it stands, and a way to wait for changes.
    #[must_use]
    pub fn statuses(&self) -> watch::Receiver<Arc<Vec<ModelStatus>>> {
        self.shared.statuses.clone()
    }

    /// Numbers since the start.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.shared.counters
    }

    /// Jobs that wait or run.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.shared.gate.inside.load(Ordering::Relaxed)
    }

    /// Ends the thread: the step that runs is stopped, every job ends as cancelled. Waits for it.
    pub fn stop(&self) {
        self.shared.ending.store(true, Ordering::Release);
        (self.shared.stop_step)();
        // The thread empties the channel between steps, so this waits for one step at most.
        let _ = self.shared.commands.send(Command::Stop);
        let thread = self.shared.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            let _ = thread.join();
        }
    }

    fn send(&self, command: Command<M>) -> Result<()> {
        self.shared.commands.try_send(command).map_err(|error| match error {
            TrySendError::Full(_) => Error::busy(self.waiting()),
            TrySendError::Disconnected(_) => Error::unavailable("the engine", "the daemon is ending"),
        })
    }
}

/// Bounds how many jobs are in the engine.
struct Gate {
    limit: AtomicUsize,
    inside: AtomicUsize,
}

impl Gate {
    fn enter(self: &Arc<Self>) -> Result<(Permit, usize)> {
        let limit = self.limit.load(Ordering::Relaxed);
        self.inside
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |inside| (inside < limit).then_some(inside + 1))
            .map(|before| (Permit(Arc::clone(self)), before))
            .map_err(Error::busy)
    }
}

/// One place in the engine, given back when it is dropped.
pub(super) struct Permit(Arc<Gate>);

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.inside.fetch_sub(1, Ordering::AcqRel);
    }
}
