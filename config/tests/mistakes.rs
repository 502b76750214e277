//! Every mistake is named with its place and what to write instead, and all of them at once.

use eddy_config::Sources;

/// The report on a file, with the folder taken out of the places.
fn report(text: &str) -> Vec<String> {
    let folder = tempfile::tempdir().expect("temporary folder");
    let path = folder.path().join("eddy.toml");
    std::fs::write(&path, text).expect("written");
    let prefix = format!("{}/", folder.path().display());
    let sources = Sources { only: Some(path), ..Sources::default() };
    let error = sources.load().expect_err("the file is wrong");
    error.to_string().lines().map(|line| line.replace(&prefix, "")).collect()
}

fn overridden(argument: &str) -> String {
    Sources { overrides: vec![argument.into()], ..Sources::default() }
        .load()
        .expect_err("the override is wrong")
        .to_string()
}

#[test]
fn unknown_names_come_with_the_nearest_known_one() {
    for (text, line) in [
        (
            "[voice]\nbargein = true",
            "eddy.toml:2:1: there is no setting \"voice.bargein\"; did you mean \"voice.barge_in\"?",
        ),
        ("[voices]\nbarge_in = true", "eddy.toml:1:2: there is no setting \"voices\"; did you mean \"voice\"?"),
        ("barge_in = true", "eddy.toml:1:1: there is no setting \"barge_in\"; did you mean \"voice.barge_in\"?"),
        (
            "[audio]\nbarge_in = true",
            "eddy.toml:2:1: there is no setting \"audio.barge_in\"; did you mean \"voice.barge_in\"?",
        ),
        ("[log]\ncolour = 1", "eddy.toml:2:1: there is no setting \"log.colour\"; `eddy config show` lists them all"),
    ] {
        assert_eq!(report(text), [line]);
    }
}

#[test]
fn wrong_values_come_with_what_fits() {
    for (text, line) in [
        (
            "[audio]\ncapture_frames = 5",
            "eddy.toml:2:18: audio.capture_frames is 5: expected a whole number from 64 to 960",
        ),
        ("[audio]\n  capture_frames = -5", "eddy.toml:2:20: audio.capture_frames is -5: expected a whole number"),
        ("[voice]\nbarge_in = \"yes\"", "eddy.toml:2:12: voice.barge_in is \"yes\": expected true or false"),
        ("[voice]\nspeech_threshold = nan", "eddy.toml:2:20: voice.speech_threshold is nan: expected a number"),
        (
            "[voice]\nspeech_threshold = 2",
            "eddy.toml:2:20: voice.speech_threshold is 2: expected a number from 0.05 to 0.99",
        ),
        (
            "[models]\nprecision = \"q4f61\"",
            "eddy.toml:2:13: models.precision is \"q4f61\": expected one of \"auto\", \"fp32\", \"fp16\", \"q8\", \"q4\", \"q4f16\"; did you mean \"q4f16\"?",
        ),
        (
            "[models]\ndirectories = [\"models\"]",
            "eddy.toml:2:15: models.directories is [\"models\"]: expected a list, each a path that begins with / or ~/, or nothing",
        ),
        ("voice = 3", "eddy.toml:1:9: voice is 3: expected a table that begins with [voice]"),
        (
            "[access.rules.notes]\nspeak = \"allow\"",
            "eddy.toml:1:15: access.rules.\"notes\" is \"notes\": expected an application in quotes: \"*\", the path of an executable, a unit (\"notes.service\"), a sandboxed application's identifier (\"org.example.Notes\") or another user (\"user:alice\")",
        ),
        (
            "[access.rules.\"*\"]\nlissten = \"allow\"",
            "eddy.toml:2:1: there is no setting \"access.rules.\"*\".lissten\"; did you mean \"listen\"?",
        ),
        (
            "[access.rules.\"*\"]\nlisten = \"yes\"",
            "eddy.toml:2:10: access.rules.\"*\".listen is \"yes\": expected one of \"allow\", \"deny\", \"ask\"",
        ),
    ] {
        assert_eq!(report(text), [line]);
    }
    let size = report("[models]\nmemory_budget = 5");
    assert!(size[0].contains("expected \"auto\" or a size such as \"64KiB\" or \"2GiB\""), "{size:?}");
    let wait = report("[models]\nidle_unload = \"1ms\"");
    assert!(wait[0].contains("from \"1s\" to \"30d\""), "{wait:?}");
}

#[test]
fn values_that_exclude_each_other_are_named_together() {
    let lines = report("[voice]\nspeech_threshold = 0.3\nendpoint_min_wait = \"4s\"");
    assert_eq!(
        lines,
        [
            "built in: voice.silence_threshold (0.35) has to be lower than voice.speech_threshold (0.3)",
            "eddy.toml:3:21: voice.endpoint_min_wait (4s) must not be longer than voice.endpoint_max_wait (1.2s)",
        ]
    );
}

#[test]
fn all_mistakes_are_reported_in_one_run() {
    assert_eq!(report("[voice]\nx = 1\nbarge_in = 1\n[nonsense]\n").len(), 3);
    let syntax = report("[voice]\nbarge_in = \n[audio\n");
    assert!(syntax.len() >= 2 && syntax[0].starts_with("eddy.toml:2:"), "{syntax:?}");
}

#[test]
fn overrides_and_variables_are_named_as_such() {
    assert_eq!(
        overridden("voice.bargein=1"),
        "command line, voice.bargein=1: there is no setting \"voice.bargein\"; did you mean \"voice.barge_in\"?"
    );
    assert!(overridden("voice").contains("write section.key=value"));
    assert!(overridden("voice=1").contains("there is no setting"));
    let error = Sources { environment: vec![("EDDY_VOICE__BARGE_IN".into(), "perhaps".into())], ..Sources::default() }
        .load()
        .expect_err("no flag");
    assert_eq!(
        error.to_string(),
        "environment, EDDY_VOICE__BARGE_IN: voice.barge_in is \"perhaps\": expected true or false"
    );
}

#[test]
fn a_file_asked_for_by_name_has_to_be_readable() {
    let folder = tempfile::tempdir().expect("temporary folder");
    for path in [folder.path().join("absent.toml"), folder.path().to_path_buf()] {
        let error = Sources { only: Some(path.clone()), ..Sources::default() }.load().expect_err("unreadable");
        assert!(error.to_string().starts_with(&format!("{}: cannot read", path.display())), "{error}");
    }
}
