//! A whole pull: what is needed, whether it may be fetched, fetching it beside the store, and moving it in.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use eddy_models::folder::{GraphFile, Precision, Wanted, external_files};

use crate::choice::{choose, inside};
use crate::digest::{Hashes, of_file};
use crate::error::{CHECK_FOLDER, Error, Result};
use crate::fetch::{Tally, fetch, part_of};
use crate::hub::{Hub, Listing, Remote, Repository};
use crate::lock::Lock;
use crate::manifest::{Manifest, Piece};
use crate::space;
use crate::store::{Model, Store, check_name};

/// Files that are fetched at a time.
const WORKERS: usize = 4;
/// How often progress is told.
const TICK: Duration = Duration::from_millis(100);
/// How long workers may take to notice that it has ended.
const FAREWELL: Duration = Duration::from_millis(300);
/// Licences that ask nothing of somebody who runs a model.
const FREE: [&str; 9] =
    ["apache-2.0", "mit", "bsd", "bsd-2-clause", "bsd-3-clause", "isc", "cc0-1.0", "unlicense", "zlib"];

/// What is to be fetched.
#[derive(Debug, Clone)]
pub struct Asked {
    /// From where.
    pub repository: Repository,
    /// What the folder is to be called, if not as the repository.
    pub name: Option<String>,
    /// In which precision.
    pub wanted: Wanted,
}

/// A licence to be accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct License {
    /// The repository.
    pub repository: String,
    /// Its name, or that there is none.
    pub name: String,
    /// Where its text is.
    pub link: Option<String>,
}

/// How far a pull is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Progress {
    /// Bytes here.
    pub done: u64,
    /// Bytes of all files.
    pub total: u64,
    /// Bytes a second over the last seconds.
    pub rate: f64,
    /// Time that the rest takes at this rate.
    pub left: Option<Duration>,
}

/// Who asked for the pull: is asked back, and told how it goes.
pub trait Watcher {
    /// Whether a licence is accepted.
    ///
    /// # Errors
    /// When nobody can be asked.
    fn accepts(&mut self, license: &License) -> Result<bool>;
    /// Whether so many bytes may go over the connection that there is.
    ///
    /// # Errors
    /// [`Error::Metered`] when they may not.
    fn may_fetch(&mut self, bytes: u64) -> Result<()>;
    /// Another process is pulling the same model.
    fn waits(&mut self);
    /// How far it is.
    fn progress(&mut self, progress: Progress);
    /// Whether it is to end.
    fn cancelled(&mut self) -> bool;
}

/// What came of a pull.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pulled {
    /// The model.
    pub model: Model,
    /// Bytes that came over the network.
    pub fetched: u64,
    /// Whether the version was here already.
    pub was_here: bool,
}

/// A pull.
#[derive(Debug)]
pub struct Pull<'a> {
    hub: &'a Hub,
    store: &'a Store,
    asked: Asked,
    name: String,
}

impl<'a> Pull<'a> {
    /// A pull from `hub` into `store`.
    ///
    /// # Errors
    /// [`Error::BadName`].
    pub fn new(hub: &'a Hub, store: &'a Store, asked: Asked) -> Result<Self> {
        let name = asked.name.clone().unwrap_or_else(|| asked.repository.name().to_owned());
        check_name(&name)?;
        Ok(Self { hub, store, asked, name })
    }

