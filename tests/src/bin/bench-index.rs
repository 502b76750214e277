//! What the local index costs at 300, 3,000 and 30,000 passages: time to add, to add one more, to search, bytes, and how
//! much of the exact top ten it finds. `bench-index FOLDER` leaves the vectors there, so that another engine can be
//! measured on the same ones (`bench/index`).
//!
//! The vectors are synthetic: 4,000 word vectors of 128 floats in 200 topics, drawn by Zipf's law, each use with noise of
//! its own; a query holds 32 vectors, noisy copies of one passage's.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use eddy_models::retrieval::index::{Index, LocalIndex, Passage};
use eddy_models::retrieval::{Vectors, max_sim};
use serde_json::json;

const WIDTH: usize = 128;
const SIZES: [usize; 3] = [300, 3_000, 30_000];
const QUERIES: usize = 40;
const QUERY_VECTORS: usize = 32;
/// Passages of one call, as the daemon adds them.
const BATCH: usize = 64;
const MOST: usize = 10;

fn main() {
    let folder = std::env::args().nth(1).map_or_else(|| PathBuf::from("target/bench-index"), PathBuf::from);
    let mut world = World::new();
    let passages: Vec<Vectors> = (0..SIZES[SIZES.len() - 1]).map(|_| world.passage()).collect();
    for size in SIZES {
        let place = folder.join(size.to_string());
        // Of an earlier run.
        let _ = std::fs::remove_dir_all(&place);
        std::fs::create_dir_all(&place).expect("a folder for the vectors");
        let passages = &passages[..size];
        let wanted: Vec<usize> = (0..QUERIES).map(|_| world.random.usize(..size)).collect();
        let queries: Vec<Vectors> = wanted.iter().map(|&passage| world.query(&passages[passage])).collect();
        let exact: Vec<Vec<usize>> = queries.iter().map(|query| exact(query, passages)).collect();
        write(&place.join("passages.bin"), passages);
        write(&place.join("queries.bin"), &queries);
        std::fs::write(place.join("exact.json"), json!(exact).to_string()).expect("the folder takes a file");
        println!("{}", measure(&place.join("index"), passages, &queries, &exact));
    }
}

fn measure(folder: &Path, passages: &[Vectors], queries: &[Vectors], exact: &[Vec<usize>]) -> serde_json::Value {
    let passage = |number: usize| Passage { id: number.to_string(), text: format!("passage {number}"), place: None };
    let begun = Instant::now();
    let mut index = LocalIndex::create(folder, WIDTH, "synthetic").expect("a new index");
    for first in (0..passages.len()).step_by(BATCH) {
        let last = (first + BATCH).min(passages.len());
        let batch: Vec<Passage> = (first..last).map(passage).collect();
        index.add(&batch, &passages[first..last]).expect("passages are added");
    }
    let add = begun.elapsed().as_secs_f64();
    let begun = Instant::now();
    index.add(&[passage(0)], &passages[..1]).expect("a passage is replaced");
    let replace_one = begun.elapsed().as_secs_f64();
    let begun = Instant::now();
    index.remove(&["1"]).expect("a passage is removed");
    let remove_one = begun.elapsed().as_secs_f64();
    index.add(&[passage(1)], &passages[1..2]).expect("a passage is added");
    let mut times = Vec::new();
    let mut found_of_ten = 0;
    let mut best = 0;
    for (query, exact) in queries.iter().zip(exact) {
        let begun = Instant::now();
        let hits = index.search(query, MOST).expect("a search");
        times.push(begun.elapsed().as_secs_f64());
        let ids: Vec<usize> = hits.iter().map(|hit| hit.passage.id.parse().expect("a number")).collect();
        found_of_ten += exact.iter().filter(|id| ids.contains(id)).count();
        best += usize::from(ids[0] == exact[0]);
    }
    times.sort_by(f64::total_cmp);
    json!({
        "engine": "local index",
        "passages": passages.len(),
        "vectors": passages.iter().map(Vectors::len).sum::<usize>(),
        "add_s": add,
        "replace_one_s": replace_one,
        "remove_one_s": remove_one,
        "search_median_s": times[times.len() / 2],
        "bytes": index.bytes(),
        "recall_at_10": found_of_ten as f64 / (queries.len() * MOST) as f64,
        "best_hit": best as f64 / queries.len() as f64,
    })
}

