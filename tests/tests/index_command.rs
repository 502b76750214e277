//! `eddy index` as a user meets it.

#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::Output;

use eddy_tests::eddy::command;
use eddy_tests::fixtures::fixture;
use serde_json::Value;

struct Home(tempfile::TempDir);

impl Home {
    fn run(&self, arguments: &[&str]) -> Output {
        command(&["index"]).args(arguments).env("XDG_STATE_HOME", self.0.path().join("data")).output().unwrap()
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    fn error(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), errors.lines().count()), (Some(1), 1), "{arguments:?}: {errors}");
        errors
    }

    fn notes(&self) -> std::path::PathBuf {
        self.0.path().join("notes")
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.notes().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn what_is_gone_is_forgotten_and_pipes_are_passed_over() {
    let home = Home(tempfile::tempdir().unwrap());
    home.write("one.md", "The kettle stands in the kitchen.\n");
    home.write("two.md", "The tide turns at noon.\n");
    let made = std::process::Command::new("mkfifo").arg(home.notes().join("pipe.md")).status().unwrap();
    assert!(made.success());
    let model = fixture("colbert-causal");
    assert!(home.run(&["create", "notes", "--model", text(&model)]).status.success());
    let added = home.run(&["add", "notes", text(&home.notes()), "--json"]);
    assert!(String::from_utf8_lossy(&added.stderr).contains("pipe.md: passed over: not a file"), "{added:?}");
    let report: Value = serde_json::from_slice(&added.stdout).unwrap();
    assert_eq!((&report["added"], &report["documents"]), (&2.into(), &2.into()), "{report}");
    std::fs::remove_file(home.notes().join("two.md")).unwrap();
    let again = home.json(&["add", "notes", text(&home.notes()), "--json"]);
    assert_eq!((&again["removed"], &again["kept"]), (&1.into(), &1.into()), "{again}");
    assert_eq!(home.json(&["list", "notes", "--json"]).as_object().unwrap().len(), 1);

    // A file that is text no more says nothing more either.
    std::fs::write(home.notes().join("one.md"), [0xff, 0xfe]).unwrap();
    let report = home.json(&["add", "notes", text(&home.notes()), "--json"]);
    assert_eq!((&report["removed"], &report["documents"]), (&1.into(), &0.into()), "{report}");
    assert!(home.json(&["list", "notes", "--json"]).as_object().unwrap().is_empty());
}

/// The model reads 64 tokens of a document.
#[test]
fn a_long_paragraph_is_found_by_its_last_words_and_by_a_model_that_has_moved() {
    let home = Home(tempfile::tempdir().unwrap());
    let filler = "The lamp is in the hall and the ladder is in the shed. ".repeat(14);
    home.write("long.md", &format!("{filler}Nothing but the kettle whistles at midnight.\n"));
    let model = home.0.path().join("models");
    let copied = std::process::Command::new("cp").arg("-r").arg(fixture("colbert-causal")).arg(&model).status();
    assert!(copied.unwrap().success());
    assert!(home.run(&["create", "notes", "--model", text(&model)]).status.success());
    let report = home.json(&["add", "notes", text(&home.notes()), "--json"]);
    assert!(report["added"].as_u64().unwrap() > 3, "{report}");

    let moved = home.0.path().join("elsewhere");
    std::fs::rename(&model, &moved).unwrap();
    let query = ["search", "notes", "Nothing but the kettle whistles at midnight.", "--json"];
    assert!(home.error(&query).contains("models"));
    let found = home.json(&[&query[..], &["--model", text(&moved)]].concat());
    let best = found["hits"][0]["text"].as_str().unwrap();
    assert!(best.ends_with("the kettle whistles at midnight."), "{best}");
    assert!(home.json(&["list", "--model", text(&moved), "--json"]).as_object().unwrap().is_empty());
    assert!(home.error(&["remove", "notes", "--all", "--model", text(&moved)]).contains("was made with"));
}

#[test]
fn notes_are_added_found_changed_and_removed() {
    let home = Home(tempfile::tempdir().unwrap());
    let kettle = "The kettle stands in the kitchen, beside the window.";
    home.write("house.md", &format!("# House\n\nThe lamp is in the hall.\n\n# Kitchen\n\n{kettle}\n"));
    home.write("deep/tide.txt", "The tide turns, and the boat turns with it.\n");
    home.write("deep/.hidden.md", "nobody sees this\n");
    home.write("picture.png", "no text\n");
    std::fs::write(home.notes().join("broken.txt"), [0xff, 0xfe, 0x00]).unwrap();
    let notes = home.notes().canonicalize().unwrap();

    let model = fixture("colbert-causal");
    assert!(home.run(&["create", "notes", "--model", text(&model)]).status.success());
    let added = home.run(&["add", "notes", text(&notes), "--json"]);
    let errors = String::from_utf8(added.stderr).unwrap();
    assert!(errors.contains("broken.txt: passed over: not UTF-8"), "{errors}");
    let report: Value = serde_json::from_slice(&added.stdout).unwrap();
    assert_eq!(report, serde_json::json!({ "documents": 2, "added": 3, "kept": 0, "removed": 0 }));

    let found = home.json(&["search", "notes", "tide turns boat turns with it", "--json", "-k", "3"]);
    let hits = found["hits"].as_array().unwrap();
    assert_eq!(hits.len(), 3);
    assert!(hits.windows(2).all(|pair| pair[0]["score"].as_f64() >= pair[1]["score"].as_f64()));
    let kitchen = hits.iter().find(|hit| hit["text"].as_str().unwrap().contains("kettle")).unwrap();
    assert_eq!(kitchen["line"], 5);
    assert_eq!(kitchen["document"], text(&notes.join("house.md")));
    let source = std::fs::read_to_string(notes.join("house.md")).unwrap();
    let place = |key: &str| kitchen[key].as_u64().unwrap() as usize;
    assert_eq!(&source[place("begin")..place("end")], kitchen["text"].as_str().unwrap());

    // Only what changed is encoded again; a passage that moved is found in its new place.
    home.write("house.md", &format!("# House\n\nThe lamp is in the cellar.\n\nNew.\n\n# Kitchen\n\n{kettle}\n"));
    let report = home.json(&["add", "notes", text(&notes.join("house.md")), "--json"]);
    assert_eq!(report, serde_json::json!({ "documents": 1, "added": 1, "kept": 1, "removed": 1 }));
    let found = home.json(&["search", "notes", "kettle", "--json"]);
    let kitchen = found["hits"].as_array().unwrap().iter().find(|hit| hit["text"].as_str().unwrap().contains("kettle"));
    assert_eq!(kitchen.unwrap()["line"], 7);

    let documents = home.json(&["list", "notes", "--json"]);
    assert_eq!(documents[text(&notes.join("house.md"))], 2);
    assert!(home.run(&["remove", "notes", text(&notes.join("house.md"))]).status.success());
    assert_eq!(home.json(&["list", "--json"])["notes"]["passages"], 1);
    assert!(home.error(&["remove", "notes", "nothing.md"]).contains("not in the index"));
    assert!(home.run(&["remove", "notes", "--all"]).status.success());
    assert!(home.error(&["search", "notes", "kettle"]).contains("eddy index create"));
}

#[test]
fn what_cannot_be_used_is_named() {
    let home = Home(tempfile::tempdir().unwrap());
    let model = fixture("colbert-causal");
    assert!(home.error(&["create", "../up", "--model", text(&model)]).contains("cannot name an index"));
    let speech = fixture("text-a");
    assert!(home.error(&["create", "x", "--model", text(&speech)]).contains(text(&speech)));
    assert!(home.error(&["add", "x", "/tmp"]).contains("eddy index create"));
    assert!(home.run(&["create", "x", "--model", text(&model)]).status.success());
    assert!(home.error(&["create", "x", "--model", text(&model)]).contains("already"));
    assert!(home.error(&["add", "x", "/nonexistent"]).contains("/nonexistent"));
}
