//! Pulling models from a hub that fails in every way: whole and verified, or a named error with nothing in place.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use eddy_models::folder::{ModelFolder, Role, Wanted};
use eddy_store::{
    Asked, Damage, Error, Hub as Client, License, Progress, Pull, Pulled, Repository, Settings, Store, Watcher,
};
use eddy_tests::fixtures::fixture;
use eddy_tests::hub::{COMMIT, Fault, Hub, Sent, read_folder};
use serde_json::json;

/// The largest file of the text model.
const WEIGHTS: &str = "onnx/model.onnx_data";

/// Somebody who agrees to nothing unless told to, and looks at what is in place all the while.
#[derive(Default)]
struct Nobody<'a> {
    accepts: bool,
    metered: bool,
    asked: Vec<License>,
    told: Vec<Progress>,
    waited: usize,
    watch: Option<Box<dyn FnMut() -> bool + 'a>>,
}

impl Watcher for Nobody<'_> {
    fn accepts(&mut self, license: &License) -> eddy_store::Result<bool> {
        self.asked.push(license.clone());
        Ok(self.accepts)
    }
    fn may_fetch(&mut self, bytes: u64) -> eddy_store::Result<()> {
        if self.metered { Err(Error::Metered { bytes }) } else { Ok(()) }
    }
    fn waits(&mut self) {
        self.waited += 1;
    }
    fn progress(&mut self, progress: Progress) {
        self.told.push(progress);
    }
    fn cancelled(&mut self) -> bool {
        self.watch.as_mut().is_some_and(|watch| watch())
    }
}

struct Desk {
    hub: Hub,
    _folder: tempfile::TempDir,
    store: Store,
}

impl Desk {
    fn of(name: &str) -> Self {
        Self::serving(Hub::of_folder(&fixture(name)))
    }

    fn serving(hub: Hub) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::new(folder.path().join("models"));
        Self { hub, _folder: folder, store }
    }

    fn pull_as(&self, settings: Settings, precision: &str, watcher: &mut Nobody<'_>) -> eddy_store::Result<Pulled> {
        let asked = Asked {
            repository: Repository::parse("me/model").unwrap(),
            name: None,
            wanted: precision.parse::<Wanted>().unwrap(),
        };
        Pull::new(&Client::new(settings), &self.store, asked)?.run(watcher)
    }

    fn pull(&self) -> eddy_store::Result<Pulled> {
        self.pull_as(self.hub.settings(), "fp32", &mut Nobody::default())
    }

    /// The pull fails, and no model has appeared.
    fn refused(&self) -> Error {
        let error = self.pull().expect_err("it fails");
        assert!(!self.store.root().join("model").exists(), "in place after {error}");
        assert_eq!(self.store.models().unwrap(), []);
        error
    }

    /// What is in place is what the hub has.
    fn check(&self) {
        assert_eq!(self.store.verify("model").unwrap(), []);
        for piece in self.store.model("model").unwrap().manifest.files {
            let bytes = std::fs::read(self.store.root().join("model").join(&piece.path)).unwrap();
            assert!(bytes == self.hub.file(&piece.path), "{}", piece.path);
        }
        ModelFolder::open(&self.store.root().join("model")).unwrap();
    }

    /// Every byte of a file was sent once.
    fn sent_once(&self, path: &str) {
        let mut at = 0;
        for Sent { from, count } in self.hub.sent(path) {
            assert_eq!(from, at, "{path}: {:?}", self.hub.sent(path));
            at += count;
        }
        assert_eq!(at, self.hub.file(path).len(), "{path}");
    }
}

