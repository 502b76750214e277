//! The daemon's life: configuration, start, reload, end, and what systemd is told of them.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Parser;
use eddy_config::{Change, Config, Paths, Precision, Sources, changes};
use eddy_ipc::Error;
use eddy_models::RuntimeOptions;
use eddy_models::folder::Wanted;
use sd_notify::NotifyState;
use signal_hook::consts::{SIGHUP, SIGINT, SIGIO, SIGTERM};
use tokio::sync::mpsc;

use crate::access::Access;
use crate::bus::{
    Address, Buses, Core, Ended, ReloadOrder, announce, changes as changes_of_voice, connect, engine_options,
    follow_login, reconfigured, serve,
};
use crate::engine::{Engine, EngineOptions, answer, catalog};
use crate::indexes::Shelf;
use crate::jobs::{Model, OnnxLoader};
use crate::logs::Logs;
use crate::metrics::prometheus;
use crate::voice::{Parts, Voice};

/// How long the owners of cancelled requests are told of it at the end.
const FAREWELL: Duration = Duration::from_secs(1);

/// Eddy's daemon: speech, text, images and search for the applications of this machine, over D-Bus.
#[derive(Debug, Parser)]
#[command(name = "eddyd", version)]
struct Arguments {
    /// Serve the machine's bus instead of the session's.
    #[arg(long, conflicts_with = "bus_address")]
    system: bool,
    /// Serve the bus at this address.
    #[arg(long, value_name = "ADDRESS")]
    bus_address: Option<String>,
    /// Configuration file, instead of the machine's and the user's.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Set a value over every file, such as models.idle_unload="never".
    #[arg(long = "set", value_name = "KEY=VALUE")]
    overrides: Vec<String>,
}

/// The daemon's command line, for its manual page.
#[must_use]
pub fn command() -> clap::Command {
    <Arguments as clap::CommandFactory>::command()
}

/// Runs the daemon until it is told to end.
#[must_use]
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version are answers, not errors; clap knows where each belongs.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
        }
    };
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let line = format!("{error:#}");
            notify(&[NotifyState::Status(&line)]);
            tracing::error!("{line}");
            eprintln!("eddyd: {line}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let paths = Paths::from_environment()?;
    let mut sources = Sources::standard(&paths);
    sources.only.clone_from(&arguments.config);
    sources.overrides.clone_from(&arguments.overrides);
    let config = sources.load()?.config;
    let logs = Logs::start(&config.log)?;
    raise_descriptor_limit();

    let onnx = crate::runtime::options(&config, &paths);
    let engine = start_engine(&config, &paths, onnx.clone())?;
    let config = Arc::new(config);
    let (observer, changes) = changes_of_voice();
    let parts = Parts {
        engine: engine.clone(),
        runtime: onnx,
        config: Arc::clone(&config),
        muted: false,
        audience: None,
        observer,
    };
    let voice = Voice::start(parts)?;
    let access = Access::open(paths.state.join("access.json"), config.access.clone()).map_err(anyhow::Error::msg)?;
    let address = match (&arguments.bus_address, arguments.system) {
        (Some(address), _) => Address::Given(address.clone()),
        (None, true) => Address::System,
        (None, false) => Address::Session,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let life = Life { paths, sources, logs };
    let lived = runtime.block_on(life.live(&address, engine.clone(), access, (voice, changes), config));
    engine.stop();
    // Readers of slow pipes are not waited for.
    runtime.shutdown_timeout(Duration::from_millis(100));
    lived
}

/// What stays the same from start to end.
struct Life {
    paths: Paths,
    sources: Sources,
    logs: Logs,
}

impl Life {
    async fn live(
        self,
        address: &Address,
        engine: Engine<Model>,
        access: Access,
        (voice, changes): (Voice, mpsc::Receiver<crate::voice::Change>),
        config: Arc<Config>,
    ) -> anyhow::Result<()> {
        let preload = config.models.preload.clone();
        let mut signals = signals(engine.clone())?;
        let Buses { assistant, admin, bus } =
            connect(address).await.with_context(|| format!("cannot connect to the bus ({address})"))?;
        let only_user = (*address != Address::System).then(|| rustix::process::getuid().as_raw());
        let peers = crate::bus::Peers::new(bus.clone(), only_user);
        let shelf = Shelf::open(self.paths.indexes());
        let core = Core::new(engine, access, peers, shelf, voice, [assistant, admin], config);
        let (order, mut orders) = mpsc::channel(1);
        let gone = serve(&core, bus, order, &self.paths).await.map_err(|error| match error {
            zbus::Error::NameTaken => anyhow::anyhow!("another eddyd serves this bus already; end it first"),
            error => anyhow::Error::new(error).context("the bus refuses the daemon's names"),
        })?;
        tokio::spawn(announce(Arc::clone(&core), changes));
        tokio::spawn(follow_login(Arc::clone(&core), *address != Address::System));
        for name in preload {
            let begun = core.engine.load(&name.clone(), move |result| {
                if let Err(error) = result {
                    tracing::warn!(model = name, %error, "models.preload");
                }
            });
            begun?;
        }
        if core.config().metrics.enabled {
            let socket = &core.config().metrics.socket;
            let socket = match socket.as_os_str().is_empty() {
                true => self.paths.runtime.join("metrics.sock"),
                false => self.paths.expand(socket),
            };
            prometheus::serve(&core, &socket)
                .with_context(|| format!("metrics.socket: {} cannot be made", socket.display()))?;
        }
        let models = core.engine.statuses().borrow().len();
        tracing::info!(version = env!("CARGO_PKG_VERSION"), models, "ready");
        notify(&[NotifyState::Ready, NotifyState::Status(&format!("Ready; {models} model folders"))]);
        let ended = self.serve(&core, &mut signals, &mut orders, gone).await;
        notify(&[NotifyState::Stopping]);
        tracing::info!("ending");
        farewell(&core).await;
        ended
    }

    async fn serve(
        &self,
        core: &Arc<Core>,
        signals: &mut mpsc::Receiver<i32>,
        orders: &mut mpsc::Receiver<ReloadOrder>,
        mut gone: Ended,
    ) -> anyhow::Result<()> {
        loop {
            tokio::select! {
                signal = signals.recv() => match signal {
                    Some(SIGHUP) => {
                        if let Err(error) = self.reload(core).await {
                            tracing::error!(%error, "the old configuration stays");
                        }
                    }
                    Some(_) | None => return Ok(()),
                },
                Some(order) = orders.recv() => {
                    let _ = order.send(self.reload(core).await);
                }
                _ = &mut gone => anyhow::bail!("the bus has gone"),
            }
        }
    }

    /// Reads the configuration and the model folders again.
    async fn reload(&self, core: &Arc<Core>) -> eddy_ipc::Result<Vec<Change>> {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => notify(&[NotifyState::Reloading, now]),
            Err(_) => notify(&[NotifyState::Reloading]),
        }
        let reloaded = self.try_reload(core).await;
        notify(&[NotifyState::Ready]);
        reloaded
    }

    async fn try_reload(&self, core: &Arc<Core>) -> eddy_ipc::Result<Vec<Change>> {
        let (sources, paths) = (self.sources.clone(), self.paths.clone());
        let read = move || {
            let config = sources.load().map_err(|invalid| Error::InvalidConfiguration(invalid.to_string()))?.config;
            let folders = scan(&config, &paths);
            Ok::<_, Error>((config, folders))
        };
        let (config, folders) =
            tokio::task::spawn_blocking(read).await.map_err(|error| Error::Internal(error.to_string()))??;
        self.logs.configure(&config.log).map_err(|error| Error::InvalidConfiguration(error.to_string()))?;
        let changes = changes(&core.config(), &config);
        core.configure(config)?;
        answer(|answer| core.engine.catalog(folders, answer)).await?;
        reconfigured(core).await;
        tracing::info!(changes = changes.len(), "configuration read again");
        Ok(changes)
    }
}

