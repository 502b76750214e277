//! Vision-language models against transformers: the image processor, the encoder, the answers.

#![allow(clippy::unwrap_used)]

use std::path::Path;

use eddy_models::chat::{ChatTemplate, Conversation};
use eddy_models::text::{self, Finish, GenerationOptions};
use eddy_models::vision::{
    Event, Filter, Image, Knobs, Limits, Patches, Picture, Settings, VisionModel, VisionPrompt, VisionSession, prepare,
};
use eddy_models::{Error, Stop};
use eddy_tests::compare::{assert_close, cosine};
use eddy_tests::fixtures::{composed, fixture, runtime};
use eddy_tests::npy;
use serde_json::{Value, json};

fn reference(name: &str) -> std::path::PathBuf {
    fixture(&format!("vision-reference/{name}"))
}

fn read(name: &str) -> Vec<Value> {
    serde_json::from_slice(&std::fs::read(reference(name)).unwrap()).unwrap()
}

fn count(value: &Value) -> usize {
    value.as_u64().unwrap() as usize
}

fn ids(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
}

/// The picture that `tests/reference/vision/images.py` computes by the same formula.
fn pattern(width: usize, height: usize) -> Picture {
    let mut rgb = Vec::with_capacity(width * height * 3);
    for y in 0..height {
        for x in 0..width {
            rgb.extend([(x * 7 + y * 13) as u8, ((x / 3) ^ ((y / 5) & 255)) as u8, (x * y / 16) as u8]);
        }
    }
    Picture::from_rgb(width, height, rgb).unwrap()
}

fn file(name: &str) -> Picture {
    Picture::open(&reference(&format!("images/{name}")), &Limits::default()).unwrap_or_else(|error| panic!("{error}"))
}

fn model_at(folder: &Path, precision: &str) -> VisionModel {
    let runtime = runtime();
    let stop = Stop::new(&runtime).unwrap();
    VisionModel::load(&runtime, folder, precision.parse().unwrap(), &stop).unwrap_or_else(|error| panic!("{error}"))
}

fn model(folder: &str, precision: &str) -> VisionModel {
    model_at(&fixture(folder), precision)
}

fn entries(image: &Image) -> impl Iterator<Item = Patches> {
    (0..).map_while(|index| image.entries().patches(index))
}

/// The byte that the number at `place` of some patches was made of.
fn level(settings: &Settings, place: usize, value: f32) -> u8 {
    let level = value * settings.deviation[place % 3] + settings.mean[place % 3];
    assert!((level - level.round()).abs() < 1e-2, "{value} is no byte");
    level.round() as u8
}

/// All patches of an image as the bytes that they were made of.
fn levels(settings: &Settings, image: &Image) -> Vec<u8> {
    let values = entries(image).flat_map(|patches| patches.values);
    values.enumerate().map(|(place, value)| level(settings, place, value)).collect()
}

/// The published settings with what a case changes.
fn published(changed: &Value) -> (Settings, Knobs) {
    let filter = if changed["resample"] == 3 { Filter::Bicubic } else { Filter::Bilinear };
    let knob = |key: &str| changed.get(key).map(count);
    let knobs = Knobs {
        max_image_tokens: knob("max_image_tokens"),
        tiles: knob("max_tiles"),
        thumbnail: changed.get("use_thumbnail").and_then(Value::as_bool),
    };
    (Settings { filter, ..Settings::default() }, knobs)
}

