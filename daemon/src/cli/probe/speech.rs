//! The probe's speech tasks.

use std::time::{Duration, Instant};

use eddy_ipc::SpeakerVoice;
use eddy_models::Error;
use eddy_models::speech::{Event, MelFeatures, Mode, Parts, Prompt, Reply, ReplyOptions, Speech};
use serde_json::{Map, Value, json};

use crate::cli::Outcome;
use crate::cli::model::{Loaded, load};
use crate::cli::output::{Output, peak_rss_mib, seconds};
use crate::cli::speaking::hear;
use crate::speech::{CONVERSE, TRANSCRIBE, read_aloud};

use super::dump::Dump;
use super::{Arguments, Task};

/// Runs one speech task.
///
/// # Errors
/// One line about what went wrong.
pub fn run(arguments: &Arguments, dump: Option<&Dump>) -> anyhow::Result<Outcome> {
    let mut stages = Map::new();
    let Loaded { mut speech, engine, loading } = load(&arguments.folder, &arguments.load, Parts::ALL)?;
    stages.insert("load".into(), seconds(loading));

    let (mode, prompt) = prompt(arguments, &mut speech, dump, &mut stages)?;
    let begun = Instant::now();
    let rows = speech.embed(&prompt)?;
    stages.insert("embed".into(), seconds(begun.elapsed()));
    let positions = rows.len() / speech.backbone().hidden().max(1);

    let options = ReplyOptions { max_items: arguments.max_items, record: true, ..ReplyOptions::new(mode).greedy() };
    let mut reply = Reply::new(&speech, rows, options);
    let mut cache = speech.new_cache()?;
    let (mut items, mut text, mut frames) = (Vec::new(), String::new(), Vec::new());
    let end_code = speech.settings().end_code();
    let outcome = loop {
        match reply.step(&mut speech, &mut cache) {
            Err(Error::Stopped) => break Outcome::Interrupted,
            Err(error) => return Err(error.into()),
            Ok(Event::Prefilled { .. }) => {}
            Ok(Event::Text { id, text: settled }) => {
                text.push_str(&settled);
                items.push(json!({ "text": id }));
            }
            Ok(Event::Frame(frame)) => {
                items.push(json!({ "audio": frame }));
                if frame.first() != Some(&end_code) {
                    frames.push(frame);
                }
            }
            Ok(Event::Finished(_)) => break Outcome::Done,
        }
    };
    engine.interrupt.tidy_up();
    text.push_str(&reply.finish_text(&speech)?);
    let times = reply.times();
    for (stage, time) in [("prefill", times.prefill), ("decode", times.decode), ("depthformer", times.depthformer)] {
        stages.insert(stage.into(), seconds(time));
    }
    let (samples, features, detokenizing) = sound(&mut speech, &frames)?;
    stages.insert("detokenize".into(), seconds(detokenizing));
    if let Some(dump) = dump {
        write_numbers(dump, &speech, &reply, &samples, &features)?;
    }

    let identity = speech.identity();
    let report = json!({
        "model": {
            "family": identity.family.name(),
            "layout": identity.layout.name(),
            "precision": identity.precision.name(),
            "repairs": identity.repairs,
            "rounded": identity.rounded,
            "lacking": speech.lacking(),
        },
        "prompt_items": positions,
        "items": items,
        "text": text,
        "samples": samples.len(),
        "sample_rate": speech.settings().stft.sample_rate,
        "timings": stages,
        "peak_rss_mib": peak_rss_mib(),
    });
    if let Value::Object(report) = report {
        Output::new(true).finish(report)?;
    }
    Ok(outcome)
}

/// The prompt of the task, whose sound is measured and dumped on the way.
fn prompt(
    arguments: &Arguments,
    speech: &mut Speech,
    dump: Option<&Dump>,
    stages: &mut Map<String, Value>,
) -> anyhow::Result<(Mode, Prompt)> {
    let (mode, usual) = match arguments.task {
        Task::Speech => (Mode::Interleaved, CONVERSE.to_owned()),
        Task::Transcribe => (Mode::Sequential, TRANSCRIBE.to_owned()),
        Task::Speak | Task::Text | Task::Moe | Task::Vision | Task::Colbert => {
            (Mode::Sequential, read_aloud(SpeakerVoice::UkFemale))
        }
    };
    let open = Prompt::instructed(arguments.system.as_deref().unwrap_or(&usual));
    let asked = match (&arguments.wav, &arguments.text) {
        (Some(wav), _) if arguments.task != Task::Speak => {
            let begun = Instant::now();
            let features = hear(speech, wav)?;
            stages.insert("mel".into(), seconds(begun.elapsed()));
            if let Some(dump) = dump {
                dump_hearing(dump, speech, &features)?;
            }
            open.sound(features)
        }
        (_, text) => open.words(text.as_deref().unwrap_or_default()),
    };
    Ok((mode, asked.awaiting_reply()))
}

fn dump_hearing(dump: &Dump, speech: &mut Speech, features: &MelFeatures) -> anyhow::Result<()> {
    let bins = features.data.len() / features.frames.max(1);
    dump.floats("mel", &[features.frames, bins], &features.data)?;
    let rows = speech.encoder()?.encode(features)?;
    let hidden = speech.backbone().hidden();
    dump.floats("audio_embeddings", &[rows.len() / hidden.max(1), hidden], &rows)
}

/// Samples and STFT features of `frames`, as one piece; nothing where the folder cannot speak.
fn sound(speech: &mut Speech, frames: &[Vec<u32>]) -> anyhow::Result<(Vec<f32>, Vec<f32>, Duration)> {
    if frames.is_empty() || !speech.can_speak() {
        return Ok((Vec::new(), Vec::new(), Duration::ZERO));
    }
    let begun = Instant::now();
    let detokenizer = speech.detokenizer()?;
    let features = detokenizer.features(frames)?;
    let mut samples = Vec::new();
    detokenizer.offline(&features, &mut samples)?;
    Ok((samples, features, begun.elapsed()))
}

fn write_numbers(dump: &Dump, speech: &Speech, reply: &Reply, samples: &[f32], features: &[f32]) -> anyhow::Result<()> {
    let record = reply.record();
    dump.floats("logits_first", &[record.logits.len()], &record.logits)?;
    dump.floats("hidden_first", &[record.hidden.len()], &record.hidden)?;
    let codebooks = speech.settings().codebooks;
    if !record.frame_logits.is_empty() {
        dump.floats("frame_logits", &[codebooks, record.frame_logits.len() / codebooks], &record.frame_logits)?;
    }
    let row = speech.settings().stft.row();
    dump.floats("stft_features", &[features.len() / row, row], features)?;
    dump.floats("samples", &[samples.len()], samples)
}
