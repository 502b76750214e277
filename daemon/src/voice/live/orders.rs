//! What callers and keys want of the loop: mute, listen, stop, say, and whom a turn is given to.

use std::sync::Arc;
use std::time::Instant;

use eddy_config::MicrophoneMode;
use eddy_ipc::Error;

use super::Live;
use crate::jobs::Audience;
use crate::voice::handle::Order;
use crate::voice::state::{Event, State};

impl Live {
    pub(super) fn obey(&mut self, order: Order) -> bool {
        match order {
            Order::Mute(muted, done) => {
                if self.muted != muted {
                    self.muted = muted;
                    match muted {
                        true => self.dispatch(Event::Mute, "somebody muted the microphone"),
                        false => self.dispatch(Event::Unmute, "nobody wants it muted any longer"),
                    }
                    self.streams.retry_now();
                    self.settle_streams();
                    // It may have gone while nobody was allowed to look for it.
                    if !muted
                        && self.streams.ear().is_none()
                        && let Err(reason) = self.streams.look()
                    {
                        self.dispatch(Event::CaptureLost, &reason);
                    }
                    self.still_sounding();
                    self.publish();
                }
                done.map(|done| done.send(()));
            }
            Order::Listen(audience, done) => {
                match self.may_listen() {
                    Ok(()) => self.listeners.push((audience, done)),
                    Err(error) => drop(done.send(Err(error))),
                }
                if self.streams.ear().is_some() {
                    self.answer_listeners(Ok(()));
                } else {
                    self.streams.retry_now();
                }
            }
            Order::StopListening => {
                let spoken = self.exchanges.current().is_some_and(|exchange| exchange.spoken);
                self.hearing.rest();
                match spoken {
                    true => self.dispatch(Event::TurnEnded, "it was told to stop listening"),
                    false => self.dispatch(Event::NothingSaid, "it was told to stop listening, and nothing was said"),
                }
            }
            Order::Interrupt => {
                self.hearing.rest();
                self.dispatch(Event::Interrupt, "somebody asked for quiet");
            }
            Order::Play(line) => self.player.add(line),
            Order::Suspend(reason, done) => {
                self.suspended = reason;
                self.streams.retry_now();
                self.settle_streams();
                self.publish();
                done.map(|done| done.send(()));
            }
            Order::Configure(config) => {
                self.streams.configure(&config.audio, &mut self.player);
                self.hearing.configure(&config);
                self.config = config;
            }
            Order::End => return false,
        }
        true
    }

    /// Whether there may be listening at all.
    fn may_listen(&self) -> eddy_ipc::Result<()> {
        if self.muted {
            return Err(Error::muted());
        }
        if let Some(reason) = self.forbidden() {
            return Err(Error::unavailable("the microphone", reason));
        }
        self.exchanges.model(&self.config)?;
        Ok(())
    }

    /// Begins the turn of somebody who asked to be listened to, now that the microphone is open.
    fn summon(&mut self, audience: Option<Arc<dyn Audience>>) {
        if let (State::Listening | State::Endpointing, Some(exchange)) = (self.state, self.exchanges.current_mut()) {
            // Somebody speaks already; who asks now hears of it.
            exchange.adopt(audience);
            return;
        }
        self.hearing.begin_here();
        self.give_turn(audience, "it was asked to listen");
    }

    pub(super) fn give_turn(&mut self, audience: Option<Arc<dyn Audience>>, reason: &str) {
        self.exchanges.ask_for(audience);
        self.dispatch(Event::Summoned, reason);
        let give_up = Instant::now() + self.config.voice.listen_timeout;
        if let Some(exchange) = self.exchanges.current_mut() {
            exchange.give_up = Some(give_up);
        }
    }

    /// Answers those who wait for the microphone.
    pub(super) fn answer_listeners(&mut self, opened: Result<(), &str>) {
        for (audience, done) in std::mem::take(&mut self.listeners) {
            let answer = match opened {
                Ok(()) => {
                    self.summon(audience);
                    Ok(())
                }
                Err(reason) => Err(Error::unavailable("the microphone", reason)),
            };
            let _ = done.send(answer);
        }
    }

    /// Why there can be no listening at all, whatever the devices.
    pub(super) fn forbidden(&self) -> Option<String> {
        match (&self.suspended, self.config.voice.mode) {
            (Some(reason), _) => Some(reason.clone()),
            (None, MicrophoneMode::Off) => Some("voice.mode is \"off\" in the configuration".into()),
            (None, MicrophoneMode::Open | MicrophoneMode::WakeWord | MicrophoneMode::PushToTalk) => None,
        }
    }

    /// The mode as far as it can be had: nobody is called by a phrase that was never enrolled.
    pub(super) fn mode(&self) -> MicrophoneMode {
        match (self.config.voice.mode, self.hearing.missing_phrase()) {
            (MicrophoneMode::WakeWord, Some(_)) => MicrophoneMode::PushToTalk,
            (mode, _) => mode,
        }
    }

    /// Whether speech begins a turn only behind the wake word.
    pub(super) fn waits_for_call(&self) -> bool {
        let follows_up = self.replied_at.is_some_and(|at| at.elapsed() < self.config.voice.wake_word_follow_up);
        self.mode() == MicrophoneMode::WakeWord && !follows_up
    }
}
