//! Which model a verb uses, and how it is loaded in this process.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context;
use eddy_config::{Auto, Paths, Sources};
use eddy_models::folder::{Precision, Wanted};
use eddy_models::speech::{Parts, ReplyOptions, Speech};
use eddy_models::{Runtime, RuntimeOptions};

use super::interrupt::Interrupt;

/// Options of every verb that runs a model in this process.
#[derive(Debug, Clone, clap::Args)]
pub struct ModelArguments {
    /// Model folder.
    #[arg(long, value_name = "DIR")]
    pub model: PathBuf,
    #[command(flatten)]
    pub load: LoadArguments,
    /// Seed of the random choices.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Always take the most probable.
    #[arg(long)]
    pub greedy: bool,
    /// Text tokens and audio frames at most.
    #[arg(long, value_name = "N", default_value_t = 1024)]
    pub max_items: usize,
    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
}

/// How a model is loaded.
#[derive(Debug, Clone, clap::Args)]
pub struct LoadArguments {
    /// Precision of the weights: auto, fp32, fp16, q8, q4, q4f16 or q4f32.
    #[arg(long, default_value = "auto")]
    pub precision: String,
    /// Threads to compute with; the configuration's, or else one for each core.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub threads: Option<u16>,
    /// Configuration file, instead of the machine's and the user's.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

impl ModelArguments {
    /// `options` with the choices made here.
    #[must_use]
    pub fn reply(&self, options: ReplyOptions) -> ReplyOptions {
        let options = ReplyOptions { seed: self.seed, max_items: self.max_items, ..options };
        if self.greedy { options.greedy() } else { options }
    }
}

/// ONNX Runtime, and the way to stop it.
#[derive(Debug)]
pub struct Engine {
    pub runtime: Runtime,
    pub interrupt: Interrupt,
}

impl LoadArguments {
    /// The precision that is asked for.
    ///
    /// # Errors
    /// For an unknown name.
    pub fn wanted(&self) -> anyhow::Result<Wanted> {
        Ok(self.precision.parse()?)
    }

    /// Starts ONNX Runtime as configured.
    ///
    /// # Errors
    /// For a wrong configuration, and when the library is missing or unusable.
    pub fn engine(&self) -> anyhow::Result<Engine> {
        let paths = Paths::from_environment()?;
        let mut sources = Sources::standard(&paths);
        sources.only.clone_from(&self.config);
        let settings = sources.load()?.config.runtime;
        let threads = match (self.threads, settings.threads) {
            (Some(threads), _) => Some(usize::from(threads)),
            (None, Auto::Set(threads)) => Some(threads as usize),
            (None, Auto::Auto) => None,
        };
        let library = (!settings.library.as_os_str().is_empty()).then(|| paths.expand(&settings.library));
        let options = RuntimeOptions { library, cache: Some(paths.cache.join("runtime")), threads };
        let runtime = Runtime::start(&options)?;
        let interrupt = Interrupt::listen(&runtime).context("cannot listen for Ctrl-C")?;
        Ok(Engine { runtime, interrupt })
    }
}

/// A loaded speech model, and how long loading took.
#[derive(Debug)]
pub struct Loaded {
    pub speech: Speech,
    pub engine: Engine,
    pub loading: Duration,
}

/// Says on standard error when a folder lacks the precision that was asked for.
pub fn warn_of_stand_in(folder: &std::path::Path, wanted: Wanted, found: Precision) {
    if let Some(sentence) = wanted.stood_in_by(found) {
        eprintln!("eddy: {}: {sentence}", folder.display());
    }
}

/// Loads the speech model in `folder`.
///
/// # Errors
/// Those of the configuration, the runtime library and the folder.
pub fn load(folder: &std::path::Path, arguments: &LoadArguments, parts: Parts) -> anyhow::Result<Loaded> {
    let wanted = arguments.wanted()?;
    let engine = arguments.engine()?;
    let begun = Instant::now();
    let speech = Speech::load(&engine.runtime, folder, wanted, parts, engine.interrupt.stop())?;
    warn_of_stand_in(folder, wanted, speech.identity().precision);
    Ok(Loaded { speech, engine, loading: begun.elapsed() })
}
