//! How answers turned out that were begun at a likely pause, before it was certain that the person had finished.

use std::time::Duration;

/// All since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Foresight {
    /// Answers that were begun ahead; those of pauses after which the person went on were taken back.
    pub begun: u64,
    /// Those of them that became the answer.
    pub right: u64,
    /// By how much their first sounds came sooner than if they had been begun when it was certain, at most: what the
    /// engine did first of all is not known here.
    pub saved: Duration,
}

impl Foresight {
    /// For people; `None` before the first one.
    #[must_use]
    pub fn sentence(&self) -> Option<String> {
        let Self { begun, right, saved } = self;
        (*begun > 0).then(|| {
            let saved = saved.as_secs_f64();
            format!(
                "{right} of {begun} answers that were begun before the turn was over were wanted; sound came up to \
                 {saved:.2} s sooner for it, all together"
            )
        })
    }
}
