//! What all interfaces share: the engine, the callers, the rules, the objects, and the way from a call to a job.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Instant;

use eddy_config::{Auto, Capability, Config, Never};
use eddy_ipc::fd::{Outlet, Patience, look, read_whole};
use eddy_ipc::{Bus, Error, ModelState, Options, Priority, Result, SpeakerVoice};
use tokio::sync::Semaphore;
use zbus::Connection;
use zbus::message::Header;

use super::objects::Objects;
use super::peers::{Held, Peer, Peers};
use super::request::Request;
use crate::access::Access;
use crate::card;
use crate::engine::{Choice, Engine, EngineOptions, Job, Task};
use crate::indexes::Shelf;
use crate::jobs::{Model, Pipe};
use crate::memory;
use crate::metrics::{Metrics, Prefixes};
use crate::voice::Voice;

/// Recordings and images that are read at a time, of all callers together. Each takes a thread while its writer is slow.
const READING: usize = 48;

/// How the engine runs by this configuration, with the budget that was set instead of the configured one.
#[must_use]
pub fn engine_options(config: &Config, budget: Option<u64>) -> EngineOptions {
    EngineOptions {
        queue: config.limits.queue,
        budget: budget.unwrap_or(match config.models.memory_budget {
            Auto::Set(bytes) => bytes.0,
            Auto::Auto => half_of_memory(),
        }),
        idle: match config.models.idle_unload {
            Never::Never => None,
            Never::After(idle) => Some(idle),
        },
        pinned: config.models.pinned.clone(),
        ..EngineOptions::default()
    }
}

/// Half of the machine's memory; two gigabytes where that cannot be known.
#[must_use]
pub fn half_of_memory() -> u64 {
    memory::total().map_or(2 << 30, |bytes| bytes / 2)
}

/// Numbers since the start, and of this moment.
#[derive(Debug, Clone)]
pub struct Numbers {
    /// Requests by how they ended.
    pub done: u64,
    pub cancelled: u64,
    pub failed: u64,
    /// Steps that were stopped because they did not end.
    pub stopped_steps: u64,
    /// Models brought into memory, and taken out of it.
    pub loads: u64,
    pub unloads: u64,
    /// Jobs that wait or run.
    pub queue: u64,
    pub callers: u64,
    pub objects: u64,
    /// Weights in memory.
    pub loaded_bytes: u64,
    /// Memory of the process; 0 where that cannot be known.
    pub resident_bytes: u64,
    /// Steps by [`STEP_BUCKETS`](crate::engine::STEP_BUCKETS), and the seconds of all.
    pub steps: Vec<u64>,
    pub step_seconds: f64,
    pub prefixes: Prefixes,
}

/// The daemon as its interfaces see it.
pub struct Core {
    /// What runs the models.
    pub engine: Engine<Model>,
    /// Who may do what.
    pub access: Access,
    /// Who is there.
    pub peers: Peers,
    /// Numbers about requests.
    pub metrics: Metrics,
    /// The indexes.
    pub shelf: Shelf,
    /// The live voice.
    pub voice: Voice,
    /// What callers hold.
    pub objects: Objects,
    /// The connection of `org.eddy.Assistant1`.
    pub assistant: Connection,
    /// The connection of `org.eddy.Admin1`.
    pub admin: Connection,
    config: RwLock<Arc<Config>>,
    /// A budget that was set on the bus and holds until the next reload.
    budget: Mutex<Option<u64>>,
    reading: Arc<Semaphore>,
}

impl std::fmt::Debug for Core {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Core").finish_non_exhaustive()
    }
}

impl Core {
    /// Puts the parts together.
    #[must_use]
    pub fn new(
        engine: Engine<Model>,
        access: Access,
        peers: Peers,
        shelf: Shelf,
        voice: Voice,
        [assistant, admin]: [Connection; 2],
        config: Arc<Config>,
    ) -> Arc<Self> {
        let reading = Arc::new(Semaphore::new(READING));
        let objects = Objects::default();
        Arc::new(Self {
            engine,
            access,
            peers,
            metrics: Metrics::default(),
            shelf,
            voice,
            objects,
            assistant,
            admin,
            config: RwLock::new(config),
            budget: Mutex::default(),
            reading,
        })
    }

