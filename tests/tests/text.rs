//! Text and mixture-of-experts models against transformers.

#![allow(clippy::unwrap_used)]

use eddy_models::backbone::Cache;
use eddy_models::text::{Event, Finish, Generation, GenerationOptions, Prefixes, TextModel, TextSession};
use eddy_models::{Error, Stop};
use eddy_tests::compare::{assert_close, cosine};
use eddy_tests::fixtures::{composed, fixture, runtime};
use eddy_tests::npy;
use serde_json::Value;

fn model_at(folder: &std::path::Path, precision: &str) -> TextModel {
    let runtime = runtime();
    let stop = Stop::new(&runtime).unwrap();
    TextModel::load(&runtime, folder, precision.parse().unwrap(), &stop).unwrap_or_else(|error| panic!("{error}"))
}

fn model(folder: &str, precision: &str) -> TextModel {
    model_at(&fixture(folder), precision)
}

struct Expected {
    prompt: Vec<u32>,
    ids: Vec<u32>,
    text: String,
    logits: Vec<f32>,
}

fn expected(family: &str) -> Expected {
    let greedy = std::fs::read(fixture(&format!("{family}-reference/greedy.json"))).unwrap();
    let greedy: Value = serde_json::from_slice(&greedy).unwrap();
    let ids = |key: &str| greedy[key].as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect();
    Expected {
        prompt: ids("prompt_ids"),
        ids: ids("ids"),
        text: greedy["text"].as_str().unwrap().to_owned(),
        logits: npy::floats(fixture(&format!("{family}-reference/logits.npy"))).data,
    }
}

/// Ids, text, reason and recorded logits of a whole generation.
fn generate(
    model: &mut TextModel,
    prompt: &[u32],
    options: GenerationOptions,
) -> (Vec<u32>, String, Finish, Generation) {
    let mut cache = model.new_cache().unwrap();
    let mut generation = Generation::new(model, &cache, prompt.to_vec(), options).unwrap();
    let (mut ids, mut said) = (Vec::new(), String::new());
    let why = loop {
        match generation.step(model, &mut cache, |_| true).unwrap() {
            Event::Prefilled { .. } => {}
            Event::Token { id, text } => {
                ids.push(id);
                said.push_str(&text);
            }
            Event::Finished(why) => break why,
        }
    };
    said.push_str(&generation.finish_text(model).unwrap());
    (ids, said, why, generation)
}

fn recorded(max_tokens: usize) -> GenerationOptions {
    GenerationOptions { max_tokens, record: true, ..GenerationOptions::default() }
}

fn assert_greedy(model: &mut TextModel, family: &str, what: &str) {
    let expected = expected(family);
    let (ids, said, why, generation) = generate(model, &expected.prompt, recorded(64));
    assert_eq!(ids, expected.ids, "{what}");
    assert_eq!(said, expected.text, "{what}");
    assert_eq!(why, Finish::Length, "{what}");
    assert_close(what, generation.recorded(), &expected.logits, 1e-4);
}

#[test]
fn full_precision_equals_transformers() {
    for (folder, family) in [("text-a", "text"), ("text-c", "text"), ("moe-a", "moe"), ("moe-c", "moe")] {
        let mut model = model(folder, "fp32");
        assert_eq!(model.identity().family.name(), family, "{folder}");
        assert_greedy(&mut model, family, folder);
    }
}

#[test]
fn graphs_that_ask_for_positions_get_them() {
    let folder = composed("text-a", Some("text-a-positions"));
    assert_greedy(&mut model_at(folder.path(), "fp32"), "text", "text-a-positions");
}

#[test]
fn other_precisions_stay_close() {
    let reduced = [
        ("text-a", "text", &["fp16", "q8", "q4", "q4f16", "q4f32"][..]),
        ("text-c", "text", &["fp16", "q4", "q4f16"]),
        ("moe-a", "moe", &["fp16", "q8", "q4", "q4f16", "q4f32"]),
        ("moe-c", "moe", &["fp16", "q4", "q4f16"]),
    ];
    for (folder, family, precisions) in reduced {
        let expected = expected(family);
        for precision in precisions {
            let mut model = model(folder, precision);
            assert_eq!(model.identity().precision.name(), *precision, "{folder}");
            let recorded = along(&mut model, &expected);
            let cosine = cosine(&recorded, &expected.logits);
            assert!(cosine >= 0.98, "{folder} {precision}: cosine {cosine} over {} steps", expected.ids.len());
        }
    }
}

