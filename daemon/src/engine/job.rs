//! What the engine runs: jobs, their steps, and how they end.

use std::sync::Arc;

use eddy_ipc::Error;

use super::slot::Folder;

/// How urgent a job is. The order is that of the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Urgency {
    /// A person at the microphone waits.
    Voice,
    /// A caller waits.
    Interactive,
    /// Nobody waits.
    Batch,
}

impl Urgency {
    /// All of them, the most urgent first.
    pub const ALL: [Self; 3] = [Self::Voice, Self::Interactive, Self::Batch];
}

impl From<eddy_ipc::Priority> for Urgency {
    fn from(priority: eddy_ipc::Priority) -> Self {
        match priority {
            eddy_ipc::Priority::Interactive => Self::Interactive,
            eddy_ipc::Priority::Batch => Self::Batch,
        }
    }
}

/// What one step came to.
#[derive(Debug)]
pub enum Step {
    /// There is more to do.
    More,
    /// The output is full and nothing was computed; try again shortly.
    Full,
    /// The one who reads the output has left, which cancels the job.
    Abandoned,
    /// Everything is done and delivered.
    Done,
    /// The job cannot go on.
    Failed(Error),
}

/// How a job ended.
#[derive(Debug)]
pub enum Ending {
    /// It did all of its work.
    Done,
    /// Somebody cancelled it, or its caller has gone.
    Cancelled,
    /// It could not be done.
    Failed(Error),
}

/// A piece of work on a model of type `M`.
pub trait Job<M>: Send {
    /// Advances by one step: a chunk of a prompt, a token, a frame. The engine does nothing else meanwhile.
    fn step(&mut self, model: &mut M) -> Step;

    /// Whether the next step, stopped on the way, leaves the job as it was. It is stopped for somebody at the microphone
    /// then, and done again later.
    fn can_repeat(&self) -> bool {
        false
    }

    /// Called exactly once, after the last step. `model` is there if it is in memory.
    fn end(&mut self, model: Option<&mut M>, ending: Ending);
}

/// Ends a running graph from another thread.
pub trait Brake: Send + Sync {
    /// Stops what runs, and what would run next.
    fn set(&self);
    /// Lets graphs run again.
    fn clear(&self);
}

impl Brake for eddy_models::Stop {
    fn set(&self) {
        eddy_models::Stop::set(self);
    }
    fn clear(&self) {
        eddy_models::Stop::clear(self);
    }
}

/// Brings a model into memory. Called on a helper thread.
pub trait Loader<M>: Send + Sync {
    /// Loads what `folder` holds.
    ///
    /// # Errors
    /// A sentence about what is wrong with the folder and what to do.
    fn load(&self, folder: &Folder) -> Result<Loaded<M>, String>;
}

/// A model in memory.
pub struct Loaded<M> {
    /// The model.
    pub model: M,
    /// What ends its graphs.
    pub brake: Arc<dyn Brake>,
    /// What was repaired or is missing, for people.
    pub remarks: Vec<String>,
    /// What says whether its files are still as they were. Given up after the model.
    pub guard: Box<dyn Guard>,
}

/// Watches over what a model in memory was read from.
pub trait Guard: Send {
    /// Whether somebody is about to change it, and waits until the model has left.
    fn is_broken(&self) -> bool;
}
