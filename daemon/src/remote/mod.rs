//! Models that another engine serves, on this machine or another: described by a `remote.toml` in a folder, spoken to in
//! OpenAI's chat protocol, which vLLM and llama.cpp's server both speak.
//!
//! What is asked of such a model leaves the daemon. So it is off unless `models.remote` says otherwise, is never chosen
//! for a caller that named no model, and every result says where it was made.

mod client;
mod description;
mod protocol;

pub use client::{Client, Event, Reply};
pub use description::{Description, FILE, refused_by_unit};
pub use protocol::{Ask, Stream};