    /// Does it. After an error or a cancellation the store is as it was; what has come is kept for the next time.
    ///
    /// # Errors
    /// Those of [`Error`].
    pub fn run(self, watcher: &mut dyn Watcher) -> Result<Pulled> {
        let root = self.store.root();
        std::fs::create_dir_all(root).map_err(Error::io(root, CHECK_FOLDER))?;
        self.store.versions(&self.name).check_free()?;
        self.check_origin()?;
        let listing = self.hub.list(&self.asked.repository, &mut |time| pause(watcher, time))?;
        let mut chosen: Vec<Remote> = choose(&listing, self.asked.wanted)?.into_iter().cloned().collect();
        self.accept(&listing, watcher)?;

        let mut told = false;
        let lock = self.store.lock(&self.name, || {
            if !std::mem::replace(&mut told, true) {
                watcher.waits();
            }
            if watcher.cancelled() { Err(Error::Cancelled) } else { Ok(()) }
        })?;
        if let Some(model) = self.here(&listing, &chosen)? {
            return Ok(Pulled { model, fetched: 0, was_here: true });
        }
        let staging = self.store.versions(&self.name).staging(listing.commit.get(..12).unwrap_or(&listing.commit));
        std::fs::create_dir_all(&staging).map_err(Error::io(&staging, CHECK_FOLDER))?;
        let job = Arc::new(Job { hub: self.hub.clone(), listing, staging, tally: Tally::default(), _lock: lock });
        let (listing, staging, tally) = (&job.listing, job.staging.as_path(), &job.tally);
        let mut hashes = BTreeMap::new();
        let mut batch = chosen.clone();
        self.borrow(&batch, staging)?;
        let mut permitted = false;
        while !batch.is_empty() {
            let missing = missing(&batch, staging);
            space::check(root, missing)?;
            if missing > 0 && !self.hub.settings().offline && !std::mem::replace(&mut permitted, true) {
                watcher.may_fetch(missing)?;
            }
            let total = sum(chosen.iter().map(|file| file.size));
            hashes.extend(fetch_all(&job, &batch, total, watcher)?);
            batch = referenced(listing, &chosen, staging)?;
            chosen.extend(batch.iter().cloned());
        }
        let version = self.move_in(listing, &chosen, &hashes, staging)?;
        if let Some(cache) = self.hub.cache().filter(|_| !self.hub.settings().offline) {
            cache.note(listing);
        }
        let fetched = tally.fetched.load(Ordering::Relaxed);
        tracing::info!(model = self.name, version, fetched, "model in place");
        Ok(Pulled { model: self.store.model(&self.name)?, fetched, was_here: false })
    }

    /// A folder that came from elsewhere is not replaced by another repository's of the same name.
    fn check_origin(&self) -> Result<()> {
        match self.store.find(&self.name)? {
            Some(model) if model.manifest.repository != self.asked.repository.id => Err(Error::InTheWay {
                reason: format!("it is the model of {}", model.manifest.repository),
                path: model.path,
            }),
            _ => Ok(()),
        }
    }

    fn accept(&self, listing: &Listing, watcher: &mut dyn Watcher) -> Result<()> {
        let name = listing.license.clone();
        if self.hub.settings().offline || name.as_deref().is_some_and(|name| FREE.contains(&name)) {
            return Ok(());
        }
        // A licence with a name is the same wherever it is; without one it is the repository's own.
        let key = name.clone().filter(|name| name != "other").unwrap_or_else(|| listing.repository.id.clone());
        if self.store.accepted(&key) {
            return Ok(());
        }
        let license = License {
            repository: listing.repository.to_string(),
            name: name.unwrap_or_else(|| "that it does not name".into()),
            link: listing.license_link.clone(),
        };
        match watcher.accepts(&license)? {
            true => self.store.accept(&key),
            false => Err(Error::LicenseNotAccepted {
                repository: license.repository,
                license: license.name,
                link: license.link,
            }),
        }
    }

    /// The model, if a version that is here has everything; the name is led to it.
    fn here(&self, listing: &Listing, chosen: &[Remote]) -> Result<Option<Model>> {
        let versions = self.store.versions(&self.name);
        let whole = |manifest: &Manifest| {
            manifest.revision.as_deref() == Some(&listing.commit)
                && chosen.iter().all(|file| manifest.files.iter().any(|piece| piece.path == file.path))
        };
        let Some((number, _)) = versions.all()?.into_iter().rev().find(|(_, manifest)| whole(manifest)) else {
            return Ok(None);
        };
        if versions.current() != Some(number) {
            versions.switch(number)?;
        }
        self.store.find(&self.name)
    }

