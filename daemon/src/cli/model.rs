//! Which model a verb uses, and how it is loaded in this process.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context;
use eddy_config::{Paths, Sources};
use eddy_models::folder::{Precision, Wanted};
use eddy_models::speech::{Parts, ReplyOptions, Speech};
use eddy_models::{Runtime, RuntimeOptions};

use super::interrupt::Interrupt;
use crate::engine::{Task, catalog};

/// Items of a reply that runs in this process, unless the person says otherwise.
const MOST_ITEMS: usize = 1024;

/// Options of every verb that has a model generate.
#[derive(Debug, Clone, clap::Args)]
pub struct ModelArguments {
    /// Model folder to run in this process, without a daemon; or the name of one of the daemon's models [default: the
    /// daemon's choice].
    #[arg(long, value_name = "DIR|NAME")]
    pub model: Option<String>,
    #[command(flatten)]
    pub load: LoadArguments,
    /// Seed of the random choices.
    #[arg(long)]
    pub seed: Option<u64>,
    /// Always take the most probable.
    #[arg(long)]
    pub greedy: bool,
    /// Text tokens and audio frames at most.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub max_items: Option<u32>,
    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
}

/// How a model is loaded.
#[derive(Debug, Clone, clap::Args)]
pub struct LoadArguments {
    /// Precision of the weights: auto, fp32, fp16, q8, q4, q4f16 or q4f32 [default: auto].
    #[arg(long)]
    pub precision: Option<String>,
    /// Threads to compute with [default: the configuration's runtime.threads].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub threads: Option<u16>,
    /// Microseconds that a thread waits awake between operators [default: the configuration's runtime.spin].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(0..=1000))]
    pub spin_us: Option<u16>,
    /// Configuration file, instead of the machine's and the user's.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// The small speech model that comes with Eddy.
///
/// # Errors
/// When it did not come.
pub fn own_model() -> anyhow::Result<PathBuf> {
    let shipped = Paths::from_environment()?.shipped();
    let found = catalog::scan(&shipped, Wanted::Auto).into_iter();
    let found = found.filter(|folder| folder.task == Some(Task::Speech) && folder.problem.is_none()).map(|f| f.path);
    found.into_iter().next().with_context(|| {
        format!("there is no model in {}; give --model DIR", shipped.first().cloned().unwrap_or_default().display())
    })
}

/// Where a verb's model runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// In this process, from this folder.
    Here(PathBuf),
    /// In the daemon: the named one, or its choice.
    Daemon(Option<String>),
}

/// The place that `--model` means. What has a slash in it, or is a folder, is a folder.
///
/// # Errors
/// For options about loading a model that the daemon loads.
pub fn place(model: Option<&str>, load: &LoadArguments) -> anyhow::Result<Place> {
    match model {
        Some(model) if model.contains('/') || Path::new(model).is_dir() => {
            let elsewhere = Path::new(model).join(crate::remote::FILE).is_file();
            anyhow::ensure!(
                !elsewhere,
                "{model}: another engine serves it, and the daemon speaks to that; give --model its name alone"
            );
            Ok(Place::Here(model.into()))
        }
        name => {
            let needless = [
                ("--precision", load.precision.is_some()),
                ("--threads", load.threads.is_some()),
                ("--spin-us", load.spin_us.is_some()),
                ("--config", load.config.is_some()),
            ];
            if let Some((option, _)) = needless.into_iter().find(|(_, given)| *given) {
                anyhow::bail!("{option} is for a model in this process; give --model DIR, or leave it to the daemon");
            }
            Ok(Place::Daemon(name.map(str::to_owned)))
        }
    }
}

impl ModelArguments {
    /// Where the model runs.
    ///
    /// # Errors
    /// Those of [`place`].
    pub fn place(&self) -> anyhow::Result<Place> {
        place(self.model.as_deref(), &self.load)
    }

    /// Items at most, in this process.
    #[must_use]
    pub fn most_items(&self) -> usize {
        self.max_items.map_or(MOST_ITEMS, |items| items as usize)
    }

    /// The choices made here, for a request to the daemon's model `name`.
    #[must_use]
    pub fn options(&self, name: Option<String>) -> eddy_ipc::Options {
        eddy_ipc::Options {
            model: name,
            seed: self.seed,
            greedy: self.greedy.then_some(true),
            max_tokens: self.max_items,
            ..eddy_ipc::Options::default()
        }
    }

    /// `options` with the choices made here.
    #[must_use]
    pub fn reply(&self, options: ReplyOptions) -> ReplyOptions {
        let options = ReplyOptions { seed: self.seed.unwrap_or_default(), max_items: self.most_items(), ..options };
        // A seed is of use only where something is left to chance.
        let options = ReplyOptions { undecided: options.undecided && self.seed.is_none(), ..options };
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
        Ok(self.precision.as_deref().unwrap_or("auto").parse()?)
    }

    /// Starts ONNX Runtime as configured.
    ///
    /// # Errors
    /// For a wrong configuration, and when the library is missing or unusable.
    pub fn engine(&self) -> anyhow::Result<Engine> {
        let runtime = Runtime::start(&self.runtime()?)?;
        let interrupt = Interrupt::listen(&runtime).context("cannot listen for Ctrl-C")?;
        Ok(Engine { runtime, interrupt })
    }

    /// How ONNX Runtime is started, as configured.
    ///
    /// # Errors
    /// For a wrong configuration.
    pub fn runtime(&self) -> anyhow::Result<RuntimeOptions> {
        let paths = Paths::from_environment()?;
        let mut sources = Sources::standard(&paths);
        sources.only.clone_from(&self.config);
        let mut options = crate::runtime::options(&sources.load()?.config, &paths);
        if let Some(threads) = self.threads {
            options.threads = Some(usize::from(threads));
        }
        if let Some(microseconds) = self.spin_us {
            options.spin = Duration::from_micros(microseconds.into());
        }
        Ok(options)
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
pub fn warn_of_stand_in(folder: &Path, wanted: Wanted, found: Precision) {
    if let Some(sentence) = wanted.stood_in_by(found) {
        eprintln!("eddy: {}: {sentence}", folder.display());
    }
}

/// Loads the speech model in `folder`.
///
/// # Errors
/// Those of the configuration, the runtime library and the folder.
pub fn load(folder: &Path, arguments: &LoadArguments, parts: Parts) -> anyhow::Result<Loaded> {
    let wanted = arguments.wanted()?;
    let engine = arguments.engine()?;
    let begun = Instant::now();
    let speech = Speech::load(&engine.runtime, folder, wanted, parts, engine.interrupt.stop())?;
    warn_of_stand_in(folder, wanted, speech.identity().precision);
    Ok(Loaded { speech, engine, loading: begun.elapsed() })
}
