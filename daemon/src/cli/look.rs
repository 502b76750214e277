//! `eddy look`: a question about images.

use std::path::PathBuf;

use eddy_models::Error;
use eddy_models::chat::ChatTemplate;
use eddy_models::sampler::Sampling;
use eddy_models::text::{self, Finish, GenerationOptions};
use eddy_models::vision::{Event, VisionModel, VisionSession};
use serde_json::{Map, json};

use super::Outcome;
use super::daemon::BusArguments;
use super::images::{LookArguments, asked_about, tiles_of};
use super::model::{ModelArguments, Place, warn_of_stand_in};
use super::output::{Output, seconds};

/// Arguments of the verb.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Images (PNG, JPEG, WebP, GIF), and the question as the last one.
    #[arg(value_names = ["IMAGE", "QUESTION"], num_args = 2.., required = true)]
    words: Vec<String>,
    #[command(flatten)]
    looking: LookArguments,
    #[command(flatten)]
    model: ModelArguments,
}

/// Runs the verb.
///
/// # Errors
/// One line about what went wrong.
pub fn run(arguments: Arguments, _bus: &BusArguments) -> anyhow::Result<Outcome> {
    let Some((question, files)) = arguments.words.split_last() else {
        anyhow::bail!("nothing to look at; give images and a question");
    };
    let files: Vec<PathBuf> = files.iter().map(PathBuf::from).collect();
    let wanted = arguments.model.load.wanted()?;
    let engine = arguments.model.load.engine()?;
    let Place::Here(folder) = arguments.model.place()? else {
        anyhow::bail!("give --model DIR");
    };
    let folder = &folder;
    let mut model = VisionModel::load(&engine.runtime, folder, wanted, engine.interrupt.stop())?;
    warn_of_stand_in(folder, wanted, model.identity().precision);
    let images = arguments.looking.read(&model, &files)?;
    let tiles: Vec<[usize; 2]> = images.iter().map(tiles_of).collect();

    let conversation = asked_about(images.len(), question);
    let template = ChatTemplate::load(folder)?;
    let ids = template.guarded_ids(&conversation, &jiff::Zoned::now(), model.text_mut().tokenizer_mut())?;
    let prompt = model.prompt(&ids, images)?;
    let options = GenerationOptions {
        max_tokens: arguments.model.most_items(),
        sampling: if arguments.model.greedy { Sampling::GREEDY } else { model.text().habits() },
        seed: arguments.model.seed.unwrap_or_default(),
        ..GenerationOptions::default()
    };
    let mut session = VisionSession::new(&model)?;
    let mut generation = session.begin(&mut model, &prompt, options)?;
    let mut output = Output::new(arguments.model.json);
    let (mut said, mut tokens) = (String::new(), 0_u64);
    let reason = loop {
        if engine.interrupt.asked() {
            break "cancelled";
        }
        match session.step(&mut model, &mut generation, |_| true) {
            Err(Error::Stopped) => break "cancelled",
            Err(error) => return Err(error.into()),
            Ok(Event::Looked { .. } | Event::Text(text::Event::Prefilled { .. })) => {}
            Ok(Event::Text(text::Event::Token { text, .. })) => {
                tokens += 1;
                output.text(&text)?;
                said.push_str(&text);
            }
            Ok(Event::Text(text::Event::Finished(Finish::Stop))) => break "stop",
            Ok(Event::Text(text::Event::Finished(Finish::Length))) => break "length",
        }
    };
    let rest = generation.finish_text(&model)?;
    output.text(&rest)?;
    said.push_str(&rest);
    let (looking, prefill, decode) = generation.times();
    let mut report = Map::new();
    report.insert("text".into(), said.into());
    report.insert("finish_reason".into(), reason.into());
    report.insert("tokens".into(), tokens.into());
    report.insert("prompt_tokens".into(), prompt.ids().len().into());
    report.insert("image_tokens".into(), prompt.image_tokens().into());
    report.insert("tiles".into(), json!(tiles));
    let stages = [("look", looking), ("prefill", prefill), ("decode", decode)];
    report
        .insert("timings".into(), stages.map(|(stage, time)| (stage.to_owned(), seconds(time))).into_iter().collect());
    output.finish(report)?;
    Ok(if reason == "cancelled" { Outcome::Interrupted } else { Outcome::Done })
}
