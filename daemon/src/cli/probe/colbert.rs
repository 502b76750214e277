//! The probe's retrieval task.

use std::time::Instant;

use eddy_models::retrieval::{Encoder, Side};
use serde_json::{Map, Value, json};

use crate::cli::Outcome;
use crate::cli::output::{Output, peak_rss_mib, seconds};

use super::Arguments;
use super::dump::Dump;

/// Encodes one query or document.
///
/// # Errors
/// One line about what went wrong.
pub fn run(arguments: &Arguments, dump: Option<&Dump>) -> anyhow::Result<Outcome> {
    let (text, side) = match (&arguments.query, &arguments.document) {
        (Some(query), _) => (query, Side::Query),
        (None, Some(document)) => (document, Side::Document),
        (None, None) => anyhow::bail!("nothing to encode; give --query or --document"),
    };
    let wanted = arguments.load.wanted()?;
    let engine = arguments.load.engine()?;
    let begun = Instant::now();
    let mut encoder = Encoder::load(&engine.runtime, &arguments.folder, wanted, engine.interrupt.stop())?;
    let loading = begun.elapsed();
    let begun = Instant::now();
    let tokens = encoder.ruler().tokens(text, side)?;
    let vectors = encoder.encode(&[text], side)?.remove(0);
    let encoding = begun.elapsed();
    if let Some(dump) = dump {
        dump.floats("vectors", &[vectors.len(), vectors.width()], vectors.data())?;
    }
    let mut stages = Map::new();
    stages.insert("load".into(), seconds(loading));
    stages.insert("encode".into(), seconds(encoding));
    let report = json!({
        "model": { "family": "colbert", "precision": encoder.precision().name(), "repairs": [] },
        "prompt_items": tokens.ids.len(),
        "prompt_ids": tokens.ids,
        "mask": tokens.mask,
        "vectors": vectors.len(),
        "dim": vectors.width(),
        "timings": stages,
        "peak_rss_mib": peak_rss_mib(),
    });
    if let Value::Object(report) = report {
        Output::new(true).finish(report)?;
    }
    Ok(Outcome::Done)
}
