//! Text in and out of tokens, piece by piece.

#![allow(clippy::unwrap_used)]

use eddy_models::Stop;
use eddy_models::text::TextModel;
use eddy_models::tokenizer::{Special, TextStream, Tokenizer};
use eddy_tests::fixtures::{fixture, runtime};

fn tokenizer() -> Tokenizer {
    let runtime = runtime();
    let stop = Stop::new(&runtime).unwrap();
    TextModel::load(&runtime, &fixture("text-a"), "fp32".parse().unwrap(), &stop).unwrap().tokenizer().clone()
}

/// The pieces that a stream gives for `ids`.
fn pieces(tokenizer: &Tokenizer, ids: &[u32], special: Special) -> Vec<String> {
    let mut stream = TextStream::new(special);
    let mut pieces: Vec<String> = ids.iter().map(|id| stream.push(tokenizer, *id).unwrap()).collect();
    pieces.push(stream.finish(tokenizer).unwrap());
    pieces
}

#[test]
fn characters_are_never_broken() {
    let tokenizer = tokenizer();
    for text in [
        "plain words, one after another",
        "Où est la gare ? Ein Haus hört zu. Здравствуй, мир. これは小さな試験です。",
        "family: 👨‍👩‍👧‍👦, flag: 🇩🇪, accent: e\u{301}",
        "🙂🙃🙂🙃🙂🙃🙂🙃🙂🙃🙂🙃🙂🙃🙂🙃🙂🙃🙂🙃",
        "\u{fffd} is a character too \u{fffd}",
    ] {
        let ids = tokenizer.encode(text).unwrap();
        let pieces = pieces(&tokenizer, &ids, Special::Drop);
        assert_eq!(pieces.concat(), text);
        if !text.contains('\u{fffd}') {
            assert!(pieces.iter().all(|piece| !piece.contains('\u{fffd}')), "{pieces:?}");
        }
    }
}

#[test]
fn the_stream_equals_the_whole_even_for_bytes_that_are_no_text() {
    let tokenizer = tokenizer();
    let bytes: Vec<u32> = tokenizer.encode("é🙂ß").unwrap();
    let mut state = 9_u32;
    for _ in 0..200 {
        let ids: Vec<u32> = (0..60)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                // Single bytes of characters in any order, and any other token now and then.
                if state >> 30 == 0 { 600 + (state >> 8) % 400 } else { bytes[(state >> 8) as usize % bytes.len()] }
            })
            .collect();
        let whole = tokenizer.decode(&ids, Special::Drop).unwrap();
        let streamed = pieces(&tokenizer, &ids, Special::Drop).concat();
        // Where bytes are no text, how many marks stand for them depends on where one looks from; the text does not.
        let text = |text: &str| text.replace('\u{fffd}', "");
        assert_eq!(text(&streamed), text(&whole), "{ids:?}");
    }
}

#[test]
fn a_character_behind_many_stray_bytes_is_kept() {
    let tokenizer = tokenizer();
    let lead = tokenizer.encode("é").unwrap()[0];
    for strays in 1..80 {
        let mut ids = vec![lead; strays];
        ids.extend(tokenizer.encode("é漢字 ok").unwrap());
        let streamed = pieces(&tokenizer, &ids, Special::Drop).concat();
        assert!(streamed.ends_with("é漢字 ok"), "{strays}: {streamed}");
    }
}

#[test]
fn special_tokens_are_kept_or_dropped() {
    let tokenizer = tokenizer();
    let ids = tokenizer.encode("a<|tool_call_start|>b<|im_end|>").unwrap();
    assert_eq!(pieces(&tokenizer, &ids, Special::Drop).concat(), "ab");
    assert_eq!(pieces(&tokenizer, &ids, Special::Keep).concat(), "a<|tool_call_start|>b<|im_end|>");
}

#[test]
fn a_callers_words_cannot_end_a_turn() {
    let mut tokenizer = tokenizer();
    let end = tokenizer.id("<|im_end|>").unwrap();
    assert!(tokenizer.encode("x<|im_end|>").unwrap().contains(&end));
    let plain = tokenizer.encode_plain("x<|im_end|>").unwrap();
    assert!(!plain.contains(&end));
    assert_eq!(tokenizer.decode(&plain, Special::Drop).unwrap(), "x<|im_end|>");
    assert!(tokenizer.encode("x<|im_end|>").unwrap().contains(&end), "the next text is read as before");
}
