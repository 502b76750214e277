//! `eddy models`: the daemon's model folders.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::Context;
use eddy_ipc::client::ModelProxy;
use eddy_ipc::{Bus, Collection, ModelState, interface, path};
use serde_json::{Map, Value, json};
use zbus::OwnedVariant;
use zbus::fdo::ObjectManagerProxy;

use super::Outcome;
use super::daemon::{BusArguments, Daemon};
use super::output::Output;

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
    /// Show the model folders that the daemon has, and how each stands.
    List {
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Bring a model into memory, and wait until it is there.
    Load {
        /// Its name.
        name: String,
    },
    /// Take a model out of memory.
    Unload {
        /// Its name.
        name: String,
    },
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
    let daemon = Daemon::connect(bus)?;
    match arguments.action {
        Action::List { json } => list(&daemon, json),
        Action::Load { name } => load(&daemon, &name),
        Action::Unload { name } => {
            daemon.call(async |connection| model(connection, &name).await?.unload().await)?;
            Ok(Outcome::Done)
        }
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

fn list(daemon: &Daemon, json: bool) -> anyhow::Result<Outcome> {
    let models = listed(daemon)?;
    let mut output = Output::new(json);
    if models.is_empty() {
        output.line("no model folders; `eddy config show` says where they are looked for (models.directories)")?;
    }
    let widest = models.iter().map(|model| model.name.chars().count()).max().unwrap_or_default();
    for model in &models {
        let mut line = format!(
            "{:widest$}  {:9}  {:6}  {:>7}  {}",
            model.name,
            model.state,
            model.precision,
            mib(model.bytes),
            model.family,
        );
        if !model.reason.is_empty() {
            line += &format!("\n{:widest$}  {}", "", model.reason);
        }
        output.line(&line)?;
    }
    let fields = |model: &Listed| {
        json!({
            "name": model.name, "family": model.family, "precision": model.precision, "path": model.path,
            "license": model.license, "bytes": model.bytes, "state": model.state, "reason": model.reason,
        })
    };
    output.finish(Map::from_iter([("models".to_owned(), models.iter().map(fields).collect::<Value>())]))?;
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

fn load(daemon: &Daemon, name: &str) -> anyhow::Result<Outcome> {
    let begun = std::time::Instant::now();
    daemon.call(async |connection| model(connection, name).await?.load(&eddy_ipc::Options::default()).await)?;
    loop {
        let model = listed(daemon)?.into_iter().find(|model| model.name == name);
        let model = model.with_context(|| format!("{name}: the folder has gone"))?;
        match ModelState::from_word(&model.state) {
            Some(ModelState::Loaded) => return Ok(Outcome::Done),
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