#[test]
fn a_precision_comes_with_what_it_needs_and_nothing_else() {
    let desk = Desk::of("speech-a");
    let mut watcher = Nobody::default();
    let pulled = desk.pull_as(desk.hub.settings(), "q4", &mut watcher).unwrap();
    desk.check();
    let manifest = &pulled.model.manifest;
    let paths: Vec<&str> = manifest.files.iter().map(|piece| piece.path.as_str()).collect();
    for graph in paths.iter().filter(|path| path.ends_with(".onnx")) {
        assert!(graph.ends_with("_q4.onnx"), "{graph}");
    }
    assert!(!paths.contains(&"onnx/decoder.onnx_data"), "{paths:?}");
    // The 4-bit graphs share weights with the 32-bit ones, under those ones' names.
    assert!(paths.contains(&"onnx/audio_detokenizer.onnx_data_1"), "{paths:?}");
    assert_eq!((manifest.revision.as_deref(), pulled.was_here), (Some(COMMIT), false));
    assert_eq!(pulled.fetched, manifest.bytes());
    assert_eq!(desk.hub.sent_bytes() as u64, manifest.bytes());
    let last = watcher.told.last().unwrap();
    assert_eq!(last.done, last.total);
    assert!(watcher.told.windows(2).all(|pair| pair[0].done <= pair[1].done), "{:?}", watcher.told);

    // It works, and nothing in it can be executed.
    let folder = ModelFolder::open(&pulled.model.path).unwrap();
    for role in [Role::Decoder, Role::AudioEncoder, Role::Depthformer, Role::AudioDetokenizer] {
        folder.required_graph(role, "q4".parse().unwrap(), "a test").unwrap();
    }
    for path in &paths {
        let mode = std::fs::metadata(pulled.model.path.join(path)).unwrap().permissions().mode();
        assert_eq!(mode & 0o111, 0, "{path}");
    }

    // Again: nothing is sent. The other precision: only what is new, and both stay.
    desk.hub.forget_sent();
    assert!(desk.pull_as(desk.hub.settings(), "q4", &mut Nobody::default()).unwrap().was_here);
    assert_eq!(desk.hub.sent_bytes(), 0);
    let both = desk.pull().unwrap();
    assert_eq!(both.model.manifest.precisions, ["fp32", "q4"]);
    assert_eq!(both.fetched, both.model.manifest.bytes() - manifest.bytes());
    desk.check();
}

#[test]
fn a_connection_cut_at_every_tenth_goes_on_there() {
    let whole = fixture("text-a").join(WEIGHTS).metadata().unwrap().len() as usize;
    for tenth in 0..10 {
        let desk = Desk::of("text-a");
        desk.hub.faults(WEIGHTS, [Fault::CutAt(whole * tenth / 10)]);
        desk.pull().unwrap();
        desk.check();
        desk.sent_once(WEIGHTS);
        assert_eq!(desk.hub.sent(WEIGHTS).len(), 2, "cut at {tenth} tenths");
    }
    // All of them in one pull: what comes between two failures makes up for the first.
    let desk = Desk::of("text-a");
    desk.hub.faults(WEIGHTS, (1..10).map(|tenth| Fault::CutAt(whole * tenth / 10)));
    desk.pull().unwrap();
    desk.check();
    desk.sent_once(WEIGHTS);
    assert_eq!(desk.hub.sent(WEIGHTS).len(), 10);
}

#[test]
fn an_interrupted_pull_is_gone_on_with() {
    let desk = Desk::of("text-a");
    let whole = desk.hub.file(WEIGHTS).len();
    for tenth in 1..10 {
        let until = whole * tenth / 10;
        desk.hub.faults(WEIGHTS, [Fault::HoldAt(until)]);
        let staging = desk.store.root().join(".store/model").join(format!("fetching-{}", &COMMIT[..12]));
        let part = staging.join(format!("{WEIGHTS}.part"));
        let arrived = || std::fs::metadata(&part).is_ok_and(|part| part.len() == until as u64);
        let mut watcher = Nobody { watch: Some(Box::new(arrived)), ..Nobody::default() };
        let begun = std::time::Instant::now();
        let error = desk.pull_as(desk.hub.settings(), "fp32", &mut watcher).expect_err("cancelled");
        assert!(matches!(error, Error::Cancelled), "{error}");
        assert!(begun.elapsed() < Duration::from_secs(5));
        assert!(!desk.store.root().join("model").exists());
    }
    desk.pull().unwrap();
    desk.check();
    desk.sent_once(WEIGHTS);
}

