//! Where the vectors of texts go: to whoever waits for them, into a pipe, or into an index.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::mpsc::{Receiver as Channel, TryRecvError, sync_channel};
use std::time::Instant;

use eddy_ipc::fd::{VectorsHeader, text_vectors};
use eddy_ipc::{Error, Failure, FinishReason, Outcome, RequestState};
use eddy_models::retrieval::Vectors;
use eddy_models::retrieval::index::Passage;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::delivery::Pipe;
use super::feed::Feed;
use super::retrieval::Receiver;
use crate::engine::{Ending, Step};
use crate::indexes::Writing;

/// What was encoded: floats in a vector, and the vectors of each text.
pub type Encoded = (usize, Vec<Vectors>);

/// For one who waits.
#[derive(Debug)]
pub struct Waiting {
    answer: Option<oneshot::Sender<Result<Encoded, Error>>>,
    encoded: Encoded,
}

impl Waiting {
    /// A receiver, and where its answer comes.
    #[must_use]
    pub fn new() -> (Self, oneshot::Receiver<Result<Encoded, Error>>) {
        let (send, answered) = oneshot::channel();
        (Self { answer: Some(send), encoded: (0, Vec::new()) }, answered)
    }
}

impl Receiver for Waiting {
    fn open(&mut self, width: usize) -> Option<Step> {
        self.encoded.0 = width;
        None
    }

    fn flush(&mut self) -> Option<Step> {
        self.answer.as_ref().is_none_or(oneshot::Sender::is_closed).then_some(Step::Abandoned)
    }

    fn take(&mut self, vectors: Vec<Vectors>) {
        self.encoded.1.extend(vectors);
    }

    fn is_clear(&self) -> bool {
        true
    }

    fn end(&mut self, ending: Ending, _: Option<Instant>) {
        let answer = match ending {
            Ending::Done => Ok(std::mem::take(&mut self.encoded)),
            Ending::Cancelled => Err(Error::Cancelled("the request was cancelled".into())),
            Ending::Failed(error) => Err(error),
        };
        if let Some(waiting) = self.answer.take() {
            // Nobody waits any more.
            let _ = waiting.send(answer);
        }
    }
}

/// For a caller that reads them from a pipe.
#[derive(Debug)]
pub struct Piped {
    pipe: Option<Pipe>,
    texts: u32,
    width: u32,
}

impl Piped {
    /// For the vectors of so many texts.
    #[must_use]
    pub fn new(pipe: Pipe, texts: u32) -> Self {
        Self { pipe: Some(pipe), texts, width: 0 }
    }
}

impl Receiver for Piped {
    fn open(&mut self, width: usize) -> Option<Step> {
        self.width = u32::try_from(width).unwrap_or_default();
        let header = VectorsHeader { texts: self.texts, width: self.width };
        self.pipe.as_mut()?.push(&header.to_bytes());
        None
    }

    fn flush(&mut self) -> Option<Step> {
        self.pipe.as_mut()?.step("vectors")
    }

    fn take(&mut self, vectors: Vec<Vectors>) {
        let mut bytes = Vec::new();
        for vectors in &vectors {
            // The encoder makes whole vectors of the width that it has told.
            let _ = text_vectors(vectors.data(), self.width, &mut bytes);
        }
        if let Some(pipe) = &mut self.pipe {
            pipe.push(&bytes);
        }
    }

    fn is_clear(&self) -> bool {
        self.pipe.as_ref().is_none_or(Pipe::is_clear)
    }

    fn end(&mut self, _: Ending, _: Option<Instant>) {
        // A pipe that ends early says that it failed.
        self.pipe = None;
    }
}

/// For an index. A batch is written beside the engine's thread, which would otherwise wait for the disk.
pub struct Shelving {
    index: Arc<Writing>,
    /// Identifiers and texts whose vectors have not come yet.
    documents: VecDeque<(String, String)>,
    total: u64,
    added: u32,
    /// A batch that is being written.
    writing: Option<Channel<Result<u32, Error>>>,
    feed: Arc<Feed>,
    threads: Handle,
    submitted: Instant,
}

impl Shelving {
    /// Adds `documents`, identifiers and texts, to `index`, and tells `feed`; writes on the threads of `threads`.
    #[must_use]
    pub fn new(index: Writing, documents: Vec<(String, String)>, feed: Arc<Feed>, threads: Handle) -> Self {
        let total = documents.len() as u64;
        let (index, documents) = (Arc::new(index), documents.into());
        Self { index, documents, total, added: 0, writing: None, feed, threads, submitted: Instant::now() }
    }
}

impl Receiver for Shelving {
    fn open(&mut self, _: usize) -> Option<Step> {
        None
    }

    fn flush(&mut self) -> Option<Step> {
        let told = self.writing.as_ref()?.try_recv();
        if matches!(told, Err(TryRecvError::Empty)) {
            return Some(Step::Full);
        }
        self.writing = None;
        match told {
            Ok(Ok(count)) => {
                self.added += count;
                self.feed.progress(u64::from(self.added), self.total);
                None
            }
            Ok(Err(error)) => Some(Step::Failed(error)),
            Err(_) => Some(Step::Failed(Error::Internal("an index was not written".into()))),
        }
    }

    fn take(&mut self, vectors: Vec<Vectors>) {
        let documents = self.documents.drain(..vectors.len().min(self.documents.len()));
        let passages: Vec<Passage> = documents.map(|(id, text)| Passage { id, text, place: None }).collect();
        let (send, written) = sync_channel(1);
        let index = Arc::clone(&self.index);
        self.threads.spawn_blocking(move || {
            let count = u32::try_from(passages.len()).unwrap_or(u32::MAX);
            let _ = send.send(index.add(&passages, &vectors).map(|()| count));
        });
        self.writing = Some(written);
    }

    fn is_clear(&self) -> bool {
        self.writing.is_none()
    }

    fn end(&mut self, ending: Ending, began: Option<Instant>) {
        let mut latency = BTreeMap::from([("reply".to_owned(), self.submitted.elapsed().as_secs_f64())]);
        latency.extend(began.map(|began| ("wait".to_owned(), (began - self.submitted).as_secs_f64())));
        let (mut added, feed, writing) = (self.added, Arc::clone(&self.feed), self.writing.take());
        let index = Arc::clone(&self.index);
        let tell = move || {
            // What is being written when the request is cancelled is written, and counted.
            added += writing.and_then(|writing| writing.recv().ok()?.ok()).unwrap_or_default();
            // The index can be written by others before the caller is told.
            drop(index);
            let outcome = Outcome { added: Some(added), latency, ..Outcome::default() };
            match ending {
                Ending::Done => feed.end(RequestState::Done, outcome),
                Ending::Cancelled => {
                    let finish_reason = Some(FinishReason::Cancelled);
                    feed.end(RequestState::Cancelled, Outcome { finish_reason, ..outcome });
                }
                Ending::Failed(error) => {
                    let failure = Some(Failure::from(&error));
                    feed.end(RequestState::Failed, Outcome { failure, ..outcome });
                }
            }
        };
        self.threads.spawn_blocking(tell);
    }
}
