//! Asking an engine: one thread for a question, which ends when nobody listens any more.

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TryRecvError, bounded};
use eddy_ipc::Error;
use eddy_store::http_agent;
use serde_json::Value;

use super::description::Description;
use super::protocol::{Ask, Piece, Stream, told};

/// Pieces that may wait to be taken.
const WAITING: usize = 64;
/// The pause after the first refusal; it doubles with each further one.
const PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// How often a pause looks whether anybody still listens.
const WINK: Duration = Duration::from_millis(50);
/// The largest answer that is no stream: an error, or the list of models.
const MOST_TEXT: u64 = 1 << 20;

/// An engine that serves a model.
#[derive(Debug, Clone)]
pub struct Client {
    description: Description,
    agent: ureq::Agent,
    key: Option<Key>,
}

/// A secret that stays out of logs.
#[derive(Clone)]
struct Key(String);

impl std::fmt::Debug for Key {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("Key")
    }
}

/// Something new of an answer.
#[derive(Debug)]
pub enum Event {
    /// Further text.
    Text(String),
    /// It is complete.
    Done(Box<Stream>),
    /// It will not come.
    Failed(Error),
}

/// An answer on its way. Who drops it has the engine stop.
#[derive(Debug)]
pub struct Reply {
    events: Receiver<Event>,
    gone: Arc<AtomicBool>,
}

impl Reply {
    /// What is new, if anything is.
    pub fn next(&self) -> Option<Event> {
        match self.events.try_recv() {
            Ok(event) => Some(event),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => {
                Some(Event::Failed(Error::Internal("the thread that asked has ended".into())))
            }
        }
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        self.gone.store(true, Ordering::Relaxed);
    }
}

/// Why a question has to be asked again, or need not be.
enum Refusal {
    Passing(String, Option<Duration>),
    Final(Error),
}

impl Client {
    /// An engine by its description. Nothing is sent yet.
    ///
    /// # Errors
    /// A sentence about a key that cannot be read.
    pub fn new(description: Description) -> Result<Self, String> {
        let key = description.key_file.as_ref().map(|path| {
            let text = std::fs::read_to_string(path);
            text.map(|key| Key(key.trim().to_owned()))
                .map_err(|error| format!("key_file: {}: {error}; check that it may be read", path.display()))
        });
        let (connect, answer) = (description.connect_timeout(), description.answer_timeout());
        Ok(Self { agent: http_agent(connect, answer, answer), key: key.transpose()?, description })
    }

    /// Where it is.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.description.url
    }

    /// Asks, on a thread of its own.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when the system refuses a thread.
    pub fn ask(&self, ask: Ask) -> Result<Reply, Error> {
        let (send, events) = bounded(WAITING);
        let gone = Arc::<AtomicBool>::default();
        let asking = Asking { client: self.clone(), send, gone: Arc::clone(&gone) };
        let spawned = std::thread::Builder::new().name("remote".into()).spawn(move || asking.run(&ask));
        spawned.map_err(|error| Error::unavailable("a thread", error))?;
        Ok(Reply { events, gone })
    }

    fn trouble(&self, reason: impl std::fmt::Display) -> Error {
        Error::unavailable(
            "the engine that serves this model",
            format!("{}: {reason}; check that it runs there, and its remote.toml", self.url()),
        )
    }

    /// What the engine calls the model.
    fn model(&self) -> Result<Option<String>, Refusal> {
        if self.description.model.is_some() {
            return Ok(self.description.model.clone());
        }
        let request = self.agent.get(format!("{}/models", self.url()));
        let request = match &self.key {
            Some(Key(key)) => request.header("Authorization", format!("Bearer {key}")),
            None => request,
        };
        let answer = text(self.accepted(request.call())?);
        let listed: Option<Value> = serde_json::from_slice(&answer).ok();
        let first = |listed: &Value| Some(listed.get("data")?.get(0)?.get("id")?.as_str()?.to_owned());
        match listed.as_ref().and_then(first) {
            Some(name) => Ok(Some(name)),
            None => Err(Refusal::Final(self.trouble("it lists no model; name one in remote.toml"))),
        }
    }

    /// An answer with a status that promises one.
    fn accepted(
        &self,
        answer: Result<ureq::http::Response<ureq::Body>, ureq::Error>,
    ) -> Result<ureq::http::Response<ureq::Body>, Refusal> {
        let response = answer.map_err(|error| match error {
            ureq::Error::BadUri(_) | ureq::Error::Tls(_) | ureq::Error::Rustls(_) => {
                Refusal::Final(self.trouble(error))
            }
            error => Refusal::Passing(format!("no answer ({error})"), None),
        })?;
        let status = response.status().as_u16();
        if status == 200 {
            return Ok(response);
        }
        let after = response.headers().get("retry-after").and_then(|text| text.to_str().ok()?.trim().parse().ok());
        let body: Option<Value> = serde_json::from_slice(&text(response)).ok();
        let said = body.map(|body| told(body.get("error").unwrap_or(&body))).unwrap_or_default();
        let reason = format!("it answers {status} {said}").trim_end().to_owned();
        match status {
            408 | 425 | 429 | 500 | 502 | 503 | 504 => Err(Refusal::Passing(reason, after.map(Duration::from_secs))),
            400 | 413 | 422 => Err(Refusal::Final(Error::InvalidArgument(format!("{}: {reason}", self.url())))),
            401 | 403 => Err(Refusal::Final(self.trouble(format!("{reason}; it wants the key of key_file")))),
            _ => Err(Refusal::Final(self.trouble(reason))),
        }
    }
}