/// The logits of every step along the expected answer, whatever this model would have said.
fn along(model: &mut TextModel, expected: &Expected) -> Vec<f32> {
    let mut cache = model.new_cache().unwrap();
    let options = recorded(expected.ids.len());
    let mut generation = Generation::new(model, &cache, expected.prompt.clone(), options).unwrap();
    let mut ids = expected.ids.iter();
    let mut next = ids.next();
    while let Some(wanted) = next {
        if let Event::Token { id, .. } = generation.step(model, &mut cache, |id| id == *wanted).unwrap() {
            assert_eq!(id, *wanted);
            next = ids.next();
        }
    }
    generation.recorded().to_vec()
}

#[test]
fn cached_steps_equal_one_prefill() {
    for folder in ["text-a", "text-c", "moe-c"] {
        let family = folder.split('-').next().unwrap();
        let mut model = model(folder, "fp32");
        let expected = expected(family);
        let rows = model.backbone().vocabulary();
        let so_far = [expected.prompt.as_slice(), &expected.ids[..20]].concat();
        for chunk in [1, 7, 512] {
            let (ids, _, _, generation) = generate(&mut model, &so_far, GenerationOptions { chunk, ..recorded(1) });
            assert_eq!(ids[0], expected.ids[20], "{folder}, chunks of {chunk}");
            assert_close(folder, generation.recorded(), &expected.logits[20 * rows..21 * rows], 1e-4);
        }
    }
}

#[test]
fn generation_ends_where_it_should() {
    let mut model = model("text-a", "fp32");
    let expected = expected("text");

    // A stop string in the middle of what would be said, found across tokens and left out.
    let characters: Vec<char> = expected.text.chars().collect();
    let stop: String = characters[10..14].iter().collect();
    let before = expected.text.find(&stop).unwrap();
    let options = GenerationOptions { stop: vec![stop], ..recorded(64) };
    let (ids, said, why, _) = generate(&mut model, &expected.prompt, options);
    assert_eq!((said.as_str(), why), (&expected.text[..before], Finish::Stop));
    assert!(ids.len() < 64);

    // An id that ends a turn: the only one that is allowed.
    let mut cache = model.new_cache().unwrap();
    let mut generation = Generation::new(&mut model, &cache, expected.prompt.clone(), recorded(64)).unwrap();
    let end = model.tokenizer().id("<|im_end|>").unwrap();
    prefill(&mut generation, &mut model, &mut cache, expected.prompt.len());
    let events: Vec<Event> = (0..2).map(|_| generation.step(&mut model, &mut cache, |id| id == end).unwrap()).collect();
    assert_eq!(events, [Event::Token { id: end, text: String::new() }, Event::Finished(Finish::Stop)]);

    // The context's end: the fixture has 512 positions.
    let long = vec![expected.prompt[0]; 505];
    let (ids, _, why, _) = generate(&mut model, &long, recorded(64));
    assert_eq!((ids.len(), why), (8, Finish::Length));
    let too_long = Generation::new(&mut model, &cache, vec![1; 512], recorded(1)).unwrap_err();
    assert!(matches!(too_long, Error::ContextFull { .. }), "{too_long}");
    for prompt in [vec![], vec![5000]] {
        assert!(matches!(Generation::new(&mut model, &cache, prompt, recorded(1)), Err(Error::BadRequest(_))));
    }
}

fn prefill(generation: &mut Generation, model: &mut TextModel, cache: &mut Cache, positions: usize) {
    while cache.length() < positions {
        generation.step(model, cache, |_| true).unwrap();
    }
}

#[test]
fn rows_without_a_token_are_never_chosen() {
    let mut model = model("text-a", "fp32");
    let expected = expected("text");
    let mut cache = model.new_cache().unwrap();
    let positions = expected.prompt.len();
    let mut generation = Generation::new(&mut model, &cache, expected.prompt, recorded(64)).unwrap();
    prefill(&mut generation, &mut model, &mut cache, positions);
    // The fixture's tokenizer leaves the last eight of 1024 rows empty.
    let nothing = generation.step(&mut model, &mut cache, |id| id >= 1016).unwrap_err();
    assert!(nothing.to_string().contains("no token is allowed"), "{nothing}");
}

#[test]
fn habits_come_from_the_folder() {
    let model = model("text-a", "fp32");
    let habits = model.habits();
    assert_eq!((habits.temperature, habits.min_p, habits.repetition_penalty), (0.3, 0.15, 1.05));
}

