//! What a conversation remembers: the turns themselves, and in the model's memory the cache that has read them.
//!
//! The turns are the truth. A cache that has been lost, because its model was unloaded or a turn failed half-way, is made
//! again from them.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use eddy_ipc::{Role, Turn};
use eddy_models::backbone::{Cache, Snapshot};
use eddy_models::speech::{MelFeatures, Prompt, TurnRole};

/// Bytes of a caller's that are given back when this is dropped.
pub type Hold = Box<dyn std::any::Any + Send + Sync>;

/// What the person said.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Said {
    Words(String),
    Sound(MelFeatures),
}

impl Said {
    pub fn put(&self, prompt: Prompt) -> Prompt {
        match self {
            Self::Words(words) => prompt.words(words),
            Self::Sound(features) => prompt.sound(features.clone()),
        }
    }
}

struct Exchange {
    said: Said,
    answer: String,
    interrupted: bool,
    /// Positions that it took in the cache.
    positions: usize,
    _hold: Option<Hold>,
}

/// A conversation's memory.
pub struct Memory {
    id: u64,
    instructions: String,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    exchanges: Vec<Exchange>,
    /// Counts how often everything was forgotten.
    epoch: u64,
    /// Turns that run or wait; the first has the conversation.
    turns: VecDeque<u64>,
    next_turn: u64,
}

/// A turn's place in a conversation.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    number: u64,
    epoch: u64,
}

/// A cache that has read a conversation up to its last turn.
#[derive(Debug)]
pub(super) struct Kept {
    pub cache: Cache,
    /// The embedding of the last item, which the cache does not hold yet.
    pub unfed: Vec<f32>,
    /// Exchanges that it has read, and since when.
    pub read: (u64, usize),
}

/// A cache on its way through a turn.
#[derive(Debug)]
pub(super) struct Opened {
    pub cache: Cache,
    pub prompt: Prompt,
    /// Rows to feed before the prompt's.
    pub unfed: Vec<f32>,
    /// Where to go back to if nothing comes of the turn; `None` for a cache that is new.
    pub back: Option<Snapshot>,
    /// Exchanges that were dropped to make room.
    pub folded: usize,
}

impl std::fmt::Debug for Memory {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Not what was said.
        write!(out, "Memory({})", self.id)
    }
}

