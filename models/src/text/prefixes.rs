//! One cache for many conversations: what has been read is kept, and a prompt that begins the same way starts from it.
//!
//! A conversation that goes on takes its own session back. One that shares less, a system prompt or a list of tools,
//! gets a copy of as much as it shares. Bounded in bytes; what was used least recently goes first.

use crate::error::Result;

use super::model::TextModel;
use super::session::TextSession;

/// What the cache has saved.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PrefixCounts {
    /// Prompts that began with something that had been read.
    pub hits: u64,
    /// Prompts that did not.
    pub misses: u64,
    /// Positions that were not computed again.
    pub positions_reused: u64,
    /// Positions of all prompts.
    pub positions: u64,
    /// Sessions that had to go for others.
    pub evicted: u64,
}

/// Sessions that may be of use again. They belong to one model.
#[derive(Debug)]
pub struct Prefixes {
    /// The least recently used first.
    kept: Vec<TextSession>,
    limit: usize,
    counts: PrefixCounts,
}

impl Prefixes {
    /// Keeps at most `limit` bytes.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { kept: Vec::new(), limit, counts: PrefixCounts::default() }
    }

    /// A session for `prompt`, which holds as much of it as is known.
    ///
    /// # Errors
    /// When memory is refused.
    pub fn session(&mut self, model: &mut TextModel, prompt: &[u32]) -> Result<TextSession> {
        let useful = self.kept.iter().map(|session| session.useful_for(prompt)).enumerate();
        let best = useful.max_by_key(|(_, useful)| *useful).filter(|(_, useful)| *useful > 0);
        self.counts.positions += prompt.len() as u64;
        let Some((index, useful)) = best else {
            self.counts.misses += 1;
            return TextSession::new(model);
        };
        self.counts.hits += 1;
        self.counts.positions_reused += useful as u64;
        let session = self.kept.remove(index);
        if session.fed().len() == useful {
            return Ok(session);
        }
        let fork = session.fork(model, useful);
        self.kept.push(session);
        fork
    }

    /// Keeps a session for later prompts.
    pub fn keep(&mut self, session: TextSession) {
        if session.fed().is_empty() {
            return;
        }
        // What the new one begins with is in it.
        self.kept.retain(|other| !session.fed().starts_with(other.fed()));
        self.kept.push(session);
        while self.bytes() > self.limit && !self.kept.is_empty() {
            self.kept.remove(0);
            self.counts.evicted += 1;
        }
    }

    /// Bytes that the sessions occupy.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.kept.iter().map(TextSession::bytes).sum()
    }

    /// What it has saved.
    #[must_use]
    pub fn counts(&self) -> PrefixCounts {
        self.counts
    }
}
