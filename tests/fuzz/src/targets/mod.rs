//! What hostile input is run against.

mod faulty;
mod image;
mod index;
mod template;
mod tool_calls;

use clap::ValueEnum;

/// A target, by its name on the command line and of its corpus.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Name {
    /// The parser of tool calls.
    ToolCalls,
    /// The chat template renderer's conversations.
    Template,
    /// Image files, from their bytes to patches.
    Image,
    /// The files of a retrieval index.
    Index,
    /// Faults on purpose, by which the fuzzer is tested.
    #[value(hide = true)]
    Faulty,
}

impl Name {
    /// Those that are worth running.
    pub const ALL: [Self; 4] = [Self::ToolCalls, Self::Template, Self::Image, Self::Index];

    /// The name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ToolCalls => "tool-calls",
            Self::Template => "template",
            Self::Image => "image",
            Self::Index => "index",
            Self::Faulty => "faulty",
        }
    }

    /// Makes the target ready.
    pub fn open(self) -> anyhow::Result<Box<dyn Target>> {
        Ok(match self {
            Self::ToolCalls => Box::new(tool_calls::ToolCalls),
            Self::Template => Box::new(template::Template::open()?),
            Self::Image => Box::new(image::Image),
            Self::Index => Box::new(index::Index::open()?),
            Self::Faulty => Box::new(faulty::Faulty),
        })
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(self.as_str())
    }
}

/// What reads input. It panics when what it read breaks a promise.
pub trait Target {
    /// Reads `input`; in a few words what came of it.
    fn run(&mut self, input: &[u8]) -> String;

    /// Inputs besides those in the corpus.
    fn seeds(&self) -> anyhow::Result<Vec<Vec<u8>>> {
        Ok(Vec::new())
    }

    /// What means something in its inputs.
    fn dictionary(&self) -> Vec<Vec<u8>> {
        Vec::new()
    }

    /// Mends checksums that would keep every changed input at the door.
    fn mend(&self, _input: &mut Vec<u8>) {}

    /// Bytes that an input may make it ask for.
    fn most_memory(&self) -> usize {
        32 << 20
    }
}

fn words(list: &[&str]) -> Vec<Vec<u8>> {
    list.iter().map(|word| word.as_bytes().to_vec()).collect()
}

/// The fixture at `path`.
fn fixture(path: &str) -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures").join(path)
}
