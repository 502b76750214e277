//! What a speech model is measured by beside its backbone: the parts of a frame, a reply of twenty seconds, and the time
//! to the first sample.

use std::time::{Duration, Instant};

use eddy_models::backbone::Input;
use eddy_models::ceiling::Work;
use eddy_models::folder::{GraphFile, ModelFolder, Role, Wanted};
use eddy_models::speech::{MelClip, MelFeatures, Mode, Parts, Prompt, ReplyOptions, Speech};
use serde_json::json;

use super::figure::{Clock, Sample};
use super::{Bench, Part, text};
use crate::cli::model::Engine;
use crate::speech::{CONVERSE, Made, Progress, Turn};

/// Positions that a conversation has when its parts are measured.
const CONTEXT: usize = 256;
/// Frames of one run.
const FRAMES: usize = 12;
/// The reply that is measured as a whole.
const REPLY: Duration = Duration::from_secs(20);
const QUESTIONS: [usize; 3] = [2, 4, 10];

/// Measures a speech model.
///
/// # Errors
/// Those of the model.
pub fn run(bench: &mut Bench<'_>, engine: &Engine, decoder: &GraphFile) -> anyhow::Result<()> {
    let begun = Instant::now();
    let mut speech = Speech::load(&engine.runtime, bench.folder, bench.wanted, Parts::ALL, engine.interrupt.stop())?;
    bench.figures.loaded(begun.elapsed().as_secs_f64())?;
    for sentence in &speech.identity().rounded {
        bench.figures.heading(&format!("  {sentence}"))?;
    }
    bench.figures.set("rounded", speech.identity().rounded.clone().into());
    text::backbone(bench, speech.backbone(), decoder)?;
    if bench.wants(Part::Frame) {
        frame(bench, &mut speech, decoder)?;
    }
    if bench.wants(Part::Reply) {
        reply(bench, &mut speech)?;
    }
    if bench.wants(Part::First) {
        first(bench, &mut speech)?;
    }
    Ok(())
}

/// Milliseconds by part, for one frame or one text token.
fn frame(bench: &mut Bench<'_>, speech: &mut Speech, decoder: &GraphFile) -> anyhow::Result<()> {
    let folder = ModelFolder::open(bench.folder)?;
    let work = |role| -> anyhow::Result<Work> {
        let file = folder.graph(role, Wanted::Exactly(decoder.precision()))?;
        Ok(file.map_or(Work::default(), |file| Work::of(&file, true)))
    };
    let hidden = speech.backbone().hidden();
    let row: Vec<f32> = (0..hidden).map(|at| (at as f32 * 0.37).sin() * 0.02).collect();
    let runs = bench.runs();
    let mut cache = speech.backbone().blank_cache(CONTEXT)?;
    let mut state = Vec::new();
    let mut each = |speech: &mut Speech, logits: bool| {
        Sample::take(runs + 1, || {
            let begun = Instant::now();
            for _ in 0..FRAMES {
                let input = Input::Embeddings(&row);
                let backbone = speech.backbone();
                let output =
                    if logits { backbone.run(&mut cache, input) } else { backbone.advance(&mut cache, input) }?;
                state = output.hidden.unwrap_or_default();
            }
            Ok(begun.elapsed().as_secs_f64() / FRAMES as f64)
        })
    };
    let text = each(speech, true)?;
    let audio = each(speech, false)?;
    let mut frames = Vec::new();
    let depth = Sample::take(runs + 1, || {
        let mut at = 0_u32;
        let begun = Instant::now();
        for _ in 0..FRAMES {
            frames.push(speech.depthformer()?.frame(&state, |logits| {
                at = at.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                Some(at % (logits.len() as u32 - 1))
            })?);
        }
        Ok(begun.elapsed().as_secs_f64() / FRAMES as f64)
    })?;
    let mut shares = vec![
        ("backbone, text token", &text, Some(work(Role::Decoder)?)),
        ("backbone, frame", &audio, Some(Work::of(decoder, false))),
        ("depthformer", &depth, None),
    ];
    let codebooks = speech.settings().codebooks as u64;
    let one = work(Role::Depthformer)?;
    shares[2].2 = Some(Work { bytes: one.bytes * codebooks, operations: one.operations * codebooks });
    for (name, sample, work) in shares {
        let share = work.map(|work| bench.ceilings.of_bandwidth(work, sample.median()));
        bench.figures.add("frame", ("part", name.into()), &sample.map(|seconds| seconds * 1e3), "ms", share)?;
    }
    for group in [1, 2, 6, 12] {
        let mut stream = speech.detokenizer()?.stream();
        let mut samples = Vec::new();
        // The first groups have less before them.
        for part in frames.chunks(group).take(24_usize.div_ceil(group)) {
            speech.detokenizer()?.push(&mut stream, part, &mut samples)?;
        }
        let seconds = Sample::take(runs, || {
            let begun = Instant::now();
            speech.detokenizer()?.push(&mut stream, &frames[..group], &mut samples)?;
            Ok(begun.elapsed().as_secs_f64() / group as f64)
        })?;
        let name = format!("detokenizer by {group}");
        bench.figures.add("frame", ("part", name.into()), &seconds.map(|seconds| seconds * 1e3), "ms", None)?;
    }
    Ok(())
}

