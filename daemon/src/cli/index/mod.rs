//! `eddy index`: files that can be searched by meaning.

mod passages;
mod update;

use std::path::{Path, PathBuf};

use anyhow::Context;
use eddy_config::Paths;
use eddy_ipc::client::RetrievalProxy;
use eddy_models::retrieval::index::{Access, Index, LocalIndex};
use eddy_models::retrieval::{Encoder, Side, Vectors};
use serde_json::{Map, Value, json};

use super::Outcome;
use super::daemon::{BusArguments, Daemon};
use super::encoding::Encoding;
use super::model::{LoadArguments, Place, place};
use super::output::Output;
use crate::indexes::is_name;
use crate::qdrant::{Cluster, QdrantIndex, open};

/// Arguments of the verb.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Make an empty index for the vectors of a model.
    Create {
        /// Its name.
        name: String,
        /// Retrieval model that encodes texts for it: a folder, or the name of one of the daemon's [default: the
        /// daemon's choice].
        #[arg(long, value_name = "DIR|NAME")]
        model: Option<String>,
        /// Keep texts and vectors on a Qdrant server, such as http://localhost:6333, rather than on this machine; the key
        /// that it wants is taken from QDRANT_API_KEY.
        #[arg(long, value_name = "URL", requires = "model")]
        server: Option<String>,
        /// Parts that the server spreads over its cluster.
        #[arg(long, value_name = "N", default_value_t = 1, requires = "server", value_parser = clap::value_parser!(u32).range(1..=1024))]
        shards: u32,
        /// Machines of the cluster that keep each part.
        #[arg(long, value_name = "N", default_value_t = 1, requires = "server", value_parser = clap::value_parser!(u32).range(1..=16))]
        replicas: u32,
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        load: LoadArguments,
    },
    /// Add files, and all text and Markdown files in folders; what has not changed is not encoded again.
    Add {
        /// Name of the index.
        name: String,
        /// Files and folders.
        #[arg(required = true)]
        paths: Vec<PathBuf>,
        /// The index's model, where it is not where it was when the index was made.
        #[arg(long, value_name = "DIR|NAME")]
        model: Option<String>,
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        load: LoadArguments,
    },
    /// Take documents out, or remove the index.
    Remove {
        /// Name of the index.
        name: String,
        /// Documents, as `list` prints them.
        #[arg(required_unless_present = "all")]
        documents: Vec<String>,
        /// Remove the index with everything in it.
        #[arg(long, conflicts_with = "documents")]
        all: bool,
        /// Only if the index was made with this model.
        #[arg(long, value_name = "DIR|NAME")]
        model: Option<String>,
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Find the passages that answer a query best.
    Search {
        /// Name of the index.
        name: String,
        /// What to look for.
        query: String,
        /// Passages at most.
        #[arg(short = 'k', long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=1000))]
        most: u16,
        /// The index's model, where it is not where it was when the index was made.
        #[arg(long, value_name = "DIR|NAME")]
        model: Option<String>,
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        load: LoadArguments,
    },
    /// Show all indexes, or the documents of one.
    List {
        /// Name of the index.
        name: Option<String>,
        /// Only indexes that were made with this model.
        #[arg(long, value_name = "DIR|NAME")]
        model: Option<String>,
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
    },
}

/// Runs the verb.
///
/// # Errors
/// One line about what went wrong.
pub fn run(arguments: Arguments, bus: &BusArguments) -> anyhow::Result<Outcome> {
    match arguments.action {
        Action::Create { name, model: Some(model), server: Some(url), shards, replicas, json, load } => {
            create_on_server(&name, &model, &url, Cluster { shards, replicas }, json, &load, bus)
        }
        Action::Create { name, model, json, load, .. } => create(&name, model.as_deref(), json, &load, bus),
        Action::Add { name, paths, model, json, load } => {
            let mut index = open(&folder(&name)?, Access::Write)?;
            let mut encoding = encoding(index.as_ref(), model.as_deref(), &load, bus)?;
            add(index.as_mut(), &mut encoding, &paths, json)
        }
        Action::Remove { name, documents, all, model, json } => {
            if let Some(model) = &model {
                let index = open(&folder(&name)?, Access::Read)?;
                let made = index.model();
                anyhow::ensure!(is_same(made, model), "{name}: was made with {made}, not with {model}");
            }
            remove(&name, &documents, all, json)
        }
        Action::Search { name, query, most, model, json, load } => {
            let index = open(&folder(&name)?, Access::Read)?;
            let query =
                encoding(index.as_ref(), model.as_deref(), &load, bus)?.encode(&[&query], Side::Query)?.remove(0);
            search(index.as_ref(), &query, usize::from(most), json)
        }
        Action::List { name, model, json } => list(name.as_deref(), model.as_deref(), json),
    }
}

