//! Ctrl-C: the first ends the work cleanly, the second at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use eddy_models::{Runtime, Stop};
use signal_hook::consts::{SIGINT, SIGTERM};

/// A flag that the first SIGINT or SIGTERM sets; the second ends the process.
///
/// # Errors
/// When the system refuses a signal handler.
pub fn noted() -> std::io::Result<Arc<AtomicBool>> {
    let signalled = Arc::<AtomicBool>::default();
    for signal in [SIGINT, SIGTERM] {
        // In this order the first signal sets the flag that lets the second one end the process.
        signal_hook::flag::register_conditional_shutdown(signal, 130, Arc::clone(&signalled))?;
        signal_hook::flag::register(signal, Arc::clone(&signalled))?;
    }
    Ok(signalled)
}

/// Whether the person has had enough; ends a running graph too.
#[derive(Debug, Clone)]
pub struct Interrupt {
    asked: Arc<AtomicBool>,
    stop: Stop,
}

impl Interrupt {
    /// Listens for SIGINT and SIGTERM.
    ///
    /// # Errors
    /// When the system refuses a signal handler or a thread.
    pub fn listen(runtime: &Runtime) -> anyhow::Result<Self> {
        let interrupt = Self { asked: Arc::default(), stop: Stop::new(runtime)? };
        noted()?;
        let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM])?;
        let (stop, asked) = (interrupt.stop.clone(), Arc::clone(&interrupt.asked));
        std::thread::Builder::new().name("signals".into()).spawn(move || {
            if signals.forever().next().is_some() {
                // In this order nobody who sees the wish tidies up before the stop has come.
                stop.set();
                asked.store(true, Ordering::Release);
            }
        })?;
        Ok(interrupt)
    }

    /// Whether the person has asked to end.
    #[must_use]
    pub fn asked(&self) -> bool {
        self.asked.load(Ordering::Acquire)
    }

    /// The flag that ends a running graph.
    #[must_use]
    pub fn stop(&self) -> &Stop {
        &self.stop
    }

    /// Lets graphs run again, for what still has to be written.
    pub fn tidy_up(&self) {
        self.stop.clear();
    }
}
