//! The speech path against numbers recorded from PyTorch (transformers and liquid-audio), part by part.

#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use eddy_audio::wav::Clip;
use eddy_models::Stop;
use eddy_models::backbone::Input;
use eddy_models::onnx::{Model, fuse_convolutions};
use eddy_models::speech::{Event, InverseStft, Mode, Parts, Prompt, Reply, ReplyOptions, Speech, StftSettings};
use eddy_tests::compare::{assert_close, cosine};
use eddy_tests::fixtures::{clip, composed, fixture, question, runtime, speech, speech_at};
use eddy_tests::npy;
use eddy_tests::room::{ROOM, spoken};
use serde_json::Value;

fn reference(folder: &str, name: &str) -> Value {
    let text = std::fs::read(fixture(&format!("{folder}-reference/{name}"))).unwrap();
    serde_json::from_slice(&text).unwrap()
}

fn array(folder: &str, name: &str) -> Vec<f32> {
    npy::floats(fixture(&format!("{folder}-reference/{name}.npy"))).data
}

fn spoken_prompt(speech: &Speech, system: &str) -> Prompt {
    Prompt::instructed(system).sound(clip(speech, &question()).features().unwrap()).awaiting_reply()
}

fn greedy(mode: Mode, max_items: usize) -> ReplyOptions {
    ReplyOptions { max_items, record: true, ..ReplyOptions::new(mode).greedy() }
}

/// A whole reply: its items in the reference's form, its text, and the reply itself.
fn run(speech: &mut Speech, prompt: &Prompt, options: ReplyOptions) -> (Vec<Value>, String, Reply) {
    let rows = speech.embed(prompt).unwrap();
    let mut cache = speech.new_cache().unwrap();
    let mut reply = Reply::new(speech, rows, options);
    let (mut items, mut said) = (Vec::new(), String::new());
    loop {
        match reply.step(speech, &mut cache).unwrap() {
            Event::Prefilled { .. } => {}
            Event::Text { id, text } => {
                items.push(serde_json::json!({ "text": id }));
                said.push_str(&text);
            }
            Event::Frame(codes) => items.push(serde_json::json!({ "audio": codes })),
            Event::Finished(_) => break,
        }
    }
    said.push_str(&reply.finish_text(speech).unwrap());
    (items, said, reply)
}

fn assert_items(folder: &str, name: &str, items: &[Value], said: &str, at_least: usize) {
    let expected = reference(folder, name);
    let theirs = expected["items"].as_array().unwrap();
    assert!(theirs.len() >= at_least, "{name} has only {} items", theirs.len());
    for (index, (ours, theirs)) in items.iter().zip(theirs).enumerate() {
        assert_eq!(ours, theirs, "{folder}/{name}: item {index}");
    }
    assert_eq!(items.len(), theirs.len(), "{folder}/{name}");
    assert_eq!(said, expected["text"].as_str().unwrap(), "{folder}/{name}");
}

fn heard(items: &[Value], end_code: u64) -> Vec<Vec<u32>> {
    items
        .iter()
        .filter_map(|item| item.get("audio"))
        .map(|codes| codes.as_array().unwrap().iter().map(|code| code.as_u64().unwrap()).collect::<Vec<_>>())
        .filter(|codes| codes[0] != end_code)
        .map(|codes| codes.into_iter().map(|code| code as u32).collect())
        .collect()
}

#[test]
fn mel_features_equal_the_reference() {
    let speech = speech("speech-a", "fp32");
    let question = question();
    let whole = clip(&speech, &question).features().unwrap();
    let expected = npy::floats(fixture("speech-reference/mel.npy"));
    assert_eq!(expected.shape, [whole.frames, 128]);
    assert_close("mel", &whole.data, &expected.data, 2e-4);
    for (name, samples) in [("0.11s", 1760), ("0.5s", 8000), ("1.0s", 16_000)] {
        let features = clip(&speech, &question[8000..8000 + samples]).features().unwrap();
        let expected = npy::floats(fixture(&format!("speech-reference/mel-{name}.npy")));
        assert_close(name, &features.data, &expected.data, 2e-4);
    }
}

