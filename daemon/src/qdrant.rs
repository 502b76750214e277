//! An index on a Qdrant server, for those who outgrow one machine: its collections are cut into shards and kept in replicas
//! over a cluster, and it knows multi-vectors and MaxSim.
//!
//! What is here is `server.toml` in the index's folder: where the collection is and what it was made with. A batch is one
//! upsert that the server has finished before [`Index::add`] returns. Searches ask for exact scores. The texts leave this
//! machine, so nothing comes here unless a person names a server.

mod client;

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use self::client::{Client, as_count};
use eddy_models::retrieval::Vectors;
use eddy_models::retrieval::index::{Access, Hit, Index, LocalIndex, Passage, Place, check, check_width};
use eddy_models::{Error, Result};

const DESCRIPTION: &str = "server.toml";
/// Passages of one page of an answer.
const PAGE: usize = 256;
/// Name of the environment variable with the key that the server wants.
const KEY: &str = "QDRANT_API_KEY";

/// The index in `folder`, or the one on a server that `folder` remembers.
///
/// # Errors
/// Those of [`LocalIndex::open`] and [`QdrantIndex::open`].
pub fn open(folder: &Path, access: Access) -> Result<Box<dyn Index>> {
    Ok(match QdrantIndex::is_in(folder) {
        true => Box::new(QdrantIndex::open(folder)?),
        false => Box::new(LocalIndex::open(folder, access)?),
    })
}

/// How a server keeps a collection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cluster {
    /// Parts that are spread over the cluster's machines.
    pub shards: u32,
    /// Machines that keep each part.
    pub replicas: u32,
}

impl Default for Cluster {
    fn default() -> Self {
        Self { shards: 1, replicas: 1 }
    }
}

/// Where an index is and what it was made with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Description {
    /// The server's base URL.
    url: String,
    collection: String,
    /// Floats in a vector.
    width: usize,
    model: String,
}

/// An index on a Qdrant server.
#[derive(Debug)]
pub struct QdrantIndex {
    description: Description,
    client: Client,
}

impl QdrantIndex {
    /// Makes an empty collection on the server at `url` for vectors of `width` floats, made by `model`, and remembers it
    /// in `folder`, which is made. The environment's `QDRANT_API_KEY` is sent if there is one.
    ///
    /// # Errors
    /// [`Error::BadRequest`] when either is there already or the URL is none, [`Error::Server`], [`Error::Io`].
    pub fn create(
        folder: &Path,
        url: &str,
        collection: &str,
        width: usize,
        model: &str,
        cluster: Cluster,
    ) -> Result<Self> {
        let path = folder.join(DESCRIPTION);
        if path.exists() {
            return Err(Error::BadRequest(format!("{}: an index is here already", folder.display())));
        }
        let client = Client::new(url, collection)?;
        if client.get("/exists")?["exists"] == true {
            let reason = format!("{url}: the collection {collection} is there already; choose another name");
            return Err(Error::BadRequest(reason));
        }
        let vectors = json!({
            "size": width,
            "distance": "Dot",
            "on_disk": true,
            // Every search is exact: a graph over single vectors would cost memory and never be asked.
            "hnsw_config": { "m": 0 },
            "multivector_config": { "comparator": "max_sim" },
        });
        client.put(
            "",
            &json!({
                "vectors": vectors,
                "shard_number": cluster.shards,
                "replication_factor": cluster.replicas,
                "write_consistency_factor": cluster.replicas.div_ceil(2),
                "on_disk_payload": true,
            }),
        )?;
        client.put("/index?wait=true", &json!({ "field_name": "document", "field_schema": "keyword" }))?;
        let description =
            Description { url: url.to_owned(), collection: collection.to_owned(), width, model: model.to_owned() };
        let remedy = "check that the folder may be written to";
        std::fs::create_dir_all(folder).map_err(Error::io(folder, remedy))?;
        // A description of four plain values is always written.
        let text = toml::to_string(&description).unwrap_or_default();
        std::fs::write(&path, text).map_err(Error::io(&path, remedy))?;
        Ok(Self { description, client })
    }

    /// Whether `folder` remembers an index on a server.
    #[must_use]
    pub fn is_in(folder: &Path) -> bool {
        folder.join(DESCRIPTION).is_file()
    }

    /// Opens the index that `folder` remembers.
    ///
    /// # Errors
    /// [`Error::NotAnIndex`], [`Error::Malformed`], and [`Error::Server`] when the server is not there or its collection
    /// holds other vectors.
    pub fn open(folder: &Path) -> Result<Self> {
        let path = folder.join(DESCRIPTION);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(Error::NotAnIndex { path: folder.to_path_buf() });
            }
            Err(error) => return Err(Error::io(&path, "check that it may be read")(error)),
        };
        let description: Description = toml::from_str(&text).map_err(|error| Error::Malformed {
            path: path.clone(),
            reason: error.message().to_owned(),
            remedy: "correct it, or remove the folder and make the index again",
        })?;
        let client = Client::new(&description.url, &description.collection)?;
        let vectors = &client.get("")?["config"]["params"]["vectors"];
        let (size, comparator) = (&vectors["size"], &vectors["multivector_config"]["comparator"]);
        if as_count(size)? != description.width || comparator != "max_sim" {
            let reason = format!("the collection holds other vectors than {} floats with MaxSim", description.width);
            return Err(client.error(&reason));
        }
        Ok(Self { description, client })
    }

    /// Removes the collection from the server and the folder from here.
    ///
    /// # Errors
    /// [`Error::Server`], [`Error::Io`].
    pub fn destroy(self, folder: &Path) -> Result<()> {
        self.client.delete("")?;
        std::fs::remove_dir_all(folder).map_err(Error::io(folder, "remove it by hand"))
    }

    /// Everything that matches `filter`, page by page, with as much of its payload as `payload` names.
    fn scroll(&self, filter: Option<Value>, payload: &Value, mut each: impl FnMut(&Value) -> Result<()>) -> Result<()> {
        let mut offset = Value::Null;
        loop {
            let mut question = json!({ "limit": PAGE, "with_payload": payload, "with_vector": false });
            if let Some(filter) = &filter {
                question["filter"] = filter.clone();
            }
            if !offset.is_null() {
                question["offset"] = offset;
            }
            let mut page = self.client.post("/points/scroll", &question)?;
            for point in page["points"].as_array().into_iter().flatten() {
                each(&point["payload"])?;
            }
            offset = page["next_page_offset"].take();
            if offset.is_null() {
                return Ok(());
            }
        }
    }
}

