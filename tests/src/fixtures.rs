//! Where the fixtures lie, and how models are opened in tests.

use std::path::{Path, PathBuf};

use eddy_models::folder::Wanted;
use eddy_models::speech::{MelClip, Parts, Speech};
use eddy_models::{Runtime, RuntimeOptions, Stop};

/// A fixture by its path below `tests/fixtures`.
pub fn fixture(path: &str) -> PathBuf {
    let full = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(path);
    assert!(full.exists(), "the fixture {} is missing; `make fixtures` makes it", full.display());
    full
}

/// ONNX Runtime as `make test` sets it up, on two threads.
pub fn runtime() -> Runtime {
    let options = RuntimeOptions { cache: Some(runtime_folder()), threads: Some(2), ..RuntimeOptions::default() };
    Runtime::start(&options).unwrap_or_else(|error| panic!("{error}"))
}

/// Where `make runtime` puts the library.
pub fn runtime_folder() -> PathBuf {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/fetch-runtime");
    let printed = std::process::Command::new(script).arg("--print-folder").output().unwrap();
    PathBuf::from(String::from_utf8(printed.stdout).unwrap().trim())
}

/// A speech model of the fixtures.
pub fn speech(folder: &str, precision: &str) -> Speech {
    speech_at(&fixture(folder), precision)
}

/// A speech model anywhere.
pub fn speech_at(folder: &Path, precision: &str) -> Speech {
    let runtime = runtime();
    let stop = Stop::new(&runtime).unwrap();
    let wanted: Wanted = precision.parse().unwrap();
    Speech::load(&runtime, folder, wanted, Parts::ALL, &stop).unwrap_or_else(|error| panic!("{error}"))
}

/// A copy of the fixture `base` in a temporary folder, with the files of `over` on top: to be changed at will.
///
/// Copied and not linked: ONNX Runtime refuses weights behind a link that leaves the graph's folder.
pub fn composed(base: &str, over: Option<&str>) -> tempfile::TempDir {
    let folder = tempfile::Builder::new().prefix("model-").tempdir().unwrap();
    for from in [Some(base), over].into_iter().flatten() {
        copy_all(&fixture(from), folder.path());
    }
    folder
}

fn copy_all(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_all(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// The recorded question, mono at 16 kHz.
pub fn question() -> Vec<f32> {
    let longest = std::time::Duration::from_secs(60);
    let clip = eddy_audio::wav::read_wav(fixture("questions/question.wav"), longest).unwrap();
    assert_eq!(clip.sample_rate, 16_000);
    clip.samples
}

/// A clip for `speech` that holds `samples`.
pub fn clip(speech: &Speech, samples: &[f32]) -> MelClip {
    let mut clip = MelClip::new(speech.front_end());
    clip.push(samples);
    clip
}
