//! What every backbone is measured by: prompts of several lengths, and tokens behind contexts of several lengths.

use std::time::Instant;

use eddy_models::backbone::{Backbone, Cache, Input};
use eddy_models::ceiling::Work;
use eddy_models::folder::GraphFile;
use eddy_models::text::TextModel;

use super::figure::Sample;
use super::{Bench, Part};
use crate::cli::model::Engine;

const PROMPTS: [usize; 4] = [32, 128, 512, 2048];
const CONTEXTS: [usize; 3] = [0, 1024, 8192];
/// Positions of the longest prompt.
const MOST: usize = 16_384;
/// Tokens of one run.
const TOKENS: usize = 16;
/// Positions that are fed at a time, as everywhere.
const CHUNK: usize = 128;

/// Measures a text model.
///
/// # Errors
/// Those of the model.
pub fn run(bench: &mut Bench<'_>, engine: &Engine, decoder: &GraphFile) -> anyhow::Result<()> {
    let begun = Instant::now();
    let mut model = TextModel::load(&engine.runtime, bench.folder, bench.wanted, engine.interrupt.stop())?;
    bench.figures.loaded(begun.elapsed().as_secs_f64())?;
    backbone(bench, model.backbone(), decoder)
}

/// Measures a backbone, whose graph is `decoder`.
///
/// # Errors
/// Those of the model.
pub fn backbone(bench: &mut Bench<'_>, backbone: &mut Backbone, decoder: &GraphFile) -> anyhow::Result<()> {
    let (body, whole) = (Work::of(decoder, false), Work::of(decoder, true));
    let mut food = Food::new(backbone);
    if bench.wants(Part::Prefill) {
        for positions in bench.amounts(&PROMPTS) {
            // Long prompts say what they have to say in fewer runs.
            let runs = if positions > 512 { bench.runs().min(3) } else { bench.runs() };
            anyhow::ensure!((1..=MOST).contains(&positions), "a prompt has from 1 to {MOST} positions here");
            food.prefill(backbone, positions.min(CHUNK))?;
            let seconds = Sample::take(runs, || food.prefill(backbone, positions))?;
            let rate = seconds.map(|seconds| positions as f64 / seconds);
            let share = bench.ceilings.of_arithmetic(body, positions, seconds.median());
            bench.figures.add("prefill", ("positions", positions.into()), &rate, "tok/s", Some(share))?;
        }
    }
    if bench.wants(Part::Decode) {
        let room = backbone.context().saturating_sub(TOKENS * (bench.runs() + 1));
        for context in bench.amounts(&CONTEXTS).into_iter().filter(|context| *context < room) {
            let mut cache = backbone.blank_cache(context)?;
            food.decode(backbone, &mut cache, 4)?;
            let seconds = Sample::take(bench.runs(), || food.decode(backbone, &mut cache, TOKENS))?;
            let share = bench.ceilings.of_bandwidth(whole, seconds.median());
            let rate = seconds.map(f64::recip);
            bench.figures.add("decode", ("context", context.into()), &rate, "tok/s", Some(share))?;
        }
    }
    Ok(())
}

/// What a backbone is fed; what it says is noise in any case.
struct Food {
    ids: Vec<u32>,
    rows: Vec<f32>,
    width: usize,
}

impl Food {
    fn new(backbone: &Backbone) -> Self {
        let width = if backbone.takes_ids() { 0 } else { backbone.hidden() };
        let ids = (0..MOST).map(|at| 1000 + (at as u32 * 7919) % 16_000 % (backbone.vocabulary() as u32 / 2)).collect();
        let rows = (0..CHUNK * width).map(|at| ((at * 7919 % 1013) as f32 / 1013.0 - 0.5) * 0.07).collect();
        Self { ids, rows, width }
    }

    fn input(&self, positions: usize) -> Input<'_> {
        match self.width {
            0 => Input::Ids(&self.ids[..positions]),
            width => Input::Embeddings(&self.rows[..positions * width]),
        }
    }

    /// Seconds for a prompt, the logits of its last position among them.
    fn prefill(&self, backbone: &mut Backbone, positions: usize) -> anyhow::Result<f64> {
        let mut cache = backbone.new_cache()?;
        let begun = Instant::now();
        let mut left = positions;
        while left > CHUNK {
            backbone.advance(&mut cache, self.input(CHUNK))?;
            left -= CHUNK;
        }
        backbone.run(&mut cache, self.input(left))?;
        Ok(begun.elapsed().as_secs_f64())
    }

    /// Seconds for one token, over `tokens` of them.
    fn decode(&mut self, backbone: &mut Backbone, cache: &mut Cache, tokens: usize) -> anyhow::Result<f64> {
        let begun = Instant::now();
        for _ in 0..tokens {
            backbone.run(cache, self.input(1))?;
        }
        Ok(begun.elapsed().as_secs_f64() / tokens as f64)
    }
}