#[test]
fn the_inverse_stft_equals_the_reference() {
    let features = npy::floats(fixture("speech-reference/istft_features.npy"));
    let mut stft = InverseStft::new(&StftSettings::default());
    let mut samples = Vec::new();
    for row in features.data.chunks_exact(features.shape[1]) {
        stft.push(row, &mut samples).unwrap();
    }
    stft.finish(&mut samples);
    assert_close("samples", &samples, &npy::floats(fixture("speech-reference/istft_samples.npy")).data, 1e-5);
}

fn the_interleaved_reply_equals_the_reference(folder: &str) {
    interleaved_reply(&mut speech(folder, "fp32"), folder);
}

/// Runs the interleaved reply of `speech` against the reference of `folder`, number by number.
fn interleaved_reply(speech: &mut Speech, folder: &str) {
    let features = clip(speech, &question()).features().unwrap();
    let rows = speech.encoder().unwrap().encode(&features).unwrap();
    assert_close("encoder rows", &rows, &array(folder, "audio_embeddings"), 1e-4);

    let prompt = spoken_prompt(speech, "Respond with interleaved text and audio.");
    let positions = speech.embed(&prompt).unwrap().len() / speech.backbone().hidden();
    let expected = reference(folder, "interleaved.json");
    assert_eq!(positions as u64, expected["prompt_items"].as_u64().unwrap());
    let limit = expected["items"].as_array().unwrap().len();
    let limit = if expected["ended"].as_bool().unwrap() { 1024 } else { limit };
    let (items, said, reply) = run(speech, &prompt, greedy(Mode::Interleaved, limit));

    let record = reply.record();
    assert_close("first logits", &record.logits, &array(folder, "logits_first"), 1e-4);
    assert_close("first hidden state", &record.hidden, &array(folder, "hidden_first"), 1e-4);
    assert_close("frame logits", &record.frame_logits, &array(folder, "frame_logits"), 1e-4);
    assert_items(folder, "interleaved.json", &items, &said, 60);

    let frames = heard(&items, u64::from(speech.settings().end_code()));
    let detokenizer = speech.detokenizer().unwrap();
    if folder == "speech-a" {
        // Recorded for one layout only; the samples below depend on them in the other too.
        assert_close("STFT features", &detokenizer.features(&frames).unwrap(), &array(folder, "stft_features"), 1e-4);
    }
    let mut samples = Vec::new();
    let mut stream = detokenizer.stream();
    detokenizer.push(&mut stream, &frames, &mut samples).unwrap();
    stream.finish(&mut samples);
    assert_close("samples", &samples, &array(folder, "samples"), 1e-5);
}

#[test]
fn layout_a_answers_as_the_reference() {
    the_interleaved_reply_equals_the_reference("speech-a");
}

#[test]
fn layout_c_answers_as_the_reference() {
    the_interleaved_reply_equals_the_reference("speech-c");
}

#[test]
fn the_published_rotary_fault_is_repaired_and_reported() {
    let folder = composed("speech-a", Some("speech-a-faulty"));
    let mut faulty = speech_at(folder.path(), "fp32");
    assert!(faulty.identity().repairs[0].contains("rotary"), "{:?}", faulty.identity().repairs);
    interleaved_reply(&mut faulty, "speech-a");
    assert!(speech("speech-a", "fp32").identity().repairs.is_empty(), "nothing to repair there");
    assert_eq!(speech_at(folder.path(), "q4").identity().repairs.len(), 1);
}

/// A folder as the hub's cache has it: every file is a link to a file with a meaningless name elsewhere.
fn in_hub_cache(folder: &Path) -> (tempfile::TempDir, PathBuf) {
    let cache = tempfile::tempdir().unwrap();
    let (blobs, snapshot) = (cache.path().join("blobs"), cache.path().join("snapshots/main"));
    std::fs::create_dir_all(&blobs).unwrap();
    std::fs::create_dir_all(snapshot.join("onnx")).unwrap();
    let mut names = 0..;
    for inside in ["", "onnx"] {
        for entry in std::fs::read_dir(folder.join(inside)).unwrap().map(Result::unwrap) {
            if entry.file_type().unwrap().is_file() {
                let blob = blobs.join(format!("{:04x}", names.next().unwrap()));
                std::fs::copy(entry.path(), &blob).unwrap();
                std::os::unix::fs::symlink(blob, snapshot.join(inside).join(entry.file_name())).unwrap();
            }
        }
    }
    (cache, snapshot)
}