fn text(response: ureq::http::Response<ureq::Body>) -> Vec<u8> {
    let mut bytes = Vec::new();
    // What cannot be read of an error is not told.
    let _ = response.into_body().into_reader().take(MOST_TEXT).read_to_end(&mut bytes);
    bytes
}

/// One question on its way.
struct Asking {
    client: Client,
    send: Sender<Event>,
    gone: Arc<AtomicBool>,
}

impl Asking {
    fn run(&self, ask: &Ask) {
        let mut failures = 0;
        loop {
            let mut begun = false;
            match self.attempt(ask, &mut begun) {
                Ok(()) => return,
                // What has come cannot be taken back, and would come twice.
                Err(Refusal::Passing(reason, after)) if !begun && failures + 1 < self.client.description.tries => {
                    let pause = after.unwrap_or(PAUSE * (1 << failures.min(8))).min(LONGEST_PAUSE);
                    tracing::info!(url = self.client.url(), reason, ?pause, "the engine is asked again");
                    failures += 1;
                    if !self.pause(pause) {
                        return;
                    }
                }
                Err(Refusal::Passing(reason, _)) => {
                    let times = if failures > 0 { format!(", {} times", failures + 1) } else { String::new() };
                    let broke = if begun { "the answer broke off: " } else { "" };
                    self.tell(Event::Failed(self.client.trouble(format!("{broke}{reason}{times}"))));
                    return;
                }
                Err(Refusal::Final(error)) => {
                    self.tell(Event::Failed(error));
                    return;
                }
            }
        }
    }

    fn attempt(&self, ask: &Ask, begun: &mut bool) -> Result<(), Refusal> {
        let client = &self.client;
        let model = client.model()?;
        let body = ask.body(model.as_deref()).map_err(|reason| Refusal::Final(Error::InvalidContent(reason)))?;
        let mut request = client.agent.post(format!("{}/chat/completions", client.url()));
        request = request.header("Content-Type", "application/json").header("Accept", "text/event-stream");
        if let Some(Key(key)) = &client.key {
            request = request.header("Authorization", format!("Bearer {key}"));
        }
        let response = client.accepted(request.send(body.to_string().as_bytes()))?;
        let mut reader = response.into_body().into_with_config().limit(u64::MAX).reader();
        let mut stream = Stream::default();
        let mut buffer = [0; 8192];
        loop {
            let count = reader.read(&mut buffer).map_err(|error| Refusal::Passing(error.to_string(), None))?;
            if count == 0 {
                return match stream.reason {
                    // Some servers leave out the last word.
                    Some(_) => self.finish(stream),
                    None => Err(Refusal::Passing("the connection ended".into(), None)),
                };
            }
            let pieces = stream.take(&buffer[..count]);
            for piece in pieces.map_err(|reason| Refusal::Final(client.trouble(reason)))? {
                match piece {
                    Piece::Text(text) => {
                        *begun = true;
                        if !self.tell(Event::Text(text)) {
                            return Ok(());
                        }
                    }
                    Piece::Refused(reason) => return Err(Refusal::Final(client.trouble(reason))),
                    Piece::End => return self.finish(stream),
                }
            }
            if self.gone.load(Ordering::Relaxed) {
                return Ok(());
            }
        }
    }

    fn finish(&self, stream: Stream) -> Result<(), Refusal> {
        self.tell(Event::Done(Box::new(stream)));
        Ok(())
    }

    /// Hands something over; waits while the one who asked is slow, and tells whether it is still there.
    fn tell(&self, event: Event) -> bool {
        self.send.send(event).is_ok()
    }

    fn pause(&self, time: Duration) -> bool {
        let begun = Instant::now();
        while begun.elapsed() < time {
            if self.gone.load(Ordering::Relaxed) {
                return false;
            }
            std::thread::sleep(WINK.min(time));
        }
        true
    }
}
