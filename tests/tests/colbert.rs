//! Late-interaction encoders against pylate, and the index against brute force.

#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use eddy_models::retrieval::index::{Access, Index, LocalIndex, Passage};
use eddy_models::retrieval::{Encoder, Side, Vectors, max_sim};
use eddy_models::{Error, Stop};
use eddy_tests::compare::assert_close;
use eddy_tests::fixtures::{composed, fixture, runtime};
use eddy_tests::npy;
use serde_json::Value;

fn encoder(folder: &Path) -> Encoder {
    let runtime = runtime();
    let stop = Stop::new(&runtime).unwrap();
    Encoder::load(&runtime, folder, "auto".parse().unwrap(), &stop).unwrap_or_else(|error| panic!("{error}"))
}

/// Writes the knobs of a variant over those of a folder.
fn turn_knobs(folder: &Path, knobs: &Value) {
    let path = folder.join("config_sentence_transformers.json");
    let mut settings: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    for (knob, value) in knobs.as_object().unwrap() {
        settings[knob] = value.clone();
        // The ids that the exporter derives from the prefixes go with them.
        if value == "" {
            settings.as_object_mut().unwrap().remove(&format!("{knob}_id"));
            forget_prefixes(&folder.join("tokenizer.json"));
        }
    }
    std::fs::write(&path, settings.to_string()).unwrap();
}

/// Takes the prefixes out of a tokenizer, as in a model that never had them.
fn forget_prefixes(path: &Path) {
    let mut tokenizer: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let prefixes = ["[Q] ", "[D] "];
    tokenizer["added_tokens"]
        .as_array_mut()
        .unwrap()
        .retain(|token| !prefixes.iter().any(|prefix| token["content"] == *prefix));
    for prefix in prefixes {
        tokenizer["model"]["vocab"].as_object_mut().unwrap().remove(prefix);
    }
    std::fs::write(path, tokenizer.to_string()).unwrap();
}

fn texts(side: &Value) -> Vec<&str> {
    side.as_array().unwrap().iter().map(|text| text["text"].as_str().unwrap()).collect()
}

fn assert_equals_pylate(folder: &Path, reference: &str, variant: &str, cases: &Value) {
    let case = &cases[variant];
    let mut encoder = encoder(folder);
    let expected = npy::floats(fixture(&format!("{reference}/{variant}.npy")));
    let width = expected.shape[1];
    assert_eq!(encoder.width(), width);

    let mut rows = expected.data.chunks_exact(width);
    let mut encoded = Vec::new();
    for (name, side) in [("queries", Side::Query), ("documents", Side::Document)] {
        let listed = case[name].as_array().unwrap();
        // All at once, in whatever batches the encoder makes of them.
        let vectors = encoder.encode(&texts(&case[name]), side).unwrap();
        for (entry, vectors) in listed.iter().zip(&vectors) {
            let text = entry["text"].as_str().unwrap();
            let tokens = encoder.ruler().tokens(text, side).unwrap();
            assert_eq!(serde_json::json!(tokens.ids), entry["ids"], "{variant} {text:?}");
            assert_eq!(serde_json::json!(tokens.mask), entry["mask"], "{variant} {text:?}");
            let theirs: Vec<f32> =
                rows.by_ref().take(entry["vectors"].as_u64().unwrap() as usize).flatten().copied().collect();
            assert_eq!(vectors.data().len(), theirs.len(), "{variant} {text:?}");
            assert_close(&format!("{variant} {text:?}"), vectors.data(), &theirs, 1e-4);
        }
        encoded.push(vectors);
    }
    assert!(rows.next().is_none());

    let documents: Vec<&Vectors> = encoded[1].iter().filter(|document| !document.is_empty()).collect();
    for (query, scores) in encoded[0].iter().zip(case["scores"].as_array().unwrap()) {
        for (document, score) in documents.iter().zip(scores.as_array().unwrap()) {
            let ours = max_sim(query, document);
            assert!((f64::from(ours) - score.as_f64().unwrap()).abs() < 1e-3, "{variant}: {ours}, expected {score}");
        }
    }
}

