//! The watch over steps: one that does not end is stopped through the model's brake.
//!
//! A thread of its own, because the engine's is the one that is stuck. It sleeps while nothing runs.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::job::Brake;

/// The engine's side of the watch.
pub(super) struct Watch {
    shared: Arc<Shared>,
    thread: Option<std::thread::JoinHandle<()>>,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    limit: Duration,
}

#[derive(Default)]
struct State {
    running: Option<Running>,
    asleep: bool,
    ended: bool,
}

struct Running {
    since: Instant,
    brake: Arc<dyn Brake>,
    gives_way: bool,
    stopped: Option<Why>,
}

/// Why a step was stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    /// It did not end, or the engine does.
    ForGood,
    /// A person at the microphone waits; it is done again.
    GaveWay,
}

impl Running {
    fn stop(&mut self, why: Why) {
        if self.stopped != Some(Why::ForGood) {
            self.stopped = Some(why);
            self.brake.set();
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watch {
    /// Starts the thread; a step may take up to `limit`.
    pub fn start(limit: Duration) -> std::io::Result<Self> {
        let shared = Arc::new(Shared { state: Mutex::default(), changed: Condvar::new(), limit });
        let theirs = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("step-watch".into()).spawn(move || run(&theirs))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// A step begins; whether it may be stopped for somebody at the microphone.
    pub fn begin(&self, brake: Arc<dyn Brake>, gives_way: bool) {
        let mut state = self.shared.state();
        state.running = Some(Running { since: Instant::now(), brake, gives_way, stopped: None });
        if state.asleep {
            self.shared.changed.notify_one();
        }
    }

    /// The step has ended; why it was stopped, if it was.
    pub fn end(&self) -> Option<Why> {
        let running = self.shared.state().running.take()?;
        if running.stopped.is_some() {
            running.brake.clear();
        }
        running.stopped
    }

    /// Stops the step that runs now, if one does. For ending the engine.
    pub fn stopper(&self) -> impl Fn() + Send + Sync + use<> {
        let shared = Arc::clone(&self.shared);
        move || {
            if let Some(running) = &mut shared.state().running {
                running.stop(Why::ForGood);
            }
        }
    }

    /// Stops the step that runs now, if it can give way.
    pub fn hurrier(&self) -> impl Fn() + Send + Sync + use<> {
        let shared = Arc::clone(&self.shared);
        move || {
            if let Some(running) = shared.state().running.as_mut().filter(|running| running.gives_way) {
                running.stop(Why::GaveWay);
            }
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.shared.state().ended = true;
        self.shared.changed.notify_one();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn run(shared: &Shared) {
    let mut state = shared.state();
    while !state.ended {
        let wait = match &mut state.running {
            None => None,
            Some(running) => {
                let left = shared.limit.saturating_sub(running.since.elapsed());
                if left.is_zero() {
                    running.stop(Why::ForGood);
                }
                // A stopped step may take its time; a next one begins with a full limit.
                Some(if left.is_zero() { shared.limit } else { left })
            }
        };
        state = match wait {
            None => {
                state.asleep = true;
                let mut woken = shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                woken.asleep = false;
                woken
            }
            Some(wait) => shared.changed.wait_timeout(state, wait).unwrap_or_else(PoisonError::into_inner).0,
        };
    }
}
