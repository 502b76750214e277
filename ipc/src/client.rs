//! Clients for every interface, one file each.
//!
//! A method that hands back an object returns its path at once; build that object's proxy with
//! `XProxy::builder(&bus).path(path)`. To miss no signal, pass a `handle_token`, work out the path with
//! [`crate::path`], and listen before calling.

mod admin;
mod assistant;
mod conversation;
mod model;
mod request;
mod retrieval;
mod speech;
mod text;
mod vision;

pub use admin::{AccessProxy, DaemonProxy, ModelsProxy};
pub use assistant::AssistantProxy;
pub use assistant::{StateChanged, StateChangedArgs, StateChangedStream};
pub use conversation::ConversationProxy;
pub use model::ModelProxy;
pub use request::RequestProxy;
pub use request::{Delta as DeltaSignal, DeltaArgs, DeltaStream, Finished, FinishedArgs, FinishedStream};
pub use retrieval::{Hit, IndexProxy, RetrievalProxy};
pub use speech::SpeechProxy;
pub use text::TextProxy;
pub use vision::VisionProxy;