/// Grid, tokens, markers and pixels of the `part`-th third of the cases, so that tests can share the cores.
fn check_sizes(part: usize) {
    let cases = read("sizes.json");
    assert!(cases.len() >= 60);
    let sampled = npy::bytes(reference("sizes.npy"));
    // A folder that says nothing of its processor is one with the published settings.
    let folder = composed("vision-a", None);
    std::fs::remove_file(folder.path().join("preprocessor_config.json")).unwrap();
    let model = model_at(folder.path(), "fp32");
    let tokenizer = model.text().tokenizer();
    let samples = sampled.data.chunks_exact(sampled.shape[1]);
    for (index, (case, samples)) in cases.iter().zip(samples).enumerate().filter(|(index, _)| index % 3 == part) {
        let (settings, knobs) = published(&case["settings"]);
        let (width, height) = (count(&case["width"]), count(&case["height"]));
        let what = format!("case {index}: {width} by {height}, {}", case["settings"]);
        let image =
            prepare(&settings, &pattern(width, height), &knobs).unwrap_or_else(|error| panic!("{what}: {error}"));

        let patches: Vec<[usize; 2]> =
            image.tiling().entries().map(|size| [size.height / settings.patch, size.width / settings.patch]).collect();
        assert_eq!(json!(patches), case["patches"], "{what}");
        let place = [tokenizer.id("<image>").unwrap()];
        let prompt = model.prompt(&place, vec![image.clone()]).unwrap();
        let wanted: Vec<u32> = case["tokens"]
            .as_array()
            .unwrap()
            .iter()
            .flat_map(|run| {
                let id = tokenizer.id(run[0].as_str().unwrap()).unwrap();
                std::iter::repeat_n(id, count(&run[1]))
            })
            .collect();
        assert!(prompt.ids() == wanted, "{what}: other markers or counts");

        let all: Vec<Patches> = entries(&image).collect();
        let total: usize = all.iter().map(|patches| patches.values.len()).sum();
        let step = count(&case["step"]);
        let sampled = (0..samples.len()).map(|at| {
            let mut place = at * step % total;
            let found = all.iter().find_map(|patches| match patches.values.get(place) {
                Some(value) => Some(level(&settings, place, *value)),
                None => {
                    place -= patches.values.len();
                    None
                }
            });
            found.unwrap()
        });
        let ours: Vec<u8> = sampled.collect();
        assert_levels(&what, &ours, samples);
    }
}

/// Bytes that have to be the very same.
fn assert_levels(what: &str, ours: &[u8], theirs: &[u8]) {
    assert_eq!(ours.len(), theirs.len(), "{what}");
    let (most, mean) = away(ours, theirs);
    assert!(most == 0, "{what}: {mean} levels away on average, at most {most}");
}

/// How far bytes are from others: at most, and on average.
fn away(ours: &[u8], theirs: &[u8]) -> (u8, f64) {
    let each = || ours.iter().zip(theirs).map(|(a, b)| a.abs_diff(*b));
    (each().max().unwrap(), each().map(f64::from).sum::<f64>() / ours.len() as f64)
}

#[test]
fn sizes_equal_the_reference_processor_one() {
    check_sizes(0);
}

#[test]
fn sizes_equal_the_reference_processor_two() {
    check_sizes(1);
}

#[test]
fn sizes_equal_the_reference_processor_three() {
    check_sizes(2);
}

#[test]
fn files_are_read_as_the_reference_reads_them() {
    let pixels = npy::bytes(reference("files.npy")).data;
    let mut pixels = pixels.as_slice();
    for case in read("files.json") {
        let name = case["file"].as_str().unwrap();
        let picture = file(name);
        assert_eq!((picture.width(), picture.height()), (count(&case["width"]), count(&case["height"])), "{name}");
        let wanted = pixels.split_off(..picture.rgb().len()).unwrap();
        let (most, mean) = away(picture.rgb(), wanted);
        assert_eq!(most, 0, "{name}: {mean} levels away on average, at most {most}");
    }
    assert!(pixels.is_empty());
    assert_eq!(file("deep.png"), file("grey.png"), "16 bits");
    for (name, width, height) in [("large.png", 230, 150), ("small.png", 90, 70), ("thin.png", 180, 24)] {
        assert_eq!(file(name), pattern(width, height), "{name}");
    }
}

