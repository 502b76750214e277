//! The carried listening models against the packages that they come from.

#![allow(clippy::unwrap_used)]

use eddy_models::Stop;
use eddy_models::listening::wake_word::{Embedder, Examples, WakeWord};
use eddy_models::listening::{EndOfTurn, VoiceActivity};
use eddy_tests::compare::assert_close;
use eddy_tests::fixtures::{fixture, question, runtime};
use eddy_tests::npy;
use eddy_tests::room::said;
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
fn embeddings_equal_the_reference() {
    let runtime = runtime();
    let mut embedder = Embedder::load(&runtime, &Stop::new(&runtime).unwrap()).unwrap();
    let expected = npy::floats(fixture("listening-reference/wake_embeddings.npy")).data;
    let mut state = 1u32;
    let noise = std::iter::from_fn(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        Some((f64::from(state) / 2f64.powi(32) - 0.5) * 0.004)
    });
    let noisy: Vec<f32> = question().into_iter().zip(noise).map(|(a, b)| (f64::from(a) + b) as f32).collect();
    for _ in 0..2 {
        // In pieces of any length, as a microphone gives them.
        let mut ours = Vec::new();
        for piece in noisy.chunks(777) {
            ours.extend(embedder.push(piece).unwrap().into_iter().flatten());
        }
        // The reference sees the end of the clip too, where no whole piece is left.
        assert!(expected.len() - ours.len() <= Embedder::WIDTH);
        assert_close("embeddings", &ours, &expected[..ours.len()], 2e-3);
        let ended = Embedder::FIRST + (ours.len() / Embedder::WIDTH - 1) * Embedder::PIECE;
        assert_eq!(ended + embedder.behind(), noisy.len());
        embedder.reset();
    }
}

#[test]
fn an_enrolled_phrase_is_found_and_others_are_not() {
    let runtime = runtime();
    let stop = Stop::new(&runtime).unwrap();
    let mut detector = VoiceActivity::load(&runtime, &stop).unwrap();
    let takes = |phrase| ["en-gb:150", "en-gb:142", "en-gb:160"].map(|voice| said(voice, phrase));
    let mut embedder = Embedder::load(&runtime, &stop).unwrap();
    let examples = Examples::enrol(&mut embedder, &mut detector, &takes("Computer.")).unwrap();
    // They are kept as text and are the same afterwards.
    let kept = serde_json::to_string(&examples).unwrap();
    let examples: Examples = serde_json::from_str(&kept).unwrap();
    examples.check().unwrap();
    let mut wake_word = WakeWord::load(&runtime, &stop, examples, 0.5).unwrap();

    let quiet = |sound: Vec<f32>| sound.into_iter().map(|sample| sample * 0.2).collect::<Vec<f32>>();
    for sound in [said("en-gb:155", "Computer."), quiet(said("en-gb:146", "Computer, what is two plus two?"))] {
        let found = wake_word.find(&mut detector, &sound).unwrap();
        let best = wake_word.take_best();
        assert_eq!(found.len(), 1, "{best:?}");
        // Half a second of silence is in front of everything that is said.
        let end = found[0].0 as f32 / 16_000.0 - 0.5;
        assert!((0.4..0.9).contains(&end), "it ends {end} s behind its beginning");
    }
    for other in [
        "What is two plus two?",
        "The commuter train was full again this morning.",
        "Do not compete with her, but come to the pewter cup.",
        "Good evening, could you please tell me something about the weather?",
    ] {
        let found = wake_word.find(&mut detector, &said("en-gb:150", other)).unwrap();
        assert!(found.is_empty(), "{other:?}: {found:?}");
    }
    // Nobody speaks: nothing is computed.
    assert!(!wake_word.is_awake() && wake_word.push(&[0.0; 16_000], false).unwrap().is_none() && !wake_word.is_awake());
}

#[test]
fn recordings_that_are_no_phrase_are_refused() {
    let runtime = runtime();
    let stop = Stop::new(&runtime).unwrap();
    let mut detector = VoiceActivity::load(&runtime, &stop).unwrap();
    let mut embedder = Embedder::load(&runtime, &stop).unwrap();
    let phrase = said("en-gb:150", "Computer.");
    let long =
        said("en-gb:150", "This is much more than anybody would want to say each time before they ask something.");
    let other = said("en-gb:150", "Good morning.");
    for (takes, reason) in [
        (vec![phrase.clone()], "at least two"),
        (vec![phrase.clone(), vec![0.0; 32_000]], "recording 2 holds no speech"),
        (vec![long, phrase.clone()], "recording 1 holds more than a phrase"),
        (vec![phrase, other], "less alike"),
    ] {
        let error = Examples::enrol(&mut embedder, &mut detector, &takes).unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
    }
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
