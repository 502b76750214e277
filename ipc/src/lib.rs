//! What Eddy says on D-Bus, seen from either side: names, paths, options, results, errors, file
//! descriptors, and clients for every interface.
//!
//! The interface files in `interfaces/` are the source; what stands here is proven equal to them by
//! tests. Nothing in this crate runs a model or opens a device, so an application can depend on it
//! to talk to Eddy, and the daemon depends on it to answer in the same words.
//!
//! ```no_run
//! use eddy_ipc::{Options, client::{RequestProxy, TextProxy}};
//!
//! # async fn example() -> eddy_ipc::Result<()> {
//! let bus = zbus::Connection::session().await?;
//! let options = Options { max_tokens: Some(64), ..Options::default() };
//! let path = TextProxy::new(&bus).await?.generate(&[("user", "Why is the sky blue?")], &options).await?;
//! let request = RequestProxy::builder(&bus).path(path).build().await?;
//! # Ok(()) }
//! ```

pub mod accepts;
pub mod client;
mod error;
pub mod fd;
mod names;
mod nearest;
mod options;
mod outcome;
mod paths;
mod words;
mod xml;

pub use error::{Error, Result};
pub use names::{Bus, PREFIX, interface};
pub use options::{Key, Options, Token};
pub use outcome::{Delta, Failure, Outcome, Turn, without_nul};
pub use paths::{Collection, owned_by, path, sender_element};
pub use words::{FinishReason, ModelState, Priority, RequestState, Role, SpeakerVoice, VoiceState};
pub use xml::INTERFACES;
#[cfg(feature = "contract")]
pub use xml::differences;
