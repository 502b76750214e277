//! The example file is what the schema says, and the schema's defaults are what it says.

use std::path::Path;

use eddy_config::{Config, Sources, changes, example};

fn committed() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("eddy.example.toml")
}

#[test]
fn the_committed_example_is_generated_from_the_schema() {
    let path = committed();
    if std::env::var_os("EDDY_REWRITE_EXAMPLE").is_some() {
        std::fs::write(&path, example()).expect("the source folder is writable");
    }
    let found = std::fs::read_to_string(&path).expect("config/eddy.example.toml exists");
    assert!(
        found == example(),
        "config/eddy.example.toml is out of date; write it anew with\n  \
         EDDY_REWRITE_EXAMPLE=1 cargo test -p eddy-config --test example"
    );
}

/// Takes the comment sign from the keys, which alone stand right behind it.
fn uncommented() -> String {
    example()
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(rest) if rest.starts_with(|c: char| c.is_ascii_lowercase()) => rest,
            _ => line,
        })
        .collect::<Vec<_>>()
        .join("\n")
}

#[test]
fn the_example_with_every_key_set_equals_the_defaults() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let path = folder.path().join("eddy.toml");
    std::fs::write(&path, uncommented()).expect("written");
    let loaded = Sources { only: Some(path), ..Sources::default() }.load().expect("the example is valid");
    assert_eq!(changes(&Config::default(), &loaded.config), []);
    for field in Config::fields() {
        // The rules are empty, and an empty table sets no key.
        if field.key() != "access.rules" {
            assert!(loaded.origin(&field.key()).to_string().contains("eddy.toml:"), "{} is missing", field.key());
        }
    }
}

#[test]
fn the_example_as_it_stands_sets_nothing() {
    let loaded = Sources { only: Some(committed()), ..Sources::default() }.load().expect("the example is valid");
    assert!(loaded.show().iter().all(|entry| entry.place == eddy_config::Place::BuiltIn));
}

#[test]
fn every_key_is_documented() {
    for field in Config::fields() {
        assert!(!field.docs.is_empty(), "{}", field.key());
        assert!(field.docs.iter().all(|line| line.len() <= 110), "{}", field.key());
    }
}
