//! The scan: MaxSim of one query with every passage, on 16-bit fixed-point vectors.
//!
//! Components of unit vectors lie in -1..1 and become multiples of 1/32767. The products of two such vectors add up to
//! less than 2^31, so that a dot product is exact in 32-bit integers; the scores differ from those of 32-bit floats by
//! some 1e-5. Eight bits would halve the bytes and were tried: one top ten in seven came out differently.

use std::num::NonZero;

/// What 1.0 becomes.
const ONE: f32 = 32767.0;
/// Fewer products than this are not worth a thread.
const PRODUCTS_PER_THREAD: usize = 1 << 24;
/// More threads would wait for memory.
const MOST_THREADS: usize = 4;

/// The vectors of one passage: rows `first..first + count` of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    /// The passage's key in the table.
    pub key: i64,
    pub first: usize,
    pub count: usize,
}

/// Components as fixed-point numbers.
pub(super) fn quantise(values: &[f32]) -> impl Iterator<Item = i16> {
    values.iter().map(|value| (value * ONE).round().clamp(-ONE, ONE) as i16)
}

/// The `most` best of `entries`, best first, with their scores; of equals the older one comes first.
pub(super) fn best(rows: &[i16], width: usize, entries: &[Entry], query: &[i16], most: usize) -> Vec<(f32, i64)> {
    let held: usize = entries.iter().map(|entry| entry.count).sum();
    let threads = (held * query.len() / PRODUCTS_PER_THREAD)
        .min(std::thread::available_parallelism().map_or(1, NonZero::get))
        .clamp(1, MOST_THREADS);
    let share = entries.len().div_ceil(threads).max(1);
    let scan = |entries: &[Entry]| -> Vec<(f32, i64)> {
        let mut best = vec![0; query.len() / width.max(1)];
        let scores = entries.iter().filter(|entry| entry.count > 0).map(|entry| {
            let vectors = &rows[entry.first * width..(entry.first + entry.count) * width];
            (score(vectors, width, query, &mut best), entry.key)
        });
        leaders(scores.collect(), most)
    };
    let found = match threads {
        1 => scan(entries),
        _ => std::thread::scope(|scope| {
            let scan = &scan;
            let workers: Vec<_> = entries.chunks(share).map(|share| scope.spawn(move || scan(share))).collect();
            // A worker only computes on slices that were checked; if one panics all the same, so does the caller.
            workers.into_iter().flat_map(|worker| worker.join().unwrap_or_default()).collect()
        }),
    };
    leaders(found, most)
}

fn leaders(mut scores: Vec<(f32, i64)>, most: usize) -> Vec<(f32, i64)> {
    let order = |a: &(f32, i64), b: &(f32, i64)| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1));
    if most > 0 && most < scores.len() {
        scores.select_nth_unstable_by(most - 1, order);
    }
    scores.truncate(most);
    scores.sort_unstable_by(order);
    scores
}

/// MaxSim of `query` with one passage; `best` has room for one number a query vector.
fn score(vectors: &[i16], width: usize, query: &[i16], best: &mut [i32]) -> f32 {
    best.fill(i32::MIN);
    #[cfg(target_arch = "x86_64")]
    if std::is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has what the function was compiled for.
        unsafe { matches_avx2(vectors, width, query, best) };
        return sum(best);
    }
    matches(vectors, width, query, best);
    sum(best)
}

fn sum(best: &[i32]) -> f32 {
    (best.iter().map(|best| f64::from(*best)).sum::<f64>() / f64::from(ONE * ONE)) as f32
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn matches_avx2(vectors: &[i16], width: usize, query: &[i16], best: &mut [i32]) {
    matches(vectors, width, query, best);
}

#[inline(always)]
fn matches(vectors: &[i16], width: usize, query: &[i16], best: &mut [i32]) {
    for found in vectors.chunks_exact(width) {
        for (wanted, best) in query.chunks_exact(width).zip(&mut *best) {
            // A multiply-add of pairs in one instruction is what the compiler makes of this loop.
            let dot =
                wanted.iter().zip(found).fold(0_i32, |sum, (a, b)| sum.wrapping_add(i32::from(*a) * i32::from(*b)));
            *best = dot.max(*best);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::retrieval::{Vectors, max_sim};

    fn unit(random: &mut fastrand::Rng, rows: usize, width: usize) -> Vectors {
        let mut data: Vec<f32> = (0..rows * width).map(|_| random.f32() - 0.5).collect();
        crate::retrieval::vectors::normalise(&mut data, width);
        Vectors::new(width, data)
    }

    #[test]
    fn fixed_point_scores_are_those_of_floats() {
        let mut random = fastrand::Rng::with_seed(3);
        for width in [1, 7, 16, 128] {
            let query = unit(&mut random, 5, width);
            let documents: Vec<Vectors> = (0..20).map(|rows| unit(&mut random, rows % 7, width)).collect();
            let (mut rows, mut entries) = (Vec::new(), Vec::new());
            for (key, document) in documents.iter().enumerate() {
                entries.push(Entry { key: key as i64, first: rows.len() / width, count: document.len() });
                rows.extend(quantise(document.data()));
            }
            let query_rows: Vec<i16> = quantise(query.data()).collect();
            let found = best(&rows, width, &entries, &query_rows, documents.len());
            assert_eq!(found.len(), documents.iter().filter(|document| !document.is_empty()).count());
            for (score, key) in &found {
                let exact = max_sim(&query, &documents[*key as usize]);
                assert!((score - exact).abs() < 1e-3, "{width}: {score} and {exact}");
            }
            assert!(found.is_sorted_by(|a, b| a.0 >= b.0));
            let few = best(&rows, width, &entries, &query_rows, 3);
            assert_eq!(few[..], found[..3]);
        }
    }
}
