//! The one thread that owns every ONNX session.
//!
//! Work is a queue of [`Job`]s that advance one step at a time. Between two steps the thread takes the most urgent job:
//! voice before interactive before batch, callers in turn inside a class, a caller's own jobs in their order. Nothing
//! here waits: a full queue is an error at once, a job whose model is not in memory steps aside while a helper thread
//! loads it, a job whose output nobody takes steps aside until there is room. What is cancelled, or whose caller has
//! gone, is dropped at the next step; a step that does not end is stopped.

mod caller;
pub mod catalog;
mod handle;
mod job;
mod queue;
mod room;
mod slot;
mod status;
mod thread;
mod watch;

pub use caller::{Caller, Ticket};
pub use handle::{Choice, Engine, EngineOptions, answer};
pub use job::{Brake, Ending, Guard, Job, Loaded, Loader, Step, Urgency};
pub use slot::{Folder, Task};
pub use status::{Counters, ModelStatus, STEP_BUCKETS};

#[cfg(test)]
mod tests;
