//! The engine's thread: what it does between two steps, and the steps.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, select};
use eddy_ipc::{Error, Result};
use tokio::sync::watch;

use super::handle::EngineOptions;
use super::job::{Ending, Loaded, Loader, Step, Urgency};
use super::queue::Queue;
use super::slot::{Entry, Folder, Slot, State};
use super::status::{Counters, ModelStatus};
use super::watch::{Watch, Why};

mod residence;

/// How soon a job whose output was full is tried again: a quarter of a frame of speech.
const RETRY_FULL: Duration = Duration::from_millis(20);
/// How soon a model that could not be loaded is tried again by a request.
const RETRY_FAILED: Duration = Duration::from_secs(10);
/// Why a model was let go.
const CHANGED: &str = "its files were changed while it was in memory; try again when they are whole";
/// Commands that are looked at between two steps, so that a flood of them does not keep jobs from going on.
const COMMANDS_A_STEP: usize = 64;

pub(super) type Answer = Box<dyn FnOnce(Result<()>) + Send>;

pub(super) enum Command<M> {
    Submit(Entry<M>),
    Nudge,
    Tidy { model: Arc<str>, work: Box<dyn FnOnce(&mut M) + Send> },
    Load { model: String, answer: Answer },
    Unload { model: String, answer: Answer },
    Configure(EngineOptions),
    Catalog { folders: Vec<Folder>, answer: Answer },
    Inspect,
    Stop,
}

/// What connects the thread with the rest.
pub(super) struct Ties {
    pub watch: Watch,
    pub status: watch::Sender<Arc<Vec<ModelStatus>>>,
    pub counters: Arc<Counters>,
    /// A nudge is on its way.
    pub nudged: Arc<AtomicBool>,
    /// Somebody at the microphone waits: what the voice wants is looked at before the next step.
    pub hurried: Arc<AtomicBool>,
    /// No step begins any more.
    pub ending: Arc<AtomicBool>,
    pub heartbeat: Box<dyn FnMut() + Send>,
}

type LoadResult<M> = (String, std::result::Result<Loaded<M>, String>);

pub(super) struct Worker<M> {
    loader: Arc<dyn Loader<M>>,
    options: EngineOptions,
    slots: BTreeMap<String, Slot<M>>,
    /// The slots' names in the order of the catalog.
    order: Vec<String>,
    queue: Queue<Entry<M>>,
    /// Jobs whose output is full, and when they are tried again.
    full: Vec<(Instant, Entry<M>)>,
    /// Models that are wanted, the first wanted first. One is loaded at a time: two would only share the disk.
    wanted: Vec<String>,
    loading: Option<JoinHandle<()>>,
    loads: (Sender<LoadResult<M>>, Receiver<LoadResult<M>>),
    ties: Ties,
    /// The statuses have to be published again.
    changed: bool,
    last_beat: Option<Instant>,
}