#[test]
fn what_is_wrong_is_named_and_not_put_in_place() {
    let whole = fixture("text-a").join(WEIGHTS).metadata().unwrap().len() as usize;
    let always = |fault: Fault| vec![fault; 3];
    type Check = fn(&Error) -> bool;
    let cases: Vec<(&str, Vec<Fault>, Check)> = vec![
        (WEIGHTS, vec![Fault::CorruptAt(whole / 2)], |error| matches!(error, Error::WrongHash { .. })),
        ("config.json", vec![Fault::CorruptAt(3)], |error| matches!(error, Error::WrongHash { .. })),
        ("config.json", vec![Fault::OtherEtag], |error| matches!(error, Error::WrongHash { .. })),
        (WEIGHTS, vec![Fault::Length(whole - 1)], |error| matches!(error, Error::WrongLength { .. })),
        (WEIGHTS, vec![Fault::Length(whole + 1)], |error| matches!(error, Error::WrongLength { .. })),
        (WEIGHTS, vec![Fault::Status(404, None)], |error| matches!(error, Error::NotOnHub { .. })),
        ("config.json", vec![Fault::Status(403, None)], |error| matches!(error, Error::Refused { status: 403, .. })),
        (WEIGHTS, vec![Fault::Status(418, None)], |error| matches!(error, Error::Hub { .. })),
        (WEIGHTS, always(Fault::Status(429, Some(900))), |error| error.to_string().contains("429, 3 times")),
        (WEIGHTS, always(Fault::Status(503, None)), |error| error.to_string().contains("503, 3 times")),
        (WEIGHTS, always(Fault::CutAt(0)), |error| matches!(error, Error::Hub { .. })),
        (WEIGHTS, always(Fault::HoldAt(0)), |error| matches!(error, Error::Hub { .. })),
        (WEIGHTS, vec![Fault::Redirect("ftp://127.0.0.1/x".into())], |error| error.to_string().contains("not safe")),
    ];
    for (path, faults, is_right) in cases {
        let desk = Desk::of("text-a");
        desk.hub.faults(path, faults.clone());
        let error = desk.refused();
        assert!(is_right(&error), "{faults:?}: {error}");
        assert!(error.to_string().contains(path.rsplit('/').next().unwrap()), "{faults:?}: {error}");
        // The fault has passed: the next pull brings it.
        desk.pull().unwrap_or_else(|error| panic!("after {faults:?}: {error}"));
        desk.check();
    }
}

#[test]
fn what_passes_is_waited_for() {
    let whole = fixture("text-a").join(WEIGHTS).metadata().unwrap().len() as usize;
    for faults in [
        vec![Fault::Status(429, Some(0)), Fault::Status(503, None)],
        vec![Fault::HoldAt(whole / 3), Fault::HoldAt(whole / 2)],
        // Storage refuses an address that has grown old; the hub gives another.
        vec![Fault::CutAt(whole / 2), Fault::Status(403, None)],
    ] {
        let desk = Desk::of("text-a");
        desk.hub.faults(WEIGHTS, faults.clone());
        desk.pull().unwrap_or_else(|error| panic!("{faults:?}: {error}"));
        desk.check();
        desk.sent_once(WEIGHTS);
    }
    // A server without ranges sends the whole again.
    let desk = Desk::of("text-a");
    desk.hub.faults(WEIGHTS, [Fault::CutAt(whole / 2), Fault::NoRanges]);
    desk.pull().unwrap();
    desk.check();
    assert_eq!(desk.hub.sent(WEIGHTS)[1], Sent { from: 0, count: whole });
}

#[test]
fn a_listing_that_cannot_be_had_is_named() {
    let desk = Desk::of("text-a");
    for (status, expected) in [(404, "no such repository or revision"), (401, "HF_TOKEN")] {
        desk.hub.listing_faults([Fault::Status(status, None)]);
        let error = desk.refused().to_string();
        assert!(error.contains(expected), "{error}");
    }
    desk.hub.listing_faults(vec![Fault::Status(429, None); 3]);
    assert!(desk.refused().to_string().contains("429, 3 times"));
    desk.hub.listing_faults(vec![Fault::Status(502, Some(0)); 2]);
    desk.pull().unwrap();
    desk.check();

    let nowhere = Settings { base: "http://127.0.0.1:1".into(), ..desk.hub.settings() };
    let error = desk.pull_as(nowhere, "q4", &mut Nobody::default()).expect_err("nobody is there");
    assert!(matches!(error, Error::Hub { .. }), "{error}");

    // A listing that is wrong about a length; the file is right.
    let desk = Desk::of("text-a");
    let length = desk.hub.file(WEIGHTS).len() as u64;
    desk.hub.announce(WEIGHTS, length + 5);
    assert!(
        matches!(desk.refused(), Error::WrongLength { expected, found, .. } if (expected, found) == (length + 5, length))
    );
    // One that no disk has room for, before anything is sent.
    let desk = Desk::of("text-a");
    desk.hub.announce(WEIGHTS, u64::MAX - 5);
    assert!(matches!(desk.refused(), Error::NoSpace { .. }));
    assert_eq!(desk.hub.sent_bytes(), 0);
}

