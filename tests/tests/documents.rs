//! Every command and every setting in the documents is one that exists.

#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

const DOCUMENTS: [&str; 5] =
    ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "tests/reference/README.md"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

/// The fenced blocks of all documents: (document, language, contents).
fn blocks() -> Vec<(&'static str, String, String)> {
    let mut blocks = Vec::new();
    for document in DOCUMENTS {
        let text = std::fs::read_to_string(root().join(document)).unwrap_or_else(|error| panic!("{document}: {error}"));
        let mut parts = text.split("```");
        parts.next();
        while let Some(block) = parts.next() {
            let (language, contents) = block.split_once('\n').unwrap();
            blocks.push((document, language.trim().to_owned(), contents.to_owned()));
            parts.next();
        }
    }
    blocks
}

/// Splits a command line at spaces, with double quotes, and drops a comment.
fn words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quoted = false;
    for character in line.split(" # ").next().unwrap().trim().chars() {
        match character {
            '"' => quoted = !quoted,
            ' ' if !quoted => words.push(String::new()),
            other => words.last_mut().unwrap().push(other),
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

#[test]
fn commands_exist() {
    let makefile = std::fs::read_to_string(root().join("Makefile")).unwrap();
    let mut seen = 0;
    for (document, language, contents) in blocks() {
        if language != "sh" {
            continue;
        }
        for line in contents.lines().filter(|line| !line.trim().is_empty() && !line.trim_start().starts_with('#')) {
            let words = words(line);
            match words[0].as_str() {
                "make" => assert!(makefile.contains(&format!("\n{}:", words[1])), "{document}: no target for {line:?}"),
                "eddy" => {
                    eddyd::cli::check_usage(&words).unwrap_or_else(|error| panic!("{document}: {line:?}: {error}"))
                }
                "python" => assert!(root().join(&words[1]).is_file(), "{document}: no file for {line:?}"),
                other => panic!("{document}: {other:?} in {line:?} is a command that this test cannot check"),
            }
            seen += 1;
        }
    }
    assert!(seen >= 10, "only {seen} commands found");
}

#[test]
fn settings_exist() {
    let folder = tempfile::tempdir().unwrap();
    let mut seen = 0;
    for (document, language, contents) in blocks() {
        if language != "toml" {
            continue;
        }
        let file = folder.path().join("eddy.toml");
        std::fs::write(&file, contents).unwrap();
        let paths = eddy_config::Paths::resolve(|name| (name == "HOME").then(|| folder.path().into())).unwrap();
        let mut sources = eddy_config::Sources::standard(&paths);
        sources.only = Some(file);
        sources.load().unwrap_or_else(|error| panic!("{document}: {error}"));
        seen += 1;
    }
    assert!(seen >= 1);
}

#[test]
fn links_lead_somewhere() {
    for document in DOCUMENTS {
        let path = root().join(document);
        let text = std::fs::read_to_string(&path).unwrap();
        for link in text.split("](").skip(1).map(|rest| rest.split(')').next().unwrap()) {
            let target = path.parent().unwrap().join(link.split('#').next().unwrap());
            assert!(link.starts_with("https://") || target.exists(), "{document}: {link} leads nowhere");
        }
    }
}
