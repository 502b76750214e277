//! What the person says on its way from the voice's thread to the engine's, with what is to be done about it.

use std::sync::{Mutex, MutexGuard, PoisonError};

use eddy_ipc::Error;

/// What the person says, on its way to the job, and what is to be done about it.
#[derive(Debug)]
pub struct Utterance {
    state: Mutex<Orders>,
}

#[derive(Debug)]
pub(super) struct Orders {
    pub samples: Vec<f32>,
    pub wish: Wish,
    pub ended: Option<Result<(), Error>>,
}

/// What is to be done about an utterance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// The person speaks.
    Grow,
    /// The person may have finished: answer the first `samples` ahead, and tell nobody.
    Prepare {
        /// Counts the likely pauses.
        number: u32,
        /// How much of the utterance is meant.
        samples: usize,
    },
    /// The person has finished; `number` is that of the last preparation, or a new one.
    Answer {
        /// The preparation that is the answer.
        number: u32,
        /// How much of the utterance is meant.
        samples: usize,
    },
    /// The answer ends here: what was played of it stays.
    Cut,
    /// The answer was heard to its end.
    Keep,
    /// As if nothing had been said.
    Drop,
}

impl Default for Utterance {
    fn default() -> Self {
        Self { state: Mutex::new(Orders { samples: Vec::new(), wish: Wish::Grow, ended: None }) }
    }
}

impl Utterance {
    /// Adds what was heard.
    pub fn push(&self, samples: &[f32]) {
        self.state().samples.extend_from_slice(samples);
    }

    /// Says what is to be done.
    pub fn wish(&self, wish: Wish) {
        self.state().wish = wish;
    }

    /// How the job ended, once it has; the error comes once.
    pub fn ended(&self) -> Option<Result<(), Error>> {
        let mut state = self.state();
        let ended = state.ended.take()?;
        state.ended = Some(Ok(()));
        Some(ended)
    }

    pub(super) fn state(&self) -> MutexGuard<'_, Orders> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