#[test]
fn paths_that_lead_out_of_the_folder_are_refused() {
    for path in ["../../escaped.json", "/tmp/escaped.json", "onnx/../../escaped.json"] {
        let mut files = BTreeMap::new();
        read_folder(&fixture("text-a"), "", &mut files);
        files.insert(path.to_owned(), b"{}".to_vec());
        let desk = Desk::serving(Hub::start(files));
        assert!(matches!(desk.refused(), Error::Escapes { .. }), "{path}");
        assert_eq!(desk.hub.sent_bytes(), 0);
    }
    // A graph that refers to weights elsewhere, whose name the listing cannot tell.
    let mut files = BTreeMap::new();
    read_folder(&fixture("text-a"), "", &mut files);
    let graph = files.get_mut("onnx/model.onnx").unwrap();
    let (name, escape) = (b"model.onnx_data", b"../../../secret");
    assert_eq!(name.len(), escape.len());
    let mut seen = 0;
    for at in 0..graph.len() - name.len() {
        if &graph[at..at + name.len()] == name {
            graph[at..at + name.len()].copy_from_slice(escape);
            seen += 1;
        }
    }
    assert!(seen > 0);
    let desk = Desk::serving(Hub::start(files));
    assert!(matches!(desk.refused(), Error::Escapes { .. }));
}

#[test]
fn the_token_goes_to_the_hub_and_nowhere_else() {
    let desk = Desk::of("text-a");
    let settings = Settings { token: Some("hf_test".into()), ..desk.hub.settings() };
    desk.pull_as(settings, "fp32", &mut Nobody::default()).unwrap();
    let [hub, storage] = desk.hub.authorized();
    assert!(hub > 3 && storage == 0, "{hub} {storage}");
    assert!(!desk.hub.sent(WEIGHTS).is_empty());
}

#[test]
fn a_licence_is_accepted_once() {
    let desk = Desk::of("text-a");
    desk.hub.license(json!({ "license": "other", "license_name": "lfm1.0", "license_link": "LICENSE" }));
    let mut nobody = Nobody::default();
    let error = desk.pull_as(desk.hub.settings(), "fp32", &mut nobody).expect_err("not accepted");
    let link = format!("{}/me/model/blob/{COMMIT}/LICENSE", desk.hub.base);
    assert_eq!(nobody.asked[0], License { repository: "me/model".into(), name: "lfm1.0".into(), link: Some(link) });
    assert!(error.to_string().contains("--accept-license"), "{error}");
    assert_eq!(desk.hub.sent_bytes(), 0);
    let mut somebody = Nobody { accepts: true, ..Nobody::default() };
    desk.pull_as(desk.hub.settings(), "fp32", &mut somebody).unwrap();
    desk.store.remove("model").unwrap();
    desk.pull_as(desk.hub.settings(), "fp32", &mut nobody).unwrap();
    assert_eq!((somebody.asked.len(), nobody.asked.len()), (1, 1));

    // None at all is one to be asked about, each time for its own repository.
    let desk = Desk::of("text-a");
    desk.hub.license(json!({}));
    assert!(matches!(desk.refused(), Error::LicenseNotAccepted { .. }));
}

#[test]
fn a_metered_connection_is_asked_about_before_anything_is_sent() {
    let desk = Desk::of("text-a");
    let mut watcher = Nobody { metered: true, ..Nobody::default() };
    let error = desk.pull_as(desk.hub.settings(), "fp32", &mut watcher).expect_err("refused");
    assert!(matches!(error, Error::Metered { bytes } if bytes > 300_000), "{error}");
    assert_eq!(desk.hub.sent_bytes(), 0);
}

#[test]
fn two_pulls_at_once_fetch_once() {
    let desk = Desk::of("text-a");
    desk.hub.faults(WEIGHTS, [Fault::Slowly(Duration::from_millis(2))]);
    let (first, second) = std::thread::scope(|scope| {
        let one = scope.spawn(|| desk.pull().unwrap());
        desk.hub.wait_sent(WEIGHTS, 4096);
        let mut watcher = Nobody::default();
        let second = desk.pull_as(desk.hub.settings(), "fp32", &mut watcher).unwrap();
        assert_eq!(watcher.waited, 1);
        (one.join().unwrap(), second)
    });
    assert_eq!((first.was_here, second.was_here), (false, true));
    assert_eq!(desk.hub.sent_bytes() as u64, first.model.manifest.bytes());
    assert_eq!(first.model, second.model);
    desk.check();
}

