//! `eddy probe --task vision` and `eddy look`, run as a user runs them.

#![allow(clippy::unwrap_used)]

use eddy_tests::compare::assert_close;
use eddy_tests::eddy::{eddy, eddy_error, eddy_json};
use eddy_tests::fixtures::fixture;
use eddy_tests::npy;
use serde_json::{Value, json};

fn path(name: &str) -> String {
    fixture(name).to_str().unwrap().to_owned()
}

fn picture(name: &str) -> String {
    path(&format!("vision-reference/images/{name}"))
}

fn read(name: &str) -> Value {
    serde_json::from_slice(&std::fs::read(fixture(&format!("vision-reference/{name}"))).unwrap()).unwrap()
}

#[test]
fn the_probe_prints_and_dumps_what_the_reference_has() {
    let folder = tempfile::tempdir().unwrap();
    let messages = folder.path().join("messages.json");
    for case in read("greedy.json").as_array().unwrap() {
        let index = case["conversation"].as_u64().unwrap() as usize;
        let conversation = &read("conversations.json")[index];
        std::fs::write(&messages, conversation.to_string()).unwrap();
        let files: Vec<String> =
            conversation["images"].as_array().unwrap().iter().map(|name| picture(name.as_str().unwrap())).collect();
        let out = folder.path().join("numbers");
        let model = path("vision-c");
        let mut arguments = vec!["probe", &model, "--task", "vision", "--precision", "fp32", "--max-items", "64"];
        arguments.extend(["--json", "--messages", messages.to_str().unwrap(), "--dump", out.to_str().unwrap()]);
        arguments.push("--image");
        arguments.extend(files.iter().map(String::as_str));
        let report = eddy_json(&arguments);
        assert_eq!(report["prompt_text"], conversation["text"]);
        assert_eq!(report["prompt_ids"], conversation["ids"]);
        assert_eq!(report["ids"], case["ids"]);
        assert_eq!(report["text"], case["text"]);
        assert_eq!((&report["model"]["family"], &report["model"]["layout"]), (&json!("vision"), &json!("C")));
        assert_eq!(report["model"]["repairs"].as_array().unwrap().len(), 1);

        let features = npy::floats(fixture(&format!("vision-reference/features-{index}.npy")));
        assert_eq!(report["image_tokens"], features.shape[0]);
        let dumped = npy::floats(out.join("image_features.npy"));
        assert_eq!(dumped.shape, features.shape);
        assert_close("image_features", &dumped.data, &features.data, 1e-3);
        let logits = npy::floats(fixture(&format!("vision-reference/logits-{index}.npy")));
        let dumped = npy::floats(out.join("logits.npy"));
        assert_eq!(dumped.shape, [64, logits.shape[1]]);
        assert_close("logits", &dumped.data[..logits.data.len()], &logits.data, 1e-4);
        let pixels = npy::bytes(fixture(&format!("vision-reference/pixels-{index}.npy")));
        assert_eq!(npy::floats(out.join("pixel_values.npy")).shape, pixels.shape);
    }
}

#[test]
fn tiles_follow_the_knobs() {
    let probe = |knobs: &[&str]| {
        let (model, image) = (path("vision-a"), picture("large.png"));
        let fixed = ["probe", &model, "--task", "vision", "--prompt", "What?", "--max-items", "1", "--image", &image];
        let report = eddy_json(&[&fixed, knobs].concat());
        (report["tiles"].clone(), report["image_tokens"].as_u64().unwrap())
    };
    assert_eq!(probe(&[]), (json!([[2, 3]]), 36));
    assert_eq!(probe(&["--no-thumbnail"]), (json!([[2, 3]]), 24));
    assert_eq!(probe(&["--tiles", "2"]), (json!([[1, 2]]), 20));
    assert_eq!(probe(&["--tiles", "1"]), (json!([[1, 1]]), 12));
    assert_eq!(probe(&["--tiles", "1", "--max-image-tokens", "6"]), (json!([[1, 1]]), 3));
}

#[test]
fn a_question_is_answered_in_words_and_in_json() {
    let (model, small, large) = (path("vision-a"), picture("small.png"), picture("large.png"));
    let asked = ["look", &small, &large, "Which is brighter?", "--model", &model, "--greedy", "--max-items", "9"];
    let told = eddy(&asked);
    assert!(told.status.success());
    let told = String::from_utf8(told.stdout).unwrap();
    let report = eddy_json(&[&asked[..], &["--json"]].concat());
    assert_eq!(report["text"].as_str().unwrap(), told.trim_end_matches('\n'));
    assert_eq!((&report["finish_reason"], &report["tokens"]), (&json!("length"), &json!(9)));
    assert_eq!((&report["tiles"], &report["image_tokens"]), (&json!([[1, 1], [2, 3]]), &json!(42)));

    // The probe asks the same with the same ids, so it has to hear the same.
    let probed = ["probe", &model, "--task", "vision", "--max-items", "9", "--prompt", "Which is brighter?"];
    let probed = eddy_json(&[&probed[..], &["--image", &small, "--image", &large]].concat());
    assert_eq!(probed["text"], report["text"]);
}

#[test]
fn what_cannot_be_looked_at_is_named() {
    let (model, small) = (path("vision-a"), picture("small.png"));
    let text = path("vision-a/config.json");
    let error = eddy_error(&["look", &text, "What?", "--model", &model]);
    assert!(error.contains("config.json: it is no PNG, JPEG, WebP or GIF file"), "{error}");
    let error = eddy_error(&["look", "/nonexistent.png", "What?", "--model", &model]);
    assert!(error.contains("/nonexistent.png") && error.contains("No such file"), "{error}");
    let error = eddy_error(&["look", &small, "What?", "--model", &path("text-a")]);
    assert!(error.contains("no vision encoder"), "{error}");
    let large = picture("large.png");
    let mut many = vec!["look"];
    many.extend([large.as_str(); 14]);
    many.extend(["What?", "--model", &model]);
    let error = eddy_error(&many);
    assert!(error.contains("the model has 512"), "{error}");
    // A marker in the question is text, and no place for an image.
    let marker = ["look", &small, "What is <image>?", "--model", &model, "--max-items", "1", "--json"];
    assert_eq!(eddy_json(&marker)["image_tokens"], 6);
    assert_eq!(eddy(&["look", &small, "--model", &model]).status.code(), Some(2));
    assert_eq!(eddy(&["probe", &model, "--task", "vision", "--prompt", "x"]).status.code(), Some(2));
}