#[test]
fn a_folder_in_the_hubs_cache_works_repaired_or_not() {
    for over in [None, Some("speech-a-faulty")] {
        let folder = composed("speech-a", over);
        let (_cache, snapshot) = in_hub_cache(folder.path());
        let mut speech = speech_at(&snapshot, "fp32");
        assert_eq!(speech.identity().repairs.len(), usize::from(over.is_some()));
        interleaved_reply(&mut speech, "speech-a");
    }
}

#[test]
fn sizes_come_from_the_graphs_where_the_settings_are_silent() {
    let folder = composed("speech-c", None);
    for name in ["genai_config.json", "onnx/audio_embedding.json", "onnx/embed_tokens.json"] {
        std::fs::remove_file(folder.path().join(name)).unwrap();
    }
    let path = folder.path().join("config.json");
    let mut config: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    config.as_object_mut().unwrap().remove("codebooks");
    std::fs::write(&path, config.to_string()).unwrap();
    interleaved_reply(&mut speech_at(folder.path(), "fp32"), "speech-c");
}

#[test]
fn a_step_that_was_stopped_can_be_repeated() {
    // Embedding graphs, unlike raw tables, can be stopped in the middle of a step.
    let folder = composed("speech-c", None);
    for name in ["embed_tokens.bin", "embed_tokens.json"] {
        std::fs::remove_file(folder.path().join("onnx").join(name)).unwrap();
    }
    let runtime = runtime();
    let stop = Stop::new(&runtime).unwrap();
    let wanted = "fp32".parse().unwrap();
    let mut speech = Speech::load(&runtime, folder.path(), wanted, Parts::ALL, &stop).unwrap();
    let prompt = spoken_prompt(&speech, "Respond with interleaved text and audio.");
    let rows = speech.embed(&prompt).unwrap();
    let options = ReplyOptions { seed: 5, max_items: 60, ..ReplyOptions::new(Mode::Interleaved) };
    let mut items = |disturbed: bool| {
        let mut cache = speech.new_cache().unwrap();
        let mut reply = Reply::new(&speech, rows.clone(), options.clone());
        let (mut items, mut pauses) = (Vec::new(), 0);
        loop {
            let stopper = disturbed.then(|| {
                let stop = stop.clone();
                pauses += 1;
                // A little later in every step, so that each of its graphs is hit some time.
                std::thread::spawn(move || {
                    let until = std::time::Instant::now() + std::time::Duration::from_micros(pauses * 7 % 900);
                    while std::time::Instant::now() < until {}
                    stop.set();
                })
            });
            let event = reply.step(&mut speech, &mut cache);
            if let Some(stopper) = stopper {
                stopper.join().unwrap();
                stop.clear();
            }
            match event {
                Err(eddy_models::Error::Stopped) | Ok(Event::Prefilled { .. }) => {}
                Err(error) => panic!("{error}"),
                Ok(Event::Finished(_)) => return items,
                Ok(made) => items.push(made),
            }
        }
    };
    let calm = items(false);
    assert!(calm.len() > 20);
    for _ in 0..5 {
        assert_eq!(items(true), calm);
    }
}

#[test]
fn embedding_graphs_of_another_width_are_refused() {
    let folder = composed("speech-c", None);
    for name in ["embed_tokens.bin", "embed_tokens.json"] {
        std::fs::remove_file(folder.path().join("onnx").join(name)).unwrap();
    }
    // The other model's table: 32 floats a row and not 64.
    let narrow = fixture("speech-a/onnx/audio_embedding.onnx");
    let data = fixture("speech-a/onnx/audio_embedding.bin");
    std::fs::copy(narrow, folder.path().join("onnx/embeddings.onnx")).unwrap();
    std::fs::copy(data, folder.path().join("onnx/audio_embedding.bin")).unwrap();
    let runtime = runtime();
    let stop = Stop::new(&runtime).unwrap();
    let refused = Speech::load(&runtime, folder.path(), "fp32".parse().unwrap(), Parts::HEARING, &stop).unwrap_err();
    assert!(refused.to_string().contains("embeddings.onnx"), "{refused}");
}

