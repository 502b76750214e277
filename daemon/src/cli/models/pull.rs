//! `eddy models pull`: fetches a model in this process, shows how it goes, and asks what has to be asked.
//!
//! With `--queued` it works off what the daemon has ordered, and nobody can be asked.

use std::io::{BufRead, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use eddy_config::Paths;
use eddy_models::folder::Wanted;
use eddy_store::{
    Answer, Asked, Catalogue, Error, Hub, License, Order, Progress, Pull, Pulled, Queue, Report, Settings, Store,
    Watcher,
};
use serde_json::{Map, json};

use super::super::Outcome;
use super::super::daemon::{BusArguments, Daemon};
use super::super::interrupt::noted;
use super::super::output::Output;
use super::{mib, store, tell_daemon};
use crate::fetching::{is_metered, refusal};

/// How often the line of progress is written anew.
const FRAME: Duration = Duration::from_millis(200);

/// Arguments of `eddy models pull`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// A name of the catalogue (`eddy models list --available`), or OWNER/NAME[@REVISION] on the hub.
    #[arg(value_name = "NAME|REPOSITORY[@REVISION]", required_unless_present = "queued", conflicts_with = "queued")]
    model: Option<String>,
    /// Precision of the weights: auto, fp32, fp16, q8, q4, q4f16 or q4f32.
    #[arg(long, default_value = "auto")]
    precision: String,
    /// What the model's folder is to be called [default: as the repository].
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Accept the model's licence without being asked.
    #[arg(long)]
    accept_license: bool,
    /// Fetch over a metered connection without being asked.
    #[arg(long)]
    metered: bool,
    /// Use what is on this machine, and no network (also HF_HUB_OFFLINE=1).
    #[arg(long)]
    offline: bool,
    /// Have the daemon's fetching unit do it, rather than this process.
    #[arg(long, conflicts_with_all = ["queued", "offline", "name"])]
    daemon: bool,
    /// Fetch what the daemon has ordered, and end.
    #[arg(long, hide = true)]
    queued: bool,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// Runs it.
///
/// # Errors
/// One line about what went wrong.
pub fn run(arguments: &Arguments, bus: &BusArguments) -> anyhow::Result<Outcome> {
    let paths = Paths::from_environment()?;
    let Some(model) = &arguments.model else { return work_off(&paths) };
    if arguments.daemon {
        return through_daemon(model, arguments, bus);
    }
    let catalogue = Catalogue::load(&paths.catalogue())?;
    let mut settings = Settings::from_environment(|name| std::env::var_os(name))?;
    settings.offline |= arguments.offline;
    let asked = Asked {
        repository: catalogue.source(model)?,
        name: arguments.name.clone(),
        wanted: arguments.precision.parse::<Wanted>()?,
    };
    let (hub, store) = (Hub::new(settings), store(&paths)?);
    let mut person = Person::new(arguments, &catalogue)?;
    let pulled = Pull::new(&hub, &store, asked)?.run(&mut person);
    person.bar.clear();
    let pulled = match pulled {
        Err(Error::Cancelled) => {
            eprintln!("eddy: {}", Error::Cancelled);
            return Ok(Outcome::Interrupted);
        }
        pulled => pulled?,
    };
    tell_daemon(bus);
    let mut output = Output::new(arguments.json);
    output.line(&summary(&pulled))?;
    output.finish(fields(&pulled))?;
    Ok(Outcome::Done)
}

fn summary(Pulled { model, fetched, was_here }: &Pulled) -> String {
    let what = format!("{} ({}), {}", model.name, model.manifest.precisions.join(", "), mib(model.manifest.bytes()));
    match was_here {
        true => format!("{what}: was here already, in {}", model.path.display()),
        false => format!("{what}: whole and verified in {}; {} fetched", model.path.display(), mib(*fetched)),
    }
}

fn fields(Pulled { model, fetched, was_here }: &Pulled) -> Map<String, serde_json::Value> {
    let manifest = &model.manifest;
    let fields = json!({
        "name": model.name, "path": model.path, "version": model.version, "repository": manifest.repository,
        "revision": manifest.revision, "precisions": manifest.precisions, "license": manifest.license,
        "bytes": manifest.bytes(), "fetched": fetched, "was_here": was_here,
    });
    if let serde_json::Value::Object(fields) = fields { fields } else { Map::new() }
}

/// One line on a terminal that is written over; nothing in a pipe.
struct Bar {
    shown: Option<Instant>,
    terminal: bool,
}

impl Bar {
    fn new(quiet: bool) -> Self {
        Self { shown: None, terminal: !quiet && std::io::stderr().is_terminal() }
    }

    fn draw(&mut self, progress: &Progress) {
        if !self.terminal || self.shown.is_some_and(|shown| shown.elapsed() < FRAME) {
            return;
        }
        self.shown = Some(Instant::now());
        let percent = (progress.done * 100).checked_div(progress.total).unwrap_or_default();
        let left = progress.left.map_or_else(String::new, |left| format!(", {} left", time(left)));
        let (done, total) = (mib(progress.done), mib(progress.total));
        eprint!("\r\x1b[K{percent:3} %  {done} of {total}, {}/s{left}", mib(progress.rate as u64));
    }

    fn clear(&mut self) {
        if self.shown.take().is_some() {
            eprint!("\r\x1b[K");
        }
    }
}

/// A duration for people.
fn time(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
    }
}

