//! The loop: the microphone's frames in, the loudspeaker's sound out, the states in between.
//!
//! Owns the thread and the order of things; what is heard, played, opened and answered is owned by the parts it joins. It
//! waits for the next frame while the microphone is open, and for orders while it is not; nothing that it calls takes
//! long: devices are opened, and turns judged, on threads of their own.

mod orders;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError};
use eddy_audio::ear::{FRAME, Heard};
use eddy_audio::echo;
use eddy_config::{Config, MicrophoneMode};
use eddy_models::RuntimeOptions;
use tokio::sync::{oneshot, watch};

use super::exchange::Exchanges;
use super::handle::{Order, Parts};
use super::hearing::{Attention, Frame, Hearing, Noticed};
use super::player::{Played, Player};
use super::state::{Action, Event, State, transition};
use super::status::{Board, Status};
use super::streams::{News, Streams, Wanted};
use super::turn::Why;
use crate::jobs::Audience;
use crate::speech::CONVERSE;
use crate::timers::bell;

/// The longest wait for a frame: a stream that gives none is looked at.
const TICK: Duration = Duration::from_millis(20);
/// How often the loudspeaker is fed while the microphone is closed.
const FEED: Duration = Duration::from_millis(5);
/// How often nothing is looked at, while nothing goes on.
const REST: Duration = Duration::from_millis(250);
/// How long the loudspeaker stays open after sound when the microphone is closed.
const KEEP: Duration = Duration::from_secs(10);
/// How long a room sounds after the loudspeaker, when its echo cannot be taken out.
const LINGER: Duration = Duration::from_millis(400);
/// How long sound waits for a loudspeaker.
const SOUNDLESS: Duration = Duration::from_secs(5);

/// Somebody who asked to be listened to, and waits for the microphone.
type Waiting = (Option<Arc<dyn Audience>>, oneshot::Sender<eddy_ipc::Result<()>>);

pub(super) struct Live {
    runtime: RuntimeOptions,
    config: Arc<Config>,
    orders: Receiver<Order>,
    board: Board,

    state: State,
    reason: String,
    muted: bool,
    suspended: Option<String>,
    pending: VecDeque<(Event, String)>,

    streams: Streams,
    player: Player,
    sounded_at: Instant,
    /// When a reply was last heard to its end.
    replied_at: Option<Instant>,
    hearing: Hearing,
    exchanges: Exchanges,
    /// Those who wait for the microphone to open.
    listeners: Vec<Waiting>,
}

impl Live {
    pub fn new(parts: Parts, orders: Receiver<Order>, level: Arc<AtomicU32>) -> (Self, watch::Receiver<Status>) {
        let Parts { engine, runtime, config, muted, audience, observer } = parts;
        let configured = &config.generation.instructions;
        let instructions = if configured.is_empty() { CONVERSE.to_owned() } else { format!("{CONVERSE} {configured}") };
        // The first look at the devices tells more.
        let (state, reason) = if muted { (State::Muted, "it starts muted") } else { (State::Unavailable, "it starts") };
        let (board, statuses) = Board::new(state, reason, observer, level);
        let now = Instant::now();
        let live = Self {
            runtime,
            orders,
            board,
            state,
            reason: reason.to_owned(),
            muted,
            suspended: None,
            pending: VecDeque::new(),
            streams: Streams::new(&config.audio),
            player: Player::default(),
            sounded_at: now.checked_sub(KEEP).unwrap_or(now),
            replied_at: None,
            hearing: Hearing::new(&config),
            exchanges: Exchanges::new(engine, instructions, audience),
            listeners: Vec::new(),
            config,
        };
        (live, statuses)
    }

    pub fn run(mut self) {
        loop {
            while let Ok(order) = self.orders.try_recv() {
                if !self.obey(order) {
                    return self.end();
                }
            }
            self.settle_streams();
            if self.streams.ear().is_some() {
                self.take_frame();
            } else {
                match self.orders.recv_timeout(self.patience()) {
                    Ok(order) => {
                        if !self.obey(order) {
                            return self.end();
                        }
                    }
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => return self.end(),
                }
            }
            self.follow_exchange();
            if self.exchanges.rings() {
                self.player.add(bell());
            }
            self.play();
            if self.board.is_due() {
                self.publish();
            }
        }
    }

