//! Numbers about requests: how long each stage took, and what was not computed twice. Never anything that was said.

pub mod prometheus;

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use eddy_ipc::Outcome;

use crate::jobs::FIGURES;

/// Upper ends of the histograms' buckets in seconds, around the 80 ms of a frame of speech.
pub const BUCKETS: [f64; 12] = [0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24];

/// How often a stage took how long.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Histogram {
    /// Counts by bucket, each without those before it; the last is for all longer ones.
    pub counts: [u64; BUCKETS.len() + 1],
    /// Seconds in all.
    pub sum: f64,
}

impl Histogram {
    fn add(&mut self, seconds: f64) {
        let bucket = BUCKETS.iter().position(|end| seconds <= *end).unwrap_or(BUCKETS.len());
        self.counts[bucket] += 1;
        self.sum += seconds;
    }
}

/// A stage over the requests that are remembered.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    /// Requests that had it.
    pub count: u64,
    /// Seconds that half of them stayed below.
    pub median: f64,
    /// Seconds that nineteen of twenty stayed below.
    pub most: f64,
    /// The longest.
    pub longest: f64,
}

/// What prompts had in common with what was in memory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Prefixes {
    /// Prompts that began with something that had been read.
    pub hits: u64,
    /// Prompts that did not.
    pub misses: u64,
    /// Positions that were not computed again.
    pub reused: u64,
    /// Positions of all prompts.
    pub positions: u64,
}

/// The numbers since the start.
#[derive(Debug, Default)]
pub struct Metrics {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    stages: BTreeMap<String, Histogram>,
    /// The stages of the last requests, the oldest first.
    recent: VecDeque<BTreeMap<String, f64>>,
    prefixes: Prefixes,
}

impl Metrics {
    /// Takes in a request that has ended; the last `keep` are remembered one by one.
    pub fn ended(&self, outcome: &Outcome, keep: usize) {
        let mut state = self.state();
        let times = outcome.latency.iter().filter(|(stage, _)| !FIGURES.contains(&stage.as_str()));
        for (stage, seconds) in times {
            state.stages.entry(stage.clone()).or_default().add(*seconds);
        }
        if let (Some(positions), Some(reused)) = (outcome.prompt_tokens, outcome.prompt_tokens_reused) {
            let prefixes = &mut state.prefixes;
            *if reused > 0 { &mut prefixes.hits } else { &mut prefixes.misses } += 1;
            prefixes.reused += reused;
            prefixes.positions += positions;
        }
        if !outcome.latency.is_empty() {
            state.recent.push_back(outcome.latency.clone());
        }
        let over = state.recent.len().saturating_sub(keep);
        state.recent.drain(..over);
    }

    /// The histogram of each stage.
    #[must_use]
    pub fn histograms(&self) -> BTreeMap<String, Histogram> {
        self.state().stages.clone()
    }

    /// Each stage over the requests that are remembered.
    #[must_use]
    pub fn latencies(&self) -> BTreeMap<String, Spread> {
        let mut stages: BTreeMap<String, Vec<f64>> = BTreeMap::new();
        for request in &self.state().recent {
            for (stage, seconds) in request {
                stages.entry(stage.clone()).or_default().push(*seconds);
            }
        }
        stages.into_iter().filter_map(|(stage, times)| Some((stage, spread(times)?))).collect()
    }

    /// What was not computed twice.
    #[must_use]
    pub fn prefixes(&self) -> Prefixes {
        self.state().prefixes
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn spread(mut times: Vec<f64>) -> Option<Spread> {
    times.sort_by(f64::total_cmp);
    let at = |part: f64| times.get(((times.len() - 1) as f64 * part).round() as usize).copied();
    let longest = *times.last()?;
    Some(Spread { count: times.len() as u64, median: at(0.5)?, most: at(0.95)?, longest })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(seconds: f64) -> Outcome {
        Outcome {
            latency: BTreeMap::from([("decode".to_owned(), seconds)]),
            prompt_tokens: Some(10),
            prompt_tokens_reused: Some(if seconds > 1.0 { 4 } else { 0 }),
            ..Outcome::default()
        }
    }

    #[test]
    fn stages_are_counted_for_ever_and_the_last_requests_remembered() {
        let metrics = Metrics::default();
        for seconds in [0.001, 0.08, 0.081, 2.0, 100.0] {
            metrics.ended(&outcome(seconds), 3);
        }
        let decode = &metrics.histograms()["decode"];
        assert_eq!((decode.counts[0], decode.counts[4], decode.counts[5]), (1, 1, 1));
        assert_eq!((decode.counts[9], decode.counts[12], decode.counts.iter().sum::<u64>()), (1, 1, 5));
        assert!((decode.sum - 102.162).abs() < 1e-9);
        let spread = metrics.latencies()["decode"];
        assert_eq!((spread.count, spread.median, spread.most, spread.longest), (3, 2.0, 100.0, 100.0));
        assert_eq!(metrics.prefixes(), Prefixes { hits: 2, misses: 3, reused: 8, positions: 50 });
    }
}