    /// The configuration as it is now.
    #[must_use]
    pub fn config(&self) -> Arc<Config> {
        Arc::clone(&self.config.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes another configuration: the rules, the limits, and how the engine runs.
    ///
    /// # Errors
    /// When the engine has ended.
    pub fn configure(&self, config: Config) -> Result<()> {
        self.access.configure(config.access.clone());
        *self.budget.lock().unwrap_or_else(PoisonError::into_inner) = None;
        let options = engine_options(&config, None);
        let config = Arc::new(config);
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&config);
        self.voice.configure(config)?;
        self.engine.configure(options)
    }

    /// Bytes that all loaded models together may take.
    #[must_use]
    pub fn budget(&self) -> u64 {
        let set = *self.budget.lock().unwrap_or_else(PoisonError::into_inner);
        engine_options(&self.config(), set).budget
    }

    /// Sets the budget until the configuration is read again.
    ///
    /// # Errors
    /// When the engine has ended.
    pub fn set_budget(&self, bytes: u64) -> Result<()> {
        *self.budget.lock().unwrap_or_else(PoisonError::into_inner) = Some(bytes);
        self.engine.configure(engine_options(&self.config(), Some(bytes)))
    }

    /// The numbers of this moment.
    #[must_use]
    pub fn numbers(&self) -> Numbers {
        let counters = self.engine.counters();
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let loaded_bytes = {
            let statuses = self.engine.statuses();
            let statuses = statuses.borrow();
            statuses.iter().filter(|status| status.state == ModelState::Loaded).map(|status| status.folder.bytes).sum()
        };
        Numbers {
            done: read(&counters.done),
            cancelled: read(&counters.cancelled),
            failed: read(&counters.failed),
            stopped_steps: read(&counters.stopped_steps),
            loads: read(&counters.loads),
            unloads: read(&counters.unloads),
            queue: self.engine.waiting() as u64,
            callers: self.peers.count() as u64,
            objects: self.objects.count() as u64,
            loaded_bytes,
            resident_bytes: memory::resident().unwrap_or_default(),
            steps: counters.steps.iter().map(read).collect(),
            step_seconds: read(&counters.step_time) as f64 / 1e6,
            prefixes: self.metrics.prefixes(),
        }
    }

    /// The connection of one of the names.
    pub fn connection(&self, bus: Bus) -> &Connection {
        match bus {
            Bus::Assistant => &self.assistant,
            Bus::Admin => &self.admin,
        }
    }

    /// The caller of a method, if it may do this.
    ///
    /// # Errors
    /// [`Error::NotPermitted`].
    pub async fn caller(&self, header: &Header<'_>, capability: Capability) -> Result<Arc<Peer>> {
        let peer = self.anybody(header).await?;
        self.access.check(&peer.identities, capability)?;
        Ok(peer)
    }

    /// The caller of a method that everybody may call who may call at all.
    ///
    /// # Errors
    /// [`Error::NotPermitted`].
    pub async fn anybody(&self, header: &Header<'_>) -> Result<Arc<Peer>> {
        let sender = header.sender().ok_or_else(|| Error::NotPermitted("a call without a sender".into()))?;
        self.peers.identify(sender.as_str()).await
    }

    /// The model that a call is about.
    ///
    /// # Errors
    /// Those of [`Engine::choose`].
    pub fn model(&self, task: Task, options: &Options) -> Result<Arc<str>> {
        let config = self.config();
        let preferred = match task {
            Task::Speech => &config.models.speech,
            Task::Text => &config.models.text,
            Task::Vision => &config.models.vision,
            Task::Retrieval => &config.models.retrieval,
        };
        self.engine.choose(Choice { task, named: options.model.as_deref(), preferred })
    }

    /// The voice that `model` reads aloud in where none is asked for.
    #[must_use]
    pub fn voice_of(&self, model: &str) -> SpeakerVoice {
        let statuses = self.engine.statuses();
        let folder =
            statuses.borrow().iter().find(|status| status.folder.name == model).map(|it| it.folder.path.clone());
        folder.map_or(SpeakerVoice::UkFemale, |folder| card::voice(&folder))
    }

    /// Checks a text that a caller hands over.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for an empty one, [`Error::TooLarge`].
    pub fn check_text(&self, name: &str, text: &str) -> Result<()> {
        let limit = self.config().limits.text_bytes.0;
        if text.trim().is_empty() {
            return Err(Error::invalid_argument(name, "some words; it is empty"));
        }
        if text.len() as u64 > limit {
            return Err(Error::too_large(name, text.len() as u64, limit, "bytes", "limits.text_bytes"));
        }
        Ok(())
    }

    /// A pipe to the caller, with the patience of the configuration.
    #[must_use]
    pub fn pipe(&self, outlet: Outlet) -> Pipe {
        Pipe::new(outlet, self.config().limits.descriptor_timeout)
    }

    /// The pipe for the text, if the caller passed one.
    ///
    /// # Errors
    /// [`Error::InvalidDescriptor`].
    pub fn stream(&self, options: &mut Options) -> Result<Option<Pipe>> {
        options.stream.take().map(|fd| Ok(self.pipe(Outlet::open(fd, "stream")?))).transpose()
    }

    /// Hands a job to the engine; if that fails, the request has failed.
    pub fn submit(&self, request: &Request, job: Box<dyn Job<Model>>, model: Arc<str>, priority: Option<Priority>) {
        let urgency = priority.unwrap_or(Priority::Interactive).into();
        let Some(ticket) = request.submitted() else { return };
        match self.engine.submit(job, model, urgency, ticket) {
            Ok(0) => {}
            Ok(before) => request.feed().queued(before),
            Err(error) => request.feed().fail(&error),
        }
    }

    /// Looks at files that a caller passed and makes room for them among the caller's bytes.
    ///
    /// # Errors
    /// [`Error::InvalidDescriptor`], [`Error::TooLarge`], [`Error::LimitReached`], [`Error::Busy`] when too many are
    /// being read already.
    pub fn intake(&self, peer: &Arc<Peer>, what: Incoming, fds: Vec<OwnedFd>) -> Result<Intake> {
        let limits = &self.config().limits;
        let (argument, most, its_key) = match what {
            Incoming::Recording => ("wav", limits.wav_bytes.0, "limits.wav_bytes"),
            Incoming::Images => ("images", limits.image_bytes.0, "limits.image_bytes"),
        };
        let (mut files, mut wanted) = (Vec::with_capacity(fds.len()), 0_u64);
        for fd in fds {
            let (mut limit, mut key) = (most, its_key);
            wanted += match look(&fd, argument, limit, key)? {
                Some(bytes) => bytes,
                // Nobody knows how much will come, so room is made for the most.
                None => {
                    let left = limits.bytes_per_caller.0.saturating_sub(peer.bytes().saturating_add(wanted)).max(1);
                    if left < limit {
                        (limit, key) = (left, "limits.bytes_per_caller");
                    }
                    limit
                }
            };
            files.push(Passed { fd, limit, key });
        }
        let held = peer.hold_bytes(wanted, limits.bytes_per_caller.0)?;
        let permit = Arc::clone(&self.reading).try_acquire_owned().map_err(|_| Error::busy(READING))?;
        let patience = Patience::from_idle(limits.descriptor_timeout);
        Ok(Intake { files, argument, patience, held, _permit: permit })
    }
}

/// What files that a caller passes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Incoming {
    /// One recording.
    Recording,
    /// Images.
    Images,
}