    /// How long nothing can happen but an order, while the microphone is closed.
    fn patience(&self) -> Duration {
        if self.player.is_busy() || self.player.has_waiting() {
            FEED
        } else if self.exchanges.current().is_some()
            || self.wants_microphone()
            || self.state == State::Unavailable
            || self.player.playback().is_some()
        {
            TICK
        } else {
            REST
        }
    }

    fn end(mut self) {
        self.exchanges.end(false);
        self.player.cut();
        self.player.cut_waiting();
    }

    // States.

    fn dispatch(&mut self, event: Event, reason: &str) {
        self.pending.push_back((event, reason.to_owned()));
        if self.pending.len() > 1 {
            // Called from an action: the loop below comes to it.
            return;
        }
        while let Some((event, reason)) = self.pending.front().cloned() {
            let (next, actions) = transition(self.state, event);
            for action in actions {
                self.act(*action, event);
            }
            let old = std::mem::replace(&mut self.state, next);
            if old != next {
                if matches!(next, State::Idle | State::Muted | State::Unavailable) {
                    // What was a turn is none any longer.
                    self.hearing.rest();
                }
                tracing::debug!(?old, new = ?next, ?event, reason, "voice");
                self.reason.clone_from(&reason);
                self.publish();
                self.board.tell(old);
            }
            self.pending.pop_front();
        }
    }

    fn act(&mut self, action: Action, event: Event) {
        match action {
            // What is open follows from who wants it; here it only has to happen now.
            Action::CloseCapture | Action::OpenCapture => self.streams.retry_now(),
            Action::BeginUtterance => self.begin_utterance(event),
            Action::DropUtterance => self.exchanges.drop_it(),
            Action::PrepareAnswer => self.exchanges.prepare(),
            Action::TakeBack => {
                if let Some(exchange) = self.exchanges.current_mut() {
                    exchange.take_back();
                }
            }
            Action::Answer => {
                if let Some(line) = self.exchanges.answer() {
                    self.player.play(line);
                }
            }
            Action::CancelAnswer => {
                self.player.cut();
                match event {
                    // Nothing of the answer was heard: to the person it is still the same turn.
                    Event::SpeechBegan => self.exchanges.join(),
                    _ => self.exchanges.drop_it(),
                }
            }
            Action::Hold => self.player.hold(),
            Action::Resume => self.player.resume(),
            Action::CutAnswer => self.cut_answer(),
        }
    }

    fn cut_answer(&mut self) {
        let busy = self.player.is_busy();
        let heard = self.player.cut();
        self.sounded_at = Instant::now();
        if self.exchanges.current().is_some() {
            match heard {
                Some(_) => drop(self.exchanges.end(false)),
                None => self.exchanges.drop_it(),
            }
        } else if !busy {
            self.player.cut_next();
        }
    }

    fn begin_utterance(&mut self, event: Event) {
        if self.exchanges.current().is_some() {
            // An answer that went on while nothing could be heard gives way.
            self.cut_answer();
        }
        let spoken = event != Event::Summoned;
        if let Err(error) = self.exchanges.begin(&self.config, &self.hearing.utterance(), spoken) {
            tracing::warn!(%error, "nobody can answer");
            self.dispatch(Event::NothingSaid, &error.to_string());
        }
    }

    /// An answer may have gone on while nothing could be heard.
    fn still_sounding(&mut self) {
        if self.player.has_begun() {
            self.dispatch(Event::SoundBegan, "it goes on speaking");
        }
    }

    // Hearing.