/// A conversation of the reference with its images.
fn conversation(model: &mut VisionModel, index: usize) -> (String, VisionPrompt) {
    let case = &read("conversations.json")[index];
    let template = ChatTemplate::load(&fixture("vision-a")).unwrap();
    let then = jiff::civil::date(2026, 3, 7).at(8, 5, 9, 0).to_zoned(jiff::tz::TimeZone::UTC).unwrap();
    let text = template.render(&Conversation::read(&case.to_string()).unwrap(), &then).unwrap();
    let names = case["images"].as_array().unwrap().iter().map(|name| name.as_str().unwrap());
    let images = names.map(|name| model.image(&file(name), &Knobs::default()).unwrap()).collect();
    let ids = model.text().tokenizer().encode(&text).unwrap();
    (text, model.prompt(&ids, images).unwrap())
}

#[test]
fn conversations_with_images_equal_apply_chat_template() {
    let mut model = model("vision-a", "fp32");
    for (index, case) in read("conversations.json").iter().enumerate() {
        let (text, prompt) = conversation(&mut model, index);
        assert_eq!(text, case["text"].as_str().unwrap(), "{index}");
        assert_eq!(prompt.ids(), ids(&case["ids"]), "{index}");
    }
}

struct Answer {
    ids: Vec<u32>,
    text: String,
    why: Finish,
    logits: Vec<f32>,
    looked: usize,
}

fn answer(model: &mut VisionModel, session: &mut VisionSession, prompt: &VisionPrompt, max_tokens: usize) -> Answer {
    let options = GenerationOptions { max_tokens, record: true, ..GenerationOptions::default() };
    let mut generation = session.begin(model, prompt, options).unwrap_or_else(|error| panic!("{error}"));
    let mut answer = Answer { ids: Vec::new(), text: String::new(), why: Finish::Stop, logits: Vec::new(), looked: 0 };
    loop {
        match session.step(model, &mut generation, |_| true).unwrap_or_else(|error| panic!("{error}")) {
            Event::Looked { .. } => answer.looked += 1,
            Event::Text(text::Event::Prefilled { .. }) => {}
            Event::Text(text::Event::Token { id, text }) => {
                answer.ids.push(id);
                answer.text.push_str(&text);
            }
            Event::Text(text::Event::Finished(why)) => {
                answer.why = why;
                break;
            }
        }
    }
    answer.text.push_str(&generation.finish_text(model).unwrap());
    answer.logits = generation.recorded().to_vec();
    answer
}

fn features(model: &mut VisionModel, prompt: &VisionPrompt) -> Vec<f32> {
    let mut rows = Vec::new();
    for image in prompt.images() {
        for entry in 0..image.tiling().entries().count() {
            model.look(image, entry, &mut rows).unwrap();
        }
    }
    rows
}

fn assert_reference(model: &mut VisionModel, what: &str) {
    let settings = model.settings().clone();
    for case in read("greedy.json") {
        let index = count(&case["conversation"]);
        let what = format!("{what}, conversation {index}");
        let (_, prompt) = conversation(model, index);
        let pixels: Vec<u8> = prompt.images().iter().flat_map(|image| levels(&settings, image)).collect();
        assert_levels(&what, &pixels, &npy::bytes(reference(&format!("pixels-{index}.npy"))).data);
        let wanted = npy::floats(reference(&format!("features-{index}.npy")));
        assert_eq!(prompt.image_tokens(), wanted.shape[0], "{what}");
        assert_close(&format!("{what}: features"), &features(model, &prompt), &wanted.data, 1e-3);

        let mut session = VisionSession::new(model).unwrap();
        let answer = answer(model, &mut session, &prompt, 64);
        assert_eq!(answer.ids, ids(&case["ids"]), "{what}");
        assert_eq!(answer.text, case["text"].as_str().unwrap(), "{what}");
        assert_eq!(answer.why, Finish::Length, "{what}");
        let logits = npy::floats(reference(&format!("logits-{index}.npy"))).data;
        assert_close(&format!("{what}: logits"), &answer.logits[..logits.len()], &logits, 1e-4);
    }
}

#[test]
fn full_precision_equals_transformers() {
    for (folder, layout) in [("vision-a", "A"), ("vision-c", "C")] {
        let mut model = model(folder, "fp32");
        assert_eq!((model.identity().family.name(), model.identity().layout.name()), ("vision", layout));
        assert_reference(&mut model, folder);
    }
}

