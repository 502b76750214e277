//! Model folders as a service: which there are to be had ([`Catalogue`]), how they are fetched ([`pull`]), and how
//! they are kept on the disk ([`Store`]).
//!
//! The network is used by [`pull`] alone, which belongs into a process of its own: the daemon has none. Nothing that
//! is fetched is executed or unpickled, and nothing appears under a model's name before it is whole and verified.

mod archive;
mod catalogue;
mod choice;
mod digest;
mod error;
mod fetch;
mod hub;
mod import;
mod lock;
mod manifest;
mod pull;
mod queue;
mod space;
mod store;
mod versions;

pub use catalogue::{Catalogue, Entry, Status};
pub use digest::{Hash, Hasher};
pub use error::{Error, Result};
pub use hub::{Hub, Listing, Patience, Remote, Repository, Settings, http_agent};
pub use lock::Lock;
pub use manifest::{Manifest, Piece};
pub use pull::{Asked, License, Progress, Pull, Pulled, Watcher};
pub use queue::{Answer, Order, Queue, Report};
pub use space::check as check_space;
pub use store::{Damage, Model, Store};
