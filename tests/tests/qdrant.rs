//! An index on a Qdrant server: its requests are those of the published interface, and it finds what the local index finds.

#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use eddy_models::Error;
use eddy_models::retrieval::Vectors;
use eddy_models::retrieval::index::{Access, Index, LocalIndex, Passage, Place};
use eddy_tests::eddy::command;
use eddy_tests::fixtures::fixture;
use eddyd::qdrant::{Cluster, QdrantIndex, open};
use serde_json::Value;

const WIDTH: usize = 16;

/// `tests/clients/qdrant.py`, until it is dropped.
struct Server {
    child: Child,
    url: String,
}

impl Server {
    fn start(key: Option<&str>) -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let python = root.join("target/qdrant/bin/python");
        assert!(python.is_file(), "{} is missing; `make qdrant` makes it", python.display());
        let mut child = Command::new(python)
            .args(["-W", "ignore"])
            .arg(root.join("tests/clients/qdrant.py"))
            .args(key)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut port = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut port).unwrap();
        Self { child, url: format!("http://127.0.0.1:{}", port.trim()) }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn some_vectors(random: &mut fastrand::Rng, rows: usize) -> Vectors {
    let mut data: Vec<f32> = (0..rows * WIDTH).map(|_| random.f32() - 0.5).collect();
    for row in data.chunks_exact_mut(WIDTH) {
        let length = row.iter().map(|value| value * value).sum::<f32>().sqrt();
        row.iter_mut().for_each(|value| *value /= length);
    }
    Vectors::new(WIDTH, data)
}

fn passage(number: usize) -> Passage {
    let (begin, line) = (number as u64 * 10, number as u64 + 1);
    let place = Place { document: format!("notes-{}.md", number % 3), begin, end: begin + 9, line };
    Passage { id: format!("note {number}"), text: format!("Text {number}, \"quoted\"\n\u{1f41f}"), place: Some(place) }
}

#[test]
fn it_finds_what_the_local_index_finds() {
    let server = Server::start(None);
    let folder = tempfile::tempdir().unwrap();
    let [here, there]: [PathBuf; 2] = ["here", "there"].map(|name| folder.path().join(name));
    let mut local = LocalIndex::create(&here, WIDTH, "a model").unwrap();
    let cluster = Cluster { shards: 3, replicas: 2 };
    let mut remote = QdrantIndex::create(&there, &server.url, "notes", WIDTH, "a model", cluster).unwrap();
    let again = QdrantIndex::create(&folder.path().join("other"), &server.url, "notes", WIDTH, "a model", cluster);
    assert!(matches!(again, Err(Error::BadRequest(reason)) if reason.contains("there already")));

    let mut random = fastrand::Rng::with_seed(6);
    let mut vectors: Vec<Vectors> = (0..300).map(|number| some_vectors(&mut random, 1 + number % 7)).collect();
    let passages: Vec<Passage> = (0..300).map(passage).collect();
    for batch in 0..3 {
        let range = batch * 100..batch * 100 + 100;
        local.add(&passages[range.clone()], &vectors[range.clone()]).unwrap();
        remote.add(&passages[range.clone()], &vectors[range]).unwrap();
    }
    // One is replaced, some go, one is moved.
    vectors[7] = some_vectors(&mut random, 4);
    let moved = Place { line: 77, ..passages[9].place.clone().unwrap() };
    for index in [&mut local as &mut dyn Index, &mut remote] {
        index.add(&passages[7..8], &vectors[7..8]).unwrap();
        assert_eq!(index.remove(&["note 3", "note 4", "nobody"]).unwrap(), 2);
        index.relocate(&[("note 9", &moved)]).unwrap();
    }

    let remote = open(&there, Access::Read).unwrap();
    assert_eq!((remote.width(), remote.model(), remote.count().unwrap()), (WIDTH, "a model", 298));
    assert_eq!(remote.documents().unwrap(), local.documents().unwrap());
    for document in ["notes-0.md", "nowhere"] {
        assert_eq!(remote.passages_of(document).unwrap(), local.passages_of(document).unwrap());
    }
    for _ in 0..20 {
        let query = some_vectors(&mut random, 5);
        let (expected, hits) = (local.search(&query, 10).unwrap(), remote.search(&query, 10).unwrap());
        assert_eq!(hits.len(), 10);
        for (expected, hit) in expected.iter().zip(&hits) {
            assert!((expected.score - hit.score).abs() < 1e-4, "{} and {}", expected.score, hit.score);
            assert_eq!(expected.passage, hit.passage);
        }
    }

    let wide = Vectors::new(8, vec![0.0; 8]);
    assert!(matches!(remote.search(&wide, 1), Err(Error::BadRequest(_))));
    let url = server.url.clone();
    drop(server);
    let error = remote.search(&some_vectors(&mut random, 1), 1).unwrap_err().to_string();
    assert!(error.starts_with(&url) && error.contains("check that the server runs"), "{error}");
}

#[test]
fn the_command_line_keeps_an_index_there() {
    let server = Server::start(Some("secret"));
    let folder = tempfile::tempdir().unwrap();
    let notes = folder.path().join("notes");
    std::fs::create_dir(&notes).unwrap();
    std::fs::write(notes.join("house.md"), "# House\n\nThe kettle stands in the kitchen.\n").unwrap();
    let model = fixture("colbert-causal");
    let eddy = |arguments: &[&str], key: &str| {
        let mut command = command(&["index"]);
        command.args(arguments).env("XDG_STATE_HOME", folder.path().join("state")).env("QDRANT_API_KEY", key);
        command.output().unwrap()
    };
    let create = ["create", "notes", "--model", model.to_str().unwrap(), "--server", &server.url, "--shards", "2"];
    let refused = eddy(&create, "wrong");
    let refused = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(refused.contains("401") && refused.contains("API key") && refused.lines().count() == 1, "{refused}");
    for arguments in [&create[..], &["add", "notes", notes.to_str().unwrap()]] {
        let output = eddy(arguments, "secret");
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    let found = eddy(&["search", "notes", "kettle", "--json"], "secret");
    let found: Value = serde_json::from_slice(&found.stdout).unwrap();
    assert_eq!(found["hits"][0]["text"], "# House\n\nThe kettle stands in the kitchen.");
    let listed = eddy(&["list", "--json"], "secret");
    let listed: Value = serde_json::from_slice(&listed.stdout).unwrap();
    assert!(listed["notes"]["passages"].as_u64() >= Some(1) && listed["notes"]["bytes"].is_null(), "{listed}");
    assert!(eddy(&["remove", "notes", "--all"], "secret").status.success());
    assert!(!folder.path().join("state/eddy/indexes/notes").exists());
    assert!(eddy(&create, "secret").status.success(), "the collection is gone from the server too");
}