#[test]
fn a_prompt_that_does_not_fit_is_refused_before_anything_is_computed() {
    let mut speech = speech("speech-a", "fp32");
    let words = "a".repeat(5000);
    let prompt = Prompt::instructed("Perform TTS.").words(&words).awaiting_reply();
    let rows = speech.embed(&prompt).unwrap();
    let positions = rows.len() / speech.backbone().hidden();
    let mut cache = speech.new_cache().unwrap();
    let error = Reply::new(&speech, rows, greedy(Mode::Sequential, 10)).step(&mut speech, &mut cache).unwrap_err();
    assert!(error.to_string().contains(&positions.to_string()), "{error}");
    assert_eq!(cache.length(), 0);
}

#[test]
fn tables_may_be_graphs() {
    // Without the raw tables the embedding graphs of the folder do their work.
    let folder = composed("speech-c", None);
    let onnx = folder.path().join("onnx");
    for name in ["embed_tokens.bin", "embed_tokens.json"] {
        std::fs::remove_file(onnx.join(name)).unwrap();
    }
    std::fs::rename(onnx.join("audio_embedding.bin"), onnx.join("codes.data")).unwrap();
    let moved = eddy_models::onnx::Edit {
        locations: [("audio_embedding.bin".to_owned(), "codes.data".to_owned())].into(),
        ..Default::default()
    };
    for name in ["audio_embedding.onnx", "audio_embedding_q4.onnx"] {
        let graph = std::fs::read(onnx.join(name)).unwrap();
        std::fs::write(onnx.join(name), moved.apply(&graph).unwrap()).unwrap();
    }
    interleaved_reply(&mut speech_at(folder.path(), "fp32"), "speech-c");

    // The 4-bit bundle comes with an 8-bit token table.
    let mut reduced = speech_at(folder.path(), "q4");
    let prompt = spoken_prompt(&reduced, "Respond with interleaved text and audio.");
    let (_, _, reply) = run(&mut reduced, &prompt, greedy(Mode::Interleaved, 10));
    let cosine = cosine(&reply.record().logits, &array("speech-c", "logits_first"));
    assert!(cosine >= 0.98, "cosine {cosine}");
}

#[test]
fn earlier_forms_of_the_depthformer_give_the_same_codes() {
    for form in ["speech-a-old-1", "speech-a-old-2"] {
        let folder = composed("speech-a", Some(form));
        let mut speech = speech_at(folder.path(), "fp32");
        assert!(!speech.depthformer().unwrap().is_cut(), "{form} is run as it stands");
        interleaved_reply(&mut speech, "speech-a");
    }
}

#[test]
fn convolutions_of_layout_a_become_one_operator() {
    // That this changes no number beyond rounding is what every other test of layout A shows.
    let graph = |path: &str| std::fs::read(fixture(path)).unwrap();
    for path in ["speech-a/onnx/decoder.onnx", "speech-a/onnx/decoder_q4.onnx", "text-a/onnx/model.onnx"] {
        let fused = Model::parse(&fuse_convolutions(&graph(path)).unwrap()).unwrap();
        let count = |op| fused.nodes_of(op).count();
        assert_eq!([count("Conv"), count("CausalConvWithState")], [0, 2], "{path}");
    }
    assert!(fuse_convolutions(&graph("text-a/onnx/model_fp16.onnx")).is_none(), "16-bit states stay as they are");
    assert!(fuse_convolutions(&graph("speech-c/onnx/decoder.onnx")).is_none(), "layout C has the operator");
}

#[test]
fn tables_are_taken_out_of_the_current_form_of_the_depthformer() {
    // That this changes no code is what every other test of a reply shows.
    for (folder, precision) in [("speech-a", "fp32"), ("speech-a", "q4"), ("speech-c", "fp32"), ("speech-c", "q4")] {
        assert!(speech(folder, precision).depthformer().unwrap().is_cut(), "{folder} {precision}");
    }
    let faulty = composed("speech-a", Some("speech-a-faulty"));
    assert!(speech_at(faulty.path(), "fp32").depthformer().unwrap().is_cut());
}

#[test]
fn a_cache_that_cannot_grow_in_place_gives_the_same_numbers() {
    let folder = composed("speech-a", Some("speech-a-copied-cache"));
    let mut speech = speech_at(folder.path(), "fp32");
    interleaved_reply(&mut speech, "speech-a");
    chunks_and_rewinding(&mut speech);
}

