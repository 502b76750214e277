//! Eddy's settings: what can be set, what it is when nobody sets it, and who set it.
//!
//! This crate owns every key of `eddy.toml`. A key is written down once, in one of the files of
//! `sections/`, with its documentation, its default, its range and whether a running daemon takes a
//! new value. The annotated example file, the error messages, the reload report and `eddy config`
//! are all made from that one place.
//!
//! Four layers lie over the built-in values, the later one winning key by key:
//! `/etc/eddy/eddy.toml`, the user's `eddy.toml`, the environment (`EDDY_SECTION__KEY`), and
//! overrides from the command line (`section.key=value`). Nothing is guessed: a key that does not
//! exist or a value that does not fit is an error that names the file, the line and the nearest key.
//!
//! ```
//! use eddy_config::Sources;
//!
//! let sources = Sources { overrides: vec!["voice.barge_in=false".into()], ..Sources::default() };
//! let loaded = sources.load()?;
//! assert!(!loaded.config.voice.barge_in);
//! assert_eq!(loaded.origin("voice.barge_in").to_string(), "command line, voice.barge_in=false");
//! # Ok::<(), eddy_config::Invalid>(())
//! ```

mod config;
mod error;
mod example;
mod load;
mod nearest;
mod paths;
mod place;
mod reload;
mod schema;
mod sections;
mod setting;
mod units;

pub use config::{Config, Entry};
pub use error::{Invalid, Problem};
pub use example::example;
pub use load::{Loaded, Sources};
pub use paths::Paths;
pub use place::Place;
pub use reload::{Applies, Change, changes};
pub use schema::Field;
pub use sections::access::{Access, Application, Capability, Decision, Rules};
pub use sections::audio::{Audio, AudioHost, Device};
pub use sections::generation::Generation;
pub use sections::limits::Limits;
pub use sections::log::{Log, LogLevel, LogOutput};
pub use sections::metrics::Metrics;
pub use sections::models::{Models, Precision};
pub use sections::runtime::Runtime;
pub use sections::voice::{MicrophoneMode, Voice, WhenSlow};
pub use units::{Auto, Bytes, Never};
