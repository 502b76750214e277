//! Speech in, speech out: the way from samples to samples.
//!
//! mel front end → audio encoder → backbone → (text token | depthformer frame) → detokenizer → inverse STFT.

mod audio_embedding;
mod depthformer;
mod detokenizer;
mod encoder;
mod mel;
mod model;
mod prompt;
mod reply;
mod settings;
mod stft;

pub use crate::text::Finish;
pub use audio_embedding::AudioEmbedding;
pub use depthformer::Depthformer;
pub use detokenizer::{Detokenizer, SampleStream};
pub use encoder::AudioEncoder;
pub use mel::{MelClip, MelFeatures, MelFrontEnd, MelSettings};
pub use model::{Capability, Identity, Parts, Speech};
pub use prompt::{Prompt, Role as TurnRole};
pub use reply::{Event, Mode, Record, Reply, ReplyOptions, StageTimes};
pub use settings::Settings;
pub use stft::{InverseStft, StftSettings};