#[test]
fn encoders_that_take_planes_get_them() {
    let folder = composed("vision-a", Some("vision-a-conv2d"));
    assert_reference(&mut model_at(folder.path(), "fp32"), "vision-a-conv2d");
}

#[test]
fn the_names_of_layout_b_are_known() {
    let folder = composed("vision-a", None);
    for (from, to) in [("embed_images", "vision_encoder"), ("decoder", "decoder_model_merged")] {
        let graph = |stem: &str| folder.path().join(format!("onnx/{stem}.onnx"));
        std::fs::rename(graph(from), graph(to)).unwrap();
    }
    for stem in ["embed_images_fp16", "embed_images_q4", "decoder_fp16", "decoder_q4"] {
        std::fs::remove_file(folder.path().join(format!("onnx/{stem}.onnx"))).unwrap();
    }
    let mut model = model_at(folder.path(), "fp32");
    assert_eq!(model.identity().layout.name(), "B");
    assert_reference(&mut model, "layout B");
}

#[test]
fn other_precisions_stay_close() {
    for (folder, precision) in [("vision-a", "fp16"), ("vision-a", "q4"), ("vision-c", "q4"), ("vision-c", "auto")] {
        let mut model = model(folder, precision);
        for case in read("greedy.json") {
            let index = count(&case["conversation"]);
            let (_, prompt) = conversation(&mut model, index);
            let wanted = npy::floats(reference(&format!("features-{index}.npy"))).data;
            let close = cosine(&features(&mut model, &prompt), &wanted);
            assert!(close >= 0.98, "{folder} {precision}: features {close}");
            let mut session = VisionSession::new(&model).unwrap();
            let answer = answer(&mut model, &mut session, &prompt, 1);
            let wanted = npy::floats(reference(&format!("logits-{index}.npy"))).data;
            let close = cosine(&answer.logits, &wanted[..answer.logits.len()]);
            assert!(close >= 0.98, "{folder} {precision}: logits {close}");
        }
    }
}

#[test]
fn images_that_a_conversation_holds_are_not_looked_at_again() {
    for folder in ["vision-a", "vision-c"] {
        let mut model = model(folder, "fp32");
        let (_, first) = conversation(&mut model, 0);
        let mut session = VisionSession::new(&model).unwrap();
        let said = answer(&mut model, &mut session, &first, 5);
        assert_eq!((said.looked, session.reused()), (first.images()[0].tiling().entries().count(), 0), "{folder}");

        // The next turn brings another image.
        let (_, second) = conversation(&mut model, 5);
        let continued = answer(&mut model, &mut session, &second, 8);
        assert_eq!((continued.looked, session.reused()), (1, first.ids().len()), "{folder}");
        let mut fresh = VisionSession::new(&model).unwrap();
        let afresh = answer(&mut model, &mut fresh, &second, 8);
        assert_eq!(afresh.looked, 1 + said.looked, "{folder}");
        assert_eq!(continued.ids, afresh.ids, "{folder}");
        assert_close(folder, &continued.logits, &afresh.logits, 1e-4);

        // The same ids with another image in their places.
        let turned = Picture::from_rgb(230, 150, pattern(230, 150).rgb().iter().rev().copied().collect()).unwrap();
        let other = model.image(&turned, &Knobs::default()).unwrap();
        let unexpanded: Vec<u32> = read("conversations.json")[0]["text"]
            .as_str()
            .map(|text| model.text().tokenizer().encode(text).unwrap())
            .unwrap();
        let other = model.prompt(&unexpanded, vec![other]).unwrap();
        assert_eq!(other.ids(), first.ids());
        let elsewhere = answer(&mut model, &mut session, &other, 8);
        assert!(session.reused() < first.ids().len() / 2, "{folder}: another image was taken for the one before");
        let mut fresh = VisionSession::new(&model).unwrap();
        assert_eq!(elsewhere.ids, answer(&mut model, &mut fresh, &other, 8).ids, "{folder}");
    }
}

