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
    stopped: bool,
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

    /// A step begins.
    pub fn begin(&self, brake: Arc<dyn Brake>) {
        let mut state = self.shared.state();
        state.running = Some(Running { since: Instant::now(), brake, stopped: false });
        if state.asleep {
            self.shared.changed.notify_one();
        }
    }

    /// The step has ended; whether it had to be stopped.
    pub fn end(&self) -> bool {
        let running = self.shared.state().running.take();
        let stopped = running.as_ref().is_some_and(|running| running.stopped);
        if let Some(running) = running.filter(|running| running.stopped) {
            running.brake.clear();
        }
        stopped
    }

    /// Stops the step that runs now, if one does. For ending the engine.
    pub fn stopper(&self) -> impl Fn() + Send + Sync + use<> {
        let shared = Arc::clone(&self.shared);
        move || {
            if let Some(running) = &mut shared.state().running {
                running.stopped = true;
                running.brake.set();
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
                if left.is_zero() && !running.stopped {
                    running.stopped = true;
                    running.brake.set();
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