/// The folder that holds all indexes.
fn home() -> anyhow::Result<PathBuf> {
    Ok(Paths::from_environment()?.indexes())
}

/// The folder of one index; a name is a file name and nothing more.
fn folder(name: &str) -> anyhow::Result<PathBuf> {
    anyhow::ensure!(is_name(name), "{name:?} cannot name an index; use up to 64 letters, digits, - and _");
    Ok(home()?.join(name))
}

/// Whether an index that was made with `made` was made with `model`, which may be a folder by another of its names.
fn is_same(made: &str, model: &str) -> bool {
    let whole = Path::new(model).canonicalize();
    made == model || whole.is_ok_and(|whole| whole == Path::new(made))
}

/// The model that an index was made with, which may have moved to `model` since.
fn encoding(
    index: &dyn Index,
    model: Option<&str>,
    load: &LoadArguments,
    bus: &BusArguments,
) -> anyhow::Result<Encoding> {
    let encoding = Encoding::open(Some(model.unwrap_or(index.model())), load, bus)?;
    if let Encoding::Here { encoder, .. } = &encoding {
        anyhow::ensure!(
            encoder.width() == index.width(),
            "{}: makes vectors of {} floats, the index has {}; the model was changed, make the index again",
            index.model(),
            encoder.width(),
            index.width()
        );
    }
    Ok(encoding)
}

fn create(
    name: &str,
    model: Option<&str>,
    json: bool,
    load: &LoadArguments,
    bus: &BusArguments,
) -> anyhow::Result<Outcome> {
    let folder = folder(name)?;
    match place(model, load)? {
        Place::Here(model) => {
            let engine = load.engine()?;
            let encoder = Encoder::load(&engine.runtime, &model, load.wanted()?, engine.interrupt.stop())?;
            let model = model.canonicalize().with_context(|| model.display().to_string())?;
            LocalIndex::create(&folder, encoder.width(), &model.to_string_lossy())?;
        }
        Place::Daemon(model) => {
            let options = eddy_ipc::Options { model, ..eddy_ipc::Options::default() };
            Daemon::connect(bus)?
                .call(async |connection| RetrievalProxy::new(connection).await?.create_index(name, &options).await)?;
        }
    }
    made(name, &format!("made {}", folder.display()), json)
}

fn create_on_server(
    name: &str,
    model: &str,
    url: &str,
    cluster: Cluster,
    json: bool,
    load: &LoadArguments,
    bus: &BusArguments,
) -> anyhow::Result<Outcome> {
    let folder = folder(name)?;
    let model = match place(Some(model), load)? {
        Place::Here(model) => {
            model.canonicalize().with_context(|| model.display().to_string())?.to_string_lossy().into_owned()
        }
        Place::Daemon(_) => model.to_owned(),
    };
    // Only vectors tell how wide they are.
    let vectors = Encoding::open(Some(&model), load, bus)?.encode(&["a"], Side::Query)?;
    let width = vectors.first().map(Vectors::width).context("the model makes no vectors")?;
    QdrantIndex::create(&folder, url, name, width, &model, cluster)?;
    made(name, &format!("made {} on {url}", folder.display()), json)
}

fn made(name: &str, line: &str, json: bool) -> anyhow::Result<Outcome> {
    let mut output = Output::new(json);
    output.line(line)?;
    output.finish(Map::from_iter([("name".to_owned(), Value::from(name))]))?;
    Ok(Outcome::Done)
}

fn add(index: &mut dyn Index, encoding: &mut Encoding, paths: &[PathBuf], json: bool) -> anyhow::Result<Outcome> {
    let done = update::Update { index, encoding }.run(paths)?;
    let mut output = Output::new(json);
    for (path, reason) in &done.passed_over {
        eprintln!("eddy: {}: passed over: {reason}", path.display());
    }
    output.line(&format!(
        "{} documents: {} passages added, {} kept, {} removed",
        done.documents, done.added, done.kept, done.removed
    ))?;
    let mut report = Map::new();
    for (key, count) in
        [("documents", done.documents), ("added", done.added), ("kept", done.kept), ("removed", done.removed)]
    {
        report.insert(key.into(), count.into());
    }
    output.finish(report)?;
    Ok(if done.interrupted { Outcome::Interrupted } else { Outcome::Done })
}

