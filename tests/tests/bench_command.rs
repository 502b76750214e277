//! `eddy bench` from outside: what it reports, and what it refuses.

#![allow(clippy::unwrap_used)]

use eddy_tests::eddy::{eddy_error, eddy_json};
use eddy_tests::fixtures::fixture;
use serde_json::Value;

fn bench(folder: &str, precision: &str, options: &[&str]) -> Value {
    let folder = fixture(folder);
    let all = ["bench", "--model", folder.to_str().unwrap(), "--precision", precision, "--runs", "2", "--json"];
    eddy_json(&[&all[..], options].concat())
}

/// Every figure has a median within its range.
fn checked(list: &Value, unit: &str, count: usize) {
    let list = list.as_array().unwrap_or_else(|| panic!("no list: {list}"));
    assert_eq!(list.len(), count, "{list:?}");
    for entry in list {
        let number = |key: &str| entry[unit][key].as_f64().unwrap_or_else(|| panic!("no {key} of {unit} in {entry}"));
        assert!(number("low") > 0.0 && number("low") <= number("median"), "{entry}");
        assert!(number("median") <= number("high") && number("runs") >= 2.0, "{entry}");
    }
}

#[test]
fn a_backbone_is_measured_against_the_machine() {
    let report = bench("text-a", "q4", &["--only", "prefill", "decode", "--amount", "16", "--amount", "40"]);
    checked(&report["prefill"], "tok_s", 2);
    checked(&report["decode"], "tok_s", 2);
    assert!(report["prefill"][0]["share_of_ceiling"].as_f64().unwrap() > 0.0);
    for key in ["read_gb_per_s", "fp32_gflop_per_s"] {
        assert!(report["ceilings"][key]["median"].as_f64().unwrap() > 0.0, "{key}");
    }
    assert_eq!(report["model"]["layout"], "A");
    for key in ["processor", "cores", "threads"] {
        assert!(!report["machine"][key].is_null(), "{key}");
    }
    assert!(report["memory"]["peak_mib"].as_f64().unwrap() > 1.0);
    assert!(report["command"].as_str().unwrap().starts_with("bench --model"));
}

#[test]
fn the_parts_of_a_frame_are_measured() {
    let report = bench("speech-a", "q4", &["--only", "frame"]);
    checked(&report["frame"], "ms", 7);
    assert_eq!(report["rounded"], serde_json::json!([]), "nothing of this size is worth rounding");
}

#[test]
fn vectors_are_measured() {
    checked(&bench("colbert-causal", "fp32", &[])["encode"], "texts_s", 2);
}

#[test]
fn what_cannot_be_measured_is_said() {
    let nowhere = eddy_error(&["bench", "--model", "/nonexistent"]);
    assert!(nowhere.contains("/nonexistent"), "{nowhere}");
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().to_str().unwrap();
    let precision = eddy_error(&["bench", "--make", "speech-1.5b-a", "--precision", "fp16", "--to", folder]);
    assert!(precision.contains("q4"), "{precision}");
}