#[test]
fn the_hubs_cache_is_shared_both_ways() {
    let desk = Desk::of("text-a");
    let cache = tempfile::tempdir().unwrap();
    let shared = Settings { cache: Some(cache.path().to_owned()), ..desk.hub.settings() };
    let pulled = desk.pull_as(shared.clone(), "fp32", &mut Nobody::default()).unwrap();
    let home = cache.path().join("models--me--model");
    let pointer = home.join("snapshots").join(COMMIT).join(WEIGHTS);
    assert!(std::fs::symlink_metadata(&pointer).unwrap().is_symlink());
    assert!(std::fs::read(&pointer).unwrap() == desk.hub.file(WEIGHTS));
    assert_eq!(std::fs::read_to_string(home.join("refs/main")).unwrap(), COMMIT);

    // Another store takes it from there, with a hub and without.
    desk.hub.forget_sent();
    let other = Desk { store: Store::new(cache.path().join("other")), ..Desk::of("text-a") };
    let offline = Settings { offline: true, ..shared.clone() };
    let taken = other.pull_as(offline.clone(), "fp32", &mut Nobody::default()).unwrap();
    assert_eq!((taken.fetched, &taken.model.manifest.files), (0, &pulled.model.manifest.files));
    other.check();
    other.store.remove("model").unwrap();
    let with_hub = Settings { base: desk.hub.base.clone(), ..shared.clone() };
    assert_eq!(other.pull_as(with_hub, "fp32", &mut Nobody::default()).unwrap().fetched, 0);
    assert_eq!(desk.hub.sent_bytes(), 0);

    // What is damaged there is fetched, and offline it is missing.
    let blob = std::fs::canonicalize(&pointer).unwrap();
    std::fs::remove_file(&blob).unwrap();
    std::fs::write(&blob, b"damaged").unwrap();
    other.store.remove("model").unwrap();
    let error = other.pull_as(offline, "fp32", &mut Nobody::default()).expect_err("damaged");
    assert!(matches!(error, Error::Offline { .. }), "{error}");
    let again = Settings { base: desk.hub.base.clone(), ..shared };
    let fetched = other.pull_as(again, "fp32", &mut Nobody::default()).unwrap().fetched;
    assert_eq!(fetched, desk.hub.file(WEIGHTS).len() as u64);
    other.check();
}

#[test]
fn releases_follow_each_other_and_one_can_go_back() {
    let desk = Desk::of("text-a");
    let first = desk.pull().unwrap();
    let path = first.model.path.join("README.md");
    desk.hub.release("fedcba9876543210", [("README.md", b"---\nlicense: mit\n---\n".to_vec())]);
    desk.hub.forget_sent();
    let second = desk.pull().unwrap();
    assert_eq!((second.model.version, second.model.earlier.as_slice()), (2, [1].as_slice()));
    // Only the card is new.
    assert_eq!(desk.hub.sent_bytes() as u64, second.fetched);
    assert_eq!(second.fetched, desk.hub.file("README.md").len() as u64);
    assert!(path.is_file());
    desk.check();

    let back = desk.store.rollback("model").unwrap();
    assert_eq!((back.version, back.manifest.revision.as_deref()), (1, Some(COMMIT)));
    assert!(!path.exists());
    assert!(matches!(desk.store.rollback("model"), Err(Error::NoEarlier { .. })));
    // Forward again without a byte.
    desk.hub.forget_sent();
    assert!(desk.pull().unwrap().was_here);
    assert_eq!((desk.hub.sent_bytes(), path.is_file()), (0, true));

    desk.store.prune().unwrap();
    assert_eq!(desk.store.model("model").unwrap().earlier, Vec::<u32>::new());
    desk.check();

    let weights = first.model.path.join(WEIGHTS);
    let mut bytes = std::fs::read(&weights).unwrap();
    bytes[1000] ^= 1;
    std::fs::write(&weights, &bytes).unwrap();
    std::fs::remove_file(first.model.path.join("config.json")).unwrap();
    std::fs::write(first.model.path.join("generation_config.json"), "{}").unwrap();
    let damage = desk.store.verify("model").unwrap();
    let found = |damage: &Damage| match damage {
        Damage::Missing { path } => format!("missing {path}"),
        Damage::Length { path, found, .. } => format!("length {path} {found}"),
        Damage::Content { path } => format!("content {path}"),
    };
    let expected = ["missing config.json", "length generation_config.json 2", &format!("content {WEIGHTS}")];
    assert_eq!(damage.iter().map(found).collect::<Vec<_>>(), expected);
    desk.store.remove("model").unwrap();
    assert!(matches!(desk.store.verify("model"), Err(Error::NotHere { .. })));
    assert!(!weights.exists() && !desk.store.root().join("model").exists());
}

