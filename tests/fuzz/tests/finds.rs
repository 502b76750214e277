//! The fuzzer finds what it is made to find, and nothing in what is good.

#![allow(clippy::unwrap_used, missing_docs)]

use std::path::Path;
use std::process::{Command, Output};

fn fuzz(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_eddy-fuzz"));
    command.args(arguments).arg("--findings").arg(folder.join("findings")).output().unwrap()
}

#[test]
fn every_kind_of_fault_is_found_and_kept() {
    let folder = tempfile::tempdir().unwrap();
    for (fault, told) in [
        ("panic", "as asked"),
        ("hang", "takes more than 2s"),
        ("memory", "ask for 3460"),
        ("overflow", "overflowed its stack"),
    ] {
        let input = folder.path().join(fault);
        std::fs::write(&input, fault).unwrap();
        let output = fuzz(folder.path(), &["--target", "faulty", input.to_str().unwrap()]);
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{fault}: {errors}");
        assert!(errors.contains("FINDING") && errors.contains(told), "{fault}: {errors}");
        let kept = std::fs::read_dir(folder.path().join("findings")).unwrap();
        let kept = kept.map(|entry| std::fs::read_to_string(entry.unwrap().path()).unwrap());
        assert!(kept.into_iter().any(|kept| kept == fault), "{fault} was not kept");
    }
}

#[test]
fn every_corpus_passes() {
    let folder = tempfile::tempdir().unwrap();
    let output = fuzz(folder.path(), &["--seconds", "0", "--seed", "1"]);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let told = String::from_utf8(output.stdout).unwrap();
    for target in ["tool-calls", "template", "image", "index"] {
        let line = told.lines().find(|line| line.starts_with(target)).unwrap();
        assert!(!line.contains(" 0 inputs"), "{line}");
    }
}
