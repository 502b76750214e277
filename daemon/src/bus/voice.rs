//! The live voice on the bus: what it tells everybody, and what it tells the one who asked.

use std::sync::{Arc, Mutex, PoisonError};

use eddy_ipc::{Bus, FinishReason, Outcome, RequestState, VoiceState};
use tokio::sync::mpsc;

use super::assistant::Assistant;
use super::core::Core;
use super::request::Request;
use crate::voice::{Audience, Change, State, Told};

/// Changes that may wait for a slow bus; beyond them only the latest counts, and properties have it.
const CHANGES: usize = 64;

/// The word on the bus.
#[must_use]
pub fn word(state: State) -> VoiceState {
    match state {
        State::Muted => VoiceState::Muted,
        State::Idle => VoiceState::Idle,
        State::Listening => VoiceState::Listening,
        State::Endpointing => VoiceState::Endpointing,
        State::Thinking => VoiceState::Thinking,
        State::Speaking => VoiceState::Speaking,
        State::Holding => VoiceState::Holding,
        State::Unavailable => VoiceState::Unavailable,
    }
}

/// A way for the voice's thread to tell of its changes without waiting, and the other end of it.
#[must_use]
pub fn changes() -> (crate::voice::Observer, mpsc::Receiver<Change>) {
    let (send, receive) = mpsc::channel(CHANGES);
    (Box::new(move |change: &Change| drop(send.try_send(change.clone()))), receive)
}

/// Tells every change on the bus. Nothing of what was said is in it.
pub async fn announce(core: Arc<Core>, mut changes: mpsc::Receiver<Change>) {
    let mut statuses = core.voice.statuses();
    let mut seen = statuses.borrow_and_update().clone();
    loop {
        let change = tokio::select! {
            change = changes.recv() => match change {
                Some(change) => Some(change),
                None => return,
            },
            changed = statuses.changed() => match changed {
                Ok(()) => None,
                Err(_) => return,
            },
        };
        let server = core.assistant.object_server();
        let Ok(object) = server.interface::<_, Assistant>(Bus::Assistant.root()).await else { return };
        let (emitter, interface) = (object.signal_emitter(), object.get().await);
        let now = statuses.borrow_and_update().clone();
        let told = async {
            if let Some(Change { old, now }) = &change {
                let (old, new) = (word(*old).as_str(), word(now.state).as_str());
                Assistant::voice_state_changed(emitter, old, new, &now.reason).await?;
            }
            if (seen.state, &seen.reason) != (now.state, &now.reason) || change.is_some() {
                interface.state_changed(emitter).await?;
                interface.state_reason_changed(emitter).await?;
            }
            if seen.microphone != now.microphone {
                interface.microphone_in_use_changed(emitter).await?;
            }
            if seen.speaker != now.speaker {
                interface.speaker_in_use_changed(emitter).await?;
            }
            zbus::Result::Ok(())
        };
        if let Err(error) = told.await {
            tracing::debug!(%error, "signal not sent");
        }
        seen = now;
    }
}

/// The caller of `Listen`, who hears of one turn through a request.
pub struct Asker {
    request: Arc<Request>,
    turn: Mutex<Turn>,
}

#[derive(Default)]
struct Turn {
    outcome: Outcome,
    ended: Option<RequestState>,
    /// Whether a transcript is on its way.
    writing: bool,
}

impl Asker {
    /// Tells the owner of `request`.
    #[must_use]
    pub fn new(request: Arc<Request>) -> Arc<Self> {
        Arc::new(Self { request, turn: Mutex::default() })
    }
}

impl Audience for Asker {
    fn tell(&self, told: Told<'_>) {
        let mut turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let feed = self.request.feed();
        match told {
            Told::Transcript(text) => feed.transcript(text),
            Told::Text(text) => feed.text(text),
            Told::Sound(_) | Told::Folded(_) | Told::Called(_) => {}
            Told::Writing => turn.writing = true,
            Told::Written => turn.writing = false,
            Told::Answering { wait, think } => {
                turn.outcome.latency.insert("wait".into(), wait.as_secs_f64());
                turn.outcome.latency.insert("think".into(), think.as_secs_f64());
            }
            Told::Ended(end) => {
                turn.outcome.text = Some(end.text.clone());
                turn.outcome.finish_reason = end.reason.or(Some(FinishReason::Cancelled));
                turn.outcome.samples = Some(end.played);
                let stages = end.latency.iter().map(|(stage, value)| ((*stage).to_owned(), *value));
                turn.outcome.latency.extend(stages);
                let whole = end.reason.is_some_and(|reason| reason != FinishReason::Cancelled);
                turn.ended = Some(if whole { RequestState::Done } else { RequestState::Cancelled });
            }
            Told::Failed(error) => return feed.fail(error),
        }
        if let (Some(state), false) = (turn.ended, turn.writing) {
            feed.end(state, std::mem::take(&mut turn.outcome));
        }
    }

    fn has_left(&self) -> bool {
        self.request.is_over()
    }
}
