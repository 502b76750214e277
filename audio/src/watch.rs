//! News of devices: what came, what went, what the default is now, and whether our streams are where we opened them.
//!
//! A server moves a stream to another device when its own goes, without a word to the stream: the microphone of a
//! moment ago may be the neighbour's, or our own loudspeaker's monitor. So a thread listens to the server, compares
//! what was with what is, and tells each difference once. It sleeps while there is none.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::device::{Device, Direction};
use crate::error::Result;
use crate::pulse::{Connection, News, Subscription, Topology};

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The server went away, with every stream.
    ServerLost,
    /// A server answers again; streams can be opened.
    ServerBack,
    /// The system's default is another device now, or none.
    DefaultChanged {
        /// Microphone or loudspeaker.
        direction: Direction,
        /// Its name.
        name: Option<String>,
    },
    /// A device came.
    Appeared(Device),
    /// A device went.
    Vanished {
        /// Microphone or loudspeaker.
        direction: Direction,
        /// Its name.
        name: String,
    },
    /// A stream of this process is on another device than before: open it anew where it belongs.
    StreamMoved {
        /// Microphone or loudspeaker.
        direction: Direction,
        /// The device it was opened on.
        from: String,
        /// The device it is on now.
        to: String,
    },
}

/// How long a change may have companions: a card that is plugged in brings several devices and a new default.
const SETTLE: Duration = Duration::from_millis(30);
/// How often a lost server is looked for.
const RETRY: Duration = Duration::from_millis(200);
/// How long the end of this thread may take.
const NAP: Duration = Duration::from_millis(500);

/// A listener at the sound server; it ends when this value is dropped.
pub struct Watch {
    events: Receiver<Event>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    /// Begins to listen. A server that is not there yet is waited for: the first event is then `ServerBack`.
    pub fn start() -> Watch {
        let (sender, events) = mpsc::channel();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::Builder::new().name("device-watch".into()).spawn(move || {
            let mut watcher = Watcher { sender, stop: stopped, seen: None, homes: HashMap::new(), lost: false };
            watcher.run();
        });
        // Without a thread there is no news; streams still report their own failure.
        Watch { events, stop, thread: thread.ok() }
    }

    /// The next event, waiting for it at most so long.
    pub fn next(&self, timeout: Duration) -> Option<Event> {
        self.events.recv_timeout(timeout).ok()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Watcher {
    sender: Sender<Event>,
    stop: Arc<AtomicBool>,
    seen: Option<Topology>,
    /// Where each of our streams was first seen.
    homes: HashMap<(Direction, u32), String>,
    lost: bool,
}

impl Watcher {
    fn run(&mut self) {
        while !self.stop.load(Relaxed) {
            let _ = self.listen();
            if !self.lost && !self.stop.load(Relaxed) {
                self.lost = true;
                self.tell(Event::ServerLost);
            }
            self.seen = None;
            self.homes.clear();
            std::thread::sleep(RETRY);
        }
    }

    /// Serves one connection until it breaks or the watch ends.
    fn listen(&mut self) -> Result<()> {
        let mut news = Connection::open()?.subscribe()?;
        let mut questions = Connection::open()?;
        let first = questions.topology()?;
        if self.lost {
            self.lost = false;
            self.tell(Event::ServerBack);
        }
        self.compare(first);
        while !self.stop.load(Relaxed) {
            if let News::Changed = news.wait(NAP)? {
                settle(&mut news)?;
                let now = questions.topology()?;
                self.compare(now);
            }
        }
        Ok(())
    }

    fn compare(&mut self, now: Topology) {
        for event in self.seen.as_ref().map(|before| differences(before, &now)).unwrap_or_default() {
            self.tell(event);
        }
        self.homes.retain(|(direction, index), _| {
            now.streams.iter().any(|stream| stream.direction == *direction && stream.index == *index)
        });
        for stream in &now.streams {
            let home = self.homes.entry((stream.direction, stream.index)).or_insert_with(|| stream.device.clone());
            if *home != stream.device {
                let from = std::mem::replace(home, stream.device.clone());
                self.tell(Event::StreamMoved { direction: stream.direction, from, to: stream.device.clone() });
            }
        }
        self.seen = Some(now);
    }

    fn tell(&self, event: Event) {
        // Nobody listens any more: the thread is about to be stopped.
        let _ = self.sender.send(event);
    }
}

/// Swallows what comes with a change, so that it is told once; not for ever, should news never cease.
fn settle(news: &mut Subscription) -> Result<()> {
    for _ in 0..100 {
        if let News::Quiet = news.wait(SETTLE)? {
            break;
        }
    }
    Ok(())
}

fn differences(before: &Topology, now: &Topology) -> Vec<Event> {
    let mut events = vec![];
    for direction in [Direction::Capture, Direction::Playback] {
        let (old, new) = (before.of(direction), now.of(direction));
        for gone in old.iter().filter(|device| !new.iter().any(|other| other.name == device.name)) {
            events.push(Event::Vanished { direction, name: gone.name.clone() });
        }
        for came in new.iter().filter(|device| !old.iter().any(|other| other.name == device.name)) {
            events.push(Event::Appeared(came.clone()));
        }
        let default =
            |devices: &[Device]| devices.iter().find(|device| device.default).map(|device| device.name.clone());
        if default(old) != default(new) {
            events.push(Event::DefaultChanged { direction, name: default(new) });
        }
    }
    events
}