    fn take_frame(&mut self) {
        let deaf = self.is_deaf();
        let Some(ear) = self.streams.ear_mut() else { return };
        let mut clean = [0.0; FRAME];
        ear.set_near_end(self.state != State::Speaking);
        match ear.next(&mut clean, TICK, self.config.audio.device_timeout) {
            Heard::Frame => {}
            Heard::Nothing => return,
            Heard::Lost(trouble) => return self.streams.reopen_microphone(trouble),
        }
        let (recorded, played, echo) = (*ear.recorded(), *ear.played(), ear.report().into());
        self.board.meter(&recorded);
        if deaf {
            return;
        }
        let attention = match self.state {
            State::Muted | State::Unavailable => Attention::Nothing,
            State::Idle if self.waits_for_call() => Attention::Call,
            State::Idle | State::Thinking => Attention::Beginning,
            State::Listening | State::Endpointing => Attention::Turn,
            State::Speaking | State::Holding => Attention::Interruption,
        };
        let mut said: &[f32] = &[];
        if let (Attention::Turn, Some(exchange)) = (attention, self.exchanges.current_mut()) {
            exchange.push(&clean);
            said = exchange.said();
        }
        let frame = Frame { recorded: &recorded, clean: &clean, played: &played, echo };
        match self.hearing.push(frame, attention, said) {
            Ok(noticed) => self.notice(noticed),
            Err(error) => tracing::warn!(%error, "a piece of sound was not looked at"),
        }
    }

    fn notice(&mut self, noticed: Option<Noticed>) {
        if self.hearing.is_speech()
            && let Some(exchange) = self.exchanges.current_mut()
            && matches!(self.state, State::Listening | State::Endpointing)
        {
            exchange.hears_speech();
        }
        match noticed {
            None => {}
            Some(Noticed::Began) => match self.exchanges.current_mut() {
                Some(exchange) if self.state == State::Listening => exchange.spoken = true,
                _ => self.dispatch(Event::SpeechBegan, "somebody speaks"),
            },
            Some(Noticed::Called { more }) => {
                self.give_turn(None, "it heard the wake word");
                if let Some(exchange) = self.exchanges.current_mut() {
                    exchange.spoken |= more;
                }
            }
            Some(Noticed::Paused) => self.dispatch(Event::LikelyPause, "somebody paused"),
            Some(Noticed::Resumed) => self.dispatch(Event::SpeechResumed, "they went on"),
            Some(Noticed::Ended(Why::Silence)) => self.dispatch(Event::TurnEnded, "somebody finished"),
            Some(Noticed::Ended(Why::TooLong)) => {
                self.dispatch(Event::TurnEnded, "the turn was as long as voice.max_turn allows");
            }
            Some(Noticed::Suspected) => self.dispatch(Event::SpeechBegan, "somebody may be interrupting"),
            Some(Noticed::Confirmed) => {
                self.hearing.begin_turn();
                self.dispatch(Event::BargeInConfirmed, "somebody interrupted");
            }
            Some(Noticed::Denied) => self.dispatch(Event::BargeInDenied, "nobody interrupted"),
        }
    }

    /// Whether what the microphone hears now may be Eddy itself, with nothing to tell it by.
    fn is_deaf(&self) -> bool {
        let sounds = self.player.has_begun() || self.sounded_at.elapsed() < LINGER;
        sounds && (!self.config.voice.barge_in || self.is_half_duplex())
    }

    fn is_half_duplex(&self) -> bool {
        self.streams.ear().is_some_and(|ear| ear.report().verdict == echo::Verdict::DoesNotHelp)
    }

    // Answers.

    fn follow_exchange(&mut self) {
        let Some(exchange) = self.exchanges.current() else { return };
        if let Some(error) = exchange.failure() {
            let reason = error.to_string();
            match self.state {
                State::Listening | State::Endpointing => self.dispatch(Event::NothingSaid, &reason),
                _ => {
                    self.player.cut();
                    self.exchanges.forget();
                    self.dispatch(Event::ReplyEnded, &reason);
                }
            }
            return;
        }
        if exchange.is_unwanted() {
            return self.dispatch(Event::Interrupt, "the one who asked for the turn took that back");
        }
        let given_up = exchange.give_up.is_some_and(|when| !exchange.spoken && Instant::now() >= when);
        if given_up && self.state == State::Listening {
            self.dispatch(Event::NothingSaid, "nobody spoke");
        }
    }

