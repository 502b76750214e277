//! `org.eddy.Daemon1`: the configuration, and the daemon's numbers.

use std::collections::HashMap;
use std::sync::Arc;

use eddy_config::{Applies, Capability};
use eddy_ipc::{Error, Options, Result, accepts};
use tokio::sync::{mpsc, oneshot};
use zbus::message::Header;
use zbus::{OwnedVariant, Variant};

use super::core::Core;
use crate::engine::STEP_BUCKETS;
use crate::metrics::Spread;

/// A reload that somebody asked for, and where its result goes.
pub type ReloadOrder = oneshot::Sender<Result<Vec<eddy_config::Change>>>;

/// The interface on the admin root.
#[derive(Debug)]
pub struct Daemon {
    core: Arc<Core>,
    reloads: mpsc::Sender<ReloadOrder>,
}

impl Daemon {
    /// Serves `core`; reloads are ordered through `reloads`.
    #[must_use]
    pub fn new(core: &Arc<Core>, reloads: mpsc::Sender<ReloadOrder>) -> Self {
        Self { core: Arc::clone(core), reloads }
    }
}

// A reload waits for the disk, so it runs beside other calls.
#[zbus::interface(name = "org.eddy.Daemon1", introspection_docs = false)]
impl Daemon {
    #[zbus(out_args("changes"))]
    async fn reload(
        &self,
        options: HashMap<String, OwnedVariant>,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<Vec<(String, String, String)>> {
        self.core.caller(&header, Capability::Manage).await?;
        Options::read(options, accepts::NONE)?;
        let (send, done) = oneshot::channel();
        self.reloads.try_send(send).map_err(|_| Error::Busy("a reload is on its way; try again later".into()))?;
        let changes = done.await.map_err(|_| Error::unavailable("the daemon", "it is ending"))??;
        let row = |change: eddy_config::Change| {
            let when = match change.applies {
                Applies::AtOnce => "now",
                Applies::AfterRestart => "restart",
            };
            (change.key, change.new.unwrap_or_default(), when.to_owned())
        };
        Ok(changes.into_iter().map(row).collect())
    }

    #[zbus(property(emits_changed_signal = "false"))]
    async fn report(&self, #[zbus(header)] header: Option<Header<'_>>) -> Result<HashMap<String, OwnedVariant>> {
        match &header {
            Some(header) => self.core.caller(header, Capability::Manage).await.map(drop)?,
            // Nobody asks: an object manager would show it to all.
            None => return Ok(HashMap::new()),
        }
        Ok(super::owned(self.numbers()))
    }
}

impl Daemon {
    fn numbers(&self) -> HashMap<&'static str, Variant<'static>> {
        let numbers = self.core.numbers();
        let steps: Vec<(u64, u64)> = STEP_BUCKETS.into_iter().chain([u64::MAX]).zip(numbers.steps).collect();
        let spread =
            |(stage, spread): (String, Spread)| (stage, (spread.count, spread.median, spread.most, spread.longest));
        let latency: HashMap<String, (u64, f64, f64, f64)> =
            self.core.metrics.latencies().into_iter().map(spread).collect();
        let voice = self.core.voice.statuses().borrow().clone();
        let mut report = HashMap::from([
            ("done", Variant::from(numbers.done)),
            ("cancelled", Variant::from(numbers.cancelled)),
            ("failed", Variant::from(numbers.failed)),
            ("stopped_steps", Variant::from(numbers.stopped_steps)),
            ("model_loads", Variant::from(numbers.loads)),
            ("model_unloads", Variant::from(numbers.unloads)),
            ("queue", Variant::from(numbers.queue)),
            ("callers", Variant::from(numbers.callers)),
            ("objects", Variant::from(numbers.objects)),
            ("loaded_bytes", Variant::from(numbers.loaded_bytes)),
            ("resident_bytes", Variant::from(numbers.resident_bytes)),
            ("prefix_hits", Variant::from(numbers.prefixes.hits)),
            ("prefix_misses", Variant::from(numbers.prefixes.misses)),
            ("prefix_positions_reused", Variant::from(numbers.prefixes.reused)),
            ("prompt_positions", Variant::from(numbers.prefixes.positions)),
            // Upper end of the bucket in milliseconds, and steps that took so long.
            ("steps_by_ms", Variant::from(steps)),
            // By stage: requests, and the seconds of the median, of 95 in 100, and of the longest.
            ("latency", Variant::from(latency)),
            ("half_duplex", Variant::from(voice.half_duplex)),
            ("underruns", Variant::from(voice.underruns)),
            ("overruns", Variant::from(voice.overruns)),
            ("answers_begun_ahead", Variant::from(voice.foresight.begun)),
            ("answers_ahead_wanted", Variant::from(voice.foresight.right)),
            ("answers_ahead_saved", Variant::from(voice.foresight.saved.as_secs_f64())),
        ]);
        // Known once something was spoken, or written because speech is too slow.
        if let Some(pace) = voice.pace {
            let rtf = pace.factor.unwrap_or_default();
            report.insert("speech_rtf", Variant::from(rtf));
            report.insert("speech_held_back", Variant::from(pace.held_back.as_secs_f64()));
            report.insert("speech_ran_dry", Variant::from(u64::from(pace.ran_dry)));
            report.insert("speech_written", Variant::from(pace.written));
        }
        // Known once something was played while the microphone was open.
        if let Some(decibels) = voice.echo_return_loss {
            report.insert("echo_return_loss_db", Variant::from(f64::from(decibels)));
        }
        if let Some(delay) = voice.echo_delay {
            report.insert("echo_delay", Variant::from(delay.as_secs_f64()));
        }
        report
    }
}