/// The person at the terminal.
struct Person<'a> {
    arguments: &'a Arguments,
    catalogue: &'a Catalogue,
    bar: Bar,
    ended: Arc<AtomicBool>,
}

impl<'a> Person<'a> {
    fn new(arguments: &'a Arguments, catalogue: &'a Catalogue) -> anyhow::Result<Self> {
        Ok(Self { arguments, catalogue, bar: Bar::new(arguments.json), ended: noted()? })
    }

    /// Asks, if there is somebody to ask; no otherwise.
    fn ask(&mut self, question: &str) -> bool {
        if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
            return false;
        }
        self.bar.clear();
        eprint!("{question} [y/N] ");
        let _ = std::io::stderr().flush();
        let mut answer = String::new();
        let read = std::io::stdin().lock().read_line(&mut answer);
        read.is_ok() && ["y", "yes"].contains(&answer.trim().to_lowercase().as_str())
    }
}

impl Watcher for Person<'_> {
    fn accepts(&mut self, license: &License) -> eddy_store::Result<bool> {
        let terms = self.catalogue.terms(&license.name);
        let name = terms.map_or(license.name.as_str(), |terms| terms.name.as_str());
        let link = license.link.as_deref().or(terms.map(|terms| terms.link.as_str()));
        eprintln!(
            "{}: licence {name}{}",
            license.repository,
            link.map_or_else(String::new, |link| format!(", {link}"))
        );
        if let Some(terms) = terms {
            eprintln!("  {}", terms.terms);
        }
        Ok(self.arguments.accept_license || self.ask("Do you accept it?"))
    }

    fn may_fetch(&mut self, bytes: u64) -> eddy_store::Result<()> {
        let metered = !self.arguments.metered && is_metered();
        let question = format!("This connection is metered. Fetch {} over it?", mib(bytes));
        match metered && !self.ask(&question) {
            true => Err(Error::Metered { bytes }),
            false => Ok(()),
        }
    }

    fn waits(&mut self) {
        eprintln!("eddy: another process is changing this model; waiting for it");
    }

    fn progress(&mut self, progress: Progress) {
        self.bar.draw(&progress);
    }

    fn cancelled(&mut self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }
}

