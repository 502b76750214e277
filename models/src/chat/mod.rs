//! Conversations as text: the folder's chat template, and what a caller's words may not do to it.

mod constraint;
mod guard;
mod python;
mod template;
pub mod tools;

pub use constraint::{Constrainer, Constraint};
pub use template::{ChatTemplate, Conversation};
