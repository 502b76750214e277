//! What next-plaid costs on the vectors that `bench-index FOLDER` has left in FOLDER/300, FOLDER/3000 and FOLDER/30000:
//! the same figures, one line of JSON for each. `bench-next-plaid FOLDER`.

use std::path::Path;
use std::time::Instant;

use ndarray::Array2;
use next_plaid::{IndexConfig, MmapIndex, SearchParameters, UpdateConfig};
use serde_json::{Value, json};

const WIDTH: usize = 128;
const MOST: usize = 10;

fn main() {
    let folder = std::env::args().nth(1).expect("usage: bench-next-plaid FOLDER");
    for size in ["300", "3000", "30000"] {
        let place = Path::new(&folder).join(size);
        let passages = texts(&place.join("passages.bin"));
        let queries = texts(&place.join("queries.bin"));
        let exact: Vec<Vec<usize>> =
            serde_json::from_slice(&std::fs::read(place.join("exact.json")).expect("the exact hits")).expect("JSON");
        println!("{}", measure(&place.join("next-plaid"), &passages, &queries, &exact));
    }
}

fn measure(folder: &Path, passages: &[Array2<f32>], queries: &[Array2<f32>], exact: &[Vec<usize>]) -> Value {
    // Of an earlier run.
    let _ = std::fs::remove_dir_all(folder);
    let path = folder.to_str().expect("a path of text");
    let begun = Instant::now();
    let config = IndexConfig::default();
    let mut index = MmapIndex::create_with_kmeans(passages, path, &config).expect("an index");
    let add = begun.elapsed().as_secs_f64();
    let mut times = Vec::new();
    let (mut found_of_ten, mut best) = (0, 0);
    let parameters = SearchParameters { top_k: MOST, ..SearchParameters::default() };
    for (query, exact) in queries.iter().zip(exact) {
        let begun = Instant::now();
        let hits = index.search(query, &parameters, None).expect("a search");
        times.push(begun.elapsed().as_secs_f64());
        let ids: Vec<usize> = hits.passage_ids.iter().map(|&id| id as usize).collect();
        found_of_ten += exact.iter().filter(|id| ids.contains(id)).count();
        best += usize::from(ids.first() == exact.first());
    }
    let bytes = bytes(folder);
    let begun = Instant::now();
    let update = UpdateConfig::default();
    let (mut index, _) =
        MmapIndex::update_or_create(&passages[..1], path, &config, &update).expect("one more passage");
    let add_one = begun.elapsed().as_secs_f64();
    let begun = Instant::now();
    index.delete(&[1]).expect("a passage is removed");
    let remove_one = begun.elapsed().as_secs_f64();
    times.sort_by(f64::total_cmp);
    json!({
        "engine": "next-plaid 1.8.5",
        "passages": passages.len(),
        "vectors": passages.iter().map(Array2::nrows).sum::<usize>(),
        "add_s": add,
        "replace_one_s": add_one + remove_one,
        "remove_one_s": remove_one,
        "search_median_s": times[times.len() / 2],
        "bytes": bytes,
        "recall_at_10": found_of_ten as f64 / (queries.len() * MOST) as f64,
        "best_hit": best as f64 / queries.len() as f64,
    })
}

fn bytes(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).expect("the index's folder").flatten();
    entries.filter_map(|entry| entry.metadata().ok()).filter(|about| about.is_file()).map(|about| about.len()).sum()
}

/// Each text's number of vectors as a `u32`, then its floats.
fn texts(path: &Path) -> Vec<Array2<f32>> {
    let bytes = std::fs::read(path).expect("vectors of bench-index");
    let word = |at: usize| [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]];
    let (mut at, mut texts) = (0, Vec::new());
    while at < bytes.len() {
        let count = u32::from_le_bytes(word(at)) as usize;
        let floats = (0..count * WIDTH).map(|float| f32::from_le_bytes(word(at + 4 + 4 * float))).collect();
        texts.push(Array2::from_shape_vec((count, WIDTH), floats).expect("whole rows"));
        at += 4 + 4 * count * WIDTH;
    }
    texts
}
