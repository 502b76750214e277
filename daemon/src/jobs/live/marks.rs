//! The places to which an answer can be cut: one for each frame of it that has not been heard to its end.

use std::collections::VecDeque;

use eddy_models::backbone::Snapshot;

/// A place behind a frame.
#[derive(Debug)]
pub struct Mark {
    /// Frames of the answer up to here.
    pub frames: u64,
    /// The cache.
    pub snapshot: Snapshot,
    /// The row that the cache lacks.
    pub unfed: Vec<f32>,
    /// Bytes of the answer's text.
    pub text: usize,
}

/// Places in the order of their frames. The first is that of the last frame known to be heard.
#[derive(Debug, Default)]
pub struct Marks(VecDeque<Mark>);

impl Marks {
    /// Whether there is no place yet.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Frames up to the last place.
    pub fn last(&self) -> Option<u64> {
        self.0.back().map(|mark| mark.frames)
    }

    /// Adds a place behind all others.
    pub fn add(&mut self, mark: Mark) {
        self.0.push_back(mark);
    }

    /// Forgets the places before the one that `heard` frames lead to.
    pub fn pass(&mut self, heard: u64) {
        while self.0.get(1).is_some_and(|next| next.frames <= heard) {
            self.0.pop_front();
        }
    }

    /// The place of an answer of which `heard` frames were heard.
    pub fn place_of(mut self, heard: u64) -> Option<Mark> {
        self.pass(heard);
        self.0.pop_front()
    }
}
