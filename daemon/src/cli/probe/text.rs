//! The probe's text tasks: dense models and the mixture of experts.

use std::time::Instant;

use eddy_models::Error;
use eddy_models::chat::ChatTemplate;
use eddy_models::folder::Family;
use eddy_models::text::{Event, Generation, GenerationOptions, TextModel};
use serde_json::{Map, Value, json};

use crate::cli::Outcome;
use crate::cli::model::warn_of_stand_in;
use crate::cli::output::{Output, peak_rss_mib, seconds};

use super::dump::Dump;
use super::{Arguments, Task};

/// Runs one text task.
///
/// # Errors
/// One line about what went wrong.
pub fn run(arguments: &Arguments, dump: Option<&Dump>) -> anyhow::Result<Outcome> {
    let wanted = arguments.load.wanted()?;
    let engine = arguments.load.engine()?;
    let begun = Instant::now();
    let mut model = TextModel::load(&engine.runtime, &arguments.folder, wanted, engine.interrupt.stop())?;
    let loading = begun.elapsed();
    warn_of_stand_in(&arguments.folder, wanted, model.identity().precision);
    let family = model.identity().family;
    anyhow::ensure!(
        arguments.task != Task::Moe || family == Family::MixtureOfExperts,
        "{}: no mixture of experts here but a {} model; use --task text",
        arguments.folder.display(),
        family.name()
    );

    let (prompt_text, prompt_ids) = prompt(arguments, &mut model)?;
    let options = GenerationOptions { max_tokens: arguments.max_items, record: true, ..GenerationOptions::default() };
    let mut cache = model.new_cache()?;
    let mut generation = Generation::new(&mut model, &cache, prompt_ids.clone(), options)?;
    let (mut ids, mut text) = (Vec::new(), String::new());
    let outcome = loop {
        match generation.step(&mut model, &mut cache, |_| true) {
            Err(Error::Stopped) => break Outcome::Interrupted,
            Err(error) => return Err(error.into()),
            Ok(Event::Prefilled { .. }) => {}
            Ok(Event::Token { id, text: settled }) => {
                ids.push(id);
                text.push_str(&settled);
            }
            Ok(Event::Finished(_)) => break Outcome::Done,
        }
    };
    text.push_str(&generation.finish_text(&model)?);
    if let Some(dump) = dump {
        let rows = generation.recorded().len() / model.backbone().vocabulary().max(1);
        dump.floats("logits", &[rows, model.backbone().vocabulary()], generation.recorded())?;
    }

    let (prefill, decode) = generation.times();
    let mut stages = Map::new();
    for (stage, time) in [("load", loading), ("prefill", prefill), ("decode", decode)] {
        stages.insert(stage.into(), seconds(time));
    }
    let identity = model.identity();
    let report = json!({
        "model": {
            "family": family.name(),
            "layout": identity.layout.name(),
            "precision": identity.precision.name(),
            "repairs": [],
        },
        "prompt_items": prompt_ids.len(),
        "prompt_text": prompt_text,
        "prompt_ids": prompt_ids,
        "ids": ids,
        "text": text,
        "timings": stages,
        "peak_rss_mib": peak_rss_mib(),
    });
    if let Value::Object(report) = report {
        Output::new(true).finish(report)?;
    }
    Ok(outcome)
}

/// The prompt's text, where it has one, and its ids.
fn prompt(arguments: &Arguments, model: &mut TextModel) -> anyhow::Result<(Option<String>, Vec<u32>)> {
    if let Some(ids) = &arguments.input_ids {
        return Ok((None, ids.clone()));
    }
    let conversation = arguments.conversation()?;
    let template = ChatTemplate::load(&arguments.folder)?;
    let text = template.render(&conversation, &jiff::Zoned::now())?;
    let ids = model.tokenizer().encode(&text)?;
    Ok((Some(text), ids))
}
