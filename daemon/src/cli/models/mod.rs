//! `eddy models`: what there is, what there is to be had, and the daemon's memory.

mod keep;
mod preferred;
mod pull;

pub use preferred::edit_setting;

use std::collections::HashMap;
use std::time::Duration;

use anyhow::Context;
use eddy_config::{Auto, Paths, Sources};
use eddy_ipc::client::{ModelProxy, ModelsProxy};
use eddy_ipc::{Bus, Collection, ModelState, interface, path};
use eddy_models::folder::Wanted;
use eddy_store::{Catalogue, Store};
use serde_json::{Map, Value, json};
use zbus::OwnedVariant;
use zbus::fdo::ObjectManagerProxy;

use super::Outcome;
use super::daemon::{BusArguments, Daemon, reload};
use super::output::Output;
use crate::engine::catalog;

/// How long a model may take to come into memory.
const LOADING: Duration = Duration::from_secs(300);

/// Arguments of the verb.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Show the models on this machine: which are in memory, which fit into it.
    List {
        /// Show the catalogue of models that are to be had instead.
        #[arg(long)]
        available: bool,
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Fetch a model from the hub, or go on with a pull that was interrupted.
    Pull(pull::Arguments),
    /// Take a model folder or an archive of one into the store.
    Import(keep::Import),
    /// Compare every file with what it was when it was fetched.
    Verify(keep::Verify),
    /// Take a model away, with all its versions.
    Remove {
        /// Its name.
        name: String,
    },
    /// Take away earlier versions, and what unfinished pulls left.
    Prune,
    /// Go back to the version before.
    Rollback {
        /// Its name.
        name: String,
    },
    /// Have a model serve its task, in the user's configuration.
    Use(preferred::Arguments),
    /// Bring a model into memory, and wait until it is there.
    Load(Named),
    /// Take a model out of memory.
    Unload(Named),
}

