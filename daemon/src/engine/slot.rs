//! One model folder and what is known, loaded and waited for of it.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use eddy_ipc::ModelState;
use eddy_models::folder::Family;

use super::caller::Ticket;
use super::handle::Permit;
use super::job::{Brake, Guard, Job, Loaded, Urgency};
use super::queue::Place;
use super::status::ModelStatus;
use crate::remote::Description;

/// What a model can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Task {
    /// Speech in and out.
    Speech,
    /// Written answers.
    Text,
    /// Questions about images.
    Vision,
    /// Search by meaning.
    Retrieval,
}

impl Task {
    /// The word in sentences: "there is no model for speech".
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Speech => "speech",
            Self::Text => "text",
            Self::Vision => "images",
            Self::Retrieval => "search",
        }
    }
}

impl From<Family> for Task {
    fn from(family: Family) -> Self {
        match family {
            Family::Speech => Self::Speech,
            Family::Text | Family::MixtureOfExperts => Self::Text,
            Family::Vision => Self::Vision,
            Family::Retrieval => Self::Retrieval,
        }
    }
}

/// A model folder as the catalog found it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folder {
    /// The folder's name.
    pub name: String,
    /// Where it lies.
    pub path: PathBuf,
    /// What it can be asked for, if it holds a model.
    pub task: Option<Task>,
    /// What kind of model it says it is.
    pub family: String,
    /// The precision that is loaded, or would be.
    pub precision: String,
    /// The licence that it states.
    pub license: String,
    /// Bytes of its weights in that precision.
    pub bytes: u64,
    /// The engine that serves it, if that is another one.
    pub remote: Option<Description>,
    /// Why it cannot be loaded.
    pub problem: Option<String>,
}

/// A job on its way, with all that is held for it.
pub(super) struct Entry<M> {
    pub job: Box<dyn Job<M>>,
    pub ticket: Arc<Ticket>,
    pub urgency: Urgency,
    pub model: Arc<str>,
    pub _permit: Permit,
}

impl<M> Entry<M> {
    pub fn place(&self) -> Place {
        Place { urgency: self.urgency, caller: self.ticket.caller() }
    }
}

/// Where a model stands.
pub(super) enum State<M> {
    Unloaded,
    /// Somebody wants it, and it waits for its turn or for room.
    Wanted,
    Loading,
    Loaded {
        model: M,
        brake: Arc<dyn Brake>,
        remarks: Vec<String>,
        guard: Box<dyn Guard>,
    },
    Failed {
        reason: String,
        at: Instant,
    },
}

pub(super) struct Slot<M> {
    pub folder: Folder,
    pub state: State<M>,
    /// Jobs for it that are in the queue, run, or have stepped aside.
    pub users: usize,
    /// Jobs that wait until it is in memory.
    pub waiting: VecDeque<Entry<M>>,
    pub last_used: Instant,
    pub pinned: bool,
    /// It goes when its users have: another model needs the room. Later jobs wait until it is back.
    pub leaving: bool,
    /// Its folder is no longer there; the slot goes when nobody uses it.
    pub vanished: bool,
    /// What a later listing found under its name, while it was in memory or on its way there.
    pub newer: Option<Folder>,
}

impl<M> Slot<M> {
    pub fn new(folder: Folder) -> Self {
        let state = match &folder.problem {
            Some(reason) => State::Failed { reason: reason.clone(), at: Instant::now() },
            None => State::Unloaded,
        };
        Self {
            folder,
            state,
            users: 0,
            waiting: VecDeque::new(),
            last_used: Instant::now(),
            pinned: false,
            leaving: false,
            vanished: false,
            newer: None,
        }
    }

    /// Takes what a later listing found, now that nothing of what was before is in memory.
    pub fn renew(&mut self) {
        if let Some(folder) = self.newer.take() {
            if let Some(reason) = &folder.problem {
                self.state = State::Failed { reason: reason.clone(), at: Instant::now() };
            } else if matches!(self.state, State::Failed { .. }) {
                self.state = State::Unloaded;
            }
            self.folder = folder;
        }
    }

    pub fn model(&mut self) -> Option<&mut M> {
        match &mut self.state {
            State::Loaded { model, .. } => Some(model),
            State::Unloaded | State::Wanted | State::Loading | State::Failed { .. } => None,
        }
    }

    pub fn is_loaded(&self) -> bool {
        matches!(self.state, State::Loaded { .. })
    }

    pub fn is_idle(&self) -> bool {
        self.users == 0 && self.waiting.is_empty() && !matches!(self.state, State::Wanted | State::Loading)
    }

    pub fn settle(&mut self, loaded: Result<Loaded<M>, String>) {
        self.last_used = Instant::now();
        self.state = match loaded {
            Ok(Loaded { model, brake, remarks, guard }) => State::Loaded { model, brake, remarks, guard },
            Err(reason) => State::Failed { reason, at: Instant::now() },
        };
    }

    pub fn status(&self) -> ModelStatus {
        let (state, reason) = match &self.state {
            State::Unloaded => (ModelState::Unloaded, String::new()),
            State::Wanted | State::Loading => (ModelState::Loading, String::new()),
            State::Loaded { remarks, .. } => (ModelState::Loaded, remarks.join("; ")),
            State::Failed { reason, .. } => (ModelState::Failed, reason.clone()),
        };
        ModelStatus { folder: self.folder.clone(), state, reason, resident: self.pinned }
    }
}