/// A descriptor with the bytes that may come out of it, and the setting that says so.
#[derive(Debug)]
struct Passed {
    fd: OwnedFd,
    limit: u64,
    key: &'static str,
}

/// Files that are about to be read.
#[derive(Debug)]
pub struct Intake {
    files: Vec<Passed>,
    argument: &'static str,
    /// For all of them together.
    patience: Patience,
    held: Held,
    _permit: tokio::sync::OwnedSemaphorePermit,
}

impl Intake {
    /// Reads them on a thread that may wait, and goes on there with their bytes; an error ends the request.
    pub fn read(self, request: &Arc<Request>, then: impl FnOnce(Vec<Vec<u8>>, Held) + Send + 'static) {
        let request = Arc::clone(request);
        tokio::task::spawn_blocking(move || {
            let Self { files, argument, patience, mut held, _permit } = self;
            let begun = Instant::now();
            let read = files.into_iter().map(|Passed { fd, limit, key }| {
                let total = patience.total.saturating_sub(begun.elapsed());
                read_whole(fd, argument, limit, key, Patience { total, ..patience })
            });
            match read.collect::<Result<Vec<_>>>() {
                // Cancelled while they were read.
                _ if request.is_over() => request.feed().cancel(),
                Ok(files) => {
                    held.shrink(files.iter().map(|bytes| bytes.len() as u64).sum());
                    then(files, held);
                }
                Err(error) => request.feed().fail(&error),
            }
        });
    }
}