#[test]
fn no_logits_are_computed_where_none_are_read() {
    for folder in ["speech-a", "speech-c"] {
        for precision in ["fp32", "q4"] {
            let mut speech = speech(folder, precision);
            assert!(speech.backbone().has_separate_head(), "{folder} {precision}");
            let rows = speech.embed(&spoken_prompt(&speech, "Perform ASR.")).unwrap();
            let (mut with, mut without) = (speech.new_cache().unwrap(), speech.new_cache().unwrap());
            let full = speech.backbone().run(&mut with, Input::Embeddings(&rows)).unwrap();
            let bare = speech.backbone().advance(&mut without, Input::Embeddings(&rows)).unwrap();
            assert_eq!((full.logits.len(), bare.logits.len()), (1024, 0));
            assert_eq!(full.hidden, bare.hidden);
        }
    }
}

fn the_sequential_replies_equal_the_reference(folder: &str) {
    let mut speech = speech(folder, "fp32");
    let prompt = spoken_prompt(&speech, "Perform ASR.");
    let (items, said, _) = run(&mut speech, &prompt, greedy(Mode::Sequential, 100));
    assert_items(folder, "transcribe.json", &items, &said, 20);

    let expected = reference(folder, "speak.json");
    let words = expected["spoken_text"].as_str().unwrap();
    let prompt = Prompt::instructed(expected["system"].as_str().unwrap()).words(words).awaiting_reply();
    let (items, said, _) = run(&mut speech, &prompt, greedy(Mode::Sequential, 100));
    assert_items(folder, "speak.json", &items, &said, 20);
}

#[test]
fn layout_a_transcribes_and_speaks_as_the_reference() {
    the_sequential_replies_equal_the_reference("speech-a");
}

#[test]
fn layout_c_transcribes_and_speaks_as_the_reference() {
    the_sequential_replies_equal_the_reference("speech-c");
}

#[test]
fn streamed_samples_equal_the_whole() {
    let mut speech = speech("speech-a", "fp32");
    let mut random = 1_u32;
    let frames: Vec<Vec<u32>> = (0..60)
        .map(|_| {
            (0..8)
                .map(|_| {
                    random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    random % 2048
                })
                .collect()
        })
        .collect();
    let detokenizer = speech.detokenizer().unwrap();
    let mut whole = Vec::new();
    let mut stream = detokenizer.stream();
    detokenizer.push(&mut stream, &frames, &mut whole).unwrap();
    stream.finish(&mut whole);
    assert_eq!(whole.len(), frames.len() * 1920);
    for size in [1, 2, 5, 13] {
        let mut pieces = Vec::new();
        let mut stream = detokenizer.stream();
        for group in frames.chunks(size) {
            detokenizer.push(&mut stream, group, &mut pieces).unwrap();
        }
        stream.finish(&mut pieces);
        assert_close(&format!("groups of {size}"), &pieces, &whole, 1e-6);
    }
}

#[test]
fn chunked_prefill_and_rewinding_change_nothing() {
    for folder in ["speech-a", "speech-c"] {
        chunks_and_rewinding(&mut speech(folder, "fp32"));
    }
}

fn chunks_and_rewinding(speech: &mut Speech) {
    let prompt = spoken_prompt(speech, "Respond with interleaved text and audio.");
    let rows = speech.embed(&prompt).unwrap();
    let hidden = speech.backbone().hidden();
    let mut whole = speech.new_cache().unwrap();
    let at_once = speech.backbone().run(&mut whole, Input::Embeddings(&rows)).unwrap();
    for chunk in [1, 7, 40] {
        let mut cache = speech.new_cache().unwrap();
        let mut last = None;
        for piece in rows.chunks(chunk * hidden) {
            last = Some(speech.backbone().run(&mut cache, Input::Embeddings(piece)).unwrap());
        }
        assert_close(&format!("chunks of {chunk}"), &last.unwrap().logits, &at_once.logits, 1e-5);
    }

    // Back to the end of the prompt after 300 more positions, which also makes the cache grow on the way.
    let backbone = speech.backbone();
    let mark = backbone.snapshot(&whole);
    let probe = &rows[..hidden];
    let before = backbone.run(&mut whole, Input::Embeddings(probe)).unwrap();
    for _ in 0..300 {
        backbone.run(&mut whole, Input::Embeddings(&rows[hidden..2 * hidden])).unwrap();
    }
    backbone.rewind(&mut whole, &mark).unwrap();
    let after = backbone.run(&mut whole, Input::Embeddings(probe)).unwrap();
    assert_eq!(before.logits, after.logits);
    assert_eq!(before.hidden, after.hidden);

    // A fork goes on as the original does, and neither disturbs the other.
    backbone.rewind(&mut whole, &mark).unwrap();
    let mut fork = backbone.fork(&whole, &backbone.snapshot(&whole)).unwrap();
    backbone.run(&mut whole, Input::Embeddings(&rows[5 * hidden..9 * hidden])).unwrap();
    assert_eq!(backbone.run(&mut fork, Input::Embeddings(probe)).unwrap().logits, before.logits);
}