#[test]
fn vectors_and_scores_equal_pylate() {
    for name in ["colbert-causal", "colbert-both"] {
        let reference = format!("{name}-reference");
        let cases: Value =
            serde_json::from_slice(&std::fs::read(fixture(&format!("{reference}/cases.json"))).unwrap()).unwrap();
        for variant in cases.as_object().unwrap().keys() {
            let folder = composed(name, None);
            turn_knobs(folder.path(), &cases[variant]["settings"]);
            assert_equals_pylate(folder.path(), &reference, variant, &cases);
        }
    }
}

#[test]
fn graphs_that_ask_for_segments_get_them() {
    let folder = composed("colbert-causal", Some("colbert-segments"));
    let cases: Value =
        serde_json::from_slice(&std::fs::read(fixture("colbert-causal-reference/cases.json")).unwrap()).unwrap();
    assert_equals_pylate(folder.path(), "colbert-causal-reference", "as_is", &cases);
}

const WIDTH: usize = 32;

/// Reproducible unit vectors: `rows` of them.
fn some_vectors(seed: u32, rows: usize) -> Vectors {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(1);
    let mut data = Vec::new();
    for _ in 0..rows * WIDTH {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        data.push(f64::from(state) as f32 / u32::MAX as f32 - 0.5);
    }
    for row in data.chunks_exact_mut(WIDTH) {
        let length = row.iter().map(|value| value * value).sum::<f32>().sqrt();
        row.iter_mut().for_each(|value| *value /= length);
    }
    Vectors::new(WIDTH, data)
}

fn passage(number: u32) -> Passage {
    Passage { id: format!("note-{number}"), text: format!("the text of note {number}"), place: None }
}

fn fill(index: &mut LocalIndex, numbers: std::ops::Range<u32>) {
    let passages: Vec<Passage> = numbers.clone().map(passage).collect();
    let vectors: Vec<Vectors> = numbers.map(|number| some_vectors(number, 4 + number as usize % 13)).collect();
    index.add(&passages, &vectors).unwrap();
}

#[test]
fn search_finds_what_brute_force_finds() {
    let folder = tempfile::tempdir().unwrap();
    let mut index = LocalIndex::create(folder.path(), WIDTH, "test").unwrap();
    for start in (0..2000).step_by(250) {
        fill(&mut index, start..start + 250);
    }
    assert_eq!(index.passages(), 2000);
    let documents: Vec<Vectors> = (0..2000).map(|number| some_vectors(number, 4 + number as usize % 13)).collect();
    let mut same = 0;
    for query in 0..200 {
        let query = some_vectors(1_000_000 + query, 8);
        let mut best: Vec<(f32, usize)> =
            documents.iter().enumerate().map(|(number, document)| (max_sim(&query, document), number)).collect();
        best.sort_by(|a, b| b.0.total_cmp(&a.0));
        let expected: Vec<String> = best[..10].iter().map(|(_, number)| format!("note-{number}")).collect();
        let hits = index.search(&query, 10).unwrap();
        assert_eq!(hits[0].passage.id, expected[0], "the best hit");
        assert!((hits[0].score - best[0].0).abs() < 1e-2, "{} and {}", hits[0].score, best[0].0);
        let found: std::collections::BTreeSet<&str> = hits.iter().map(|hit| hit.passage.id.as_str()).collect();
        same += usize::from(expected.iter().all(|id| found.contains(id.as_str())));
    }
    assert!(same >= 190, "only {same} of 200 queries have the same ten");
}

