//! Callers and the tickets for their jobs: who still wants something, and how much one caller may want at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use eddy_ipc::{Error, Result};

/// Somebody who asks for work. The engine knows no more of it than that it is the same one.
#[derive(Debug)]
pub struct Caller {
    key: u64,
    gone: AtomicBool,
    held: AtomicU32,
}

impl Caller {
    /// A caller that is there and holds nothing.
    #[must_use]
    pub fn new() -> Arc<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let key = NEXT.fetch_add(1, Ordering::Relaxed);
        Arc::new(Self { key, gone: AtomicBool::new(false), held: AtomicU32::new(0) })
    }

    /// Cancels everything that it asked for, now and later.
    pub fn leave(&self) {
        self.gone.store(true, Ordering::Release);
    }

    /// Whether it has left.
    #[must_use]
    pub fn has_left(&self) -> bool {
        self.gone.load(Ordering::Acquire)
    }

    /// Tickets that it holds.
    #[must_use]
    pub fn held(&self) -> u32 {
        self.held.load(Ordering::Relaxed)
    }

    /// A ticket for one more job.
    ///
    /// # Errors
    /// [`Error::LimitReached`] when it holds `limit` already.
    pub fn ticket(self: &Arc<Self>, limit: u32) -> Result<Arc<Ticket>> {
        self.held
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |held| (held < limit).then_some(held + 1))
            .map_err(|_| Error::limit_reached("requests", u64::from(limit), "limits.requests_per_caller"))?;
        Ok(Arc::new(Ticket { caller: Arc::clone(self), cancelled: AtomicBool::new(false) }))
    }

    pub(super) fn key(&self) -> u64 {
        self.key
    }
}

/// The right to one job; it is the caller's again when the last copy is dropped.
#[derive(Debug)]
pub struct Ticket {
    caller: Arc<Caller>,
    cancelled: AtomicBool,
}

impl Ticket {
    /// Ends the job at its next step. [`super::Engine::nudge`] ends it at once if it is not running.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Release);
    }

    /// Whether nobody wants the job any more.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.cancelled.load(Ordering::Acquire) || self.caller.has_left()
    }

    pub(super) fn caller(&self) -> u64 {
        self.caller.key()
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.caller.held.fetch_sub(1, Ordering::AcqRel);
    }
}