impl Index for QdrantIndex {
    fn width(&self) -> usize {
        self.description.width
    }

    fn model(&self) -> &str {
        &self.description.model
    }

    fn count(&self) -> Result<usize> {
        as_count(&self.client.post("/points/count", &json!({ "exact": true }))?["count"])
    }

    fn bytes(&self) -> Option<u64> {
        None
    }

    fn documents(&self) -> Result<Vec<(String, u64)>> {
        let mut counts = std::collections::BTreeMap::<String, u64>::new();
        self.scroll(None, &json!(["document"]), |payload| {
            if let Some(document) = payload["document"].as_str() {
                *counts.entry(document.to_owned()).or_default() += 1;
            }
            Ok(())
        })?;
        Ok(counts.into_iter().collect())
    }

    fn passages_of(&self, document: &str) -> Result<Vec<Passage>> {
        let filter = json!({ "must": [{ "key": "document", "match": { "value": document } }] });
        let mut passages = Vec::new();
        self.scroll(Some(filter), &json!(true), |payload| {
            passages.push(self.passage(payload)?);
            Ok(())
        })?;
        passages.sort_by_key(|passage| passage.place.as_ref().map(|place| place.begin));
        Ok(passages)
    }

    fn relocate(&mut self, moved: &[(&str, &Place)]) -> Result<()> {
        for (id, place) in moved {
            let mut payload = Map::new();
            describe(place, &mut payload);
            self.client.post("/points/payload?wait=true", &json!({ "payload": payload, "points": [point_id(id)] }))?;
        }
        Ok(())
    }

    fn add(&mut self, passages: &[Passage], vectors: &[Vectors]) -> Result<()> {
        check(passages, vectors, self.width(), self.model())?;
        let points: Vec<Value> = passages
            .iter()
            .zip(vectors)
            // A passage without vectors is never found, and the server would refuse it.
            .filter(|(_, vectors)| !vectors.is_empty())
            .map(|(passage, vectors)| {
                let mut payload = Map::from_iter([
                    ("id".to_owned(), passage.id.clone().into()),
                    ("text".to_owned(), passage.text.clone().into()),
                ]);
                if let Some(place) = &passage.place {
                    describe(place, &mut payload);
                }
                json!({ "id": point_id(&passage.id), "vector": rows(vectors), "payload": payload })
            })
            .collect();
        if !points.is_empty() {
            self.client.put("/points?wait=true", &json!({ "points": points }))?;
        }
        Ok(())
    }

    fn remove(&mut self, ids: &[&str]) -> Result<usize> {
        if ids.is_empty() {
            return Ok(0);
        }
        let ids: Vec<String> = ids.iter().map(|id| point_id(id)).collect();
        let question = json!({ "ids": ids, "with_payload": false, "with_vector": false });
        let there = self.client.post("/points", &question)?;
        self.client.post("/points/delete?wait=true", &json!({ "points": ids }))?;
        Ok(there.as_array().map_or(0, Vec::len))
    }

    fn search(&self, query: &Vectors, most: usize) -> Result<Vec<Hit>> {
        check_width(query, self.width(), self.model())?;
        let found = self.client.post(
            "/points/query",
            &json!({ "query": rows(query), "limit": most, "with_payload": true, "params": { "exact": true } }),
        )?;
        let hit = |point: &Value| {
            let score = point["score"].as_f64().ok_or_else(|| self.client.error("a hit without a score"))?;
            Ok(Hit { score: score as f32, passage: self.passage(&point["payload"])? })
        };
        found["points"].as_array().into_iter().flatten().map(hit).collect()
    }
}

impl QdrantIndex {
    fn passage(&self, payload: &Value) -> Result<Passage> {
        let (Some(id), Some(text)) = (payload["id"].as_str(), payload["text"].as_str()) else {
            return Err(self.client.error("the collection holds points that Eddy has not made"));
        };
        let number = |key: &str| payload[key].as_u64();
        let place = payload["document"].as_str().and_then(|document| {
            let (begin, end, line) = (number("begin")?, number("end")?, number("line")?);
            Some(Place { document: document.to_owned(), begin, end, line })
        });
        Ok(Passage { id: id.to_owned(), text: text.to_owned(), place })
    }
}

/// The server names points by UUIDs, a passage is named by a text: the first half of its SHA-256, in a UUID's form.
fn point_id(id: &str) -> String {
    let hash = Sha256::digest(id.as_bytes());
    let digits: String = hash[..16].iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{}-{}-{}-{}-{}", &digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..])
}

fn rows(vectors: &Vectors) -> Value {
    vectors.rows().map(Value::from).collect()
}

fn describe(place: &Place, payload: &mut Map<String, Value>) {
    payload.insert("document".into(), place.document.clone().into());
    for (key, number) in [("begin", place.begin), ("end", place.end), ("line", place.line)] {
        payload.insert(key.into(), number.into());
    }
}
