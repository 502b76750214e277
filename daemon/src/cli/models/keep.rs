//! `eddy models verify`, `remove`, `prune`, `rollback` and `import`: the store on this machine.

use std::path::PathBuf;

use anyhow::Context;
use eddy_config::Paths;
use eddy_store::Model;
use serde_json::{Map, Value, json};

use super::super::Outcome;
use super::super::daemon::BusArguments;
use super::super::output::Output;
use super::{mib, store, tell_daemon};

/// Arguments of `eddy models verify`.
#[derive(Debug, clap::Args)]
pub struct Verify {
    /// The model's name; all of them if none is given.
    name: Option<String>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// Compares every file with what it was when it was fetched.
///
/// # Errors
/// When a model is damaged, with every damage on a line of its own.
pub fn verify(arguments: &Verify) -> anyhow::Result<Outcome> {
    let store = store(&Paths::from_environment()?)?;
    let models = match &arguments.name {
        Some(name) => vec![store.model(name)?],
        None => store.models()?,
    };
    let mut output = Output::new(arguments.json);
    let mut fields = Map::new();
    let mut damaged = Vec::new();
    for model in &models {
        let found = store.verify(&model.name)?;
        for damage in &found {
            output.line(&format!("{}: {damage}", model.name))?;
        }
        if found.is_empty() {
            let (count, bytes) = (model.manifest.files.len(), mib(model.manifest.bytes()));
            output.line(&format!("{}: whole, {count} files, {bytes}", model.name))?;
        } else {
            damaged.push(model.name.as_str());
        }
        fields.insert(model.name.clone(), found.iter().map(|damage| Value::from(damage.to_string())).collect());
    }
    output.finish(Map::from_iter([("damage".to_owned(), Value::Object(fields))]))?;
    anyhow::ensure!(damaged.is_empty(), "{}: damaged; remove and pull again", damaged.join(", "));
    Ok(Outcome::Done)
}

/// Takes a model away.
///
/// # Errors
/// When it was not fetched or imported.
pub fn remove(name: &str, bus: &BusArguments) -> anyhow::Result<Outcome> {
    let freed = store(&Paths::from_environment()?)?.remove(name)?;
    tell_daemon(bus);
    Output::new(false).line(&format!("{name}: removed, {} freed", mib(freed)))?;
    Ok(Outcome::Done)
}

/// Takes away what is not in use.
///
/// # Errors
/// When a folder cannot be changed.
pub fn prune() -> anyhow::Result<Outcome> {
    let freed = store(&Paths::from_environment()?)?.prune()?;
    Output::new(false).line(&format!("earlier versions and unfinished pulls removed, {} freed", mib(freed)))?;
    Ok(Outcome::Done)
}

/// Goes back to the version before.
///
/// # Errors
/// When there is none.
pub fn rollback(name: &str, bus: &BusArguments) -> anyhow::Result<Outcome> {
    let model = store(&Paths::from_environment()?)?.rollback(name)?;
    tell_daemon(bus);
    Output::new(false).line(&told(&model))?;
    Ok(Outcome::Done)
}

/// Arguments of `eddy models import`.
#[derive(Debug, clap::Args)]
pub struct Import {
    /// A model folder, or a .tar, .tar.gz or .zip of one.
    source: PathBuf,
    /// What it is to be called [default: as the folder or archive].
    #[arg(long)]
    name: Option<String>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// Takes a folder or an archive into the store.
///
/// # Errors
/// When it holds no usable model.
pub fn import(arguments: &Import, bus: &BusArguments) -> anyhow::Result<Outcome> {
    let store = store(&Paths::from_environment()?)?;
    let model = store.import(&arguments.source, arguments.name.as_deref())?;
    tell_daemon(bus);
    let mut output = Output::new(arguments.json);
    output.line(&told(&model))?;
    let fields = json!({ "name": model.name, "path": model.path, "version": model.version });
    output.finish(fields.as_object().cloned().context("an object")?)?;
    Ok(Outcome::Done)
}

fn told(model: &Model) -> String {
    let revision = model.manifest.revision.as_deref().and_then(|revision| revision.get(..12)).unwrap_or("local");
    let precisions = model.manifest.precisions.join(", ");
    format!("{}: version {} ({revision}, {precisions}) in {}", model.name, model.version, model.path.display())
}
