//! The probe's vision task.

use std::time::Instant;

use eddy_models::Error;
use eddy_models::chat::ChatTemplate;
use eddy_models::text::{self, GenerationOptions};
use eddy_models::vision::{Event, Image, VisionModel, VisionSession};
use serde_json::{Map, Value, json};

use crate::cli::Outcome;
use crate::cli::images::tiles_of;
use crate::cli::model::warn_of_stand_in;
use crate::cli::output::{Output, peak_rss_mib, seconds};

use super::Arguments;
use crate::cli::dump::Dump;

/// Looks and answers.
///
/// # Errors
/// One line about what went wrong.
pub fn run(arguments: &Arguments, dump: Option<&Dump>) -> anyhow::Result<Outcome> {
    let wanted = arguments.load.wanted()?;
    let engine = arguments.load.engine()?;
    let begun = Instant::now();
    let mut model = VisionModel::load(&engine.runtime, &arguments.folder, wanted, engine.interrupt.stop())?;
    let loading = begun.elapsed();
    warn_of_stand_in(&arguments.folder, wanted, model.identity().precision);
    let begun = Instant::now();
    let images = arguments.looking.read(&model, &arguments.image)?;
    let seeing = begun.elapsed();
    if let Some(dump) = dump {
        dump_pixels(dump, &model, &images)?;
    }

    let conversation = arguments.conversation()?;
    let template = ChatTemplate::load(&arguments.folder)?;
    let prompt_text = template.render(&conversation, &jiff::Zoned::now())?;
    let prompt = model.prompt(&model.text().tokenizer().encode(&prompt_text)?, images)?;
    let options = GenerationOptions { max_tokens: arguments.max_items, record: true, ..GenerationOptions::default() };
    let mut session = VisionSession::new(&model)?;
    let mut generation = session.begin(&mut model, &prompt, options)?;
    let (mut ids, mut text) = (Vec::new(), String::new());
    let outcome = loop {
        match session.step(&mut model, &mut generation, |_| true) {
            Err(Error::Stopped) => break Outcome::Interrupted,
            Err(error) => return Err(error.into()),
            Ok(Event::Looked { .. } | Event::Text(text::Event::Prefilled { .. })) => {}
            Ok(Event::Text(text::Event::Token { id, text: settled })) => {
                ids.push(id);
                text.push_str(&settled);
            }
            Ok(Event::Text(text::Event::Finished(_))) => break Outcome::Done,
        }
    };
    text.push_str(&generation.finish_text(&model)?);
    if let Some(dump) = dump {
        let (vocabulary, hidden) = (model.text_mut().backbone().vocabulary(), model.text_mut().backbone().hidden());
        for (name, width, data) in
            [("logits", vocabulary, generation.recorded()), ("image_features", hidden, generation.features())]
        {
            dump.floats(name, &[data.len() / width.max(1), width], data)?;
        }
    }

    let (looking, prefill, decode) = generation.times();
    let mut stages = Map::new();
    for (stage, time) in
        [("load", loading), ("see", seeing), ("look", looking), ("prefill", prefill), ("decode", decode)]
    {
        stages.insert(stage.into(), seconds(time));
    }
    let identity = model.identity();
    let report = json!({
        "model": {
            "family": identity.family.name(),
            "layout": identity.layout.name(),
            "precision": identity.precision.name(),
            "repairs": model.repairs(),
        },
        "prompt_items": prompt.ids().len(),
        "prompt_text": prompt_text,
        "prompt_ids": prompt.ids(),
        "image_tokens": prompt.image_tokens(),
        "tiles": prompt.images().iter().map(tiles_of).collect::<Vec<_>>(),
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

/// `pixel_values`: the patches of all entries of all images in order, without padding.
fn dump_pixels(dump: &Dump, model: &VisionModel, images: &[Image]) -> anyhow::Result<()> {
    let width = model.settings().patch * model.settings().patch * 3;
    let mut values = Vec::new();
    for image in images {
        for patches in (0..).map_while(|index| image.entries().patches(index)) {
            values.extend(patches.values);
        }
    }
    dump.floats("pixel_values", &[values.len() / width, width], &values)
}
