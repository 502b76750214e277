//! The voice as others see it: its state, its figures, and word of every change.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use eddy_audio::ear::{Ear, FRAME};
use tokio::sync::watch;

use super::foresight::Foresight;
use super::player::Player;
use super::state::State;
use crate::jobs::Account;

/// How often figures are published that change all the time.
const FIGURES: Duration = Duration::from_secs(1);

/// The voice as it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Status {
    /// What it is doing.
    pub state: State,
    /// What led to it, or what is unavailable and what to do about it.
    pub reason: String,
    /// Whether the capture stream is open.
    pub microphone: bool,
    /// Whether sound is played.
    pub speaker: bool,
    /// How much weaker the echo leaves than it comes, dB.
    pub echo_return_loss: Option<f32>,
    /// From the loudspeaker to its echo, as the canceller sees it.
    pub echo_delay: Option<Duration>,
    /// The echo cannot be taken out, so Eddy does not listen while it speaks.
    pub half_duplex: bool,
    /// How often sound ran dry since the start.
    pub underruns: u64,
    /// How the last answer kept up with its sound, or the one that sounds does.
    pub pace: Option<Account>,
    /// How answers that were begun ahead turned out.
    pub foresight: Foresight,
    /// Samples of the microphone that were lost since it was opened.
    pub overruns: u64,
}

/// One change of the state.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// Before.
    pub old: State,
    /// Now, with everything else that can be seen.
    pub now: Status,
}

/// Told of every change, on the voice's thread, so it may not wait.
pub type Observer = Box<dyn FnMut(&Change) + Send>;

/// Where all of it is published.
pub struct Board {
    observer: Observer,
    status: watch::Sender<Status>,
    level: Arc<AtomicU32>,
    figures_at: Instant,
}

impl Board {
    /// Before the first look at any device.
    pub fn new(
        state: State,
        reason: &str,
        observer: Observer,
        level: Arc<AtomicU32>,
    ) -> (Self, watch::Receiver<Status>) {
        let first = Status {
            state,
            reason: reason.to_owned(),
            microphone: false,
            speaker: false,
            echo_return_loss: None,
            echo_delay: None,
            half_duplex: false,
            underruns: 0,
            pace: None,
            foresight: Foresight::default(),
            overruns: 0,
        };
        let (status, statuses) = watch::channel(first);
        (Self { observer, status, level, figures_at: Instant::now() }, statuses)
    }

    /// Whether figures are due that nothing has happened to.
    #[must_use]
    pub fn is_due(&self) -> bool {
        self.figures_at.elapsed() >= FIGURES
    }

    /// Publishes everything.
    pub fn publish(
        &mut self,
        (state, reason): (State, &str),
        (ear, half_duplex): (Option<&Ear>, bool),
        player: &Player,
        foresight: Foresight,
    ) {
        let report = ear.map(Ear::report);
        let status = Status {
            state,
            reason: reason.to_owned(),
            microphone: ear.is_some(),
            speaker: player.has_begun(),
            echo_return_loss: report.and_then(|report| report.erle_db),
            echo_delay: report.and_then(|report| report.delay),
            half_duplex,
            underruns: player.underruns(),
            pace: player.account(),
            foresight,
            overruns: ear.map_or(0, |ear| ear.capture().overruns()),
        };
        self.figures_at = Instant::now();
        if ear.is_none() {
            self.level.store(0, Ordering::Relaxed);
        }
        self.status.send_if_modified(|seen| {
            if status.half_duplex && !seen.half_duplex {
                tracing::warn!("the echo of the loudspeaker cannot be taken out; Eddy does not listen while it speaks");
            }
            let new = *seen != status;
            *seen = status;
            new
        });
    }

    /// Tells of a change that was published.
    pub fn tell(&mut self, old: State) {
        let now = self.status.borrow().clone();
        (self.observer)(&Change { old, now });
    }

    /// Shows how loud the microphone is.
    pub fn meter(&self, frame: &[f32; FRAME]) {
        let rms = (frame.iter().map(|sample| sample * sample).sum::<f32>() / FRAME as f32).sqrt();
        let before = f32::from_bits(self.level.load(Ordering::Relaxed));
        // Rises at once, falls over a fifth of a second, so that an eye can follow.
        let level = rms.max(before * 0.9);
        self.level.store(level.to_bits(), Ordering::Relaxed);
    }
}