/// Has the daemon order it, and shows how it goes.
fn through_daemon(model: &str, arguments: &Arguments, bus: &BusArguments) -> anyhow::Result<Outcome> {
    let daemon = Daemon::connect(bus)?;
    let options = eddy_ipc::Options {
        precision: Some(arguments.precision.clone()),
        accept_license: Some(arguments.accept_license),
        metered: Some(arguments.metered),
        ..eddy_ipc::Options::default()
    };
    let mut bar = Bar::new(arguments.json);
    let begin = async |connection: &zbus::Connection, options: &eddy_ipc::Options| {
        eddy_ipc::client::ModelsProxy::new(connection).await?.pull(model, options).await
    };
    let (_, ended) = daemon.follow_on(eddy_ipc::Bus::Admin, options, begin, |delta| {
        if let eddy_ipc::Delta::Progress { done, total } = delta {
            bar.draw(&Progress { done: *done, total: *total, rate: 0.0, left: None });
        }
        Ok(())
    })?;
    bar.clear();
    let verdict = ended.verdict()?;
    let path = ended.outcome.model.as_ref().map(ToString::to_string);
    let mut output = Output::new(arguments.json);
    if verdict == Outcome::Done {
        output.line(&format!("{model}: in place, {}", path.as_deref().unwrap_or_default()))?;
    }
    output.finish(Map::from_iter([("model".to_owned(), json!(path))]))?;
    Ok(verdict)
}

/// Works off what the daemon has ordered.
fn work_off(paths: &Paths) -> anyhow::Result<Outcome> {
    let queue = Queue::new(&paths.state);
    let ended = noted()?;
    // Another process that works off the same queue leaves nothing to do.
    let _serving = queue.serve(|| match ended.load(Ordering::Relaxed) {
        true => Err(Error::Cancelled),
        false => Ok(()),
    })?;
    while let Some((id, order)) = queue.orders().into_iter().next() {
        let mut listener = Listener { queue: &queue, id: &id, order: &order, told: None, ended: &ended };
        let answer = match fetch(paths, &order, &mut listener) {
            Ok(pulled) => Answer::Done { model: pulled.model.name, fetched: pulled.fetched },
            // The order stays, and the next process goes on with it.
            Err(Error::Cancelled) if ended.load(Ordering::Relaxed) => return Ok(Outcome::Interrupted),
            Err(Error::Cancelled) => Answer::Cancelled,
            Err(error) => {
                let error = refusal(&error);
                tracing::error!(model = order.model, %error, "not fetched");
                let name = error.dbus_name();
                let name = name.rsplit('.').next().unwrap_or_default().to_owned();
                Answer::Failed { error: name, message: error.to_string() }
            }
        };
        let report = queue.report(&id).unwrap_or_default();
        queue.tell(&id, &Report { answer: Some(answer), ..report })?;
        queue.withdraw(&id);
    }
    Ok(Outcome::Done)
}

fn fetch(paths: &Paths, order: &Order, listener: &mut Listener<'_>) -> eddy_store::Result<Pulled> {
    let catalogue = Catalogue::load(&paths.catalogue())?;
    let hub = Hub::new(Settings::from_environment(|name| std::env::var_os(name))?);
    let asked = Asked { repository: catalogue.source(&order.model)?, name: None, wanted: order.precision.parse()? };
    let store = Store::new(order.root.clone());
    Pull::new(&hub, &store, asked)?.run(listener)
}

/// The daemon, which reads reports.
struct Listener<'a> {
    queue: &'a Queue,
    id: &'a str,
    order: &'a Order,
    told: Option<Instant>,
    ended: &'a AtomicBool,
}

impl Watcher for Listener<'_> {
    fn accepts(&mut self, _: &License) -> eddy_store::Result<bool> {
        Ok(self.order.accept_license)
    }

    fn may_fetch(&mut self, bytes: u64) -> eddy_store::Result<()> {
        match !self.order.metered && is_metered() {
            true => Err(Error::Metered { bytes }),
            false => Ok(()),
        }
    }

    fn waits(&mut self) {}

    fn progress(&mut self, progress: Progress) {
        if self.told.is_none_or(|told| told.elapsed() >= FRAME) {
            self.told = Some(Instant::now());
            let report = Report { done: progress.done, total: progress.total, answer: None };
            if let Err(error) = self.queue.tell(self.id, &report) {
                tracing::warn!(%error, "progress not told");
            }
        }
    }

    fn cancelled(&mut self) -> bool {
        self.ended.load(Ordering::Relaxed) || !self.queue.is_wanted(self.id)
    }
}
