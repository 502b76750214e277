//! What a prompt is to a cache: ids to feed, and marks by which what was fed is recognised.

/// A prompt that a session can continue.
pub trait Prompt {
    /// The ids to feed.
    fn ids(&self) -> &[u32];

    /// What tells apart what is fed at position `at`: the id, unless something stands behind it that ids do not say.
    fn mark(&self, at: usize) -> u64 {
        u64::from(self.ids()[at])
    }
}

impl Prompt for [u32] {
    fn ids(&self) -> &[u32] {
        self
    }
}

impl Prompt for Vec<u32> {
    fn ids(&self) -> &[u32] {
        self
    }
}
