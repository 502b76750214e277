//! What can be seen of the engine from outside, without asking its thread.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use eddy_ipc::ModelState;

use super::slot::Folder;

/// One model, as others see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelStatus {
    /// What its folder holds.
    pub folder: Folder,
    /// How it stands.
    pub state: ModelState,
    /// Why it failed, or what was repaired or is missing.
    pub reason: String,
    /// Whether it is kept in memory when it is idle.
    pub resident: bool,
}

/// Upper ends of the step histogram's buckets in milliseconds, around the 80 ms of a frame of speech.
pub const STEP_BUCKETS: [u64; 8] = [5, 10, 20, 40, 80, 160, 640, 2_560];

/// Numbers since the start.
#[derive(Debug, Default)]
pub struct Counters {
    /// Jobs that ended as asked.
    pub done: AtomicU64,
    /// Jobs that were cancelled, or whose caller left.
    pub cancelled: AtomicU64,
    /// Jobs that failed.
    pub failed: AtomicU64,
    /// Steps that were stopped because they did not end.
    pub stopped_steps: AtomicU64,
    /// Models brought into memory.
    pub loads: AtomicU64,
    /// Models taken out of memory.
    pub unloads: AtomicU64,
    /// Microseconds of all steps.
    pub step_time: AtomicU64,
    /// Steps by how long they took; the last is for all longer ones.
    pub steps: [AtomicU64; STEP_BUCKETS.len() + 1],
}

impl Counters {
    pub(super) fn add(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn step(&self, took: Duration) {
        let bucket = STEP_BUCKETS.iter().position(|end| took <= Duration::from_millis(*end));
        Self::add(&self.steps[bucket.unwrap_or(STEP_BUCKETS.len())]);
        self.step_time.fetch_add(took.as_micros() as u64, Ordering::Relaxed);
    }
}
