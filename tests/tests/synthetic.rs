//! Models with random weights: they load, they answer, and what is rounded at load stays close to what it was.

#![allow(clippy::unwrap_used)]

use std::path::Path;

use eddy_models::Stop;
use eddy_models::backbone::Input;
use eddy_models::folder::{Family, Layout, Precision, Wanted};
use eddy_models::onnx::Model;
use eddy_models::speech::{Event, Mode, Reply, ReplyOptions, Speech};
use eddy_models::synthetic::{
    BackboneSizes, DepthSizes, DetokenizerSizes, EncoderSizes, Experts, PlainSizes, SpeechSizes, Synthetic,
    write_speech, write_text,
};
use eddy_models::text::TextModel;
use eddy_tests::fixtures::{runtime, speech_at};

/// Narrow, and with as many tokens and codes as the published model: its head and its projections are worth rounding.
fn sizes() -> SpeechSizes {
    let hidden = 256;
    SpeechSizes {
        backbone: BackboneSizes {
            hidden,
            heads: 4,
            kv_heads: 2,
            head_dim: 64,
            feed_forward: 256,
            attention: vec![false, true],
            vocabulary: 65_536,
            positions: 1024,
            experts: None,
        },
        encoder: EncoderSizes { bins: 128, channels: 16, width: 64, heads: 4, layers: 1, rows: 200, hidden },
        depthformer: DepthSizes {
            hidden,
            width: 256,
            layers: 2,
            heads: 8,
            kv_heads: 2,
            feed_forward: 256,
            codebooks: 8,
            codes: 2049,
        },
        detokenizer: DetokenizerSizes {
            layers: PlainSizes { width: 64, heads: 4, kv_heads: 2, feed_forward: 96, attention: vec![false, true] },
            codebooks: 8,
            codes: 2048,
            features: 1282,
        },
    }
}

/// Twelve items of a reply: six tokens and six frames.
fn answer(speech: &mut Speech) -> Vec<Event> {
    let rows: Vec<f32> = (0..10 * 256).map(|at| (at as f32 * 0.7).sin() * 0.1).collect();
    let options = ReplyOptions { endless: true, max_items: 12, ..ReplyOptions::new(Mode::Interleaved) };
    let mut reply = Reply::new(speech, rows, options);
    let mut cache = speech.new_cache().unwrap();
    let mut events = Vec::new();
    loop {
        match reply.step(speech, &mut cache).unwrap() {
            Event::Prefilled { .. } => {}
            Event::Finished(_) => return events,
            event @ (Event::Text { .. } | Event::Frame(_)) => events.push(event),
        }
    }
}

#[test]
fn both_layouts_answer_and_rounded_heads_stay_close() {
    let root = tempfile::tempdir().unwrap();
    let [a, c] = ["a", "c"].map(|name| root.path().join(name));
    write_speech(&a, &sizes(), Layout::A, None).unwrap();
    write_speech(&c, &sizes(), Layout::C, Some(&a)).unwrap();

    let mut speech = speech_at(&a, "q4");
    assert_eq!(speech.identity().layout, Layout::A);
    assert_eq!(speech.identity().rounded.len(), 2, "{:?}", speech.identity().rounded);
    let frames = answer(&mut speech).into_iter().filter(|event| matches!(event, Event::Frame(_))).count();
    assert_eq!(frames, 6);
    let mut cache = speech.new_cache().unwrap();
    let row: Vec<f32> = (0..256).map(|at| (at as f32 * 0.3).cos()).collect();
    let output = speech.backbone().run(&mut cache, Input::Embeddings(&row)).unwrap();
    let exact = project(&a.join("onnx"), output.hidden.as_deref().unwrap());
    let square = |values: &mut dyn Iterator<Item = f32>| values.map(|value| f64::from(value * value)).sum::<f64>();
    let lost = square(&mut exact.iter().zip(&output.logits).map(|(exact, found)| exact - found));
    let relative = (lost / square(&mut exact.iter().copied())).sqrt();
    assert!(relative < 0.01, "{relative}");
    assert!(relative > 1e-5, "nothing was rounded");

    let mut speech = speech_at(&c, "q4");
    assert_eq!(speech.identity().layout, Layout::C);
    assert_eq!(speech.identity().rounded.len(), 1, "layout C publishes an 8-bit head");
    assert_eq!(answer(&mut speech).len(), 12);
}

/// What the published head makes of a hidden state.
fn project(graphs: &Path, hidden: &[f32]) -> Vec<f32> {
    let model = Model::parse(&std::fs::read(graphs.join("decoder_q4.onnx")).unwrap()).unwrap();
    let head = model.initializers.iter().find(|tensor| tensor.name == "lm_head.weight").unwrap();
    let place = head.external.as_ref().unwrap();
    let data = std::fs::read(graphs.join(&place.location)).unwrap();
    let weights = data[place.offset as usize..][..place.length.unwrap() as usize].as_chunks::<4>().0;
    let mut logits = vec![0.0; head.dims[1]];
    for (row, value) in weights.chunks(head.dims[1]).zip(hidden) {
        for (logit, weight) in logits.iter_mut().zip(row) {
            *logit += f32::from_le_bytes(*weight) * value;
        }
    }
    logits
}

#[test]
fn names_and_precisions_are_checked() {
    for model in Synthetic::ALL {
        assert_eq!(model.name().parse::<Synthetic>().unwrap(), model);
    }
    assert!("text-7b".parse::<Synthetic>().unwrap_err().to_string().contains("text-350m"));
    let nowhere = Path::new("/nonexistent");
    assert!(Synthetic::SpeechA.write(nowhere, Precision::Fp16).unwrap_err().to_string().contains("q4"));
}

#[test]
fn a_mixture_of_experts_answers() {
    let root = tempfile::tempdir().unwrap();
    let sizes = BackboneSizes {
        hidden: 64,
        feed_forward: 96,
        head_dim: 16,
        vocabulary: 1024,
        experts: Some(Experts { count: 4, asked: 2, inner: 64, from: 1 }),
        ..sizes().backbone
    };
    write_text(root.path(), &sizes, Layout::C, Precision::Q4).unwrap();
    let runtime = runtime();
    let stop = Stop::new(&runtime).unwrap();
    let mut model = TextModel::load(&runtime, root.path(), Wanted::Auto, &stop).unwrap();
    assert_eq!(model.identity().family, Family::MixtureOfExperts);
    let mut cache = model.new_cache().unwrap();
    let output = model.backbone().run(&mut cache, Input::Ids(&[1, 6, 700, 701])).unwrap();
    assert_eq!(output.logits.len(), 1024);
    assert!(output.logits.iter().all(|logit| logit.is_finite()));
}
