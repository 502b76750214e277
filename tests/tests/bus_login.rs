//! What the daemon asks of the machine's other services, on a private bus in place of the system's: logind, which tells of
//! sleep and of sessions, and RealtimeKit, which is asked for urgent audio threads.

#![allow(clippy::unwrap_used, missing_docs)]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use eddy_ipc::client::AssistantProxy;
use eddy_tests::bus::{Daemon, PrivateBus, within};
use eddy_tests::server::with_server;
use rustix::pipe::{PipeFlags, pipe_with};
use zbus::object_server::SignalEmitter;
use zbus::{Connection, OwnedFd, OwnedObjectPath};

const SOON: Duration = Duration::from_secs(2);
const SESSION: &str = "/org/freedesktop/login1/session/c1";

/// The manager, and the other ends of the locks that it gave out.
#[derive(Clone, Default)]
struct Manager {
    locks: Arc<Mutex<Vec<std::os::fd::OwnedFd>>>,
    asked: Arc<Mutex<Vec<(String, String)>>>,
}

impl Manager {
    /// Locks that somebody still holds: the writing end of a pipe that nobody reads is told so.
    fn held(&self) -> usize {
        let locks = self.locks.lock().unwrap();
        let held = |lock: &std::os::fd::OwnedFd| {
            let mut polled = [rustix::event::PollFd::new(lock, rustix::event::PollFlags::OUT)];
            let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
            rustix::event::poll(&mut polled, Some(&now)).unwrap();
            !polled[0].revents().contains(rustix::event::PollFlags::ERR)
        };
        locks.iter().filter(|lock| held(lock)).count()
    }
}

#[zbus::interface(name = "org.freedesktop.login1.Manager")]
impl Manager {
    fn inhibit(&self, what: &str, who: &str, why: &str, mode: &str) -> OwnedFd {
        assert!(!who.is_empty() && !why.is_empty());
        self.asked.lock().unwrap().push((what.to_owned(), mode.to_owned()));
        let (given, kept) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        self.locks.lock().unwrap().push(kept);
        given.into()
    }

    fn get_session(&self, id: &str) -> OwnedObjectPath {
        assert_eq!(id, "auto");
        SESSION.try_into().unwrap()
    }

