//! The indexes of this user on the disk: whose they are, and who changes one at the moment.
//!
//! Each is a folder that bears its name. Beside the index proper lies `owner`, the application that made it; an index
//! without one was made by the person at the command line. Everything here touches the disk and may take a while.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use eddy_config::Application;
use eddy_ipc::{Error, Result};
use eddy_models::retrieval::Vectors;
use eddy_models::retrieval::index::{Access, Hit, Index, LocalIndex, Passage};
use tokio::sync::Notify;

const OWNER: &str = "owner";

/// Whether `name` can name an index: it is a file name and nothing more.
#[must_use]
pub fn is_name(name: &str) -> bool {
    let sensible = name.chars().all(|character| character.is_alphanumeric() || matches!(character, '-' | '_'));
    sensible && (1..=64).contains(&name.len())
}

/// All indexes.
#[derive(Debug)]
pub struct Shelf {
    folder: PathBuf,
    held: Mutex<BTreeMap<String, Arc<Shelved>>>,
}

/// One index.
#[derive(Debug)]
pub struct Shelved {
    /// Its name.
    pub name: String,
    /// Floats in its vectors.
    pub width: usize,
    /// The model that makes them: a model folder's name, or its path.
    pub model: String,
    /// Told whenever its contents change.
    pub changed: Notify,
    owner: Option<String>,
    folder: PathBuf,
    state: Mutex<State>,
    /// Passages and bytes as they were when nobody worked on it.
    size: [AtomicU64; 2],
}

#[derive(Debug)]
enum State {
    Reading(LocalIndex),
    /// With the number of those who write.
    Writing(LocalIndex, usize),
    /// It was removed, or could not be opened again.
    Gone,
}

impl Shelf {
    /// The indexes in `folder`, which need not exist. One that cannot be opened is left out, and said to be in the log.
    #[must_use]
    pub fn open(folder: PathBuf) -> Self {
        let shelf = Self { folder, held: Mutex::default() };
        shelf.catch_up();
        shelf
    }

