//! Orders from the daemon, which has no network, to the process that has: files in a folder that a path unit watches.
//!
//! `fetch/ID.json` is an order. It stays until it has been done or nobody wants it any more; taking it away cancels it.
//! `fetched/ID.json` tells how it goes, in another folder, because the path unit starts the fetcher while there is
//! anything in the first. Both are written aside and renamed, so that nobody reads half of one.

use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::{CHECK_FOLDER, Error, Result};
use crate::lock::Lock;

/// What is to be fetched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// The folder of models that it goes to.
    pub root: PathBuf,
    /// A name in the catalogue, or `OWNER/NAME[@REVISION]`.
    pub model: String,
    /// In which precision.
    pub precision: String,
    /// Whether the licence is accepted, whatever it is.
    pub accept_license: bool,
    /// Whether a metered connection may be used.
    pub metered: bool,
}

/// How it ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// The model is in place.
    Done {
        /// The name of its folder.
        model: String,
        /// Bytes that came over the network.
        fetched: u64,
    },
    /// It could not be done.
    Failed {
        /// The last element of the D-Bus error's name.
        error: String,
        /// The sentence for people.
        message: String,
    },
    /// Nobody wanted it any more.
    Cancelled,
}

/// How it goes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Bytes here.
    pub done: u64,
    /// Bytes of all files; 0 while unknown.
    pub total: u64,
    /// The end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<Answer>,
}

/// Both folders.
#[derive(Debug, Clone)]
pub struct Queue {
    orders: PathBuf,
    reports: PathBuf,
}

impl Queue {
    /// The queue in the folder of what has to survive.
    #[must_use]
    pub fn new(state: &Path) -> Self {
        Self { orders: state.join("fetch"), reports: state.join("fetched") }
    }

    /// Holds the place of the one process that works off orders; waits while another has it.
    ///
    /// # Errors
    /// [`Error::Io`], and what `waiting` ends the wait with.
    pub fn serve(&self, waiting: impl FnMut() -> Result<()>) -> Result<Lock> {
        Lock::take(&self.door()?, waiting)
    }

    /// Whether a process works off orders now.
    #[must_use]
    pub fn is_served(&self) -> bool {
        // Somebody else has it exactly when the wait for it would begin.
        self.door().and_then(|door| Lock::take(&door, || Err(Error::Cancelled))).is_err()
    }

    fn door(&self) -> Result<PathBuf> {
        std::fs::create_dir_all(&self.reports).map_err(Error::io(&self.reports, CHECK_FOLDER))?;
        Ok(self.reports.join("lock"))
    }

    /// Places an order; `id` is new and made of letters, digits and underscores.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn place(&self, id: &str, order: &Order) -> Result<()> {
        self.forget(id);
        // The report first: whoever sees the order can write it.
        write(&self.reports, id, &Report::default())?;
        write(&self.orders, id, order)
    }

    /// The orders that wait, the oldest first. One that cannot be read is taken away: the path unit would start the
    /// fetcher for it for ever.
    #[must_use]
    pub fn orders(&self) -> Vec<(String, Order)> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(&self.orders).into_iter().flatten().flatten() {
            let path = entry.path();
            let id = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".json").map(str::to_owned));
            match id.clone().zip(read(&path)) {
                Some((id, order)) => {
                    let age = entry.metadata().and_then(|metadata| metadata.modified()).ok();
                    found.push((age, id, order));
                }
                // Half a file on its way to its name.
                None if id.is_none() && path.extension().is_some_and(|ending| ending == "new") => {}
                None => {
                    tracing::warn!(path = %path.display(), "no order; taken away");
                    let _ = std::fs::remove_file(&path).or_else(|_| std::fs::remove_dir_all(&path));
                }
            }
        }
        found.sort_by(|one, other| (one.0, &one.1).cmp(&(other.0, &other.1)));
        found.into_iter().map(|(_, id, order)| (id, order)).collect()
    }

    /// Whether somebody still wants an order.
    #[must_use]
    pub fn is_wanted(&self, id: &str) -> bool {
        place_of(&self.orders, id).exists()
    }

    /// Takes an order back, or off the list once it is done.
    pub fn withdraw(&self, id: &str) {
        let _ = std::fs::remove_file(place_of(&self.orders, id));
    }

    /// Tells how an order goes.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn tell(&self, id: &str, report: &Report) -> Result<()> {
        write(&self.reports, id, report)
    }

    /// How an order goes; `None` if nobody has told.
    #[must_use]
    pub fn report(&self, id: &str) -> Option<Report> {
        read(&place_of(&self.reports, id))
    }

    /// Takes the report of an order away.
    pub fn forget(&self, id: &str) {
        let _ = std::fs::remove_file(place_of(&self.reports, id));
    }
}

fn place_of(folder: &Path, id: &str) -> PathBuf {
    folder.join(format!("{id}.json"))
}

fn write<T: Serialize>(folder: &Path, id: &str, value: &T) -> Result<()> {
    let (path, aside) = (place_of(folder, id), folder.join(format!("{id}.new")));
    let text = serde_json::to_vec(value).unwrap_or_default();
    std::fs::create_dir_all(folder)
        .and_then(|()| std::fs::write(&aside, text))
        .and_then(|()| std::fs::rename(&aside, &path))
        .map_err(Error::io(path, CHECK_FOLDER))
}

fn read<T: DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_are_read_in_their_order_and_rubbish_goes() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let queue = Queue::new(folder.path());
        let order = |model: &str| Order {
            root: "/models".into(),
            model: model.into(),
            precision: "auto".into(),
            accept_license: false,
            metered: false,
        };
        assert!(!queue.is_served());
        let serving = queue.serve(|| Ok(())).expect("nobody else");
        assert!(queue.is_served());
        drop(serving);
        queue.place("one", &order("a/b")).expect("placed");
        queue.place("two", &order("c/d")).expect("placed");
        std::fs::write(folder.path().join("fetch/odd.json"), "{").expect("written");
        let ids: Vec<String> = queue.orders().into_iter().map(|(id, _)| id).collect();
        assert_eq!(ids, ["one", "two"]);
        assert!(!folder.path().join("fetch/odd.json").exists());
        let done = Answer::Done { model: "b".into(), fetched: 3 };
        queue.tell("one", &Report { done: 3, total: 3, answer: Some(done.clone()) }).expect("told");
        queue.withdraw("one");
        assert!(!queue.is_wanted("one") && queue.is_wanted("two"));
        assert_eq!(queue.report("one").and_then(|report| report.answer), Some(done));
        queue.forget("one");
        assert_eq!(queue.report("one"), None);
    }
}