    #[zbus(signal)]
    async fn prepare_for_sleep(emitter: &SignalEmitter<'_>, begins: bool) -> zbus::Result<()>;
    #[zbus(signal)]
    async fn session_new(emitter: &SignalEmitter<'_>, id: &str, path: OwnedObjectPath) -> zbus::Result<()>;
    #[zbus(signal)]
    async fn session_removed(emitter: &SignalEmitter<'_>, id: &str, path: OwnedObjectPath) -> zbus::Result<()>;
}

struct Session {
    active: bool,
}

#[zbus::interface(name = "org.freedesktop.login1.Session")]
impl Session {
    #[zbus(property)]
    fn active(&self) -> bool {
        self.active
    }

    #[zbus(property)]
    fn remote(&self) -> bool {
        false
    }
}

/// A logind on a bus of its own.
async fn logind(system: &PrivateBus) -> (Connection, Manager) {
    let manager = Manager::default();
    let connection = zbus::connection::Builder::address(system.address.as_str())
        .serve_at("/org/freedesktop/login1", manager.clone())
        .serve_at(SESSION, Session { active: true })
        .name("org.freedesktop.login1")
        .build()
        .await
        .unwrap();
    (connection, manager)
}

#[test]
fn streams_are_closed_for_sleep_and_for_another_session() {
    with_server("streams_are_closed_for_sleep_and_for_another_session", |server| {
        let _recorder = server.listen("vmic");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let system = PrivateBus::start();
            let (logind, manager) = logind(&system).await;
            let models = eddy_tests::fixtures::fixture("speech-a");
            let daemon = Daemon::start_with(&models, &["voice.mode=open"], |command| {
                command.env("DBUS_SYSTEM_BUS_ADDRESS", &system.address);
            });
            let client = daemon.client().await;
            let assistant = AssistantProxy::new(&client).await.unwrap();
            let open = async || assistant.microphone_in_use().await.unwrap();
            within(Duration::from_secs(5), "the microphone is open", open).await;
            within(SOON, "sleep is delayed", async || manager.held() == 1).await;
            assert_eq!(*manager.asked.lock().unwrap(), [("sleep".to_owned(), "delay".to_owned())]);

            let emitter = SignalEmitter::new(&logind, "/org/freedesktop/login1").unwrap();
            Manager::prepare_for_sleep(&emitter, true).await.unwrap();
            within(SOON, "the machine may sleep", async || manager.held() == 0).await;
            assert!(!open().await, "the microphone was closed before the machine was let go");
            assert_eq!(assistant.state().await.unwrap(), "unavailable");
            assert!(assistant.state_reason().await.unwrap().contains("sleep"));
            Manager::prepare_for_sleep(&emitter, false).await.unwrap();
            within(SOON, "the microphone is open again", open).await;
            within(SOON, "the next sleep is delayed", async || manager.held() == 1).await;

            let session = logind.object_server().interface::<_, Session>(SESSION).await.unwrap();
            for active in [false, true] {
                let mut object = session.get_mut().await;
                object.active = active;
                object.active_changed(session.signal_emitter()).await.unwrap();
                drop(object);
                within(SOON, "the microphone follows the session", async || open().await == active).await;
            }
            within(SOON, "it listens", async || assistant.state().await.unwrap() == "idle").await;
        });
    });
}

#[derive(Clone, Default)]
struct RealtimeKit {
    asked: Arc<Mutex<Vec<(u64, u32)>>>,
}

#[zbus::interface(name = "org.freedesktop.RealtimeKit1")]
impl RealtimeKit {
    #[zbus(name = "MakeThreadRealtime")]
    fn make_thread_realtime(&self, thread: u64, priority: u32) {
        self.asked.lock().unwrap().push((thread, priority));
    }
}

/// How a thread is scheduled: the 41st field of its line, 1 being real time.
fn policy(process: u32, thread: &str) -> Option<u32> {
    let line = std::fs::read_to_string(format!("/proc/{process}/task/{thread}/stat")).ok()?;
    line.rsplit_once(')')?.1.split_whitespace().nth(38)?.parse().ok()
}

#[test]
fn audio_threads_are_urgent_or_realtime_kit_is_asked() {
    with_server("audio_threads_are_urgent_or_realtime_kit_is_asked", |server| {
        let _recorder = server.listen("vmic");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let system = PrivateBus::start();
            let kit = RealtimeKit::default();
            let _connection = zbus::connection::Builder::address(system.address.as_str())
                .serve_at("/org/freedesktop/RealtimeKit1", kit.clone())
                .name("org.freedesktop.RealtimeKit1")
                .build()
                .await
                .unwrap();
            let models = eddy_tests::fixtures::fixture("speech-a");
            let daemon = Daemon::start_with(&models, &["voice.mode=open"], |command| {
                command.env("DBUS_SYSTEM_BUS_ADDRESS", &system.address);
            });
            let process = daemon.child.id();
            // Granted by the system, or asked for: either way both streams' threads are looked after, and no other.
            within(Duration::from_secs(5), "the audio threads are urgent", async || {
                let threads = std::fs::read_dir(format!("/proc/{process}/task")).unwrap();
                let threads = threads.flatten().map(|entry| entry.file_name().into_string().unwrap());
                let urgent: Vec<String> = threads.filter(|thread| policy(process, thread) == Some(1)).collect();
                let asked = kit.asked.lock().unwrap().clone();
                let belongs = |(thread, priority): &(u64, u32)| {
                    *priority > 0 && std::path::Path::new(&format!("/proc/{process}/task/{thread}")).exists()
                };
                (urgent.len() == 2 && asked.is_empty())
                    || (urgent.is_empty() && asked.len() == 2 && asked.iter().all(belongs))
            })
            .await;
        });
    });
}