#[test]
fn what_was_put_there_by_hand_is_left_alone() {
    let desk = Desk::of("text-a");
    let own = desk.store.root().join("model");
    std::fs::create_dir_all(&own).unwrap();
    std::fs::write(own.join("mine"), "x").unwrap();
    let error = desk.pull().expect_err("in the way");
    assert!(matches!(error, Error::InTheWay { .. }), "{error}");
    assert!(matches!(desk.store.import(&fixture("text-a"), Some("model")), Err(Error::InTheWay { .. })));
    assert_eq!(std::fs::read_to_string(own.join("mine")).unwrap(), "x");
}

fn tar(path: &Path, entries: &[(&str, tar_entry::Kind<'_>)]) {
    std::fs::write(path, tar_entry::archive(entries)).unwrap();
}

/// The tar format as far as these tests need it, so that an archive can be wrong in ways that no library would write.
mod tar_entry {
    pub enum Kind<'a> {
        File(&'a [u8]),
        Link(&'a str),
    }

    pub fn archive(entries: &[(&str, Kind<'_>)]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (path, kind) in entries {
            let (content, flag, link): (&[u8], u8, &str) = match kind {
                Kind::File(content) => (content, b'0', ""),
                Kind::Link(target) => (b"", b'2', target),
            };
            let mut header = [0_u8; 512];
            header[..path.len()].copy_from_slice(path.as_bytes());
            header[100..107].copy_from_slice(b"0000755");
            let size = format!("{:011o}", content.len());
            header[124..135].copy_from_slice(size.as_bytes());
            header[148..156].copy_from_slice(b"        ");
            header[156] = flag;
            header[157..157 + link.len()].copy_from_slice(link.as_bytes());
            header[257..263].copy_from_slice(b"ustar\0");
            let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
            header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
            bytes.extend_from_slice(&header);
            bytes.extend_from_slice(content);
            bytes.resize(bytes.len().next_multiple_of(512), 0);
        }
        bytes.resize(bytes.len() + 1024, 0);
        bytes
    }
}

/// Writes the archive `path` with what Python brings.
fn zip(path: &Path, script: &str) -> std::process::ExitStatus {
    let script = format!("import shutil, sys, zipfile\npath = sys.argv[1]\n{script}");
    std::process::Command::new("python3").args(["-c", &script]).arg(path).status().unwrap()
}

#[test]
fn folders_and_archives_are_imported_and_wrong_ones_leave_nothing() {
    use tar_entry::Kind::{File, Link};
    let folder = tempfile::tempdir().unwrap();
    let store = Store::new(folder.path().join("models"));
    let model = store.import(&fixture("speech-a"), Some("spoken")).unwrap();
    assert_eq!((model.version, store.verify("spoken").unwrap()), (1, Vec::new()));
    assert_eq!(model.manifest.precisions, ["fp32", "q4"]);
    ModelFolder::open(&model.path).unwrap();

    // As the tools of the system write it, packed and not.
    for (name, option) in [("one.tar", "-cf"), ("two.tar.gz", "-czf")] {
        let archive = folder.path().join(name);
        let fixtures = fixture("text-a").parent().unwrap().to_owned();
        let mut packing = std::process::Command::new("tar");
        let packed = packing.arg("-C").arg(fixtures).arg(option).arg(&archive).arg("text-a").status().unwrap();
        assert!(packed.success());
    }
    let packed = zip(
        &folder.path().join("three.zip"),
        &format!("shutil.make_archive(path[:-4], 'zip', {:?}, 'text-a')", fixture("text-a").parent().unwrap()),
    );
    assert!(packed.success());
    // As a desktop packs a folder: with a licence beside it, and its own notes about every file.
    let (path, root) = (folder.path().join("four.zip"), fixture("text-a"));
    let packed = zip(
        &path,
        &format!(
            "import os\nz = zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED)\nz.writestr('LICENSE', 'x')\n\
             for base, _, names in os.walk({root:?}):\n    for name in names:\n        p = os.path.join(base, name)\n        \
             r = 'a/m/' + os.path.relpath(p, {root:?})\n        z.write(p, r)\n        \
             z.writestr('__MACOSX/' + os.path.dirname(r) + '/._' + name, 'note')\nz.close()"
        ),
    );
    assert!(packed.success());
    for (name, archive) in [("one", "one.tar"), ("two", "two.tar.gz"), ("three", "three.zip"), ("four", "four.zip")] {
        let model = store.import(&folder.path().join(archive), None).unwrap();
        assert_eq!((model.name.as_str(), store.verify(name).unwrap()), (name, Vec::new()));
        ModelFolder::open(&model.path).unwrap();
    }

    let graph = std::fs::read(fixture("text-a").join("onnx/model.onnx")).unwrap();
    let bad = folder.path().join("bad.tar");
    let before = store.models().unwrap();
    let refuse = |entries: &[(&str, tar_entry::Kind<'_>)]| {
        tar(&bad, entries);
        let error = store.import(&bad, None).expect_err("refused");
        assert_eq!(store.models().unwrap(), before, "after {error}");
        assert!(!store.root().join("bad").exists() && !store.root().join(".store/bad").exists(), "after {error}");
        error
    };
    assert!(matches!(refuse(&[("../config.json", File(b"{}"))]), Error::Escapes { .. }));
    assert!(matches!(refuse(&[("/tmp/config.json", File(b"{}"))]), Error::Escapes { .. }));
    assert!(matches!(refuse(&[("m/config.json", Link("/etc/passwd"))]), Error::Escapes { .. }));
    assert!(matches!(refuse(&[("m/onnx/model.onnx", File(b"<html>"))]), Error::Model(_)));
    // A graph without its weights.
    assert!(matches!(refuse(&[("m/onnx/model.onnx", File(&graph))]), Error::Model(_)));
    assert!(matches!(refuse(&[("notes.txt", File(b"x"))]), Error::Malformed { .. }));
    let bad_zip = folder.path().join("bad.zip");
    let refuse_zip = |script: &str| {
        assert!(zip(&bad_zip, &format!("z = zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED)\n{script}")).success());
        let error = store.import(&bad_zip, None).expect_err("refused");
        assert_eq!(store.models().unwrap(), before, "after {error}");
        assert!(!store.root().join(".store/bad").exists(), "after {error}");
        error
    };
    assert!(matches!(refuse_zip("z.writestr('../config.json', '{}')\nz.close()"), Error::Escapes { .. }));
    let link = "i = zipfile.ZipInfo('m/config.json')\ni.external_attr = 0o120777 << 16\nz.writestr(i, '/etc/passwd')\n\
                z.close()";
    assert!(matches!(refuse_zip(link), Error::Escapes { .. }));
    // A file of a megabyte that says, in both of its headers, that it has a thousand bytes.
    let bomb = "z.writestr('m/config.json', ' ' * (1 << 20))\nz.close()\nb = open(path, 'rb').read()\n\
                open(path, 'wb').write(b.replace((1 << 20).to_bytes(4, 'little'), (1000).to_bytes(4, 'little')))";
    assert!(matches!(refuse_zip(bomb), Error::Malformed { .. }));
    let twice = "z.writestr('config.json/x.json', '{}')\nz.writestr('config.json', '{}')\nz.close()";
    assert!(matches!(refuse_zip(twice), Error::Malformed { .. } | Error::Model(_)));
    assert!(matches!(refuse_zip("z.writestr('notes.txt', 'x')\nz.close()"), Error::Malformed { .. }));
    assert!(matches!(refuse_zip("z.close()\nopen(path, 'wb').write(b'PK\\x03\\x04nothing')"), Error::Malformed { .. }));
    std::fs::write(&bad, b"no archive at all, but long enough to look at").unwrap();
    assert!(matches!(store.import(&bad, None), Err(Error::Malformed { .. })));
    assert!(matches!(store.import(&folder.path().join("none"), None), Err(Error::Io { .. })));
}
