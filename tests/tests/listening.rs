//! The carried listening models against the packages that they come from.

#![allow(clippy::unwrap_used)]

use eddy_models::Stop;
use eddy_models::listening::{EndOfTurn, VoiceActivity};
use eddy_tests::compare::assert_close;
use eddy_tests::fixtures::{fixture, question, runtime};
use eddy_tests::npy;
use serde_json::Value;

#[test]
fn speech_probabilities_equal_the_reference() {
    let runtime = runtime();
    let mut detector = VoiceActivity::load(&runtime, &Stop::new(&runtime).unwrap()).unwrap();
    let padded = [vec![0.0; 8000], question(), vec![0.0; 16_000]].concat();
    let expected = npy::floats(fixture("listening-reference/speech_probabilities.npy")).data;
    for _ in 0..2 {
        let ours: Vec<f32> =
            padded.chunks_exact(VoiceActivity::CHUNK).map(|chunk| detector.probability(chunk).unwrap()).collect();
        assert_close("speech probabilities", &ours, &expected, 1e-4);
        detector.reset();
    }
    assert!(expected.iter().any(|probability| *probability > 0.9) && expected[0] < 0.1);
    assert!(detector.probability(&padded[..100]).is_err());
}

#[test]
fn the_end_of_a_turn_is_judged_as_by_the_reference() {
    let runtime = runtime();
    let mut model = EndOfTurn::load(&runtime, &Stop::new(&runtime).unwrap()).unwrap();
    let question = question();

    let features = model.features(&question);
    let expected = npy::floats(fixture("listening-reference/turn_features.npy"));
    let every_tenth: Vec<f32> = features.iter().step_by(10).copied().collect();
    assert_eq!(every_tenth.len(), expected.data.len());
    assert_close("features", &every_tenth, &expected.data, 1e-4);

    let answers: Value =
        serde_json::from_slice(&std::fs::read(fixture("listening-reference/end_of_turn.json")).unwrap()).unwrap();
    let mut verdicts = Vec::new();
    for answer in answers.as_array().unwrap() {
        let end = answer["samples"].as_u64().unwrap() as usize;
        let ours = model.probability(&question[..end]).unwrap();
        let theirs = answer["probability"].as_f64().unwrap() as f32;
        assert!((ours - theirs).abs() < 2e-3, "after {end} samples: {ours}, expected {theirs}");
        verdicts.push(theirs > 0.5);
    }
    assert!(verdicts.contains(&true) && verdicts.contains(&false), "the reference tells them apart: {verdicts:?}");
}
