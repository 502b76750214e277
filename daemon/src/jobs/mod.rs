//! What the engine runs for callers: models by family, jobs by kind, and the way of their results to the caller.

mod delivery;
mod feed;
mod lease;
mod line;
mod live;
mod loader;
mod memory;
mod options;
mod remote;
mod retrieval;
mod speech;
mod text;
mod vectors;
mod vision;
mod writing;

pub use delivery::{Delivery, Pipe, Sound, Words};
pub use feed::Feed;
pub use line::{Account, FIGURES, RATE, SoundLine, remark};
pub use live::{Audience, LiveJob, LiveWork, Told, TurnEnd, Utterance, Wish};
pub use loader::{Model, OnnxLoader};
pub use memory::{Hold, Memory};
pub use options::{Drawn, asked, reply_options};
pub use remote::RemoteJob;
pub use retrieval::EncodeJob;
pub use speech::{Input, SpeechJob, SpeechWork};
pub use text::TextJob;
pub use vectors::{Piped, Shelving, Waiting};
pub use vision::{Look, VisionJob};
pub use writing::WritingJob;

use eddy_ipc::Error;

/// A model's folder was exchanged for one of another kind between a request and its turn.
fn wrong_model() -> Error {
    Error::ModelFailed("the model was replaced by one of another kind; ask again".into())
}

/// The error that a caller gets for one of a model's.
fn refusal(error: &eddy_models::Error) -> Error {
    use eddy_models::Error as Model;
    let sentence = error.to_string();
    match error {
        Model::BadRequest(_) => Error::InvalidArgument(sentence),
        Model::Unhearable { .. } | Model::Unseeable { .. } => Error::InvalidContent(sentence),
        Model::ContextFull { .. } => Error::TooLarge(sentence),
        Model::PartMissing { .. } => Error::Unsupported(sentence),
        Model::Stopped => Error::Cancelled(sentence),
        Model::RuntimeMissing { .. } | Model::RuntimeUnusable { .. } => Error::Unavailable(sentence),
        _ => Error::ModelFailed(sentence),
    }
}
