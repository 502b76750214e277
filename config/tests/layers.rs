//! Which layer wins, and who is named as the origin.

use std::path::PathBuf;
use std::time::Duration;

use eddy_config::{Application, Applies, Auto, Bytes, Capability, Config, Decision, Device, Sources, changes};

fn file(folder: &tempfile::TempDir, name: &str, text: &str) -> PathBuf {
    let path = folder.path().join(name);
    std::fs::write(&path, text).expect("written");
    path
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("temporary folder")
}

#[test]
fn later_layers_win_key_by_key_and_are_named() {
    let folder = folder();
    let system = file(
        &folder,
        "system.toml",
        "[voice]\nmin_speech = \"100ms\"\nbarge_in = false\n[generation]\nmax_items = 10\ntop_k = 5\n",
    );
    let user = file(&folder, "user.toml", "[voice]\nmin_speech = \"200ms\"\n[generation]\nmax_items = 20\n");
    let sources = Sources {
        files: vec![system.clone(), user, folder.path().join("absent.toml")],
        environment: vec![
            ("EDDY_GENERATION__MAX_ITEMS".into(), "30".into()),
            ("EDDY_AUDIO__CAPTURE".into(), "3".into()),
            ("EDDY_LOG".into(), "zbus=debug".into()),
            ("EDDY_TESTING".into(), "not ours".into()),
            ("PATH".into(), "/bin".into()),
        ],
        overrides: vec!["generation.max_items = 40".into(), "models.memory_budget=1.5GiB".into()],
        ..Sources::default()
    };
    let loaded = sources.load().expect("valid");
    assert_eq!(loaded.config.voice.min_speech, Duration::from_millis(200));
    assert!(!loaded.config.voice.barge_in);
    assert_eq!(loaded.config.generation.max_items, 40);
    assert_eq!(loaded.config.generation.top_k, Auto::Set(5));
    assert_eq!(loaded.config.audio.capture, Device::Named("3".into()));
    assert_eq!(loaded.config.log.filter, "zbus=debug");
    assert_eq!(loaded.config.models.memory_budget, Auto::Set(Bytes::mib(1536)));
    assert_eq!(loaded.files.len(), 2);

    for (key, origin) in [
        ("voice.barge_in", format!("{}:3:12", system.display())),
        ("generation.max_items", "command line, generation.max_items = 40".into()),
        ("audio.capture", "environment, EDDY_AUDIO__CAPTURE".into()),
        ("audio.playback", "built in".into()),
    ] {
        let entry = loaded.show().into_iter().find(|entry| entry.key == key).expect("every key is shown");
        assert_eq!(entry.place.to_string(), origin, "{key}");
    }
}

#[test]
fn access_rules_add_up_over_the_layers() {
    let folder = folder();
    let system =
        file(&folder, "system.toml", "[access.rules.\"org.example.Notes\"]\nlisten = \"deny\"\nspeak = \"deny\"\n");
    let user = file(&folder, "user.toml", "[access]\nrules.\"org.example.Notes\".speak = \"allow\"\n");
    let sources = Sources {
        files: vec![system, user],
        overrides: vec!["access.rules={ \"/usr/bin/x\" = { see = \"ask\" } }".into()],
        ..Sources::default()
    };
    let loaded = sources.load().expect("valid");
    let notes = [Application::Sandboxed("org.example.Notes".into())];
    let access = &loaded.config.access;
    assert_eq!(access.decide(&notes, Capability::Listen), Decision::Deny);
    assert_eq!(access.decide(&notes, Capability::Speak), Decision::Allow);
    assert_eq!(access.decide(&[Application::Executable("/usr/bin/x".into())], Capability::See), Decision::Ask);
    let origin = loaded.origin("access.rules.\"org.example.Notes\".listen").to_string();
    assert!(origin.ends_with("system.toml:2:10"), "{origin}");
}

#[test]
fn a_reload_says_what_takes_effect_when() {
    let old = Config::default();
    let load = |overrides: &[&str]| {
        Sources { overrides: overrides.iter().map(|text| (*text).to_owned()).collect(), ..Sources::default() }
            .load()
            .expect("valid")
            .config
    };
    let new =
        load(&["voice.barge_in=false", "runtime.threads=4", "access.rules={ \"x.service\" = { see = \"deny\" } }"]);
    let report: Vec<_> =
        changes(&old, &new).into_iter().map(|change| (change.key, change.old, change.new, change.applies)).collect();
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(
        report,
        [
            ("access.rules.\"x.service\".see".into(), None, text("\"deny\""), Applies::AtOnce),
            ("runtime.threads".into(), text("\"auto\""), text("4"), Applies::AfterRestart),
            ("voice.barge_in".into(), text("true"), text("false"), Applies::AtOnce),
        ]
    );
    assert_eq!(changes(&new, &new), []);
}