    /// Takes in indexes that other processes have made since; those that are new.
    pub fn catch_up(&self) -> Vec<Arc<Shelved>> {
        let (mut held, mut new) = (self.held(), Vec::new());
        for entry in std::fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if !is_name(&name) || held.contains_key(&name) || !entry.path().is_dir() {
                continue;
            }
            match Shelved::open(name.clone(), entry.path()) {
                Ok(index) => {
                    let index = Arc::new(index);
                    new.push(Arc::clone(&index));
                    held.insert(name, index);
                }
                Err(error) => tracing::warn!(index = name, %error, "left out"),
            }
        }
        new
    }

    /// All of them, by name.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Shelved>> {
        self.held().values().cloned().collect()
    }

    /// Makes an empty index for `owner`, which may have no more than `limit`.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`], [`Error::Exists`], [`Error::LimitReached`], [`Error::Unavailable`].
    pub fn create(
        &self,
        name: &str,
        width: usize,
        model: &str,
        owner: Option<&Application>,
        limit: u32,
    ) -> Result<Arc<Shelved>> {
        if !is_name(name) {
            return Err(Error::invalid_argument("name", "up to 64 letters, digits, - and _"));
        }
        let owner = owner.map(ToString::to_string);
        let mut held = self.held();
        if held.contains_key(name) {
            return Err(Error::exists("index", name));
        }
        let count = held.values().filter(|index| index.owner == owner).count();
        if count >= limit as usize {
            return Err(Error::limit_reached("indexes", u64::from(limit), "limits.indexes_per_caller"));
        }
        let folder = self.folder.join(name);
        // Made by another process meanwhile, or a folder that is no index: either way the name is taken.
        LocalIndex::create(&folder, width, model).map(drop).map_err(|error| match error {
            eddy_models::Error::BadRequest(_) => Error::exists("index", name),
            error => Error::unavailable(&format!("the index {name}"), error),
        })?;
        let marked = owner.as_ref().map_or(Ok(()), |owner| std::fs::write(folder.join(OWNER), owner));
        let opened = marked.map_err(|error| Error::unavailable(&format!("the index {name}"), error)).and_then(|()| {
            Shelved::open(name.to_owned(), folder)
                .map_err(|error| Error::unavailable(&format!("the index {name}"), error))
        });
        let index = Arc::new(opened?);
        held.insert(name.to_owned(), Arc::clone(&index));
        Ok(index)
    }

    /// Removes an index from the disk.
    ///
    /// # Errors
    /// [`Error::Busy`] while somebody adds to it, [`Error::Unavailable`].
    pub fn remove(&self, name: &str) -> Result<()> {
        let mut held = self.held();
        let Some(index) = held.get(name) else { return Err(Error::not_found("index", name)) };
        let mut state = index.state();
        match &*state {
            State::Writing(_, writers) => return Err(Error::busy(*writers)),
            State::Reading(_) | State::Gone => {}
        }
        std::fs::remove_dir_all(&index.folder).map_err(|error| Error::unavailable(&index.what(), error))?;
        *state = State::Gone;
        drop(state);
        index.changed.notify_one();
        held.remove(name);
        Ok(())
    }

    fn held(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Shelved>>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shelved {
    fn open(name: String, folder: PathBuf) -> eddy_models::Result<Self> {
        let owner = std::fs::read_to_string(folder.join(OWNER)).ok();
        let index = LocalIndex::open(&folder, Access::Read)?;
        Ok(Self::new(name, folder, owner, index))
    }

    fn new(name: String, folder: PathBuf, owner: Option<String>, index: LocalIndex) -> Self {
        let (width, model) = (index.width(), index.model().to_owned());
        let size = [AtomicU64::new(index.passages() as u64), AtomicU64::new(index.bytes().unwrap_or_default())];
        let (changed, state) = (Notify::new(), Mutex::new(State::Reading(index)));
        Self { name, width, model, changed, owner, folder, state, size }
    }

    /// Whether a caller with these identities may change it: the application that made it. What the person made may be
    /// changed by every program outside of a sandbox, since each of those can write the files themselves.
    #[must_use]
    pub fn belongs_to(&self, identities: &[Application]) -> bool {
        match &self.owner {
            Some(owner) => identities.iter().any(|identity| identity.to_string() == *owner),
            None => !identities.iter().any(|identity| matches!(identity, Application::Sandboxed(_))),
        }
    }

    /// Passages in it, and bytes on the disk. Never waits: while somebody searches or writes, as they were before.
    #[must_use]
    pub fn size(&self) -> (u64, u64) {
        if let Ok(mut state) = self.state.try_lock() {
            match &mut *state {
                State::Reading(index) => {
                    // What another process is writing at this moment is seen the next time.
                    let _ = index.catch_up();
                    self.measure(index);
                }
                State::Writing(index, _) => self.measure(index),
                State::Gone => {}
            }
        }
        let [count, bytes] = &self.size;
        (count.load(Ordering::Relaxed), bytes.load(Ordering::Relaxed))
    }

    /// Whether it was removed.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        matches!(&*self.state(), State::Gone)
    }

    /// The `most` best passages for a query.
    ///
    /// # Errors
    /// [`Error::NotFound`] when it was removed, [`Error::InvalidArgument`], [`Error::Unavailable`].
    pub fn search(&self, query: &Vectors, most: usize) -> Result<Vec<Hit>> {
        let mut state = self.state();
        let index = match &mut *state {
            State::Reading(index) => {
                index.catch_up().map_err(|error| self.failed(&error))?;
                index
            }
            State::Writing(index, _) => index,
            State::Gone => return Err(Error::not_found("index", &self.name)),
        };
        index.search(query, most).map_err(|error| self.failed(&error))
    }

    /// Opens it for changes until the guard is dropped.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Unavailable`] when another process changes it.
    pub fn write(self: &Arc<Self>) -> Result<Writing> {
        let mut state = self.state();
        *state = match std::mem::replace(&mut *state, State::Gone) {
            State::Writing(index, writers) => State::Writing(index, writers + 1),
            State::Reading(index) => match LocalIndex::open(&self.folder, Access::Write) {
                Ok(index) => State::Writing(index, 1),
                Err(error) => {
                    *state = State::Reading(index);
                    return Err(self.failed(&error));
                }
            },
            State::Gone => return Err(Error::not_found("index", &self.name)),
        };
        Ok(Writing(Arc::clone(self)))
    }

    fn measure(&self, index: &LocalIndex) {
        let [count, bytes] = &self.size;
        count.store(index.passages() as u64, Ordering::Relaxed);
        bytes.store(index.bytes().unwrap_or_default(), Ordering::Relaxed);
    }

    fn what(&self) -> String {
        format!("the index {}", self.name)
    }

    fn failed(&self, error: &eddy_models::Error) -> Error {
        match error {
            eddy_models::Error::BadRequest(reason) => Error::InvalidArgument(format!("{}: {reason}", self.what())),
            error => Error::unavailable(&self.what(), error),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right to change an index.
#[derive(Debug)]
pub struct Writing(Arc<Shelved>);

impl Writing {
    /// Adds passages, all or none.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for vectors that do not fit, [`Error::Unavailable`].
    pub fn add(&self, passages: &[Passage], vectors: &[Vectors]) -> Result<()> {
        self.change(|index| index.add(passages, vectors))
    }

    /// Removes passages; how many were there.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub fn remove(&self, ids: &[&str]) -> Result<usize> {
        self.change(|index| index.remove(ids))
    }

    fn change<T>(&self, change: impl FnOnce(&mut LocalIndex) -> eddy_models::Result<T>) -> Result<T> {
        match &mut *self.0.state() {
            State::Writing(index, _) => {
                let changed = change(index).map_err(|error| self.0.failed(&error));
                self.0.measure(index);
                self.0.changed.notify_one();
                changed
            }
            State::Reading(_) | State::Gone => Err(Error::not_found("index", &self.0.name)),
        }
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        let mut state = self.0.state();
        *state = match std::mem::replace(&mut *state, State::Gone) {
            // The lock is given up before it is opened for reading, so that others can write.
            State::Writing(index, 1) => {
                drop(index);
                reading(&self.0.folder)
            }
            State::Writing(index, writers) => State::Writing(index, writers - 1),
            other @ (State::Reading(_) | State::Gone) => other,
        };
    }
}

fn reading(folder: &Path) -> State {
    match LocalIndex::open(folder, Access::Read) {
        Ok(index) => State::Reading(index),
        Err(error) => {
            tracing::error!(index = %folder.display(), %error, "lost");
            State::Gone
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vectors(seed: f32) -> Vectors {
        Vectors::new(2, vec![seed.cos(), seed.sin()])
    }

    fn passage(id: &str) -> Passage {
        Passage { id: id.into(), text: format!("text of {id}"), place: None }
    }

    #[test]
    fn indexes_are_their_makers_and_found_again() {
        let root = tempfile::tempdir().expect("temporary folder");
        let notes = Application::Sandboxed("org.example.Notes".into());
        let other = Application::Sandboxed("org.example.Other".into());
        let program = Application::Executable("/usr/bin/eddy".into());
        let shelf = Shelf::open(root.path().join("indexes"));
        assert!(shelf.all().is_empty());
        let made = shelf.create("notes", 2, "colbert", Some(&notes), 1).expect("made");
        assert!(matches!(shelf.create("notes", 2, "colbert", Some(&other), 9), Err(Error::Exists(_))));
        assert!(matches!(shelf.create("more", 2, "colbert", Some(&notes), 1), Err(Error::LimitReached(_))));
        assert!(matches!(shelf.create("../x", 2, "colbert", None, 9), Err(Error::InvalidArgument(_))));
        let own = shelf.create("own", 2, "colbert", None, 9).expect("made");
        assert!(made.belongs_to(std::slice::from_ref(&notes)) && !made.belongs_to(std::slice::from_ref(&other)));
        assert!(own.belongs_to(std::slice::from_ref(&program)) && !own.belongs_to(&[other]));

        let (first, second) = (made.write().expect("free"), made.write().expect("shared"));
        first.add(&[passage("a"), passage("b")], &[vectors(0.0), vectors(1.0)]).expect("added");
        assert!(matches!(shelf.remove("notes"), Err(Error::Busy(_))));
        drop(first);
        assert_eq!(second.remove(&["b", "c"]).expect("removed"), 1);
        drop(second);
        let elsewhere = LocalIndex::open(&root.path().join("indexes/notes"), Access::Write).expect("the lock is free");
        assert!(matches!(made.write(), Err(Error::Unavailable(_))), "another process writes");
        drop(elsewhere);

        let again = Shelf::open(root.path().join("indexes"));
        let names: Vec<String> = again.all().iter().map(|index| index.name.clone()).collect();
        assert_eq!(names, ["notes", "own"]);
        let found = &again.all()[0];
        assert!(found.belongs_to(&[notes]) && !found.belongs_to(&[program]));
        assert_eq!((found.size().0, found.model.as_str()), (1, "colbert"));
        assert_eq!(found.search(&vectors(0.1), 5).expect("searched")[0].passage, passage("a"));
        again.remove("notes").expect("removed");
        assert!(matches!(found.search(&vectors(0.1), 5), Err(Error::NotFound(_))));
        assert!(!root.path().join("indexes/notes").exists());
    }
}
