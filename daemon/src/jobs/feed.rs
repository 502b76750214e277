//! From the engine's thread to the bus: what is new of a request, gathered until somebody takes it.
//!
//! What is not taken yet grows into one piece rather than a queue of pieces, so a slow bus costs neither memory nor
//! signals.

use std::sync::{Mutex, MutexGuard, PoisonError};

use eddy_ipc::{Delta, Error, Failure, FinishReason, Outcome, RequestState};
use tokio::sync::Notify;

/// What has become of one request.
#[derive(Debug, Default)]
pub struct Feed {
    pending: Mutex<News>,
    arrived: Notify,
}

/// Everything that is new.
#[derive(Debug, Default)]
pub struct News {
    /// How many requests come before this one.
    pub queued: Option<u32>,
    /// Further text.
    pub text: String,
    /// Further transcript.
    pub transcript: String,
    /// How far the work is: done, and all there is.
    pub progress: Option<(u64, u64)>,
    /// The end, after which nothing more comes.
    pub end: Option<(RequestState, Outcome)>,
    ended: bool,
}

impl News {
    /// The signals that tell it.
    pub fn deltas(&mut self) -> impl Iterator<Item = Delta> + use<> {
        let piece = |text: &mut String| Some(std::mem::take(text)).filter(|text| !text.is_empty());
        let queued = self.queued.take().map(Delta::Queued);
        let transcript = piece(&mut self.transcript).map(Delta::Transcript);
        let text = piece(&mut self.text).map(Delta::Text);
        let progress = self.progress.take().map(|(done, total)| Delta::Progress { done, total });
        [queued, transcript, text, progress].into_iter().flatten()
    }
}

impl Feed {
    /// Tells how many requests come first.
    pub fn queued(&self, before: usize) {
        self.add(|news| news.queued = Some(u32::try_from(before).unwrap_or(u32::MAX)));
    }

    /// Adds to the answer.
    pub fn text(&self, text: &str) {
        if !text.is_empty() {
            self.add(|news| news.text.push_str(text));
        }
    }

    /// Adds to what was heard.
    pub fn transcript(&self, text: &str) {
        if !text.is_empty() {
            self.add(|news| news.transcript.push_str(text));
        }
    }

    /// Tells how far the work is.
    pub fn progress(&self, done: u64, total: u64) {
        self.add(|news| news.progress = Some((done, total)));
    }

    /// Ends it. Only the first end counts.
    pub fn end(&self, state: RequestState, outcome: Outcome) {
        self.add(|news| {
            if !std::mem::replace(&mut news.ended, true) {
                news.end = Some((state, outcome));
            }
        });
    }

    /// Ends it with an error, before or instead of any work.
    pub fn fail(&self, error: &Error) {
        self.end(RequestState::Failed, Outcome { failure: Some(Failure::from(error)), ..Outcome::default() });
    }

    /// Ends it as cancelled, before any work.
    pub fn cancel(&self) {
        let outcome = Outcome { finish_reason: Some(FinishReason::Cancelled), ..Outcome::default() };
        self.end(RequestState::Cancelled, outcome);
    }

    /// Waits until there is something new and takes it.
    pub async fn next(&self) -> News {
        loop {
            let arrived = self.arrived.notified();
            {
                let mut news = self.news();
                let said = !news.text.is_empty() || !news.transcript.is_empty();
                if said || news.queued.is_some() || news.progress.is_some() || news.end.is_some() {
                    let ended = news.ended;
                    return std::mem::replace(&mut *news, News { ended, ..News::default() });
                }
            }
            arrived.await;
        }
    }

    fn add(&self, change: impl FnOnce(&mut News)) {
        change(&mut self.news());
        self.arrived.notify_one();
    }

    fn news(&self) -> MutexGuard<'_, News> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn pieces_that_nobody_took_come_as_one_and_the_first_end_counts() {
        let feed = Feed::default();
        feed.queued(3);
        feed.text("one ");
        feed.text("two");
        feed.cancel();
        feed.fail(&Error::muted());
        feed.text("late");
        let mut news = feed.next().await;
        let deltas: Vec<Delta> = news.deltas().collect();
        assert_eq!(deltas, [Delta::Queued(3), Delta::Text("one twolate".into())]);
        assert_eq!(news.end.map(|(state, _)| state), Some(RequestState::Cancelled));
    }
}