#[test]
fn a_speech_folder_writes_text_too() {
    let mut model = model("speech-a", "fp32");
    let prompt = model.tokenizer_mut().encode_plain("hello").unwrap();
    let (ids, ..) = generate(&mut model, &prompt, recorded(5));
    assert!(!ids.is_empty());
}

#[test]
fn a_continued_conversation_equals_one_computed_afresh() {
    for folder in ["text-a", "text-c", "moe-c"] {
        let mut model = model(folder, "fp32");
        let first = expected(folder.split('-').next().unwrap()).prompt;
        let mut session = TextSession::new(&model).unwrap();
        let said = run(&mut session, &mut model, &first, 12);
        assert_eq!(session.reused(), 0);

        // The next turn: all that was said, and more.
        let second = [first.as_slice(), &said, &[7, 798, 6, 684], &first[3..9]].concat();
        let continued = run(&mut session, &mut model, &second, 12);
        assert_eq!(session.reused(), first.len() + said.len() - 1, "{folder}");
        let afresh = run(&mut TextSession::new(&model).unwrap(), &mut model, &second, 12);
        assert_eq!(continued, afresh, "{folder}");

        // The same question asked again, as for another answer.
        let again = run(&mut session, &mut model, &second, 12);
        assert_eq!(again, afresh, "{folder}");
        // Another beginning: nothing is shared.
        let other = [&[1, 6, 6, 6][..], &first[4..]].concat();
        let elsewhere = run(&mut session, &mut model, &other, 12);
        assert_eq!(elsewhere, run(&mut TextSession::new(&model).unwrap(), &mut model, &other, 12), "{folder}");
    }
}

#[test]
fn conversations_share_what_their_prompts_begin_with() {
    let mut model = model("text-a", "fp32");
    let tokenizer = model.tokenizer_mut();
    let (start, end) = (tokenizer.id("<|im_start|>").unwrap(), tokenizer.id("<|im_end|>").unwrap());
    let system: Vec<u32> = [&[1, start][..], &[7, 9, 11, 13, 15, 17].repeat(6), &[end]].concat();
    let ask = |words: &[u32]| [&system, &[start][..], words, &[end, start]].concat();
    let afresh = |model: &mut TextModel, prompt: &[u32]| run(&mut TextSession::new(model).unwrap(), model, prompt, 8);
    let mut prefixes = Prefixes::new(64 << 20);
    let mut turn = |model: &mut TextModel, prompt: &[u32]| {
        let mut session = prefixes.session(model, prompt).unwrap();
        let said = run(&mut session, model, prompt, 8);
        let reused = session.reused();
        prefixes.keep(session);
        (said, reused, prefixes.counts())
    };

    let (first, second) = (ask(&[21, 22, 23]), ask(&[31, 32]));
    let (said, reused, _) = turn(&mut model, &first);
    assert_eq!((&said, reused), (&afresh(&mut model, &first), 0));
    let (other, reused, _) = turn(&mut model, &second);
    assert_eq!((&other, reused), (&afresh(&mut model, &second), system.len()), "the system prompt is shared");
    // The first conversation goes on, with all of it in memory though another came between.
    let on = [&first[..], &said, &[start, 41, 42, end, start]].concat();
    let (further, reused, counts) = turn(&mut model, &on);
    assert_eq!((&further, reused), (&afresh(&mut model, &on), first.len() + said.len() - 1));
    assert_eq!((counts.hits, counts.misses, counts.evicted), (2, 1, 0));
    let positions = first.len() + second.len() + on.len();
    assert_eq!(counts.positions, positions as u64);
    assert_eq!(counts.positions_reused, (system.len() + first.len() + said.len() - 1) as u64);

    let mut small = Prefixes::new(1);
    let session = small.session(&mut model, &first).unwrap();
    small.keep(session);
    let mut session = small.session(&mut model, &first).unwrap();
    run(&mut session, &mut model, &first, 1);
    small.keep(session);
    assert_eq!((small.bytes(), small.counts().evicted), (0, 1), "what has no room is not kept");
}

fn run(session: &mut TextSession, model: &mut TextModel, prompt: &[u32], tokens: usize) -> Vec<u32> {
    let options = GenerationOptions { max_tokens: tokens, ..GenerationOptions::default() };
    let mut generation = session.begin(model, prompt, options).unwrap();
    let mut ids = Vec::new();
    loop {
        match session.step(model, &mut generation, |_| true).unwrap() {
            Event::Prefilled { .. } => {}
            Event::Token { id, .. } => ids.push(id),
            Event::Finished(_) => return ids,
        }
    }
}
