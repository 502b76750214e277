//! `eddy embed`: texts in, their vectors out.

use std::io::{BufRead, IsTerminal};
use std::path::PathBuf;

use eddy_models::retrieval::{Side, Vectors};
use serde_json::{Map, Value, json};

use super::Outcome;
use super::daemon::BusArguments;
use super::dump::Dump;
use super::encoding::Encoding;
use super::model::LoadArguments;
use super::output::Output;

/// Texts that are encoded before their vectors are printed.
const BATCH: usize = 16;

/// Arguments of the verb.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The texts; without any, the lines of standard input.
    texts: Vec<String>,
    /// Encode them as queries rather than as documents.
    #[arg(long)]
    query: bool,
    /// Write the vectors of each text to DIR/N.npy, float32 of [tokens, width], N from 0 on, instead of printing them.
    #[arg(short, long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Model folder to run in this process, or the name of one of the daemon's models [default: the daemon's choice].
    #[arg(long, value_name = "DIR|NAME")]
    model: Option<String>,
    #[command(flatten)]
    load: LoadArguments,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// Runs the verb.
///
/// # Errors
/// One line about what went wrong.
pub fn run(arguments: Arguments, bus: &BusArguments) -> anyhow::Result<Outcome> {
    let texts = match arguments.texts.is_empty() {
        false => arguments.texts,
        true => {
            anyhow::ensure!(!std::io::stdin().is_terminal(), "give some texts, or pipe in one on each line");
            std::io::stdin().lock().lines().collect::<Result<_, _>>()?
        }
    };
    let mut encoding = Encoding::open(arguments.model.as_deref(), &arguments.load, bus)?;
    let dump = arguments.output.as_deref().map(Dump::create).transpose()?;
    let side = if arguments.query { Side::Query } else { Side::Document };
    let mut output = Output::new(arguments.json);
    let (mut encoded, mut number) = (Vec::new(), 0);
    for batch in texts.chunks(BATCH) {
        if encoding.interrupted() {
            return Ok(Outcome::Interrupted);
        }
        let batch_texts: Vec<&str> = batch.iter().map(String::as_str).collect();
        for (text, vectors) in batch.iter().zip(encoding.encode(&batch_texts, side)?) {
            match &dump {
                Some(dump) => {
                    let shape = [vectors.len(), vectors.width()];
                    dump.floats(&number.to_string(), &shape, vectors.data())?;
                    output.line(&format!("{number}.npy  {} vectors  {text}", vectors.len()))?;
                    encoded.push(json!({ "text": text, "file": format!("{number}.npy"), "shape": shape }));
                }
                None => {
                    output.line(&format!("# {text}"))?;
                    for row in vectors.rows() {
                        let row: Vec<String> = row.iter().map(|value| format!("{value:.6}")).collect();
                        output.line(&row.join(" "))?;
                    }
                    encoded.push(json!({ "text": text, "vectors": rows(&vectors) }));
                }
            }
            number += 1;
        }
    }
    output.finish(Map::from_iter([("texts".to_owned(), Value::Array(encoded))]))?;
    Ok(Outcome::Done)
}

fn rows(vectors: &Vectors) -> Vec<&[f32]> {
    vectors.rows().collect()
}
