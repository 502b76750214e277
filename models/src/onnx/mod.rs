//! ONNX files read and edited as protobuf, without ONNX Runtime.
//!
//! Owns what has to be known about a graph before a session is built (ports, operators, external data) and the edits
//! that are made at load. Weights are never copied: messages are views into the memory-mapped file.

mod builder;
mod constants;
mod depth;
mod edit;
mod fuse;
mod model;
mod split;
mod wire;

pub use builder::{GraphBuilder, Size, Value};
pub use depth::{DepthCut, cut_depthformer};
pub use edit::{Edit, TensorPatch};
pub use fuse::fuse_convolutions;
pub use model::{Dim, ElementType, ExternalData, Model, Node, Port, Tensor};
pub use split::{Split, split_head};