/// A model, by its name.
#[derive(Debug, clap::Args)]
struct Named {
    /// Its name.
    name: String,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// One model folder, as the daemon shows it.
#[derive(Debug, Clone)]
pub struct Listed {
    pub name: String,
    pub family: String,
    pub precision: String,
    pub path: String,
    pub license: String,
    pub bytes: u64,
    pub state: String,
    pub reason: String,
}

/// Runs the verb.
///
/// # Errors
/// One line about what went wrong.
pub fn run(arguments: Arguments, bus: &BusArguments) -> anyhow::Result<Outcome> {
    match arguments.action {
        Action::List { available: true, json } => available(json),
        Action::List { available: false, json } => list(bus, json),
        Action::Pull(arguments) => pull::run(&arguments, bus),
        Action::Import(arguments) => keep::import(&arguments, bus),
        Action::Verify(arguments) => keep::verify(&arguments),
        Action::Remove { name } => keep::remove(&name, bus),
        Action::Prune => keep::prune(),
        Action::Rollback { name } => keep::rollback(&name, bus),
        Action::Use(arguments) => preferred::run(&arguments, bus),
        Action::Load(named) => load(&Daemon::connect(bus)?, &named),
        Action::Unload(named) => unload(&Daemon::connect(bus)?, &named),
    }
}

/// All model folders, by name.
///
/// # Errors
/// Those of the bus.
pub fn listed(daemon: &Daemon) -> anyhow::Result<Vec<Listed>> {
    let objects = daemon.call(async |connection| {
        let manager = ObjectManagerProxy::builder(connection).destination(Bus::Admin.name()).path(Bus::Admin.root());
        manager.build().await?.get_managed_objects().await.map_err(zbus::Error::from)
    })?;
    let mut models: Vec<Listed> = objects
        .into_values()
        .filter_map(|interfaces| {
            let (_, properties) = interfaces.into_iter().find(|(name, _)| name.as_str() == interface::MODEL)?;
            read(properties)
        })
        .collect();
    models.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(models)
}

fn read<K: std::borrow::Borrow<str> + Eq + std::hash::Hash>(
    mut properties: HashMap<K, OwnedVariant>,
) -> Option<Listed> {
    let bytes = properties.remove("Bytes").and_then(|bytes| u64::try_from(bytes).ok())?;
    let mut text = |name: &str| properties.remove(name).and_then(|text| String::try_from(text).ok());
    Some(Listed {
        name: text("Name")?,
        family: text("Family")?,
        precision: text("Precision")?,
        path: text("Path")?,
        license: text("License")?,
        bytes,
        state: text("State")?,
        reason: text("StateReason")?,
    })
}

/// The store that fetched models go to.
fn store(paths: &Paths) -> anyhow::Result<Store> {
    Ok(Store::new(paths.store(&Sources::standard(paths).load()?.config.models)))
}

/// Has the daemon, if one runs, look at the model folders again.
fn tell_daemon(bus: &BusArguments) {
    if let Err(error) = reload(bus) {
        tracing::debug!(%error, "no daemon was told");
    }
}

/// The models as they lie on the disk, for when no daemon answers.
fn on_disk(paths: &Paths, config: &eddy_config::Config) -> Vec<Listed> {
    let folders = catalog::scan(&paths.models(&config.models), Wanted::Auto);
    let listed = folders.into_iter().map(|folder| Listed {
        state: if folder.problem.is_some() { ModelState::Failed } else { ModelState::Unloaded }.as_str().to_owned(),
        name: folder.name,
        family: folder.family,
        precision: folder.precision,
        path: folder.path.to_string_lossy().into_owned(),
        license: folder.license,
        bytes: folder.bytes,
        reason: folder.problem.unwrap_or_default(),
    });
    let mut listed: Vec<Listed> = listed.collect();
    listed.sort_by(|one, other| one.name.cmp(&other.name));
    listed
}

fn list(bus: &BusArguments, json: bool) -> anyhow::Result<Outcome> {
    let paths = Paths::from_environment()?;
    let config = Sources::standard(&paths).load()?.config;
    let asked = Daemon::connect(bus).and_then(|daemon| {
        let budget = daemon.call(async |connection| ModelsProxy::new(connection).await?.memory_budget().await)?;
        Ok((listed(&daemon)?, budget))
    });
    let answered = asked.is_ok();
    let (models, budget) = asked.unwrap_or_else(|_| (on_disk(&paths, &config), memory_budget(&config)));
    let store = Store::new(paths.store(&config.models));
    let mut output = Output::new(json);
    if models.is_empty() {
        output.line("no model folders; `eddy models list --available` shows what `eddy models pull` can fetch")?;
    } else if !answered {
        output.line("no daemon answers; this is what lies on the disk")?;
    }
    let widest = models.iter().map(|model| model.name.chars().count()).max().unwrap_or_default();
    let mut rows = Vec::new();
    for model in &models {
        // A folder that was put there by hand has no versions.
        let kept = store.model(&model.name).ok();
        let fits = model.bytes <= budget;
        let mut line = format!(
            "{:widest$}  {:9}  {:6}  {:>7}  {}",
            model.name,
            model.state,
            model.precision,
            mib(model.bytes),
            model.family,
        );
        if let Some(kept) = &kept {
            line += &format!(", version {}", kept.version);
        }
        if !fits {
            line += &format!(", too large for models.memory_budget ({})", mib(budget));
        }
        if !model.reason.is_empty() {
            line += &format!("\n{:widest$}  {}", "", model.reason);
        }
        output.line(&line)?;
        rows.push(json!({
            "name": model.name, "family": model.family, "precision": model.precision, "path": model.path,
            "license": model.license, "bytes": model.bytes, "state": model.state, "reason": model.reason,
            "fits": fits, "version": kept.as_ref().map(|kept| kept.version),
            "repository": kept.as_ref().map(|kept| kept.manifest.repository.clone()),
            "revision": kept.as_ref().and_then(|kept| kept.manifest.revision.clone()),
        }));
    }
    output.finish(Map::from_iter([
        ("daemon".to_owned(), answered.into()),
        ("memory_budget".to_owned(), budget.into()),
        ("models".to_owned(), rows.into()),
    ]))?;
    Ok(Outcome::Done)
}

/// Bytes that models may take, without a daemon to ask.
fn memory_budget(config: &eddy_config::Config) -> u64 {
    match config.models.memory_budget {
        Auto::Set(bytes) => bytes.0,
        Auto::Auto => crate::bus::half_of_memory(),
    }
}

/// Shows the catalogue.
fn available(json: bool) -> anyhow::Result<Outcome> {
    let paths = Paths::from_environment()?;
    let config = Sources::standard(&paths).load()?.config;
    let (catalogue, budget) = (Catalogue::load(&paths.catalogue())?, memory_budget(&config));
    let here = Store::new(paths.store(&config.models)).models().unwrap_or_default();
    let mut output = Output::new(json);
    let widest = catalogue.entries().iter().map(|entry| entry.name.chars().count()).max().unwrap_or_default();
    let mut rows = Vec::new();
    for entry in catalogue.entries() {
        let installed = here.iter().any(|model| model.manifest.repository == entry.repository);
        let smallest = entry.smallest().map(|(precision, _)| precision);
        let memory = smallest.and_then(|precision| entry.memory(precision));
        let fits = memory.map(|memory| memory <= budget);
        let need = match (smallest, memory) {
            (Some(precision), Some(memory)) => format!("{precision} from {}", mib(memory)),
            _ => "size unknown".to_owned(),
        };
        let room = if fits == Some(false) { ", too large for this machine's budget" } else { "" };
        let mark = if installed { ", installed" } else { "" };
        output.line(&format!(
            "{:widest$}  {:7}  {:16}  {}: {} ({}{room}{mark})",
            entry.name,
            entry.family,
            need,
            entry.license,
            entry.purpose,
            entry.status.mark(),
        ))?;
        let sizes: Map<String, Value> = entry
            .precisions
            .iter()
            .map(|(name, variant)| (name.clone(), json!({ "files": variant.files, "bytes": variant.bytes })))
            .collect();
        rows.push(json!({
            "name": entry.name, "release": entry.release, "family": entry.family, "repository": entry.repository,
            "revision": entry.revision, "parameters": entry.parameters, "license": entry.license,
            "languages": entry.languages, "context": entry.context, "purpose": entry.purpose,
            "status": entry.status.mark(), "precisions": sizes, "memory": memory, "fits": fits,
            "installed": installed,
        }));
    }
    output.finish(Map::from_iter([("catalogue".to_owned(), rows.into())]))?;
    Ok(Outcome::Done)
}

/// A size for people.
#[must_use]
pub fn mib(bytes: u64) -> String {
    match bytes {
        0..1_048_576 => format!("{} KiB", bytes.div_ceil(1024)),
        _ => format!("{} MiB", bytes >> 20),
    }
}

async fn model<'a>(connection: &zbus::Connection, name: &str) -> eddy_ipc::Result<ModelProxy<'a>> {
    let path = path(Bus::Admin, Collection::Model(name));
    Ok(ModelProxy::builder(connection).path(path).build().await?)
}

/// The folder of a model of the daemon's, on its machine's disk.
///
/// # Errors
/// When there is no such model, or nobody answers.
pub fn folder(daemon: &Daemon, name: &str) -> anyhow::Result<String> {
    daemon.call(async |connection| Ok::<_, eddy_ipc::Error>(model(connection, name).await?.folder().await?))
}

fn known(daemon: &Daemon, name: &str) -> anyhow::Result<()> {
    let known = listed(daemon)?.iter().any(|model| model.name == name);
    anyhow::ensure!(known, "{name}: the daemon has no such model; `eddy models list` shows those that it has");
    Ok(())
}

fn tell(Named { name, json }: &Named, state: ModelState) -> anyhow::Result<Outcome> {
    let mut output = Output::new(*json);
    output.line(&format!("{name}: {}", state.as_str()))?;
    output.finish(Map::from_iter([("name".into(), name.as_str().into()), ("state".into(), state.as_str().into())]))?;
    Ok(Outcome::Done)
}

fn unload(daemon: &Daemon, named: &Named) -> anyhow::Result<Outcome> {
    known(daemon, &named.name)?;
    daemon.call(async |connection| model(connection, &named.name).await?.unload().await)?;
    tell(named, ModelState::Unloaded)
}

fn load(daemon: &Daemon, named: &Named) -> anyhow::Result<Outcome> {
    let (name, begun) = (named.name.as_str(), std::time::Instant::now());
    known(daemon, name)?;
    daemon.call(async |connection| model(connection, name).await?.load(&eddy_ipc::Options::default()).await)?;
    loop {
        let model = listed(daemon)?.into_iter().find(|model| model.name == name);
        let model = model.with_context(|| format!("{name}: the folder has gone"))?;
        match ModelState::from_word(&model.state) {
            Some(ModelState::Loaded) => return tell(named, ModelState::Loaded),
            Some(ModelState::Failed) => anyhow::bail!("{name}: {}", model.reason),
            Some(ModelState::Loading | ModelState::Unloaded) | None => {}
        }
        anyhow::ensure!(begun.elapsed() < LOADING, "{name}: not in memory after {} s", LOADING.as_secs());
        if daemon.interrupted() {
            return Ok(Outcome::Interrupted);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}
