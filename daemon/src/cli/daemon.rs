//! The daemon as verbs use it: a connection, requests that are followed to their end, and what to say when nobody answers.

use std::io::Read;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context;
use eddy_ipc::client::{AssistantProxy, DaemonProxy, RequestProxy};
use eddy_ipc::{Bus, Collection, Delta, Options, RequestState, Token, path};
use futures_util::StreamExt;
use signal_hook::consts::{SIGINT, SIGTERM};
use tokio::sync::Notify;
use zbus::Connection;
use zbus::fdo::DBusProxy;

use super::Outcome;
use crate::bus::Address;

/// Samples a second of everything that the daemon says.
pub const SAMPLE_RATE: u32 = 24_000;
/// How long the daemon may take for a call that only begins something. It may have to be started first.
const PATIENCE: Duration = Duration::from_secs(25);

/// Which daemon.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct BusArguments {
    /// Speak to the machine's daemon instead of the session's.
    #[arg(long, global = true, conflicts_with = "bus_address")]
    pub system_bus: bool,
    /// Speak to the daemon on the bus at this address.
    #[arg(long, global = true, value_name = "ADDRESS")]
    pub bus_address: Option<String>,
}

impl BusArguments {
    fn address(&self) -> Address {
        match (&self.bus_address, self.system_bus) {
            (Some(address), _) => Address::Given(address.clone()),
            (None, true) => Address::System,
            (None, false) => Address::Session,
        }
    }

    async fn connection(&self) -> zbus::Result<Connection> {
        let address = self.address();
        let builder = match &address {
            Address::Session => zbus::connection::Builder::session(),
            Address::System => zbus::connection::Builder::system(),
            Address::Given(address) => zbus::connection::Builder::address(address.as_str()),
        };
        builder.method_timeout(PATIENCE).build().await
    }
}

/// Has the daemon keep its microphone closed until what is returned is dropped; `None` where none runs. Starts none.
///
/// # Errors
/// When there is one and it refuses.
pub fn hush(arguments: &BusArguments) -> anyhow::Result<Option<OwnedFd>> {
    if_running(arguments, Bus::Assistant, async |connection| {
        let lock = AssistantProxy::new(connection).await?.acquire_mute().await;
        Ok(lock.context("eddyd listens too, and does not close its microphone for this conversation")?.into())
    })
}

/// Has the daemon read its configuration, and what belongs to it, again; says whether one runs. Starts none.
///
/// # Errors
/// When there is one and it refuses.
pub fn reload(arguments: &BusArguments) -> anyhow::Result<bool> {
    let reloaded = if_running(arguments, Bus::Admin, async |connection| {
        Ok(DaemonProxy::new(connection).await?.reload(&Options::default()).await?)
    })?;
    Ok(reloaded.is_some())
}

fn if_running<T>(
    arguments: &BusArguments,
    bus: Bus,
    ask: impl AsyncFnOnce(&Connection) -> anyhow::Result<T>,
) -> anyhow::Result<Option<T>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let Ok(connection) = arguments.connection().await else { return Ok(None) };
        let name = bus.name().try_into().context("a name of the bus")?;
        if !DBusProxy::new(&connection).await?.name_has_owner(name).await? {
            return Ok(None);
        }
        ask(&connection).await.map(Some)
    })
}

/// A connection to the daemon.
#[derive(Debug)]
pub struct Daemon {
    runtime: tokio::runtime::Runtime,
    connection: Connection,
    address: Address,
    interrupt: Arc<Interrupt>,
}

/// The person's Ctrl-C; a second one ends the process.
#[derive(Debug, Default)]
struct Interrupt {
    asked: AtomicBool,
    told: Notify,
}

/// How a request ended.
#[derive(Debug, Clone)]
pub struct Ended {
    pub state: RequestState,
    pub outcome: eddy_ipc::Outcome,
}

impl Ended {
    /// The verb's outcome.
    ///
    /// # Errors
    /// The request's own error, as the daemon told it.
    pub fn verdict(&self) -> anyhow::Result<Outcome> {
        match (self.state, &self.outcome.failure) {
            (RequestState::Cancelled, _) => Ok(Outcome::Interrupted),
            (RequestState::Failed, Some(failure)) => Err(anyhow::anyhow!(failure.message.clone())),
            (RequestState::Failed, None) => Err(anyhow::anyhow!("the daemon does not say why the request failed")),
            (RequestState::Done | RequestState::Running, _) => Ok(Outcome::Done),
        }
    }
}

