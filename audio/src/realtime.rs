//! The rule for what runs in an audio callback, and its enforcement.
//!
//! A callback moves samples between a device and a ring. It allocates nothing, locks nothing and logs nothing, because
//! each of them can wait for a thread of lower priority. In debug builds a process that installs [`AllocDisabler`] as
//! its global allocator aborts at the first allocation inside [`callback`]; release builds do not check.
//!
//! The thread of the callbacks belongs to the audio system's library, so it is made urgent from outside, by its number.

#[cfg(debug_assertions)]
pub use assert_no_alloc::AllocDisabler;

use std::io;
use std::sync::atomic::{AtomicI32, AtomicU8, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::thread::Thread;
use std::time::{Duration, Instant};

/// Runs the body of an audio callback under the allocation check.
pub fn callback<T>(body: impl FnOnce() -> T) -> T {
    assert_no_alloc::assert_no_alloc(body)
}

/// Why a stream no longer delivers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// The server or the device told so: it went away or must be opened anew.
    Failed(Failure),
    /// No callback came for this long.
    Stalled(Duration),
}

/// What the audio system said when a stream failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Failure {
    /// The device was unplugged or its module unloaded.
    DeviceGone = 1,
    /// The connection to the server broke.
    ServerGone = 2,
    /// Anything else.
    Other = 3,
}

/// The thread that a stream's callbacks run on.
#[derive(Clone)]
pub struct CallbackThread(Arc<Health>);

impl CallbackThread {
    pub(crate) fn new(health: Arc<Health>) -> Self {
        Self(health)
    }

    /// Its number in the system; `None` before the first callback.
    pub fn id(&self) -> Option<i32> {
        Some(self.0.thread.load(Relaxed)).filter(|id| *id != 0)
    }

    /// Asks the system for real-time priority, which needs `RLIMIT_RTPRIO` or a privilege.
    ///
    /// # Errors
    /// The system's, and `NotFound` before the first callback.
    pub fn promote(&self) -> io::Result<()> {
        let id = self.id().ok_or(io::ErrorKind::NotFound)?;
        let parameter = libc::sched_param { sched_priority: PRIORITY };
        // What it starts later is not to be urgent too.
        let policy = libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK;
        // SAFETY: the pointer is to a value that lives through the call; the number of a thread that has gone is refused.
        match unsafe { libc::sched_setscheduler(id, policy, &raw const parameter) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

/// Above every ordinary thread, below the sound server's own.
pub const PRIORITY: i32 = 5;

/// What a stream's callbacks leave behind for others to see; every access is one atomic operation.
pub(crate) struct Health {
    opened: Instant,
    /// Nanoseconds from `opened` to the last callback; 0 before the first.
    last: AtomicU64,
    failure: AtomicU8,
    pub(crate) lost_samples: AtomicU64,
    pub(crate) gaps: AtomicU64,
    pub(crate) latency_ns: AtomicU64,
    /// Nanoseconds from `opened` to when callbacks became due; 0 before the stream was started.
    started: AtomicU64,
    waiter: OnceLock<Thread>,
    /// The system's number of the thread that calls back; 0 before the first callback.
    thread: AtomicI32,
}

impl Health {
    pub(crate) fn new() -> Health {
        Health {
            opened: Instant::now(),
            last: AtomicU64::new(0),
            failure: AtomicU8::new(0),
            lost_samples: AtomicU64::new(0),
            gaps: AtomicU64::new(0),
            latency_ns: AtomicU64::new(0),
            started: AtomicU64::new(0),
            waiter: OnceLock::new(),
            thread: AtomicI32::new(0),
        }
    }

    /// Nanoseconds since the stream was opened, the clock of everything in here.
    pub(crate) fn now(&self) -> u64 {
        self.opened.elapsed().as_nanos() as u64
    }

    /// Called at each callback; wakes the thread that waits for samples.
    pub(crate) fn beat(&self) {
        self.last.store(self.now(), Relaxed);
        if self.thread.load(Relaxed) == 0 {
            self.thread.store(rustix::thread::gettid().as_raw_nonzero().get(), Relaxed);
        }
        if let Some(thread) = self.waiter.get() {
            thread.unpark();
        }
    }

    /// Seconds since the last callback, at most a twentieth: what the device has moved since, if it moves.
    pub(crate) fn since_callback(&self) -> f64 {
        match self.last.load(Relaxed) {
            0 => 0.0,
            last => (self.now().saturating_sub(last) as f64 / 1e9).min(0.05),
        }
    }

    /// Names the calling thread as the one to be woken; the first to ask is it for good.
    pub(crate) fn wake_me(&self) {
        self.waiter.get_or_init(std::thread::current);
    }

    pub(crate) fn start(&self) {
        self.started.store(self.now().max(1), Relaxed);
    }

    /// Keeps the first failure only: one host calls this a hundred thousand times a second once its server is dead.
    pub(crate) fn fail(&self, error: &cpal::Error) {
        let failure = match error.kind() {
            cpal::ErrorKind::Xrun => {
                self.gaps.fetch_add(1, Relaxed);
                return;
            }
            // The stream goes on.
            cpal::ErrorKind::RealtimeDenied | cpal::ErrorKind::DeviceChanged => return,
            cpal::ErrorKind::DeviceNotAvailable => Failure::DeviceGone,
            cpal::ErrorKind::StreamInvalidated | cpal::ErrorKind::HostUnavailable => Failure::ServerGone,
            _ => Failure::Other,
        };
        let _ = self.failure.compare_exchange(0, failure as u8, Relaxed, Relaxed);
        if let Some(thread) = self.waiter.get() {
            thread.unpark();
        }
    }

    /// What is wrong, if anything is; no callback for `patience` is.
    pub(crate) fn trouble(&self, patience: Duration) -> Option<Trouble> {
        match self.failure.load(Relaxed) {
            0 => {}
            1 => return Some(Trouble::Failed(Failure::DeviceGone)),
            2 => return Some(Trouble::Failed(Failure::ServerGone)),
            _ => return Some(Trouble::Failed(Failure::Other)),
        }
        let started = self.started.load(Relaxed);
        let silent = self.now().saturating_sub(self.last.load(Relaxed).max(started));
        let silent = Duration::from_nanos(silent);
        (started > 0 && silent > patience).then_some(Trouble::Stalled(silent))
    }
}
