//! `eddy tune` on small models with random weights: what is measured, chosen, drawn and written.

#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::{Command, Output};

use eddy_models::folder::{Layout, Precision};
use eddy_models::synthetic::{BackboneSizes, Synthetic, VisionSizes, write_text, write_vision};
use eddy_store::Catalogue;
use eddy_tests::eddy::built;
use eddy_tests::fixtures::{fixture, runtime_folder};
use serde_json::Value;

fn sizes(hidden: usize, layers: usize) -> BackboneSizes {
    BackboneSizes {
        hidden,
        heads: hidden / 32,
        kv_heads: 2,
        head_dim: 32,
        feed_forward: 2 * hidden,
        attention: (0..layers).map(|layer| layer % 2 == 1).collect(),
        vocabulary: 8192,
        positions: 2048,
        experts: None,
    }
}

fn tune(home: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(built("eddy"));
    command.arg("tune").args(["--installed", "--runs", "1"]).args(arguments);
    command.env("HOME", home).env("XDG_CONFIG_HOME", home.join("config")).env("XDG_CACHE_HOME", home.join("cache"));
    command
        .env("XDG_DATA_HOME", home.join("data"))
        .env("ORT_DYLIB_PATH", runtime_folder().join("libonnxruntime.so.1.32.0"));
    command.output().unwrap()
}

#[test]
fn the_report_holds_what_was_measured_and_the_choice_follows_from_it() {
    let home = tempfile::tempdir().unwrap();
    let models = home.path().join("data/eddy/models");
    write_text(&models.join("small"), &sizes(64, 2), Layout::A, Precision::Q4).unwrap();
    write_text(&models.join("large"), &sizes(256, 8), Layout::A, Precision::Q4).unwrap();
    let report = home.path().join("report");
    let output = tune(
        home.path(),
        &[
            &["--for", "text", "--output", report.to_str().unwrap()][..],
            &["--latency", "60", "--memory", "8GiB", "--json", "--write-config"],
        ]
        .concat(),
    );
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(told, serde_json::from_slice::<Value>(&std::fs::read(report.join("tune.json")).unwrap()).unwrap());
    let measured = told["measured"].as_array().unwrap();
    for name in ["small", "large"] {
        assert!(measured.iter().filter(|one| one["model"] == name).count() >= 1, "{name}");
    }
    for one in measured {
        // From what eddy bench reported of the same run.
        let listed = |list: &str, key: &str| {
            let entries = one["bench"][list].as_array().unwrap();
            entries.iter().find(|entry| entry[key] == 512).unwrap()["tok_s"]["median"].as_f64().unwrap()
        };
        let latency = 512.0 / listed("prefill", "positions") + 1.0 / listed("decode", "context");
        assert!((one["latency_s"].as_f64().unwrap() / latency - 1.0).abs() < 1e-6, "{one}");
        let peak = one["bench"]["memory"]["peak_mib"].as_f64().unwrap();
        assert!((one["memory_bytes"].as_f64().unwrap() / 1_048_576.0 - peak).abs() < 1.0);
        // Nothing is on the frontier that something else beats at both.
        let beaten = measured.iter().any(|other| {
            other["latency_s"].as_f64() < one["latency_s"].as_f64()
                && other["memory_bytes"].as_u64() < one["memory_bytes"].as_u64()
        });
        assert!(!(beaten && one["frontier"] == true), "{one}");
    }
    // The largest model that the budget admits, at the setting that won its pairs.
    let choice = &told["recommended"][0];
    assert_eq!(
        (&choice["model"], &choice["within_budget"], &choice["installed"]),
        (&"large".into(), &true.into(), &true.into())
    );
    let threads = choice["settings"]["runtime.threads"].as_u64().unwrap();
    let config = std::fs::read_to_string(home.path().join("config/eddy/eddy.toml")).unwrap();
    assert!(config.contains(&format!("threads = {threads}")) && config.contains("text = \"large\""), "{config}");

    let svg = std::fs::read_to_string(report.join("tune.svg")).unwrap();
    assert_eq!(svg.matches("<circle").count(), measured.len());
    let points = svg.split("class=\"frontier\" points=\"").nth(1).unwrap().split('"').next().unwrap();
    assert_eq!(points.split_whitespace().count(), measured.iter().filter(|one| one["frontier"] == true).count());
    assert!(svg.contains("<title>large q4, ") && svg.ends_with("</svg>\n"));

    let output = tune(home.path(), &["--latency", "0.000001", "--only", "small"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && text.contains("nothing is within"), "{text}");
    for (arguments, expected) in
        [(["--only", "none"], "nothing of this name"), (["--memory", "lots"], "a size such as")]
    {
        let output = tune(home.path(), &arguments);
        let errors = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(1) && errors.contains(expected), "{errors}");
    }
}

#[test]
fn models_that_see_and_that_find_are_measured_by_what_they_are_waited_for() {
    let home = tempfile::tempdir().unwrap();
    let models = home.path().join("data/eddy/models");
    let vision = VisionSizes { width: 64, heads: 2, layers: 1, feed_forward: 64, side: 16, projector: 64 };
    write_vision(&models.join("seeing"), &BackboneSizes { vocabulary: 65_536, ..sizes(64, 2) }, &vision).unwrap();
    std::os::unix::fs::symlink(fixture("colbert-causal"), models.join("finding")).unwrap();
    let output = tune(
        home.path(),
        &["--for", "vision", "retrieval", "--latency", "60", "--memory", "8GiB", "--json", "--write-config"],
    );
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(told["not_measured"], serde_json::json!([]));
    for one in told["measured"].as_array().unwrap() {
        let seconds = one["latency_s"].as_f64().unwrap();
        let bench = &one["bench"];
        match one["task"].as_str().unwrap() {
            "vision" => {
                assert_eq!(bench["first_token"][0]["image"], "512 by 512");
                assert_eq!(bench["first_token"][0]["s"]["median"].as_f64().unwrap(), seconds);
                assert!(one["token_s"].as_f64().unwrap() > 0.0 && one["passage_s"].is_null());
            }
            "retrieval" => {
                let rate = bench["encode"][0]["texts_s"]["median"].as_f64().unwrap();
                assert!((seconds * rate - 1.0).abs() < 1e-6, "{one}");
                assert!(one["passage_s"].as_f64().unwrap() > seconds && one["token_s"].is_null());
            }
            other => panic!("{other} was not asked for"),
        }
    }
    let config = std::fs::read_to_string(home.path().join("config/eddy/eddy.toml")).unwrap();
    assert!(config.contains("vision = \"seeing\"") && config.contains("retrieval = \"finding\""), "{config}");
}

#[test]
fn the_catalogues_shapes_can_be_drawn() {
    let catalogue = Catalogue::load(Path::new("/nonexistent")).unwrap();
    let shapes: Vec<_> = catalogue.entries().iter().filter_map(|entry| entry.shapes.as_ref()).collect();
    assert!(shapes.len() >= 8, "{shapes:?}");
    for shape in shapes {
        let model: Synthetic = shape.name.parse().unwrap();
        for precision in shape.precisions.keys() {
            assert!(model.precisions().iter().any(|known| known.name() == precision), "{precision} of {}", shape.name);
        }
    }
}