fn remove(name: &str, documents: &[String], all: bool, json: bool) -> anyhow::Result<Outcome> {
    let removed = take_out(name, documents, all)?;
    let mut output = Output::new(json);
    output.line(&match all {
        true => format!("removed {name}"),
        false => format!("{removed} passages removed"),
    })?;
    output.finish(Map::from_iter([("name".into(), name.into()), ("passages".into(), removed.into())]))?;
    Ok(Outcome::Done)
}

/// The number of passages that were taken out; everything counts as its passages.
fn take_out(name: &str, documents: &[String], all: bool) -> anyhow::Result<usize> {
    let folder = folder(name)?;
    if all && QdrantIndex::is_in(&folder) {
        let index = QdrantIndex::open(&folder)?;
        let count = index.count()?;
        index.destroy(&folder)?;
        return Ok(count);
    }
    let mut index = open(&folder, Access::Write)?;
    if all {
        let count = index.count()?;
        drop(index);
        std::fs::remove_dir_all(&folder).with_context(|| format!("{}: cannot be removed", folder.display()))?;
        return Ok(count);
    }
    let mut removed = 0;
    for document in documents {
        let mut passages = index.passages_of(document)?;
        if passages.is_empty() {
            // A file is known by its whole path, from wherever it is named; it need not be there any more.
            let whole = std::path::absolute(document).with_context(|| document.clone())?;
            let whole = whole.canonicalize().unwrap_or(whole);
            passages = index.passages_of(&whole.to_string_lossy())?;
        }
        anyhow::ensure!(!passages.is_empty(), "{document}: not in the index; `eddy index list {name}` shows what is");
        removed += index.remove(&passages.iter().map(|passage| passage.id.as_str()).collect::<Vec<_>>())?;
    }
    Ok(removed)
}

fn search(index: &dyn Index, query: &Vectors, most: usize, json: bool) -> anyhow::Result<Outcome> {
    let hits = index.search(query, most)?;
    let mut output = Output::new(json);
    let mut found = Vec::new();
    for hit in &hits {
        let (document, line) = match &hit.passage.place {
            Some(place) => (place.document.as_str(), place.line),
            None => (hit.passage.id.as_str(), 1),
        };
        output.line(&format!("{document}:{line}  {:.2}", hit.score))?;
        for line in hit.passage.text.lines().filter(|line| !line.trim().is_empty()).take(3) {
            output.line(&format!("    {line}"))?;
        }
        found.push(json!({
            "document": document,
            "line": line,
            "begin": hit.passage.place.as_ref().map(|place| place.begin),
            "end": hit.passage.place.as_ref().map(|place| place.end),
            "score": hit.score,
            "text": hit.passage.text,
        }));
    }
    output.finish(Map::from_iter([("hits".to_owned(), Value::Array(found))]))?;
    Ok(Outcome::Done)
}

fn list(name: Option<&str>, model: Option<&str>, json: bool) -> anyhow::Result<Outcome> {
    let mut output = Output::new(json);
    let mut report = Map::new();
    match name {
        Some(name) => {
            let index = open(&folder(name)?, Access::Read)?;
            for (document, passages) in index.documents()? {
                output.line(&format!("{passages:6}  {document}"))?;
                report.insert(document, passages.into());
            }
        }
        None => {
            let home = home()?;
            let entries = std::fs::read_dir(&home).into_iter().flatten().flatten();
            let mut names: Vec<String> = entries.map(|entry| entry.file_name().to_string_lossy().into()).collect();
            names.sort();
            for name in names {
                let index = match open(&home.join(&name), Access::Read) {
                    Ok(index) => index,
                    // One that is damaged, or whose server is away, must not hide the others.
                    Err(error) => {
                        eprintln!("eddy: {name}: {error}");
                        continue;
                    }
                };
                if model.is_some_and(|model| !is_same(index.model(), model)) {
                    continue;
                }
                let (passages, bytes, model) = (index.count()?, index.bytes(), index.model());
                let size = bytes.map_or_else(|| "on a server".to_owned(), |bytes| format!("{} KiB", bytes / 1024));
                output.line(&format!("{name}  {passages} passages, {size}, {model}"))?;
                report.insert(name, json!({ "passages": passages, "bytes": bytes, "model": model }));
            }
        }
    }
    output.finish(report)?;
    Ok(Outcome::Done)
}
