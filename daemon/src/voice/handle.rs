//! The live voice as the rest of the program holds it: orders in, states out.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crossbeam_channel::{Sender, TrySendError};
use eddy_config::Config;
use eddy_ipc::{Error, Result};
use eddy_models::RuntimeOptions;
use tokio::sync::{oneshot, watch};

use super::live::Live;
use super::status::{Observer, Status};
use crate::engine::Engine;
use crate::jobs::{Audience, Model, SoundLine};

/// Orders that may be on their way. They come from people and programs, not from sound.
const ORDERS: usize = 64;

pub(super) enum Order {
    Mute(bool, Option<oneshot::Sender<()>>),
    Listen(Option<Arc<dyn Audience>>, oneshot::Sender<Result<()>>),
    StopListening,
    Interrupt,
    Play(Arc<SoundLine>),
    Suspend(Option<String>, Option<oneshot::Sender<()>>),
    Configure(Arc<Config>),
    End,
}

/// What the voice is made of.
pub struct Parts {
    /// What runs the models.
    pub engine: Engine<Model>,
    /// How the runtime of the small listening models is started.
    pub runtime: RuntimeOptions,
    /// The configuration.
    pub config: Arc<Config>,
    /// Whether it starts muted.
    pub muted: bool,
    /// Hears of turns that nobody asked for: those of the open microphone.
    pub audience: Option<Arc<dyn Audience>>,
    /// Hears of every change of the state.
    pub observer: Observer,
}

/// The voice. It ends when this is dropped.
pub struct Voice {
    orders: Sender<Order>,
    statuses: watch::Receiver<Status>,
    level: Arc<AtomicU32>,
    thread: Mutex<Option<std::thread::JoinHandle<()>>>,
}

impl std::fmt::Debug for Voice {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Voice").finish_non_exhaustive()
    }
}

impl Voice {
    /// Starts the thread. Devices are opened when they are needed.
    ///
    /// # Errors
    /// When the system refuses a thread.
    pub fn start(parts: Parts) -> std::io::Result<Self> {
        let (orders, received) = crossbeam_channel::bounded(ORDERS);
        let level = Arc::new(AtomicU32::new(0));
        let (live, statuses) = Live::new(parts, received, Arc::clone(&level));
        let thread = std::thread::Builder::new().name("voice".into()).spawn(move || live.run())?;
        Ok(Self { orders, statuses, level, thread: Mutex::new(Some(thread)) })
    }

    /// Closes the microphone, or opens it again as far as the mode says; returns when that is done.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when the voice has ended.
    pub async fn mute(&self, muted: bool) -> Result<()> {
        let (done, wait) = oneshot::channel();
        self.send(Order::Mute(muted, Some(done)))?;
        wait.await.map_err(|_| ended())
    }

    /// Gives the turn to the person; returns when the microphone is open.
    ///
    /// # Errors
    /// [`Error::Muted`], [`Error::Unavailable`] with the device and the remedy, and those of choosing a model.
    pub async fn listen(&self, audience: Option<Arc<dyn Audience>>) -> Result<()> {
        let (done, wait) = oneshot::channel();
        self.send(Order::Listen(audience, done))?;
        wait.await.map_err(|_| ended())?
    }

    /// As [`Self::listen`] and [`Self::mute`], for a program without a runtime.
    ///
    /// # Errors
    /// As for [`Self::listen`].
    pub fn listen_blocking(&self, audience: Option<Arc<dyn Audience>>) -> Result<()> {
        let (done, wait) = oneshot::channel();
        self.send(Order::Listen(audience, done))?;
        wait.blocking_recv().map_err(|_| ended())?
    }

    /// As [`Self::mute`], for a program without a runtime.
    ///
    /// # Errors
    /// As for [`Self::mute`].
    pub fn mute_blocking(&self, muted: bool) -> Result<()> {
        let (done, wait) = oneshot::channel();
        self.send(Order::Mute(muted, Some(done)))?;
        wait.blocking_recv().map_err(|_| ended())
    }

    /// Mutes or unmutes without waiting; for the holder of a lock that has gone.
    ///
    /// # Errors
    /// As for [`Self::mute`].
    pub fn mute_soon(&self, muted: bool) -> Result<()> {
        self.send(Order::Mute(muted, None))
    }

    /// Ends the person's turn and has it answered.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when the voice has ended.
    pub fn stop_listening(&self) -> Result<()> {
        self.send(Order::StopListening)
    }

    /// Ends the reply that is made or spoken.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when the voice has ended.
    pub fn interrupt(&self) -> Result<()> {
        self.send(Order::Interrupt)
    }

    /// Plays a line of sound behind what waits already.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when the voice has ended, [`Error::Busy`].
    pub fn play(&self, line: Arc<SoundLine>) -> Result<()> {
        self.send(Order::Play(line))
    }

    /// Closes all streams for this reason, or lets them be opened again; returns when that is done.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when the voice has ended.
    pub async fn suspend(&self, reason: Option<String>) -> Result<()> {
        let (done, wait) = oneshot::channel();
        self.send(Order::Suspend(reason, Some(done)))?;
        wait.await.map_err(|_| ended())
    }

    /// Takes another configuration.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when the voice has ended.
    pub fn configure(&self, config: Arc<Config>) -> Result<()> {
        self.send(Order::Configure(config))
    }

    /// The voice as it stands, and a way to wait for changes.
    #[must_use]
    pub fn statuses(&self) -> watch::Receiver<Status> {
        self.statuses.clone()
    }

    /// How loud the microphone is now, RMS of full scale.
    #[must_use]
    pub fn level(&self) -> f32 {
        f32::from_bits(self.level.load(Ordering::Relaxed))
    }

    /// Ends it and waits for that.
    pub fn stop(&self) {
        let _ = self.orders.send(Order::End);
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            let _ = thread.join();
        }
    }

    fn send(&self, order: Order) -> Result<()> {
        self.orders.try_send(order).map_err(|error| match error {
            TrySendError::Full(_) => Error::Busy("the voice has too many orders waiting; try again later".into()),
            TrySendError::Disconnected(_) => ended(),
        })
    }
}

impl Drop for Voice {
    fn drop(&mut self) {
        self.stop();
    }
}

fn ended() -> Error {
    Error::unavailable("the voice", "the program is ending")
}