fn start_engine(config: &Config, paths: &Paths, runtime: RuntimeOptions) -> anyhow::Result<Engine<Model>> {
    let watchdog = sd_notify::watchdog_enabled();
    let mut options = engine_options(config, None);
    if let Some(period) = watchdog {
        options.beat = period / 2;
    }
    // Stopped in time for the watchdog to hear of it, or it would end the daemon for one bad step.
    options.step_limit = watchdog.map_or(EngineOptions::default().step_limit, |period| period * 2 / 3);
    let heartbeat = move || {
        if watchdog.is_some() {
            notify(&[NotifyState::Watchdog]);
        }
    };
    let prefix_cache = usize::try_from(config.models.prefix_cache.0).unwrap_or(usize::MAX);
    let loader = Arc::new(OnnxLoader { runtime, prefix_cache, leases: true });
    Ok(Engine::start(loader, scan(config, paths), options, heartbeat)?)
}

fn scan(config: &Config, paths: &Paths) -> Vec<crate::engine::Folder> {
    let wanted = match config.models.precision {
        Precision::Auto => Wanted::Auto,
        // Both crates name precisions in the same words.
        named => named.as_str().parse().unwrap_or(Wanted::Auto),
    };
    let mut folders = catalog::scan(&paths.models(&config.models), wanted);
    catalog::allow_remote(&mut folders, config.models.remote);
    folders
}

/// Every caller's pipes are descriptors of ours; the usual 1,024 are soon used up, and the hard limit is there to be used.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let wanted = limit.maximum.map_or(65_536, |most| most.min(65_536));
    if limit.current.is_some_and(|current| current < wanted) {
        let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum: limit.maximum });
    }
}

/// SIGTERM, SIGINT and SIGHUP, one after the other. SIGIO says that a file of a model is about to be changed.
fn signals(engine: Engine<Model>) -> anyhow::Result<mpsc::Receiver<i32>> {
    let mut caught = signal_hook::iterator::Signals::new([SIGTERM, SIGINT, SIGHUP, SIGIO])?;
    let (send, signals) = mpsc::channel(8);
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        for signal in caught.forever() {
            match signal {
                SIGIO => drop(engine.inspect()),
                // A reload more while eight are waiting changes nothing; an end is waited for.
                SIGHUP => drop(send.try_send(signal)),
                _ => {
                    if send.blocking_send(signal).is_err() {
                        return;
                    }
                }
            }
        }
    })?;
    Ok(signals)
}

/// Cancels everything and lets the owners hear of it.
async fn farewell(core: &Arc<Core>) {
    let (engine, voice) = (core.engine.clone(), Arc::clone(core));
    let _ = tokio::task::spawn_blocking(move || {
        voice.voice.stop();
        engine.stop();
    })
    .await;
    let begun = Instant::now();
    while core.objects.any_running() && begun.elapsed() < FAREWELL {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn notify(states: &[NotifyState<'_>]) {
    // Without systemd there is nobody to tell.
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "systemd was not told");
    }
}
