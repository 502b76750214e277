//! Images and text in, text out.
//!
//! An image file becomes a [`Picture`], is cut into tiles and resized as transformers' `Lfm2VlImageProcessor` does it
//! ([`Tiling`], [`Settings`]), goes through the vision encoder entry by entry, and its features take the places of
//! placeholder tokens in front of the backbone that every family shares (model contract, section 4).

mod encoder;
mod intake;
mod jpeg;
mod model;
mod patches;
mod resize;
mod session;
mod settings;
mod tiling;
mod tokens;

pub use intake::{Limits, Picture, read_file};
pub use model::{Image, VisionModel, VisionPrompt, prepare};
pub use patches::{Entries, Patches};
pub use resize::Filter;
pub use session::{Event, VisionGeneration, VisionSession};
pub use settings::{Knobs, Settings};
pub use tiling::{Size, Tiling};