#[test]
fn a_step_that_was_stopped_can_be_repeated() {
    let runtime = runtime();
    let stop = Stop::new(&runtime).unwrap();
    let wanted = "fp32".parse().unwrap();
    let mut model = VisionModel::load(&runtime, &fixture("vision-a"), wanted, &stop).unwrap();
    let (_, prompt) = conversation(&mut model, 0);
    let mut session = VisionSession::new(&model).unwrap();
    let options = GenerationOptions { max_tokens: 64, chunk: 20, ..GenerationOptions::default() };
    let mut generation = session.begin(&mut model, &prompt, options).unwrap();
    let (mut said, mut looked) = (Vec::new(), 0);
    loop {
        // Every step is refused once before it is done.
        stop.set();
        let refused = session.step(&mut model, &mut generation, |_| true);
        stop.clear();
        let event = match refused {
            Err(Error::Stopped) => session.step(&mut model, &mut generation, |_| true).unwrap(),
            done => done.unwrap(),
        };
        match event {
            Event::Looked { done, total } => {
                looked += 1;
                assert_eq!((done, total), (looked, 7));
            }
            Event::Text(text::Event::Prefilled { .. }) => {}
            Event::Text(text::Event::Token { id, .. }) => said.push(id),
            Event::Text(text::Event::Finished(_)) => break,
        }
    }
    assert_eq!(said, ids(&read("greedy.json")[0]["ids"]));
    assert_eq!(looked, 7);
}

#[test]
fn a_prompt_that_was_left_within_an_image_is_gone_on_with() {
    let mut model = model("vision-c", "fp32");
    let (_, prompt) = conversation(&mut model, 2);
    let options = GenerationOptions { max_tokens: 64, chunk: 10, ..GenerationOptions::default() };
    for chunks in 1..4 {
        let mut session = VisionSession::new(&model).unwrap();
        let mut generation = session.begin(&mut model, &prompt, options.clone()).unwrap();
        let mut prefilled = 0;
        while prefilled < chunks {
            let event = session.step(&mut model, &mut generation, |_| true).unwrap();
            prefilled += usize::from(matches!(event, Event::Text(_)));
        }
        let answer = answer(&mut model, &mut session, &prompt, 64);
        assert_eq!(session.reused(), chunks * 10, "after {chunks} chunks");
        assert_eq!(answer.ids, ids(&read("greedy.json")[1]["ids"]), "after {chunks} chunks");
    }
}

#[test]
fn what_does_not_fit_is_refused_before_work() {
    let mut model = model("vision-a", "fp32");
    let image = model.image(&file("large.png"), &Knobs::default()).unwrap();
    let place = model.text().tokenizer().id("<image>").unwrap();
    let none = model.prompt(&[place, place], vec![image.clone()]).unwrap_err();
    assert!(none.to_string().contains("1 images are given and the conversation has places for 2"), "{none}");
    let many = model.prompt(&[place; 14], vec![image.clone(); 14]).unwrap();
    let mut session = VisionSession::new(&model).unwrap();
    let full = session.begin(&mut model, &many, GenerationOptions::default()).unwrap_err();
    assert!(matches!(full, Error::ContextFull { limit: 512, .. }), "{full}");

    // Ten tiles, from settings that are not this model's six.
    let foreign = prepare(&Settings::default(), &pattern(5120, 512), &Knobs::default()).unwrap();
    let foreign = model.prompt(&[place], vec![foreign]).unwrap_err();
    assert!(foreign.to_string().contains("1 by 10 tiles was cut for another model"), "{foreign}");
    for knobs in [
        Knobs { max_image_tokens: Some(0), ..Knobs::default() },
        Knobs { max_image_tokens: Some(usize::MAX), ..Knobs::default() },
        Knobs { tiles: Some(0), ..Knobs::default() },
        Knobs { tiles: Some(7), ..Knobs::default() },
    ] {
        let refused = model.image(&file("large.png"), &knobs).unwrap_err();
        assert!(matches!(refused, Error::BadRequest(_)), "{refused}");
    }
    let folder = fixture("text-a");
    let runtime = runtime();
    let stop = Stop::new(&runtime).unwrap();
    let blind = VisionModel::load(&runtime, &folder, "fp32".parse().unwrap(), &stop).unwrap_err();
    assert!(blind.to_string().contains("no vision encoder"), "{blind}");
}