impl<M: Send + 'static> Worker<M> {
    pub fn new(loader: Arc<dyn Loader<M>>, options: EngineOptions, folders: Vec<Folder>, ties: Ties) -> Self {
        let mut worker = Self {
            loader,
            options,
            slots: BTreeMap::new(),
            order: Vec::new(),
            queue: Queue::new(),
            full: Vec::new(),
            wanted: Vec::new(),
            loading: None,
            loads: crossbeam_channel::bounded(1),
            ties,
            changed: true,
            last_beat: None,
        };
        worker.catalog(folders);
        // Before anybody asks: a daemon that has just started knows its models.
        worker.publish();
        worker
    }

    pub fn run(mut self, commands: &Receiver<Command<M>>) {
        while self.attend(commands) {
            self.retry_full();
            self.manage();
            self.step();
            // Again, before there may be nothing to do for long: the step may have been a model's last.
            self.manage();
        }
        self.end_all();
        self.publish();
        // A process that ends while the runtime still builds a session ends with a crash.
        self.join_load();
    }

    /// Loads and unloads what has to be, and says so.
    fn manage(&mut self) {
        self.start_loads();
        self.unload_idle();
        self.publish();
    }

    /// Takes commands, waiting for one only if there is nothing else to do. `false` ends the thread.
    fn attend(&mut self, commands: &Receiver<Command<M>>) -> bool {
        let loaded = self.loads.1.clone();
        for turn in 0..COMMANDS_A_STEP {
            self.beat();
            let wait = if turn == 0 { self.patience() } else { Duration::ZERO };
            select! {
                recv(loaded) -> result => {
                    if let Ok((name, result)) = result {
                        self.loaded(&name, result);
                    }
                }
                recv(commands) -> command => match command {
                    _ if self.ties.ending.load(Ordering::Acquire) => return false,
                    Ok(Command::Stop) | Err(_) => return false,
                    Ok(command) => self.obey(command),
                },
                default(wait) => break,
            }
        }
        self.beat();
        true
    }

    /// How long there is nothing to do unless a command comes.
    fn patience(&self) -> Duration {
        if !self.queue.is_empty() {
            return Duration::ZERO;
        }
        let now = Instant::now();
        let idle = self.options.idle.into_iter().flat_map(|idle| {
            let kept = |slot: &&Slot<M>| slot.is_loaded() && slot.is_idle() && !slot.pinned;
            self.slots.values().filter(kept).map(move |slot| slot.last_used + idle)
        });
        let soonest = idle.chain(self.full.iter().map(|(when, _)| *when)).min();
        let wait = soonest.map(|soonest| soonest.saturating_duration_since(now));
        self.options.beat.min(wait.unwrap_or(Duration::MAX))
    }

    fn beat(&mut self) {
        // Twice as often as asked for, so that a step in between does not make it late.
        if self.last_beat.is_none_or(|last| last.elapsed() >= self.options.beat / 2) {
            (self.ties.heartbeat)();
            self.last_beat = Some(Instant::now());
        }
    }

    fn obey(&mut self, command: Command<M>) {
        match command {
            Command::Submit(entry) => self.admit(entry),
            Command::Nudge => self.sweep(),
            Command::Tidy { model, work } => {
                if let Some(model) = self.slots.get_mut(&*model).and_then(Slot::model) {
                    work(model);
                }
            }
            Command::Load { model, answer } => {
                let wanted = self.want(&model);
                self.answer(answer, wanted);
            }
            Command::Unload { model, answer } => {
                let gone = self.let_go(&model);
                self.answer(answer, gone);
            }
            Command::Configure(options) => self.configure(options),
            Command::Catalog { folders, answer } => {
                self.catalog(folders);
                self.answer(answer, Ok(()));
            }
            Command::Inspect => self.inspect(),
            Command::Stop => {}
        }
    }

    /// Who has the answer can see in the statuses what it tells.
    fn answer(&mut self, answer: Answer, result: Result<()>) {
        self.publish();
        answer(result);
    }

    fn admit(&mut self, mut entry: Entry<M>) {
        let Some(slot) = self.slots.get_mut(&*entry.model) else {
            let error = Error::not_found("model", &entry.model);
            return self.end(entry, Ending::Failed(error));
        };
        match &slot.state {
            State::Loaded { .. } if !slot.leaving => {
                slot.users += 1;
                self.queue.push(entry.place(), entry);
            }
            State::Failed { reason, at } if at.elapsed() < RETRY_FAILED => {
                let error = Error::model_failed(&entry.model, reason);
                entry.job.end(None, Ending::Failed(error));
                Counters::add(&self.ties.counters.failed);
            }
            State::Loaded { .. } | State::Failed { .. } | State::Unloaded | State::Wanted | State::Loading => {
                let name = entry.model.to_string();
                slot.waiting.push_back(entry);
                if let Err(error) = self.want(&name) {
                    self.refuse(&name, || Error::from_name(&error.dbus_name(), error.to_string()));
                }
            }
        }
    }

    fn configure(&mut self, options: EngineOptions) {
        self.options = EngineOptions { beat: self.options.beat, ..options };
        for (name, slot) in &mut self.slots {
            slot.pinned = self.options.pinned.contains(name);
        }
        self.changed = true;
        self.shrink();
    }

    fn publish(&mut self) {
        if std::mem::take(&mut self.changed) {
            self.slots.retain(|_, slot| !(slot.vanished && slot.is_idle() && !slot.is_loaded()));
            let in_order = self.order.iter().filter_map(|name| self.slots.get(name));
            let vanished = self.slots.values().filter(|slot| slot.vanished);
            self.ties.status.send_replace(Arc::new(in_order.chain(vanished).map(Slot::status).collect()));
        }
    }

    fn retry_full(&mut self) {
        let now = Instant::now();
        let hurried = self.ties.hurried.swap(false, Ordering::AcqRel);
        let is_due = |when: Instant, entry: &Entry<M>| when <= now || (hurried && entry.urgency == Urgency::Voice);
        for (_, entry) in self.full.extract_if(.., |(when, entry)| is_due(*when, entry)) {
            self.queue.give_back(entry.place(), entry);
        }
    }

    fn step(&mut self) {
        if self.ties.ending.load(Ordering::Acquire) {
            return;
        }
        let Some(mut entry) = self.queue.next() else { return };
        if entry.ticket.is_over() {
            return self.end(entry, Ending::Cancelled);
        }
        let Some(slot) = self.slots.get_mut(&*entry.model) else {
            let error = Error::not_found("model", &entry.model);
            return self.end(entry, Ending::Failed(error));
        };
        slot.last_used = Instant::now();
        let State::Loaded { model, brake, .. } = &mut slot.state else {
            let error = Error::Internal(format!("the model {} left while it was used", entry.model));
            return self.end(entry, Ending::Failed(error));
        };
        let begun = Instant::now();
        let gives_way = entry.urgency != Urgency::Voice && entry.job.can_repeat();
        self.ties.watch.begin(Arc::clone(brake), gives_way);
        let stepped = std::panic::catch_unwind(AssertUnwindSafe(|| entry.job.step(model)));
        let stopped = self.ties.watch.end();
        self.ties.counters.step(begun.elapsed());
        match stepped {
            Ok(Step::Done) => self.end(entry, Ending::Done),
            // Stopped because the daemon ends.
            Ok(Step::Failed(_)) if self.ties.ending.load(Ordering::Acquire) => self.end(entry, Ending::Cancelled),
            Ok(Step::Failed(_)) if stopped == Some(Why::GaveWay) => {
                self.queue.give_back(entry.place(), entry);
            }
            Ok(Step::Failed(_)) if stopped == Some(Why::ForGood) => {
                Counters::add(&self.ties.counters.stopped_steps);
                let error = Error::timed_out("a step of the work", begun.elapsed());
                self.end(entry, Ending::Failed(error));
            }
            Ok(Step::Failed(error)) => self.end(entry, Ending::Failed(error)),
            Ok(Step::Abandoned) => self.end(entry, Ending::Cancelled),
            Ok(Step::More) => self.queue.give_back(entry.place(), entry),
            Ok(Step::Full) => self.full.push((Instant::now() + RETRY_FULL, entry)),
            Err(_) => {
                tracing::error!(model = &*entry.model, "a step panicked; the job ends and the daemon goes on");
                self.end(entry, Ending::Failed(Error::Internal("a step failed; the log has the details".into())));
            }
        }
    }

    /// Ends a job that was counted among its model's users.
    fn end(&mut self, mut entry: Entry<M>, ending: Ending) {
        Counters::add(match &ending {
            Ending::Done => &self.ties.counters.done,
            Ending::Cancelled => &self.ties.counters.cancelled,
            Ending::Failed(_) => &self.ties.counters.failed,
        });
        let slot = self.slots.get_mut(&*entry.model);
        match slot {
            Some(slot) => {
                slot.users = slot.users.saturating_sub(1);
                slot.last_used = Instant::now();
                entry.job.end(slot.model(), ending);
            }
            None => entry.job.end(None, ending),
        }
    }

    /// Ends every job that nobody wants any more, wherever it waits.
    fn sweep(&mut self) {
        self.ties.nudged.store(false, Ordering::Release);
        let mut over = Vec::new();
        self.queue.sweep(|entry| !entry.ticket.is_over(), |entry| over.push(entry));
        over.extend(self.full.extract_if(.., |(_, entry)| entry.ticket.is_over()).map(|(_, entry)| entry));
        for entry in over {
            self.end(entry, Ending::Cancelled);
        }
        for slot in self.slots.values_mut() {
            for mut entry in std::mem::take(&mut slot.waiting) {
                if entry.ticket.is_over() {
                    Counters::add(&self.ties.counters.cancelled);
                    entry.job.end(None, Ending::Cancelled);
                } else {
                    slot.waiting.push_back(entry);
                }
            }
        }
    }

    fn end_all(&mut self) {
        let mut all = Vec::new();
        self.queue.sweep(|_| false, |entry| all.push(entry));
        all.extend(self.full.drain(..).map(|(_, entry)| entry));
        for entry in all {
            self.end(entry, Ending::Cancelled);
        }
        for slot in self.slots.values_mut() {
            for mut entry in std::mem::take(&mut slot.waiting) {
                entry.job.end(None, Ending::Cancelled);
            }
        }
    }
}
