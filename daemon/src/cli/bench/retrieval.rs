//! What a retrieval model is measured by: queries and passages a second.

use std::time::Instant;

use eddy_models::retrieval::{Encoder, Side};

use super::Bench;
use super::figure::Sample;
use crate::cli::model::Engine;

/// Words of a query and of a passage.
const WORDS: [(Side, &str, usize); 2] = [(Side::Query, "query", 8), (Side::Document, "passage", 100)];
/// Texts of one run.
const TEXTS: usize = 8;

/// Measures a retrieval model.
///
/// # Errors
/// Those of the model.
pub fn run(bench: &mut Bench<'_>, engine: &Engine) -> anyhow::Result<()> {
    let begun = Instant::now();
    let mut encoder = Encoder::load(&engine.runtime, bench.folder, bench.wanted, engine.interrupt.stop())?;
    bench.figures.loaded(begun.elapsed().as_secs_f64())?;
    for (side, name, words) in WORDS {
        let text = |number: usize| (0..words).map(|word| format!("w{} ", (word + number) % 10)).collect::<String>();
        let texts: Vec<String> = (0..TEXTS).map(text).collect();
        encoder.encode(&texts[..1], side)?;
        let tokens = texts
            .iter()
            .map(|text| Ok(encoder.ruler().tokens(text, side)?.ids.len()))
            .sum::<anyhow::Result<usize>>()?;
        let seconds = Sample::take(bench.runs(), || {
            let begun = Instant::now();
            encoder.encode(&texts, side)?;
            Ok(begun.elapsed().as_secs_f64())
        })?;
        let rate = seconds.map(|seconds| TEXTS as f64 / seconds);
        let what = format!("{name} of {} tokens", tokens / TEXTS);
        bench.figures.add("encode", ("text", what.into()), &rate, "texts/s", None)?;
    }
    Ok(())
}
