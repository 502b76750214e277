//! Everything that touches ONNX Runtime or a model folder; no devices, no D-Bus.
//!
//! A folder is opened and looked at ([`folder`]), its graphs become sessions, and the families are built from the same
//! pieces: the [`backbone`] with its cache, the [`sampler`], the [`tokenizer`].

pub mod backbone;
mod blocks;
pub mod ceiling;
pub mod chat;
mod dsp;
mod error;
pub mod folder;
mod graph;
pub mod listening;
pub mod onnx;
pub mod retrieval;
mod runtime;
pub mod sampler;
pub mod speech;
pub mod synthetic;
mod tensor;
pub mod text;
pub mod tokenizer;
pub mod vision;

pub use error::{Error, Result};
pub use graph::Stop;
pub use runtime::{Runtime, RuntimeOptions, forbid_telemetry};