/// A PNG that says it is this large and holds nothing.
fn png_head(width: u32, height: u32) -> Vec<u8> {
    let mut header = b"IHDR".to_vec();
    header.extend([width.to_be_bytes(), height.to_be_bytes()].concat());
    header.extend([8, 2, 0, 0, 0]);
    let checksum = !header.iter().fold(!0_u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 })
    });
    [b"\x89PNG\r\n\x1a\n\0\0\0\x0d".as_slice(), &header, &checksum.to_be_bytes(), b"\0\0\0\x10IDAT"].concat()
}

#[test]
fn hostile_images_are_named_errors() {
    let limits = Limits::default();
    let refused = |bytes: &[u8], expected: &str| {
        let error = Picture::decode(bytes, &limits).unwrap_err();
        assert!(matches!(error, Error::Unseeable { .. }), "{error}");
        let error = error.to_string();
        assert!(error.contains(expected) && error.lines().count() == 1, "{error}, not {expected}");
    };
    refused(b"", "no PNG, JPEG, WebP or GIF");
    refused(b"BM a bitmap", "no PNG, JPEG, WebP or GIF");
    refused(b"<svg xmlns='http://www.w3.org/2000/svg'/>", "no PNG, JPEG, WebP or GIF");
    refused(b"\x89PNG\r\n\x1a\n", "damaged");
    refused(&png_head(100_000, 100_000), "100000 by 100000 pixels are more than");
    refused(&png_head(u32::MAX >> 1, 1 << 30), "");
    refused(&png_head(0, 10), "");
    refused(&png_head(10, 10), "damaged");
    // A GIF and a JPEG whose heads claim 65535 by 65535 pixels.
    refused(
        b"GIF89a\xff\xff\xff\xff\x80\0\0\0\0\0\xff\xff\xff,\0\0\0\0\xff\xff\xff\xff\0\x02\x02\x44\x01\0;",
        "65535 by 65535",
    );
    let mut jpeg = std::fs::read(reference("images/photo.jpg")).unwrap();
    let frame = jpeg.windows(2).position(|pair| pair == [0xff, 0xc0]).unwrap();
    jpeg[frame + 5..frame + 9].fill(0xff);
    refused(&jpeg, "65535 by 65535");

    let small = Limits { bytes: 1000, pixels: 2000 };
    let large = std::fs::read(reference("images/clear.png")).unwrap();
    assert!(Picture::decode(&large, &small).unwrap_err().to_string().contains("more than 1000 bytes"));
    let wide = std::fs::read(reference("images/grey.png")).unwrap();
    assert!(Picture::decode(&wide, &small).unwrap_err().to_string().contains("50 by 50 pixels"));

    for entry in std::fs::read_dir(reference("images")).unwrap() {
        let path = entry.unwrap().path();
        let whole = std::fs::read(&path).unwrap();
        assert!(Picture::decode(&whole, &limits).is_ok());
        let moving = path.file_stem().is_some_and(|stem| stem == "moving");
        // The first of two frames is complete with half of such a file.
        let most = if moving { whole.len() / 3 } else { whole.len() * 9 / 10 };
        for cut in [8, 20, most / 3, most / 2, most] {
            match Picture::decode(&whole[..cut], &limits) {
                Err(error) => assert!(matches!(error, Error::Unseeable { .. }), "{error}"),
                Ok(_) => panic!("{} cut off at {cut} of {} passes for an image", path.display(), whole.len()),
            }
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe");
    std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
    let error = Picture::open(&pipe, &limits).unwrap_err().to_string();
    assert!(error.contains("no plain file") && error.contains("pipe"), "{error}");
    let missing = Picture::open(&folder.path().join("none.png"), &limits).unwrap_err();
    assert!(matches!(missing, Error::Io { .. }), "{missing}");
}
