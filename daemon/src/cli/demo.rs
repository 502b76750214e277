//! `eddy demo`: asks recorded questions and shows what came of it.

use std::path::PathBuf;
use std::time::Instant;

use eddy_audio::wav::WavSink;
use eddy_models::speech::{Mode, Parts, Prompt, Reply, ReplyOptions};
use serde_json::{Map, Value};

use super::model::{Loaded, ModelArguments, load};
use super::output::{Output, seconds};
use super::speaking::{Ending, hear, tell};
use super::{Outcome, converse, transcribe};

/// Arguments of the verb.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Recorded questions.
    #[arg(value_name = "QUESTION.wav", required = true)]
    questions: Vec<PathBuf>,
    /// Folder for the answers.
    #[arg(short, long, value_name = "DIR", default_value = "answers")]
    output: PathBuf,
    #[command(flatten)]
    model: ModelArguments,
}

/// Runs the verb.
///
/// # Errors
/// One line about what went wrong.
pub fn run(arguments: Arguments) -> anyhow::Result<Outcome> {
    let mut output = Output::new(arguments.model.json);
    std::fs::create_dir_all(&arguments.output)
        .map_err(|error| anyhow::anyhow!("{}: cannot be made: {error}", arguments.output.display()))?;
    let mut loaded = load(&arguments.model.model, &arguments.model.load, Parts::ALL)?;
    let identity = loaded.speech.identity();
    output.line(&format!(
        "model     {} (layout {}, {}), loaded in {:.2} s",
        arguments.model.model.display(),
        identity.layout.name(),
        identity.precision,
        loaded.loading.as_secs_f64()
    ))?;
    let mut answers = Vec::new();
    for question in &arguments.questions {
        match ask(&mut loaded, &arguments, question, &mut output)? {
            (Ending::Interrupted, _) => return Ok(Outcome::Interrupted),
            (Ending::Finished(_), report) => answers.push(Value::Object(report)),
        }
    }
    let mut report = Map::new();
    report.insert("load".into(), seconds(loaded.loading));
    report.insert("answers".into(), Value::Array(answers));
    output.finish(report)?;
    Ok(Outcome::Done)
}

fn ask(
    loaded: &mut Loaded,
    arguments: &Arguments,
    question: &std::path::Path,
    output: &mut Output,
) -> anyhow::Result<(Ending, Map<String, Value>)> {
    let Loaded { speech, engine, loading } = loaded;
    output.line(&format!("\nquestion  {}", question.display()))?;
    let begun = Instant::now();
    let features = hear(speech, question)?;
    let rows = speech.embed(&Prompt::instructed(converse::INSTRUCTIONS).sound(features.clone()).awaiting_reply())?;
    let hearing = begun.elapsed();

    // The recogniser's reading comes first and is not part of the answer's latency.
    output.text("heard     ")?;
    let heard_rows = speech.embed(&Prompt::instructed(transcribe::INSTRUCTIONS).sound(features).awaiting_reply())?;
    let options = ReplyOptions { max_items: 64, ..ReplyOptions::new(Mode::Sequential).greedy() };
    let mut reply = Reply::new(speech, heard_rows, options);
    let heard = tell(speech, &mut reply, None, output, &engine.interrupt)?;
    if heard.ending == Ending::Interrupted {
        return Ok((Ending::Interrupted, Map::new()));
    }

    let stem = question.file_stem().unwrap_or(question.as_os_str()).to_string_lossy();
    let path = arguments.output.join(format!("{stem}-answer.wav"));
    let rate = speech.settings().stft.sample_rate;
    let mut sink = WavSink::create(&path, rate)?;
    output.line("")?;
    output.text("answer    ")?;
    let options = arguments.model.reply(ReplyOptions::new(Mode::Interleaved));
    let mut reply = Reply::new(speech, rows, options);
    let told = tell(speech, &mut reply, Some(&mut sink), output, &engine.interrupt)?;
    sink.finish()?;

    let spoken = told.samples as f64 / f64::from(rate);
    let ms = |duration: Option<std::time::Duration>| match duration {
        Some(duration) => format!("{:.0} ms", 1000.0 * duration.as_secs_f64()),
        None => "none".into(),
    };
    output.line(&format!(
        "latency   hear {} · first text {} · first sound {} after the prompt begins",
        ms(Some(hearing)),
        ms(told.first_text),
        ms(told.first_sound)
    ))?;
    if spoken > 0.0 {
        output.line(&format!(
            "sound     {spoken:.2} s in {:.2} s (real-time factor {:.2}): {}",
            told.whole.as_secs_f64(),
            told.whole.as_secs_f64() / spoken,
            path.display()
        ))?;
    }
    let mut report = told.report(&reply, *loading, Some(hearing));
    report.insert("question".into(), question.display().to_string().into());
    report.insert("heard".into(), heard.text.into());
    report.insert("answer".into(), path.display().to_string().into());
    Ok((told.ending, report))
}