#[test]
fn passages_come_go_and_stay() {
    let folder = tempfile::tempdir().unwrap();
    let mut index = LocalIndex::create(folder.path(), WIDTH, "test").unwrap();
    assert!(LocalIndex::create(folder.path(), WIDTH, "test").is_err(), "there is one already");
    fill(&mut index, 0..100);
    assert_eq!(index.remove(&["note-3", "note-7", "nobody"]).unwrap(), 2);
    let moved = Passage { text: "another text".into(), ..passage(5) };
    index.add(&[moved], &[some_vectors(777, 6)]).unwrap();
    assert_eq!(index.passages(), 98);

    let check = |index: &LocalIndex| {
        let hit = |seed: u32, rows: usize| index.search(&some_vectors(seed, rows), 1).unwrap().remove(0).passage;
        assert_eq!(hit(777, 6).text, "another text");
        assert_ne!(hit(3, 7).id, "note-3");
        assert_eq!(hit(42, 4 + 42 % 13).text, "the text of note 42");
    };
    check(&index);
    assert!(matches!(LocalIndex::open(folder.path(), Access::Write), Err(Error::InUse { .. })));
    drop(index);
    let mut index = LocalIndex::open(folder.path(), Access::Write).unwrap();
    assert_eq!(index.passages(), 98);
    check(&index);
    fill(&mut index, 200..210);
    assert_eq!(index.passages(), 108);
    assert!(index.search(&Vectors::new(8, vec![0.5; 8]), 1).is_err(), "another width");
    assert!(matches!(LocalIndex::open(Path::new("/nonexistent"), Access::Read), Err(Error::NotAnIndex { .. })));
}

/// What the killed process runs: it adds batch after batch and says which are done.
#[test]
fn writer_of_the_kill_test() {
    let Some(folder) = std::env::var_os("EDDY_TEST_INDEX") else { return };
    let mut index = LocalIndex::create(Path::new(&folder), WIDTH, "test").unwrap();
    for batch in 0.. {
        fill(&mut index, batch * 50..batch * 50 + 50);
        println!("batch {batch}");
    }
}

/// Groups of ten passages that are replaced together, and one more that comes and goes.
const GROUPS: u32 = 8;

fn group(group: u32, version: u32) -> (Vec<Passage>, Vec<Vectors>) {
    let text = |number| Passage { text: format!("version {version}"), ..passage(number) };
    let numbers = group * 10..group * 10 + 10;
    // So many rows that those which no longer count are cleared away again and again.
    (numbers.clone().map(text).collect(), numbers.map(|number| some_vectors(version * 1000 + number, 60)).collect())
}

/// Another killed process: it replaces a group, or takes the last one out, or puts it back.
#[test]
fn changer_of_the_kill_test() {
    let Some(folder) = std::env::var_os("EDDY_TEST_CHANGED_INDEX") else { return };
    let mut index = LocalIndex::open(Path::new(&folder), Access::Write).unwrap();
    let last: Vec<String> = group(GROUPS, 0).0.into_iter().map(|passage| passage.id).collect();
    let last: Vec<&str> = last.iter().map(String::as_str).collect();
    for version in 1.. {
        let (passages, vectors) = group(version % GROUPS, version);
        index.add(&passages, &vectors).unwrap();
        match version % 2 {
            0 => assert_eq!(index.remove(&last).unwrap(), 10),
            _ => {
                let (passages, vectors) = group(GROUPS, version);
                index.add(&passages, &vectors).unwrap();
            }
        }
        println!("batch {version}");
    }
}

/// Has the test `writer` work on `index`, kills it after so many batches, and returns the last one that it has finished.
fn killed(writer: &str, variable: &str, index: &Path, batches: usize) -> u32 {
    let mut writer = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", writer, "--nocapture"])
        .env(variable, index)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(writer.stdout.take().unwrap()).lines();
    let done = lines
        .filter_map(|line| line.unwrap().rsplit_once("batch ").map(|(_, batch)| batch.parse().unwrap()))
        .nth(batches - 1);
    writer.kill().unwrap();
    writer.wait().unwrap();
    done.unwrap()
}