    fn play(&mut self) {
        let quiet = matches!(self.state, State::Idle | State::Muted | State::Unavailable);
        if quiet && self.exchanges.current().is_none() {
            self.player.play_waiting();
        }
        if self.exchanges.current().is_none() && self.player.is_abandoned() {
            self.player.cut();
            self.dispatch(Event::ReplyEnded, "nobody wants to hear the rest");
        }
        let played = self.player.pump(self.config.audio.playback_buffer);
        match played {
            Played::Same => {}
            Played::Paused => self.reason = self.player.because("it waits for more of the answer"),
            Played::WentOn => self.reason = self.player.because("the answer sounds again"),
            Played::Began => {
                self.hearing.rest();
                self.exchanges.sounds();
                self.dispatch(Event::SoundBegan, &self.player.because("the answer sounds"));
            }
            Played::Ended => {
                self.sounded_at = Instant::now();
                self.replied_at = Some(self.sounded_at);
                self.hearing.rest();
                self.exchanges.end(true);
                self.dispatch(Event::ReplyEnded, &self.player.because("everything is said"));
            }
        }
        if self.player.has_begun() {
            self.sounded_at = Instant::now();
        }
        if played != Played::Same {
            self.publish();
        }
        if self.player.is_soundless_for(SOUNDLESS) {
            self.cut_answer();
            self.dispatch(Event::ReplyEnded, "there is no loudspeaker; connect one, or name it in audio.playback");
        }
    }

    // Streams.

    fn wants_microphone(&self) -> bool {
        let in_turn = matches!(self.state, State::Listening | State::Endpointing);
        !self.muted
            && self.forbidden().is_none()
            && (in_turn
                || !self.listeners.is_empty()
                || matches!(self.mode(), MicrophoneMode::Open | MicrophoneMode::WakeWord))
    }

    fn wants_loudspeaker(&self) -> bool {
        let in_use = self.player.is_busy() || self.player.has_waiting() || self.exchanges.current().is_some();
        // With an open microphone it stays open: what is known of its echo would be forgotten.
        self.suspended.is_none()
            && (in_use
                || self.sounded_at.elapsed() < KEEP
                || (self.wants_microphone() && self.config.audio.echo_cancellation))
    }

    fn settle_streams(&mut self) {
        let forbidden = self.forbidden();
        match (&forbidden, self.state) {
            (None, _) | (Some(_), State::Muted) => {}
            (Some(reason), State::Unavailable) => self.reason.clone_from(reason),
            (Some(reason), _) => self.dispatch(Event::CaptureLost, reason),
        }
        let microphone = self.wants_microphone();
        if microphone
            && self.streams.is_due()
            && let Err(reason) = self.hearing.load(&self.runtime)
        {
            self.streams.put_off();
            self.lose(&reason);
        }
        let look = self.state == State::Unavailable && forbidden.is_none() && !self.wants_microphone();
        let wanted = Wanted { microphone, loudspeaker: self.wants_loudspeaker(), look };
        for news in self.streams.settle(wanted, &mut self.player) {
            match news {
                News::Opened => {
                    self.hearing.restart();
                    // The turn goes on, and ends by silence, also when the rest of it was lost.
                    if matches!(self.state, State::Listening | State::Endpointing)
                        && self.exchanges.current().is_some_and(|exchange| exchange.spoken)
                    {
                        self.hearing.begin_turn();
                    }
                    self.regain();
                    self.answer_listeners(Ok(()));
                }
                News::Present => self.regain(),
                News::Lost(reason) => self.lose(&reason),
            }
        }
    }

    fn lose(&mut self, reason: &str) {
        if self.state == State::Unavailable {
            reason.clone_into(&mut self.reason);
        }
        self.dispatch(Event::CaptureLost, reason);
        self.answer_listeners(Err(reason));
    }

    fn regain(&mut self) {
        if self.state == State::Unavailable {
            self.dispatch(Event::CaptureBack, "the microphone is there");
            self.still_sounding();
        }
    }

    fn publish(&mut self) {
        let half_duplex = self.is_half_duplex();
        let reason = match (self.state, self.hearing.missing_phrase()) {
            (State::Idle, Some(missing)) => missing,
            _ => self.reason.as_str(),
        };
        let state = self.state;
        let heard = (self.streams.ear(), half_duplex);
        self.board.publish((state, reason), heard, &self.player, self.exchanges.foresight());
    }
}