    /// Links what another version has already: a release that changes its card does not cost its weights again.
    fn borrow(&self, chosen: &[Remote], staging: &Path) -> Result<()> {
        let versions = self.store.versions(&self.name);
        for file in chosen {
            let place = prepare(staging, &file.path)?;
            if place.exists() {
                continue;
            }
            for (number, manifest) in versions.all()?.into_iter().rev() {
                let Some(hash) = &file.hash else { break };
                if !manifest.files.iter().any(|piece| piece.path == file.path && piece.size == file.size) {
                    continue;
                }
                let source = versions.folder(number).join(&file.path);
                if of_file(&source).is_ok_and(|(_, hashes)| hashes.like(hash) == hash.digits())
                    && std::fs::hard_link(&source, &place).or_else(|_| std::fs::copy(&source, &place).map(drop)).is_ok()
                {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Looks at the graphs once more, writes the list of files, and makes the folder a version.
    fn move_in(
        &self,
        listing: &Listing,
        chosen: &[Remote],
        hashes: &BTreeMap<String, Hashes>,
        staging: &Path,
    ) -> Result<u32> {
        let versions = self.store.versions(&self.name);
        let mut manifest = Manifest {
            repository: self.asked.repository.id.clone(),
            revision: Some(listing.commit.clone()),
            precisions: vec![match self.asked.wanted {
                Wanted::Auto => "auto".to_owned(),
                Wanted::Exactly(precision) => precision.to_string(),
            }],
            license: listing.license.clone(),
            files: chosen
                .iter()
                .filter_map(|file| {
                    let sha256 = hashes.get(&file.path)?.sha256.clone();
                    Some(Piece { path: file.path.clone(), size: file.size, sha256 })
                })
                .collect(),
        };
        for file in chosen.iter().filter(|file| file.path.ends_with(".onnx")) {
            GraphFile::open(&staging.join(&file.path), Precision::Fp32)?;
        }
        // Another precision of the same release stays.
        let current = versions.current();
        let before = versions.all()?.into_iter().find(|(number, _)| Some(*number) == current);
        if let Some((number, before)) = before.filter(|(_, before)| before.revision == manifest.revision) {
            for piece in &before.files {
                if manifest.files.iter().all(|other| other.path != piece.path) {
                    let (from, to) = (versions.folder(number).join(&piece.path), prepare(staging, &piece.path)?);
                    let _ = std::fs::remove_file(&to);
                    let linked = std::fs::hard_link(&from, &to).or_else(|_| std::fs::copy(&from, &to).map(drop));
                    linked.map_err(Error::io(to, CHECK_FOLDER))?;
                    manifest.files.push(piece.clone());
                }
            }
            manifest.precisions.extend(before.precisions);
        }
        manifest.precisions.sort();
        manifest.precisions.dedup();
        manifest.files.sort_by(|one, other| one.path.cmp(&other.path));
        let kept: BTreeSet<&str> = manifest.files.iter().map(|piece| piece.path.as_str()).collect();
        sweep(staging, staging, &kept)?;
        manifest.write(staging)?;
        versions.install(staging)
    }
}

/// What the workers of a pull share. They hold the lock too: one that is stuck in a read when the pull has ended must not
/// meet another process at the same file.
#[derive(Debug)]
struct Job {
    hub: Hub,
    listing: Listing,
    staging: PathBuf,
    tally: Tally,
    _lock: Lock,
}

/// Fetches files side by side. When it ends early, workers that wait for the network are not waited for.
fn fetch_all(
    job: &Arc<Job>,
    files: &[Remote],
    total: u64,
    watcher: &mut dyn Watcher,
) -> Result<BTreeMap<String, Hashes>> {
    for file in files {
        prepare(&job.staging, &file.path)?;
    }
    // The largest first: the last to be fetched alone is then a small one.
    let mut order = files.to_vec();
    order.sort_by_key(|file| std::cmp::Reverse(file.size));
    let queue = Arc::new(Mutex::new(VecDeque::from(order)));
    let (send, done) = mpsc::channel();
    for _ in 0..WORKERS.min(files.len()) {
        let (send, queue, shared) = (send.clone(), Arc::clone(&queue), Arc::clone(job));
        let work = move || {
            while !shared.tally.stop.load(Ordering::Relaxed) {
                let next = queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                let Some(file) = next else { return };
                let fetched =
                    fetch(&shared.hub, &shared.listing, &file, &shared.staging.join(&file.path), &shared.tally);
                // Who does not listen any more has an error already.
                let _ = send.send((file.path, fetched));
            }
        };
        let spawned = std::thread::Builder::new().name("fetch".into()).spawn(work);
        spawned.map_err(Error::io(&job.staging, "the system has no room for threads; try again later"))?;
    }
    drop(send);
    let mut meter = Meter::new(&job.tally);
    let mut hashes = BTreeMap::new();
    let (mut failed, mut stopped) = (None, None);
    loop {
        match done.recv_timeout(TICK) {
            Ok((path, Ok(found))) => {
                hashes.insert(path, found);
            }
            Ok((_, Err(error))) => {
                // The first error is the cause; what it ends is told as cancelled.
                failed.get_or_insert(error);
                job.tally.stop.store(true, Ordering::Relaxed);
            }
            Err(mpsc::RecvTimeoutError::Timeout) => {}
            Err(mpsc::RecvTimeoutError::Disconnected) => break,
        }
        if watcher.cancelled() {
            job.tally.stop.store(true, Ordering::Relaxed);
        }
        if job.tally.stop.load(Ordering::Relaxed) && stopped.get_or_insert_with(Instant::now).elapsed() > FAREWELL {
            break;
        }
        watcher.progress(meter.read(&job.tally, total));
    }
    match failed {
        Some(error) => Err(error),
        None if hashes.len() < files.len() => Err(Error::Cancelled),
        None => Ok(hashes),
    }
}

/// A pause before the hub is asked again.
fn pause(watcher: &mut dyn Watcher, time: Duration) -> Result<()> {
    let begun = Instant::now();
    while begun.elapsed() < time {
        if watcher.cancelled() {
            return Err(Error::Cancelled);
        }
        std::thread::sleep(time.saturating_sub(begun.elapsed()).min(TICK));
    }
    Ok(())
}

/// The place of a file below `staging`, with its folder made.
fn prepare(staging: &Path, path: &str) -> Result<PathBuf> {
    inside(path, "the listing")?;
    let place = staging.join(path);
    if let Some(parent) = place.parent() {
        std::fs::create_dir_all(parent).map_err(Error::io(parent, CHECK_FOLDER))?;
    }
    Ok(place)
}

/// Bytes that are not here yet.
fn missing(files: &[Remote], staging: &Path) -> u64 {
    let length = |path: &Path| std::fs::metadata(path).map_or(0, |metadata| metadata.len());
    let left = |file: &Remote| {
        let place = staging.join(&file.path);
        match place.is_file() {
            true => 0,
            false => file.size.saturating_sub(length(&part_of(&place))),
        }
    };
    sum(files.iter().map(left))
}

/// A sum of sizes that somebody else states.
fn sum(sizes: impl Iterator<Item = u64>) -> u64 {
    sizes.fold(0, u64::saturating_add)
}

/// Files that the graphs refer to and that their names did not tell.
fn referenced(listing: &Listing, chosen: &[Remote], staging: &Path) -> Result<Vec<Remote>> {
    let mut further = BTreeMap::new();
    for graph in chosen.iter().filter(|file| file.path.ends_with(".onnx")) {
        let place = staging.join(&graph.path);
        let before = graph.path.rfind('/').map_or("", |at| &graph.path[..=at]);
        for location in external_files(&place)? {
            let path = format!("{before}{location}");
            inside(&path, &listing.repository.id)?;
            if chosen.iter().any(|file| file.path == path) {
                continue;
            }
            let file = listing.file(&path).ok_or_else(|| Error::Malformed {
                path: place.clone(),
                reason: format!("it needs {path}, which the repository does not have"),
                remedy: "choose another precision or revision",
            })?;
            further.insert(path, file.clone());
        }
    }
    Ok(further.into_values().collect())
}

/// Takes away what is no part of the version: parts of another precision that somebody gave up.
fn sweep(root: &Path, folder: &Path, kept: &BTreeSet<&str>) -> Result<()> {
    for entry in std::fs::read_dir(folder).map_err(Error::io(folder, CHECK_FOLDER))?.flatten() {
        let path = entry.path();
        if path.is_dir() {
            sweep(root, &path, kept)?;
            // Only when it is empty.
            let _ = std::fs::remove_dir(&path);
        } else if path.strip_prefix(root).ok().and_then(Path::to_str).is_none_or(|name| !kept.contains(name)) {
            std::fs::remove_file(&path).map_err(Error::io(path, CHECK_FOLDER))?;
        }
    }
    Ok(())
}

/// Turns counts into a rate that does not jump.
struct Meter {
    last: Instant,
    fetched: u64,
    rate: Option<f64>,
}

impl Meter {
    /// Time over which the rate follows a change.
    const SMOOTHING: f64 = 3.0;

    fn new(tally: &Tally) -> Self {
        Self { last: Instant::now(), fetched: tally.fetched.load(Ordering::Relaxed), rate: None }
    }

    fn read(&mut self, tally: &Tally, total: u64) -> Progress {
        let passed = self.last.elapsed().as_secs_f64();
        if passed >= TICK.as_secs_f64() / 2.0 {
            let fetched = tally.fetched.load(Ordering::Relaxed);
            let now = (fetched - self.fetched) as f64 / passed;
            let weight = 1.0 - (-passed / Self::SMOOTHING).exp();
            self.rate = Some(self.rate.map_or(now, |rate| rate + weight * (now - rate)));
            (self.last, self.fetched) = (Instant::now(), fetched);
        }
        let done = tally.here.load(Ordering::Relaxed).min(total);
        let rate = self.rate.unwrap_or_default();
        let left = (rate > 1.0).then(|| Duration::from_secs_f64(((total - done) as f64 / rate).min(1e7)));
        Progress { done, total, rate, left }
    }
}
