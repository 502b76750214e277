//! `eddy probe`: is this folder what it claims to be, on this machine.
//!
//! Loads a folder, runs one deterministic greedy pass and prints what came out as JSON, so that another implementation
//! can be compared number by number. `--dump` writes the numbers on the way in NumPy's format.

mod colbert;
mod speech;
mod text;
mod vision;

use std::path::PathBuf;

use eddy_models::chat::Conversation;

use super::Outcome;
use super::dump::{self, Dump};
use super::images::LookArguments;
use super::model::LoadArguments;
use crate::vision::asked_about;

/// What the pass does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Task {
    /// A recorded question to an interleaved answer.
    Speech,
    /// A recording to its words.
    Transcribe,
    /// A text to speech.
    Speak,
    /// A prompt to its continuation.
    Text,
    /// The same, for a mixture of experts.
    Moe,
    /// Images and a prompt to its continuation.
    Vision,
    /// A query or a document to its vectors.
    Colbert,
}

/// Arguments of the verb.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Model folder.
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// What to run.
    #[arg(long, value_enum)]
    task: Task,
    /// Recording, for speech and transcribe.
    #[arg(long, value_name = "IN.wav", required_if_eq_any([("task", "speech"), ("task", "transcribe")]))]
    wav: Option<PathBuf>,
    /// Text, for speak.
    #[arg(long, required_if_eq("task", "speak"))]
    text: Option<String>,
    /// Instructions, instead of the published ones of a speech task.
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
    /// Image file, for vision; may be given several times.
    #[arg(long, value_name = "FILE", num_args = 1.., required_if_eq("task", "vision"))]
    image: Vec<PathBuf>,
    #[command(flatten)]
    looking: LookArguments,
    /// What a user says, for text, moe and vision.
    #[arg(long, value_name = "TEXT", conflicts_with_all = ["messages", "input_ids"])]
    prompt: Option<String>,
    /// Conversation as {"messages": […], "tools": […]}, for text, moe and vision.
    #[arg(long, value_name = "FILE.json", conflicts_with = "input_ids")]
    messages: Option<PathBuf>,
    /// Token ids that are used as they are, for text and moe.
    #[arg(long, value_name = "1,2,3", value_delimiter = ',')]
    input_ids: Option<Vec<u32>>,
    /// Query to encode, for colbert.
    #[arg(long, value_name = "TEXT", conflicts_with = "document")]
    query: Option<String>,
    /// Document to encode, for colbert.
    #[arg(long, value_name = "TEXT")]
    document: Option<String>,
    /// Text tokens and audio frames at most.
    #[arg(long, value_name = "N", default_value_t = 1024)]
    max_items: usize,
    /// Folder for the numbers on the way, as .npy files.
    #[arg(long, value_name = "OUT")]
    dump: Option<PathBuf>,
    /// Accepted for symmetry with other verbs: the report is JSON in any case.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    load: LoadArguments,
}

/// Runs the verb.
///
/// # Errors
/// One line about what went wrong.
pub fn run(arguments: Arguments) -> anyhow::Result<Outcome> {
    let dump = arguments.dump.as_deref().map(Dump::create).transpose()?;
    match arguments.task {
        Task::Speech | Task::Transcribe | Task::Speak => speech::run(&arguments, dump.as_ref()),
        Task::Text | Task::Moe => text::run(&arguments, dump.as_ref()),
        Task::Vision => vision::run(&arguments, dump.as_ref()),
        Task::Colbert => colbert::run(&arguments, dump.as_ref()),
    }
}

impl Arguments {
    /// What `--messages` or `--prompt` asks, the latter about all images.
    fn conversation(&self) -> anyhow::Result<Conversation> {
        match (&self.messages, &self.prompt) {
            (Some(file), _) => {
                let text = std::fs::read_to_string(file)
                    .map_err(|error| anyhow::anyhow!("{}: cannot be read: {error}", file.display()))?;
                Conversation::read(&text).map_err(|error| anyhow::anyhow!("{}: {error}", file.display()))
            }
            // Some templates of text models know no content in parts.
            (None, Some(words)) if self.image.is_empty() => Ok(Conversation::question(words)),
            (None, Some(words)) => Ok(asked_about(self.image.len(), words)),
            (None, None) if self.task == Task::Vision => anyhow::bail!("nothing to ask; give --prompt or --messages"),
            (None, None) => anyhow::bail!("nothing to ask; give --prompt, --messages or --input-ids"),
        }
    }
}