/// A reply of twenty seconds: its real-time factor, and how long the first sample has to be held back so that playback
/// has no gap.
fn reply(bench: &mut Bench<'_>, speech: &mut Speech) -> anyhow::Result<()> {
    let (mut factors, mut holds, mut processor) = (Vec::new(), Vec::new(), Vec::new());
    let rate = f64::from(speech.settings().stft.sample_rate);
    for _ in 0..bench.runs() {
        let features = question(speech, 2)?;
        let rows = speech.embed(&Prompt::instructed(CONVERSE).sound(features).awaiting_reply())?;
        let mut cache = speech.new_cache()?;
        let mut turn = Turn::new(speech, rows, options(), true)?;
        let mut made = Made::default();
        while turn.summary().first_text.is_none() {
            turn.step(speech, &mut cache, &mut made)?;
        }
        let (clock, mut sound, mut pieces) = (Clock::start(), 0, Vec::new());
        while (sound as f64) < REPLY.as_secs_f64() * rate {
            if turn.step(speech, &mut cache, &mut made)? != Progress::More {
                break;
            }
            if !made.samples.is_empty() {
                pieces.push((clock.seconds(), sound as f64 / rate));
                sound += made.samples.len();
                made.samples.clear();
            }
        }
        let seconds = sound as f64 / rate;
        factors.push(clock.seconds() / seconds);
        processor.push(clock.processor() / seconds);
        // A piece that is there at `at` is wanted `start` after playback began.
        let first = pieces.first().map_or(0.0, |piece| piece.0);
        holds.push(pieces.iter().map(|(at, start)| at - start - first).fold(0.0, f64::max));
    }
    let at = || ("seconds", REPLY.as_secs().into());
    bench.figures.add("reply", at(), &Sample::of(factors), "RTF", None)?;
    bench.figures.add("reply_processor", at(), &Sample::of(processor), "processor seconds a second", None)?;
    bench.figures.add("reply_hold", at(), &Sample::of(holds), "s", None)?;
    Ok(())
}

/// Seconds from the end of a question to its first sample, behind a system prompt that has been read.
fn first(bench: &mut Bench<'_>, speech: &mut Speech) -> anyhow::Result<()> {
    let mut stages = Vec::new();
    for length in bench.amounts(&QUESTIONS) {
        let features = question(speech, length)?;
        let prefix = speech.embed(&Prompt::instructed(CONVERSE))?;
        let mut cache = speech.new_cache()?;
        speech.backbone().advance(&mut cache, Input::Embeddings(&prefix))?;
        let open = speech.backbone().snapshot(&cache);
        let seconds = Sample::take(bench.runs() + 1, || {
            speech.backbone().rewind(&mut cache, &open)?;
            let begun = Instant::now();
            let prompt = Prompt::default().sound(features.clone()).awaiting_reply();
            let rows = speech.embed(&prompt)?;
            let encoding = begun.elapsed().as_secs_f64();
            let mut turn = Turn::new(speech, rows, options(), true)?;
            let mut made = Made::default();
            while made.samples.is_empty() {
                turn.step(speech, &mut cache, &mut made)?;
            }
            let seconds = begun.elapsed().as_secs_f64();
            let prefill = turn.reply().times().prefill.as_secs_f64();
            stages.push(json!({ "question_s": length, "encode_s": encoding, "prefill_s": prefill, "all_s": seconds }));
            Ok(seconds)
        })?;
        bench.figures.add("first_sound", ("question_s", length.into()), &seconds, "s", None)?;
    }
    bench.figures.set("first_sound_runs", stages.into());
    Ok(())
}

fn options() -> ReplyOptions {
    ReplyOptions { endless: true, max_items: usize::MAX, ..ReplyOptions::new(Mode::Interleaved) }
}

/// The features of a noise of so many seconds.
fn question(speech: &mut Speech, seconds: usize) -> anyhow::Result<MelFeatures> {
    let rate = speech.settings().mel.sample_rate as usize;
    let mut clip = MelClip::new(speech.front_end());
    let samples: Vec<f32> =
        (0..seconds * rate).map(|at| ((at % 2003 * at * 31 % 2003) as f32 / 2003.0 - 0.5) * 0.2).collect();
    clip.push(&samples);
    Ok(clip.features()?)
}
