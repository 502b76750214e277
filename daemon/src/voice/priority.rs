//! Real-time priority for the threads of the audio callbacks, where the system grants it.
//!
//! The system is asked first, then RealtimeKit, which grants it to programs of a desktop. Without it sound is as good until
//! the machine is busy, so a refusal is noted once and nothing more.

use std::sync::Once;
use std::time::{Duration, Instant};

use eddy_audio::realtime::{CallbackThread, PRIORITY};
use rustix::process::{Resource, Rlimit, setrlimit};

/// How long the first callback is waited for.
const FIRST: Duration = Duration::from_secs(1);
/// Time that an urgent thread may take without a rest; RealtimeKit asks for such a limit, and this is its own.
const MOST: u64 = 200_000;

/// Asks for it; takes as long as the first callback and an answer on the bus, and is no matter of the caller's.
pub fn raise(thread: &CallbackThread) {
    static REFUSED: Once = Once::new();
    let begun = Instant::now();
    while thread.id().is_none() {
        if begun.elapsed() > FIRST {
            return;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    let Err(own) = thread.promote() else {
        tracing::debug!(thread = thread.id(), "an audio thread has real-time priority");
        return;
    };
    match by_realtime_kit(thread) {
        Ok(()) => tracing::debug!(thread = thread.id(), "RealtimeKit gave an audio thread real-time priority"),
        Err(theirs) => REFUSED.call_once(|| {
            tracing::info!(
                "the audio threads run without real-time priority ({own}; RealtimeKit: {theirs}); on a busy machine \
                 sound may stutter, and RealtimeKit or LimitRTPRIO= would help"
            );
        }),
    }
}

#[zbus::proxy(
    interface = "org.freedesktop.RealtimeKit1",
    default_service = "org.freedesktop.RealtimeKit1",
    default_path = "/org/freedesktop/RealtimeKit1"
)]
trait RealtimeKit {
    #[zbus(name = "MakeThreadRealtime")]
    async fn make_thread_realtime(&self, thread: u64, priority: u32) -> zbus::Result<()>;
}

fn by_realtime_kit(thread: &CallbackThread) -> anyhow::Result<()> {
    let id = thread.id().and_then(|id| u64::try_from(id).ok()).ok_or_else(|| anyhow::anyhow!("no thread"))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let asked = async {
            let bus = crate::bus::system_bus().await?;
            let kit = RealtimeKitProxy::new(&bus).await?;
            setrlimit(Resource::Rttime, Rlimit { current: Some(MOST), maximum: Some(MOST) })?;
            kit.make_thread_realtime(id, PRIORITY as u32).await?;
            anyhow::Ok(())
        };
        tokio::time::timeout(FIRST, asked).await?
    })
}