#[test]
fn four_bits_stay_close_to_full_precision() {
    for folder in ["speech-a", "speech-c"] {
        let mut speech = speech(folder, "q4");
        let prompt = spoken_prompt(&speech, "Respond with interleaved text and audio.");
        let (_, _, reply) = run(&mut speech, &prompt, greedy(Mode::Interleaved, 40));
        for (what, ours) in [("logits_first", &reply.record().logits), ("hidden_first", &reply.record().hidden)] {
            let cosine = cosine(ours, &array(folder, what));
            assert!(cosine >= 0.98, "{folder} {what}: cosine {cosine}");
        }
    }
}

/// The model that comes with Eddy, and a prompt in which espeak-ng says `words`.
fn shipped(words: &str) -> (Speech, Prompt) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/embedded");
    let speech = speech_at(&root.join("eddy-small"), "auto");
    let clip = Clip { samples: spoken(words), sample_rate: ROOM, source_channels: 1 }.at_rate(16_000).unwrap();
    let heard = eddy_tests::fixtures::clip(&speech, &clip.samples).features().unwrap();
    (speech, Prompt::instructed("Respond with interleaved text and audio.").sound(heard).awaiting_reply())
}

#[test]
fn a_reply_that_is_wound_up_ends_with_its_sentence_and_the_sound_of_it() {
    let (mut speech, prompt) = shipped("hello");
    let rows = speech.embed(&prompt).unwrap();
    let mut told = |wind_up_at: usize| {
        let mut cache = speech.new_cache().unwrap();
        let mut reply = Reply::new(&speech, rows.clone(), ReplyOptions::new(Mode::Interleaved).greedy());
        let (mut said, mut tokens, mut behind) = (String::new(), 0, 0);
        loop {
            if tokens == wind_up_at {
                reply.wind_up();
            }
            match reply.step(&mut speech, &mut cache).unwrap() {
                Event::Prefilled { .. } => {}
                Event::Text { text, .. } => {
                    said.push_str(&text);
                    (tokens, behind) = (tokens + 1, 0);
                }
                Event::Frame(_) => behind += 1,
                Event::Finished(_) => return (said, tokens, behind, reply.is_shortened()),
            }
        }
    };
    let (said, tokens, _, shortened) = told(usize::MAX);
    assert_eq!((said.as_str(), shortened), ("Hello! How can I help you?", false));
    let (said, fewer, behind, shortened) = told(0);
    assert_eq!((said.as_str(), shortened), ("Hello!", true));
    assert!(fewer < tokens && behind > 3, "{behind} frames: what was said sounds");
    // In its last sentence there is nothing left to shorten.
    let (said, .., shortened) = told(tokens - 3);
    assert_eq!((said.as_str(), shortened), ("Hello! How can I help you?", false));
}

#[test]
fn a_reply_that_is_to_be_written_has_no_sound() {
    let (mut speech, prompt) = shipped("what is the capital of japan");
    let written = ReplyOptions { written: true, ..ReplyOptions::new(Mode::Sequential).greedy() };
    let (items, said, _) = run(&mut speech, &prompt, written);
    assert!(items.iter().all(|item| item.get("text").is_some()), "{items:?}");
    let (_, aloud, _) = run(&mut speech, &prompt, ReplyOptions::new(Mode::Interleaved).greedy());
    assert_eq!(said, aloud);
    assert!(said.contains("Tokyo"), "{said}");
}
