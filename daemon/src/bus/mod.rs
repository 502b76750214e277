//! The daemon on D-Bus: one file for each interface, and what they share.
//!
//! Methods return at once: what takes time is a request with a path, a job in the engine and signals to its owner. The
//! interfaces that callers use most take their calls one after the other (`spawn = false`), so that a flood is held up
//! in the bus daemon, which bounds it, and not in tasks of ours. They wait for nothing but the bus daemon's word on a
//! caller's identity, which comes over a connection of its own.

mod access;
mod assistant;
mod conversation;
mod core;
mod daemon;
mod fetch;
mod index;
mod login;
mod model;
mod models;
mod mutes;
mod objects;
mod peers;
mod request;
mod retrieval;
mod serve;
mod speech;
mod text;
mod vision;
mod voice;

use std::collections::HashMap;

use zbus::{OwnedVariant, Variant};

pub use self::core::{Core, engine_options, half_of_memory};
pub use daemon::ReloadOrder;
pub use login::{follow as follow_login, system_bus};
pub use peers::Peers;
pub use serve::{Address, Buses, Ended, connect, reconfigured, serve};
pub use voice::{announce, changes};

/// A dictionary as properties give it.
fn owned(dictionary: HashMap<&'static str, Variant<'_>>) -> HashMap<String, OwnedVariant> {
    // No value of ours holds a descriptor, which is the one thing that can fail to be copied.
    dictionary.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value.try_to_owned().ok()?))).collect()
}