impl Memory {
    /// An empty one, for a conversation that begins with `instructions`.
    #[must_use]
    pub fn new(instructions: String) -> Arc<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        Arc::new(Self { id, instructions, state: Mutex::default() })
    }

    /// Its number, under which models keep its cache.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Forgets every turn; one that runs is not remembered.
    pub fn reset(&self) {
        let mut state = self.state();
        state.exchanges.clear();
        state.epoch += 1;
    }

    /// The turns, the oldest first. What was said aloud has no text.
    #[must_use]
    pub fn history(&self) -> Vec<Turn> {
        let mut turns = Vec::new();
        for exchange in &self.state().exchanges {
            let text = match &exchange.said {
                Said::Words(words) => words.clone(),
                Said::Sound(_) => String::new(),
            };
            turns.push(Turn { role: Role::User, text, interrupted: false });
            let (text, interrupted) = (exchange.answer.clone(), exchange.interrupted);
            turns.push(Turn { role: Role::Assistant, text, interrupted });
        }
        turns
    }

    /// A place behind the turns that wait.
    pub(super) fn line_up(&self) -> Place {
        let mut state = self.state();
        let number = state.next_turn;
        state.next_turn += 1;
        state.turns.push_back(number);
        Place { number, epoch: state.epoch }
    }

    /// Whether the turn has the conversation.
    pub(super) fn is_first(&self, place: Place) -> bool {
        self.state().turns.front() == Some(&place.number)
    }

    /// Ends a turn, wherever it was in the line.
    pub(super) fn leave(&self, place: Place) {
        self.state().turns.retain(|number| *number != place.number);
    }

    /// What has been read of the conversation, as far as `kept` is of use, and the prompt up to where the person
    /// speaks, behind `aside`: what the model is told for this turn alone. That stands in a system turn of its own, at the
    /// end, because everything before it has been read and stays read. If less than `room` positions of `context` are
    /// left, the oldest exchanges are dropped, until half of what may be used is free: a folded conversation is read
    /// anew, which should not happen at every turn.
    pub(super) fn open(
        &self,
        kept: Option<Kept>,
        aside: Option<&str>,
        (room, context): (usize, usize),
        snapshot: impl FnOnce(&Cache) -> Snapshot,
        fresh: impl FnOnce() -> eddy_models::Result<Cache>,
    ) -> eddy_models::Result<Opened> {
        let mut state = self.state();
        let folded = state.fold(context.saturating_sub(room));
        let kept = kept.filter(|_| folded == 0);
        if let Some(kept) = kept.filter(|kept| kept.read == (state.epoch, state.exchanges.len())) {
            let back = Some(snapshot(&kept.cache));
            let prompt = to_person(Prompt::continuation(), aside);
            return Ok(Opened { cache: kept.cache, prompt, unfed: kept.unfed, back, folded });
        }
        let mut prompt = Prompt::opening().turn(TurnRole::System).words(&self.instructions).end_turn();
        for exchange in &state.exchanges {
            prompt = exchange.said.put(prompt.turn(TurnRole::User)).awaiting_reply();
            prompt = prompt.words(&exchange.answer).end_turn();
        }
        let prompt = to_person(prompt, aside);
        Ok(Opened { cache: fresh()?, prompt, unfed: Vec::new(), back: None, folded })
    }

    /// Remembers an exchange; tells what a cache that has read it has read. `None` if all was forgotten meanwhile.
    pub(super) fn remember(
        &self,
        place: Place,
        said: Said,
        (answer, interrupted): (String, bool),
        positions: usize,
        hold: Option<Hold>,
    ) -> Option<(u64, usize)> {
        let mut state = self.state();
        if state.epoch != place.epoch {
            return None;
        }
        state.exchanges.push(Exchange { said, answer, interrupted, positions, _hold: hold });
        Some((state.epoch, state.exchanges.len()))
    }

    /// What a cache has read that is where the conversation is.
    pub(super) fn read(&self, place: Place) -> Option<(u64, usize)> {
        let state = self.state();
        (state.epoch == place.epoch).then_some((state.epoch, state.exchanges.len()))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Gives the turn to the person, who is told nothing of `aside`.
fn to_person(prompt: Prompt, aside: Option<&str>) -> Prompt {
    let prompt = match aside {
        Some(aside) => prompt.turn(TurnRole::System).words(aside).end_turn(),
        None => prompt,
    };
    prompt.turn(TurnRole::User)
}

impl State {
    /// Drops the oldest exchanges if all together take more than `limit` positions; tells how many.
    fn fold(&mut self, limit: usize) -> usize {
        let mut positions: usize = self.exchanges.iter().map(|exchange| exchange.positions).sum();
        if positions <= limit {
            return 0;
        }
        let mut dropped = 0;
        while positions > limit / 2 && dropped < self.exchanges.len() {
            positions -= self.exchanges[dropped].positions;
            dropped += 1;
        }
        self.exchanges.drain(..dropped);
        dropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_turns_go_when_there_is_no_room_and_not_before() {
        let memory = Memory::new(String::new());
        let place = memory.line_up();
        for number in 0..10 {
            let said = Said::Words(format!("question {number}"));
            memory.remember(place, said, (format!("answer {number}"), false), 100, None).expect("remembered");
        }
        assert_eq!(memory.state().fold(1_000), 0);
        assert_eq!(memory.state().fold(999), 6);
        let left: Vec<String> = memory.history().into_iter().map(|turn| turn.text).collect();
        assert_eq!(left.first().map(String::as_str), Some("question 6"));
        assert_eq!(left.len(), 8);
    }

    #[test]
    fn an_aside_changes_nothing_that_was_read() {
        let open = |aside| to_person(Prompt::continuation(), aside);
        let plain = open(None);
        assert_eq!(plain, Prompt::continuation().turn(TurnRole::User));
        let told = open(Some("Briefly."));
        let wanted = Prompt::continuation().turn(TurnRole::System).words("Briefly.").end_turn().turn(TurnRole::User);
        assert_eq!(told, wanted, "behind what is in the cache, before the person's turn");
    }
}