#[test]
fn a_killed_writer_loses_at_most_its_unfinished_batch() {
    for round in 0..5 {
        let folder = tempfile::tempdir().unwrap();
        let done = killed("writer_of_the_kill_test", "EDDY_TEST_INDEX", &folder.path().join("index"), 3 + round);

        let mut index = LocalIndex::open(&folder.path().join("index"), Access::Write).unwrap();
        let finished = (done + 1) as usize * 50;
        assert!(
            index.passages() >= finished && index.passages().is_multiple_of(50),
            "{} of {finished}",
            index.passages()
        );
        for number in [0, 49, finished as u32 - 1] {
            let hit = index.search(&some_vectors(number, 4 + number as usize % 13), 1).unwrap().remove(0);
            assert_eq!(hit.passage, passage(number));
        }
        fill(&mut index, 100_000..100_010);
        assert_eq!(index.search(&some_vectors(100_003, 4 + 100_003 % 13), 1).unwrap()[0].passage, passage(100_003));
    }
}

#[test]
fn what_a_killed_writer_replaces_and_removes_is_old_or_new_as_a_whole() {
    let folder = tempfile::tempdir().unwrap();
    let mut index = LocalIndex::create(folder.path(), WIDTH, "test").unwrap();
    for number in 0..=GROUPS {
        let (passages, vectors) = group(number, 0);
        index.add(&passages, &vectors).unwrap();
    }
    drop(index);
    for round in 0..4 {
        let done = killed("changer_of_the_kill_test", "EDDY_TEST_CHANGED_INDEX", folder.path(), 1 + 5 * round);
        let index = LocalIndex::open(folder.path(), Access::Write).unwrap();
        let version_of = |number: u32| -> Option<u32> {
            // The two newest versions that this passage had, begun or done.
            let had = |version: &u32| match number / 10 {
                GROUPS => version % 2 == 1 || *version == 0,
                group => version % GROUPS == group || *version == 0,
            };
            (0..=done + 1).rev().filter(had).take(2).find(|version| {
                let hit = index.search(&some_vectors(version * 1000 + number, 60), 1).unwrap().remove(0);
                let found = hit.score > 59.0;
                assert!(!found || hit.passage.text == format!("version {version}"), "{:?}", hit.passage);
                found
            })
        };
        let mut whole = 0;
        for group in 0..=GROUPS {
            let versions: Vec<Option<u32>> = (group * 10..group * 10 + 10).map(version_of).collect();
            assert!(versions.iter().all(|version| version == &versions[0]), "group {group}: {versions:?}");
            assert!(versions[0].is_some() || group == GROUPS, "group {group} is lost");
            whole += 10 * usize::from(versions[0].is_some());
        }
        assert_eq!(index.passages(), whole);
        let finished = version_of(done % GROUPS * 10);
        assert!(finished >= Some(done), "batch {done} was finished, {finished:?} is there");
    }
}

#[test]
fn damaged_files_are_errors_and_never_panics() {
    let folder = tempfile::tempdir().unwrap();
    let whole = folder.path().join("whole");
    let mut index = LocalIndex::create(&whole, WIDTH, "test").unwrap();
    fill(&mut index, 0..60);
    drop(index);
    let mut state = 1_u32;
    let mut random = |below: usize| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as usize % below
    };
    for round in 0..60 {
        let copy = folder.path().join(format!("{round}"));
        std::fs::create_dir(&copy).unwrap();
        let mut files: Vec<_> = std::fs::read_dir(&whole).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        for file in &files {
            std::fs::copy(file, copy.join(file.file_name().unwrap())).unwrap();
        }
        let victim = copy.join(files[random(files.len())].file_name().unwrap());
        let mut bytes = std::fs::read(&victim).unwrap();
        if bytes.is_empty() {
            continue;
        }
        for _ in 0..1 + random(20) {
            let at = random(bytes.len());
            bytes[at] = random(256) as u8;
        }
        if round % 3 == 0 {
            bytes.truncate(random(bytes.len()));
        }
        std::fs::write(&victim, bytes).unwrap();
        if let Ok(mut index) = LocalIndex::open(&copy, Access::Write) {
            // What was read may be wrong; it has to stay an answer or an error.
            let _ = index.search(&some_vectors(1, 5), 3);
            let _ = index.remove(&["note-1"]);
        }
    }
}
