//! Conversations as text: the folder's chat template, and what a caller's words may not do to it.

mod guard;
mod python;
mod template;
pub mod tools;

pub use template::{ChatTemplate, Conversation};
