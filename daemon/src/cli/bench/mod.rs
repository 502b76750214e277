//! `eddy bench`: what a model costs on this machine, against what the machine can do.
//!
//! Every figure is the median of several runs with their range, beside the machine, the versions and the command. With
//! `--make` it writes models with random weights to measure.

mod figure;
mod machine;
mod retrieval;
mod speech;
mod text;
mod vision;

use std::path::{Path, PathBuf};

use anyhow::Context;
use eddy_models::folder::{Family, GraphFile, ModelFolder, Role, Wanted};
use eddy_models::synthetic::Synthetic;
use serde_json::{Map, Value, json};

use super::Outcome;
use super::model::LoadArguments;
use super::output::Output;
use figure::Figures;
use machine::Ceilings;

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// Feeding prompts.
    Prefill,
    /// Tokens behind contexts of several lengths.
    Decode,
    /// Milliseconds for each part of an audio frame.
    Frame,
    /// A spoken reply as a whole.
    Reply,
    /// From the end of a question to the first sample, or from an image to the first token.
    First,
}

/// Arguments of the verb.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Model folder to measure.
    #[arg(long, value_name = "DIR", required_unless_present = "make")]
    model: Option<PathBuf>,
    /// Write models with random weights in the published sizes: text-350m, text-700m, text-1.2b, text-2.6b,
    /// text-350m-c, text-1.2b-c, speech-1.5b-a, speech-1.5b-c, vl-450m, vl-1.6b, moe-8b-a1b, colbert-350m.
    #[arg(long, value_name = "NAME", num_args = 1.., conflicts_with = "model", value_parser = synthetic)]
    make: Vec<Synthetic>,
    /// Folder that `--make` writes into [default: bench in Eddy's cache folder].
    #[arg(long, value_name = "DIR", requires = "make")]
    to: Option<PathBuf>,
    /// Measure these parts alone.
    #[arg(long, value_enum, num_args = 1.., value_name = "PART")]
    only: Vec<Part>,
    /// Measure this much alone: positions of a prompt, positions of a context, or seconds of a question.
    #[arg(long, value_name = "N", requires = "only")]
    amount: Vec<usize>,
    /// Runs of each measurement.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=1000))]
    runs: u16,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    load: LoadArguments,
}

fn synthetic(name: &str) -> Result<Synthetic, String> {
    name.parse().map_err(|error: eddy_models::Error| error.to_string())
}

/// What a measurement is given.
struct Bench<'a> {
    arguments: &'a Arguments,
    folder: &'a Path,
    wanted: Wanted,
    ceilings: Ceilings,
    figures: Figures,
}

impl Bench<'_> {
    /// Whether `part` is to be measured.
    fn wants(&self, part: Part) -> bool {
        self.arguments.only.is_empty() || self.arguments.only.contains(&part)
    }

    /// The amounts that are asked for, or else the usual ones.
    fn amounts(&self, usual: &[usize]) -> Vec<usize> {
        if self.arguments.amount.is_empty() { usual.to_vec() } else { self.arguments.amount.clone() }
    }

    fn runs(&self) -> usize {
        usize::from(self.arguments.runs)
    }
}

/// Runs the verb.
///
/// # Errors
/// One line about what went wrong.
pub fn run(arguments: Arguments) -> anyhow::Result<Outcome> {
    let mut output = Output::new(arguments.json);
    let Some(folder) = &arguments.model else {
        return make(&arguments, output);
    };
    let wanted = arguments.load.wanted()?;
    let engine = arguments.load.engine()?;
    let opened = ModelFolder::open(folder)?;
    let decoder = opened.required_graph(Role::Decoder, wanted, "there is nothing to measure")?;
    let family = opened.family(&decoder);
    let threads = arguments.load.runtime()?.threads.unwrap_or_else(machine::cores);
    let ceilings = Ceilings::measure(&engine, threads, usize::from(arguments.runs))?;
    let mut bench = Bench { arguments: &arguments, folder, wanted, ceilings, figures: Figures::new(arguments.json) };
    bench.figures.heading(&format!("{} ({} {})", folder.display(), family.name(), decoder.precision()))?;
    match family {
        Family::Text | Family::MixtureOfExperts => text::run(&mut bench, &engine, &decoder)?,
        Family::Speech => speech::run(&mut bench, &engine, &decoder)?,
        Family::Vision => vision::run(&mut bench, &engine, &decoder)?,
        Family::Retrieval => retrieval::run(&mut bench, &engine)?,
    }
    bench.figures.memory(mapped_bytes(&opened, wanted, &decoder)?)?;

    let mut report = Map::new();
    report.insert(
        "model".into(),
        json!({
            "folder": folder.file_name().map(|name| name.to_string_lossy()),
            "family": family.name(),
            "layout": opened.layout(&decoder).name(),
            "precision": decoder.precision().name(),
        }),
    );
    report.insert("machine".into(), machine::describe(threads));
    report.insert("versions".into(), machine::versions(&engine.runtime));
    report.insert("command".into(), std::env::args().skip(1).collect::<Vec<_>>().join(" ").into());
    report.insert("ceilings".into(), bench.ceilings.json());
    report.extend(bench.figures.into_json());
    output.line("")?;
    output.finish(report)?;
    Ok(Outcome::Done)
}

/// Bytes of all files that a model maps.
///
/// # Errors
/// Those of a folder that is no model's.
pub fn mapped_bytes(folder: &ModelFolder, wanted: Wanted, decoder: &GraphFile) -> anyhow::Result<u64> {
    let follow = Wanted::Exactly(decoder.precision());
    let mut bytes = 0;
    for role in folder.files().keys() {
        let wanted = if *role == Role::Decoder { wanted } else { follow };
        bytes += folder.graph(*role, wanted)?.map_or(0, |file| file.weight_bytes());
    }
    let table = folder.graphs().join("embed_tokens.bin");
    Ok(bytes + std::fs::metadata(table).map_or(0, |file| file.len()))
}

/// Writes models.
fn make(arguments: &Arguments, mut output: Output) -> anyhow::Result<Outcome> {
    let to = match &arguments.to {
        Some(folder) => folder.clone(),
        None => eddy_config::Paths::from_environment()?.cache.join("bench"),
    };
    let wanted = arguments.load.wanted()?;
    let mut made = Vec::new();
    for model in &arguments.make {
        let precision = match wanted {
            Wanted::Exactly(precision) => precision,
            Wanted::Auto => *model.precisions().first().context("a model without precisions")?,
        };
        let folder = to.join(model.name());
        let begun = std::time::Instant::now();
        model.write(&folder, precision)?;
        output.line(&format!("{} {precision}: {:.0} s", folder.display(), begun.elapsed().as_secs_f64()))?;
        made.push(json!({ "folder": folder, "precision": precision.name() }));
    }
    let mut fields = Map::new();
    fields.insert("made".into(), Value::Array(made));
    output.finish(fields)?;
    Ok(Outcome::Done)
}
