//! Vision-language models against transformers: the image processor, the encoder, the answers.

#![allow(clippy::unwrap_used)]

use std::path::Path;

use eddy_models::Stop;
use eddy_models::chat::{ChatTemplate, Conversation};
use eddy_models::text::{self, Finish, GenerationOptions};
use eddy_models::vision::{
    Event, Filter, Image, Knobs, Limits, Picture, Settings, VisionModel, VisionPrompt, VisionSession, prepare,
};
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
    let pixels = (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
    let rgb =
        pixels.flat_map(|(x, y)| [x * 7 + y * 13, (x / 3) ^ ((y / 5) & 255), x * y / 16].map(|value| value as u8));
    Picture::from_rgb(width, height, rgb.collect()).unwrap()
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

/// All patches of an image as the bytes that they were made of.
fn levels(settings: &Settings, image: &Image) -> Vec<Vec<u8>> {
    let entries = (0..).map_while(|index| image.entries().patches(index));
    let byte = |(index, value): (usize, &f32)| {
        let level = value * settings.deviation[index % 3] + settings.mean[index % 3];
        assert!((level - level.round()).abs() < 1e-2, "{value} is no byte");
        level.round() as u8
    };
    entries.map(|patches| patches.values.iter().enumerate().map(byte).collect()).collect()
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

        let levels = levels(&settings, &image);
        let mean = |entry: &Vec<u8>| entry.iter().map(|level| f64::from(*level)).sum::<f64>() / entry.len() as f64;
        for (entry, wanted) in levels.iter().zip(case["means"].as_array().unwrap()) {
            assert!(
                (mean(entry) - wanted.as_f64().unwrap()).abs() < 0.05,
                "{what}: mean {}, not {wanted}",
                mean(entry)
            );
        }
        let flat = levels.concat();
        let ours: Vec<u8> = (0..samples.len()).map(|at| flat[at * count(&case["step"]) % flat.len()]).collect();
        assert_levels(&what, &ours, samples);
    }
}

/// Within a tenth of a grey level on average, and nowhere more than one.
fn assert_levels(what: &str, ours: &[u8], theirs: &[u8]) {
    assert_eq!(ours.len(), theirs.len(), "{what}");
    let away: Vec<u32> = ours.iter().zip(theirs).map(|(a, b)| u32::from(a.abs_diff(*b))).collect();
    let (most, mean) = (away.iter().max().unwrap(), away.iter().sum::<u32>() as f64 / away.len() as f64);
    assert!(mean <= 0.1 && *most <= 1, "{what}: {mean} levels away on average, at most {most}");
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
        let away: Vec<u32> = picture.rgb().iter().zip(wanted).map(|(a, b)| u32::from(a.abs_diff(*b))).collect();
        let (most, mean) = (away.iter().max().unwrap(), away.iter().sum::<u32>() as f64 / away.len() as f64);
        println!("{name}: {mean} on average, at most {most}");
    }
    assert!(pixels.is_empty());
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
        let pixels: Vec<u8> = prompt.images().iter().flat_map(|image| levels(&settings, image).concat()).collect();
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
