//! The log: the journal with its fields where there is one, else standard error, one line each.

use std::io::IsTerminal;

use eddy_config::{Log, LogOutput};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::reload::Handle;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt, reload};

/// The running log, whose levels can be changed.
#[derive(Debug)]
pub struct Logs {
    filter: Handle<EnvFilter, Registry>,
}

impl Logs {
    /// Begins to log as configured.
    ///
    /// # Errors
    /// For a filter that cannot be read, and for a journal that was asked for and is not there.
    pub fn start(settings: &Log) -> anyhow::Result<Self> {
        let (filter, handle) = reload::Layer::new(filter(settings)?);
        let output: Box<dyn Layer<_> + Send + Sync> = match (settings.output, tracing_journald::layer()) {
            (LogOutput::Auto | LogOutput::Journal, Ok(journal)) => Box::new(journal),
            (LogOutput::Journal, Err(error)) => {
                anyhow::bail!("log.output is \"journal\" and there is no journal ({error}); set it to \"auto\"")
            }
            (LogOutput::Auto | LogOutput::Stderr, _) => {
                let ansi = std::io::stderr().is_terminal();
                Box::new(fmt::layer().with_writer(std::io::stderr).with_ansi(ansi).with_target(false))
            }
        };
        // Somebody else's log, in a test, is as good.
        let _ = tracing_subscriber::registry().with(filter).with(output).try_init();
        Ok(Self { filter: handle })
    }

    /// Takes other levels.
    ///
    /// # Errors
    /// For a filter that cannot be read; the old levels stay.
    pub fn configure(&self, settings: &Log) -> anyhow::Result<()> {
        Ok(self.filter.reload(filter(settings)?)?)
    }
}

/// The filter that `settings` ask for.
///
/// # Errors
/// For one that cannot be read.
pub fn filter(settings: &Log) -> anyhow::Result<EnvFilter> {
    // These two tell of every message and every graph node at the level that is for administrators here.
    let directives = format!("{},zbus=warn,ort=warn,{}", settings.level.as_str(), settings.filter);
    EnvFilter::try_new(directives.trim_end_matches(','))
        .map_err(|error| anyhow::anyhow!("log.filter: \"{}\" cannot be read: {error}", settings.filter))
}