/// The numbers of the ten best by MaxSim on 32-bit floats.
fn exact(query: &Vectors, passages: &[Vectors]) -> Vec<usize> {
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let share = passages.len().div_ceil(threads);
    let mut scores: Vec<(f32, usize)> = std::thread::scope(|scope| {
        let workers: Vec<_> = passages
            .chunks(share)
            .enumerate()
            .map(|(part, passages)| {
                scope.spawn(move || {
                    let number = |(at, passage): (usize, &Vectors)| (max_sim(query, passage), part * share + at);
                    passages.iter().enumerate().map(number).collect::<Vec<_>>()
                })
            })
            .collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("scores")).collect()
    });
    scores.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    scores.truncate(MOST);
    scores.into_iter().map(|(_, number)| number).collect()
}

/// Each text's number of vectors as a `u32`, then its floats.
fn write(path: &Path, texts: &[Vectors]) {
    let mut file = BufWriter::new(File::create(path).expect("the folder takes a file"));
    for text in texts {
        file.write_all(&(text.len() as u32).to_le_bytes()).expect("room on the disk");
        for value in text.data() {
            file.write_all(&value.to_le_bytes()).expect("room on the disk");
        }
    }
}

struct World {
    random: fastrand::Rng,
    words: Vec<Vec<f32>>,
}

const WORDS: usize = 4_000;
const TOPICS: usize = 200;

impl World {
    fn new() -> Self {
        let mut random = fastrand::Rng::with_seed(128);
        let topics: Vec<Vec<f32>> = (0..TOPICS).map(|_| noise(&mut random)).collect();
        // Words of a topic lie around it.
        let words = (0..WORDS).map(|word| unit(mixed(&topics[word % TOPICS], 0.7, &noise(&mut random)))).collect();
        Self { random, words }
    }

    fn passage(&mut self) -> Vectors {
        let count = self.random.usize(40..80);
        let topic = self.random.usize(..TOPICS);
        let mut data = Vec::with_capacity(count * WIDTH);
        for _ in 0..count {
            let rank = (WORDS as f64).powf(self.random.f64()) as usize - 1;
            // Half of the words belong to the passage's topic.
            let word = if self.random.bool() { topic + TOPICS * (rank % (WORDS / TOPICS)) } else { rank };
            data.extend(unit(mixed(&self.words[word], 1.0, &scaled(noise(&mut self.random), 0.6))));
        }
        Vectors::new(WIDTH, data)
    }

    fn query(&mut self, passage: &Vectors) -> Vectors {
        let rows: Vec<&[f32]> = passage.rows().collect();
        let mut data = Vec::with_capacity(QUERY_VECTORS * WIDTH);
        for _ in 0..QUERY_VECTORS {
            let row = rows[self.random.usize(..rows.len())];
            data.extend(unit(mixed(row, 1.0, &scaled(noise(&mut self.random), 0.8))));
        }
        Vectors::new(WIDTH, data)
    }
}

/// A direction that is as likely as any other, of length one.
fn noise(random: &mut fastrand::Rng) -> Vec<f32> {
    // The sum of a few uniform numbers is close enough to a normal one.
    unit((0..WIDTH).map(|_| (0..4).map(|_| random.f32() - 0.5).sum()).collect())
}

fn mixed(a: &[f32], share: f32, b: &[f32]) -> Vec<f32> {
    a.iter().zip(b).map(|(a, b)| share * a + b).collect()
}

fn scaled(mut vector: Vec<f32>, by: f32) -> Vec<f32> {
    vector.iter_mut().for_each(|value| *value *= by);
    vector
}

fn unit(mut vector: Vec<f32>) -> Vec<f32> {
    let length = vector.iter().map(|value| value * value).sum::<f32>().sqrt();
    vector.iter_mut().for_each(|value| *value /= length);
    vector
}