impl Daemon {
    /// Connects to the bus.
    ///
    /// # Errors
    /// When there is no bus.
    pub fn connect(arguments: &BusArguments) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let address = arguments.address();
        let connection = runtime.block_on(arguments.connection()).with_context(|| {
            format!("cannot connect to {address} bus; with --model DIR a verb needs neither bus nor daemon")
        })?;
        let interrupt = Arc::<Interrupt>::default();
        listen(&interrupt)?;
        Ok(Self { runtime, connection, address, interrupt })
    }

    /// Whether the person has asked to end.
    #[must_use]
    pub fn interrupted(&self) -> bool {
        self.interrupt.asked.load(Ordering::Acquire)
    }

    /// Makes a call to its end.
    ///
    /// # Errors
    /// The daemon's own, or that nobody answers.
    pub fn call<T, E: Into<eddy_ipc::Error>>(
        &self,
        call: impl AsyncFnOnce(&Connection) -> Result<T, E>,
    ) -> anyhow::Result<T> {
        self.runtime.block_on(call(&self.connection)).map_err(|error| self.explained(error.into()))
    }

    /// Begins a request with `begin`, which is given the options with a token in them, and follows it: `told` hears every
    /// delta. Ctrl-C cancels it. What `begin` returns beside the request comes back with its end.
    ///
    /// # Errors
    /// Those of [`Self::call`], and those of `told`.
    pub fn follow<T>(
        &self,
        options: Options,
        begin: impl AsyncFnOnce(&Connection, &Options) -> eddy_ipc::Result<T>,
        told: impl FnMut(&Delta) -> anyhow::Result<()>,
    ) -> anyhow::Result<(T, Ended)> {
        self.follow_on(Bus::Assistant, options, begin, told)
    }

    /// The same for a request of either connection.
    ///
    /// # Errors
    /// Those of [`Self::follow`].
    pub fn follow_on<T>(
        &self,
        bus: Bus,
        mut options: Options,
        begin: impl AsyncFnOnce(&Connection, &Options) -> eddy_ipc::Result<T>,
        mut told: impl FnMut(&Delta) -> anyhow::Result<()>,
    ) -> anyhow::Result<(T, Ended)> {
        let token = Token::new(&format!("eddy_cli_{}", std::process::id())).map_err(anyhow::Error::new)?;
        let sender = self.connection.unique_name().map(ToString::to_string);
        let path = path(bus, Collection::Request { sender: sender.as_deref(), token: &token });
        options.handle_token = Some(token);
        self.runtime.block_on(async {
            let request = RequestProxy::builder(&self.connection).destination(bus.name()).path(path).build().await?;
            // Before the call, so that nothing is missed.
            let mut deltas = request.receive_delta_signal().await?;
            let mut ends = request.receive_finished().await?;
            let mut owners = request.inner().receive_owner_changed().await?;
            let begun = begin(&self.connection, &options).await.map_err(|error| self.explained(error))?;
            loop {
                tokio::select! {
                    biased;
                    () = self.interrupt.told.notified() => {
                        // One that has finished meanwhile cannot be cancelled, and needs not be.
                        let _ = request.cancel().await;
                    }
                    Some(delta) = deltas.next() => {
                        let arguments = delta.args()?;
                        told(&Delta::from_signal(arguments.kind, &arguments.value))?;
                    }
                    Some(end) = ends.next() => {
                        let arguments = end.args()?;
                        let state = RequestState::from_word(arguments.state).unwrap_or(RequestState::Failed);
                        let result = arguments.result.iter();
                        let result = result.map(|(key, value)| Ok(((*key).to_owned(), value.try_to_owned()?)));
                        let result = result.collect::<Result<_, zbus::Error>>()?;
                        let outcome = eddy_ipc::Outcome::from_dictionary(result)?;
                        return Ok((begun, Ended { state, outcome }));
                    }
                    Some(None) = owners.next() => {
                        anyhow::bail!("eddyd ended before it was done; its log says why, and the request can be made again");
                    }
                    else => anyhow::bail!("the bus has gone"),
                }
            }
        })
    }

    /// An error with the way to a daemon, if it is that there is none.
    fn explained(&self, error: eddy_ipc::Error) -> anyhow::Error {
        let sentence = error.to_string();
        let nobody = ["ServiceUnknown", "NameHasNoOwner", "was not provided by any .service", "Spawn."];
        match nobody.iter().any(|sign| sentence.contains(sign) || format!("{error:?}").contains(sign)) {
            true => anyhow::anyhow!(
                "no eddyd answers on {} bus; start it with `systemctl --user start eddy` or `eddyd`, or give \
                 --model DIR to do without it",
                self.address
            ),
            false => anyhow::Error::new(error),
        }
    }
}

/// The first Ctrl-C is told to whoever waits, the second ends the process.
fn listen(interrupt: &Arc<Interrupt>) -> anyhow::Result<()> {
    let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM])?;
    let interrupt = Arc::clone(interrupt);
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        for (count, _) in signals.forever().enumerate() {
            match count {
                0 => {
                    interrupt.asked.store(true, Ordering::Release);
                    interrupt.told.notify_one();
                }
                _ => std::process::exit(130),
            }
        }
    })?;
    Ok(())
}

/// Reads samples from a pipe as they come, until it ends.
///
/// # Errors
/// Those of the pipe and of `take`.
pub fn read_samples(pipe: OwnedFd, mut take: impl FnMut(&[f32]) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let mut pipe = std::fs::File::from(pipe);
    let mut bytes = [0; 8192];
    let mut held = 0;
    loop {
        let count = pipe.read(&mut bytes[held..])?;
        if count == 0 {
            return Ok(());
        }
        held += count;
        let whole = held / 2 * 2;
        let samples: Vec<f32> = bytes[..whole]
            .chunks_exact(2)
            .map(|pair| f32::from(i16::from_le_bytes([pair[0], pair[1]])) / 32_768.0)
            .collect();
        bytes.copy_within(whole..held, 0);
        held -= whole;
        take(&samples)?;
    }
}
