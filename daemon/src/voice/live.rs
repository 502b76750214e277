//! The loop: the microphone's frames in, the loudspeaker's sound out, the states in between.
//!
//! Owns the thread, the streams and the order of things. It waits for the next frame while the microphone is open, and for
//! orders while it is not; nothing that it calls takes long: devices are opened, and turns judged, on
//! threads of their own.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError};
use eddy_audio::ear::{Ear, FRAME, Heard};
use eddy_audio::echo;
use eddy_audio::playback::Reference;
use eddy_audio::realtime::{Failure, Trouble};
use eddy_config::{Config, MicrophoneMode};
use eddy_ipc::Error;
use eddy_models::{Runtime, RuntimeOptions};
use tokio::sync::{oneshot, watch};

use super::barge_in::{self, BargeIn, Chunk, Threshold};
use super::devices::Devices;
use super::exchange::{Exchange, Exchanges};
use super::handle::{Change, Observer, Order, Parts, Status};
use super::listener::{CHUNK, Judge, Listener};
use super::player::{Played, Player};
use super::state::{Action, Event, State, transition};
use super::turn::{self, Patience, TurnDetector, Why};
use crate::jobs::{Audience, SoundLine};
use crate::speech::CONVERSE;

/// The longest wait for a frame: a stream that gives none is looked at.
const TICK: Duration = Duration::from_millis(20);
/// How often the loudspeaker is fed while the microphone is closed.
const FEED: Duration = Duration::from_millis(5);
/// How often a device that is missing is tried again.
const RETRY: Duration = Duration::from_millis(250);
/// How long the loudspeaker stays open after sound when the microphone is closed.
const KEEP: Duration = Duration::from_secs(10);
/// How long a room sounds after the loudspeaker, when its echo cannot be taken out.
const LINGER: Duration = Duration::from_millis(400);
/// How long sound waits for a loudspeaker.
const SOUNDLESS: Duration = Duration::from_secs(5);
/// How often figures are published that change all the time.
const FIGURES: Duration = Duration::from_secs(1);

/// What the loop hears with, once it has been needed.
struct Hearing {
    listener: Listener,
    judge: Judge,
}

/// Somebody who asked to be listened to, and waits for the microphone.
type Waiting = (Option<Arc<dyn Audience>>, oneshot::Sender<eddy_ipc::Result<()>>);

pub(super) struct Live {
    runtime: RuntimeOptions,
    config: Arc<Config>,
    orders: Receiver<Order>,
    observer: Observer,
    status: watch::Sender<Status>,
    level: Arc<AtomicU32>,
    figures_at: Instant,

    state: State,
    reason: String,
    muted: bool,
    suspended: Option<String>,
    pending: VecDeque<(Event, String)>,

    devices: Devices,
    ear: Option<Ear>,
    /// The loudspeaker's, while no microphone listens.
    reference: Option<Reference>,
    player: Player,
    retry_at: Instant,
    /// Since when there is sound and no loudspeaker.
    soundless: Option<Instant>,
    sounded_at: Instant,

    hearing: Option<Hearing>,
    detector: TurnDetector,
    barge_in: BargeIn,
    /// The pause that the judge was asked about.
    pause: u32,
    /// A turn was ended for its length: what goes on is not a new one.
    too_long: bool,

    exchanges: Exchanges,
    exchange: Option<Exchange>,
    /// Where in the listener's clock the next utterance begins, and what goes before it.
    begin_at: u64,
    joined: Vec<f32>,
    asked_by: Option<Arc<dyn Audience>>,
    audience: Option<Arc<dyn Audience>>,
    lines: VecDeque<Arc<SoundLine>>,
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
        if !config.voice.wake_word.as_os_str().is_empty() {
            tracing::warn!("voice.wake_word: this version knows no wake words; the open microphone answers everything");
        }
        let first = Status {
            state,
            reason: reason.to_owned(),
            microphone: false,
            speaker: false,
            echo_return_loss: None,
            echo_delay: None,
            half_duplex: false,
            underruns: 0,
            overruns: 0,
        };
        let (status, statuses) = watch::channel(first);
        let now = Instant::now();
        let live = Self {
            runtime,
            orders,
            observer,
            status,
            level,
            figures_at: now,
            state,
            reason: reason.to_owned(),
            muted,
            suspended: None,
            pending: VecDeque::new(),
            devices: Devices::new(&config.audio),
            ear: None,
            reference: None,
            player: Player::default(),
            retry_at: now,
            soundless: None,
            sounded_at: now.checked_sub(KEEP).unwrap_or(now),
            hearing: None,
            detector: TurnDetector::new(patience(&config)),
            barge_in: BargeIn::new(threshold(&config)),
            pause: 0,
            too_long: false,
            exchanges: Exchanges::new(engine, instructions),
            exchange: None,
            begin_at: 0,
            joined: Vec::new(),
            asked_by: None,
            audience,
            lines: VecDeque::new(),
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
            self.follow_devices();
            self.settle_streams();
            if self.ear.is_some() {
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
            self.play();
            self.publish(false);
        }
    }

    /// How long nothing can happen but an order, while the microphone is closed.
    fn patience(&self) -> Duration {
        if self.player.is_busy() || !self.lines.is_empty() {
            FEED
        } else if self.exchange.is_some()
            || self.wants_microphone()
            || self.state == State::Unavailable
            || self.player.playback().is_some()
        {
            TICK
        } else {
            RETRY
        }
    }

    fn end(mut self) {
        if let Some(exchange) = self.exchange.take() {
            exchange.end(false);
        }
        self.player.cut();
        for line in self.lines.drain(..) {
            line.cut();
        }
    }

    fn obey(&mut self, order: Order) -> bool {
        match order {
            Order::Mute(muted, done) => {
                if self.muted != muted {
                    self.muted = muted;
                    match muted {
                        true => self.dispatch(Event::Mute, "somebody muted the microphone"),
                        false => self.dispatch(Event::Unmute, "nobody wants it muted any longer"),
                    }
                    self.retry_at = Instant::now();
                    self.settle_streams();
                    self.still_sounding();
                    self.publish(true);
                }
                done.map(|done| done.send(()));
            }
            Order::Listen(audience, done) => {
                match self.may_listen() {
                    Ok(()) => self.listeners.push((audience, done)),
                    Err(error) => drop(done.send(Err(error))),
                }
                if self.ear.is_some() {
                    self.answer_listeners(Ok(()));
                } else {
                    self.retry_at = Instant::now();
                }
            }
            Order::StopListening => {
                let spoken = self.exchange.as_ref().is_some_and(|exchange| exchange.spoken);
                self.detector.reset();
                match spoken {
                    true => self.dispatch(Event::TurnEnded, "it was told to stop listening"),
                    false => self.dispatch(Event::NothingSaid, "it was told to stop listening, and nothing was said"),
                }
            }
            Order::Interrupt => {
                self.detector.reset();
                self.dispatch(Event::Interrupt, "somebody asked for quiet");
            }
            Order::Play(line) => self.lines.push_back(line),
            Order::Suspend(reason, done) => {
                self.suspended = reason;
                self.retry_at = Instant::now();
                self.settle_streams();
                self.publish(true);
                done.map(|done| done.send(()));
            }
            Order::Configure(config) => {
                let moved = self.devices.configure(&config.audio);
                self.config = config;
                self.detector = TurnDetector::new(patience(&self.config));
                self.barge_in = BargeIn::new(threshold(&self.config));
                if moved {
                    self.look_at_devices();
                }
                self.retry_at = Instant::now();
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
        if let (State::Listening | State::Endpointing, Some(exchange)) = (self.state, &mut self.exchange) {
            // Somebody speaks already; who asks now hears of it.
            exchange.audience = exchange.audience.take().or(audience);
            return;
        }
        self.begin_at = self.heard_so_far();
        self.joined.clear();
        self.asked_by = audience;
        self.detector.reset();
        self.dispatch(Event::Summoned, "it was asked to listen");
        let give_up = Instant::now() + self.config.voice.listen_timeout;
        if let Some(exchange) = &mut self.exchange {
            exchange.give_up = Some(give_up);
        }
    }

    /// Answers those who wait for the microphone.
    fn answer_listeners(&mut self, opened: Result<(), &str>) {
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
    fn forbidden(&self) -> Option<String> {
        match (&self.suspended, self.config.voice.mode) {
            (Some(reason), _) => Some(reason.clone()),
            (None, MicrophoneMode::Off) => Some("voice.mode is \"off\" in the configuration".into()),
            (None, MicrophoneMode::Open | MicrophoneMode::PushToTalk) => None,
        }
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
                    self.detector.reset();
                }
                tracing::debug!(?old, new = ?next, ?event, reason, "voice");
                self.reason.clone_from(&reason);
                self.publish(true);
                let now = self.status.borrow().clone();
                (self.observer)(&Change { old, now });
            }
            self.pending.pop_front();
        }
    }

    fn act(&mut self, action: Action, event: Event) {
        match action {
            // What is open follows from who wants it; here it only has to happen now.
            Action::CloseCapture | Action::OpenCapture => self.retry_at = Instant::now(),
            Action::BeginUtterance => self.begin_utterance(event),
            Action::DropUtterance => {
                if let Some(exchange) = self.exchange.take() {
                    exchange.drop_it();
                }
            }
            Action::PrepareAnswer => {
                if let Some(exchange) = &mut self.exchange {
                    exchange.prepare();
                }
            }
            Action::TakeBack => {
                if let Some(exchange) = &mut self.exchange {
                    exchange.take_back();
                }
            }
            Action::Answer => {
                if let Some(exchange) = &mut self.exchange {
                    exchange.answer();
                    self.exchanges.write_down(exchange);
                    self.player.play(Arc::clone(&exchange.line));
                }
            }
            Action::CancelAnswer => {
                self.player.cut();
                if let Some(exchange) = self.exchange.take() {
                    exchange.drop_it();
                    // Nothing of the answer was heard: to the person it is still the same turn.
                    if event == Event::SpeechBegan {
                        self.joined = exchange.samples;
                        self.asked_by = self.asked_by.take().or(exchange.audience);
                    }
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
        if let Some(exchange) = self.exchange.take() {
            match heard {
                Some(_) => exchange.end(false),
                None => exchange.drop_it(),
            }
        } else if !busy && let Some(line) = self.lines.pop_front() {
            line.cut();
        }
    }

    fn begin_utterance(&mut self, event: Event) {
        if self.exchange.is_some() {
            // An answer that went on while nothing could be heard gives way.
            self.cut_answer();
        }
        let mut heard = std::mem::take(&mut self.joined);
        if let Some(hearing) = &self.hearing {
            heard.extend(hearing.listener.since(self.begin_at));
        }
        let audience = self.asked_by.take().or_else(|| self.audience.clone());
        match self.exchanges.begin(&self.config, heard, audience.clone()) {
            Ok(mut exchange) => {
                exchange.spoken = event != Event::Summoned;
                self.exchange = Some(exchange);
            }
            Err(error) => {
                tracing::warn!(%error, "nobody can answer");
                if let Some(audience) = audience {
                    audience.tell(crate::jobs::Told::Failed(&error));
                }
                self.dispatch(Event::NothingSaid, &error.to_string());
            }
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
        let Some(ear) = &mut self.ear else { return };
        let mut clean = [0.0; FRAME];
        ear.set_near_end(matches!(self.state, State::Listening | State::Endpointing | State::Holding));
        match ear.next(&mut clean, TICK) {
            Heard::Frame => {}
            Heard::Nothing => return,
            Heard::Lost(trouble) => {
                tracing::info!(device = ear.capture().device().name, "the microphone {}", told(trouble));
                self.close_microphone();
                // One that can be opened again was not lost.
                self.devices.open_microphone();
                return;
            }
        }
        let (recorded, played) = (*ear.recorded(), *ear.played());
        self.meter(&recorded);
        if self.is_deaf() {
            return;
        }
        if let (State::Listening | State::Endpointing, Some(exchange)) = (self.state, &mut self.exchange) {
            exchange.push(&clean);
        }
        let Some(hearing) = &mut self.hearing else { return };
        match hearing.listener.push(&recorded, &clean, &played) {
            Ok(Some(chunk)) => self.hear(chunk),
            Ok(None) => {}
            Err(error) => tracing::warn!(%error, "a piece of sound was not looked at"),
        }
    }

    fn meter(&self, frame: &[f32; FRAME]) {
        let rms = (frame.iter().map(|sample| sample * sample).sum::<f32>() / FRAME as f32).sqrt();
        let before = f32::from_bits(self.level.load(Ordering::Relaxed));
        // Rises at once, falls over a fifth of a second, so that an eye can follow.
        let level = rms.max(before * 0.9);
        self.level.store(level.to_bits(), Ordering::Relaxed);
    }

    /// Whether what the microphone hears now may be Eddy itself, with nothing to tell it by.
    fn is_deaf(&self) -> bool {
        let sounds = self.player.has_begun() || self.sounded_at.elapsed() < LINGER;
        sounds && (!self.config.voice.barge_in || self.is_half_duplex())
    }

    fn is_half_duplex(&self) -> bool {
        self.ear.as_ref().is_some_and(|ear| ear.report().verdict == echo::Verdict::DoesNotHelp)
    }

    fn heard_so_far(&self) -> u64 {
        self.hearing.as_ref().map_or(0, |hearing| hearing.listener.total())
    }

    /// The place in the listener's clock that is so long ago, and the lead-in before it.
    fn ago(&self, time: Duration) -> u64 {
        let samples = (time + self.config.voice.lead_in).as_secs_f64() * f64::from(eddy_audio::ear::RATE);
        self.heard_so_far().saturating_sub(samples as u64)
    }

    fn hear(&mut self, chunk: Chunk) {
        match self.state {
            State::Muted | State::Unavailable => {}
            State::Idle | State::Thinking => {
                if self.too_long {
                    self.too_long = chunk.speech >= self.config.voice.silence_threshold as f32;
                    return;
                }
                if let turn::Heard::Began(length) = self.detector.push(chunk.speech) {
                    self.begin_at = self.ago(length);
                    self.dispatch(Event::SpeechBegan, "somebody speaks");
                }
            }
            State::Listening | State::Endpointing => self.hear_turn(chunk.speech),
            State::Speaking => {
                if self.barge_in.push(chunk) == barge_in::Verdict::Suspected {
                    self.begin_at = self.ago(CHUNK);
                    self.dispatch(Event::SpeechBegan, "somebody may be interrupting");
                }
            }
            State::Holding => match self.barge_in.push(chunk) {
                barge_in::Verdict::Confirmed => {
                    self.detector.begin();
                    self.dispatch(Event::BargeInConfirmed, "somebody interrupted");
                }
                barge_in::Verdict::Denied => self.dispatch(Event::BargeInDenied, "nobody interrupted"),
                barge_in::Verdict::Same | barge_in::Verdict::Suspected => {}
            },
        }
    }

    fn hear_turn(&mut self, speech: f32) {
        let heard = self.detector.push(speech);
        let Some(exchange) = &mut self.exchange else { return };
        if speech >= self.config.voice.speech_threshold as f32 {
            exchange.last_speech = Instant::now();
        }
        match heard {
            turn::Heard::Same => {}
            turn::Heard::Began(_) => exchange.spoken = true,
            turn::Heard::Paused => {
                self.pause = self.pause.wrapping_add(1);
                if let Some(hearing) = &self.hearing {
                    hearing.judge.ask(self.pause, &exchange.samples);
                }
                self.dispatch(Event::LikelyPause, "somebody paused");
            }
            turn::Heard::Resumed => self.dispatch(Event::SpeechResumed, "they went on"),
            turn::Heard::Ended(Why::Silence) => self.dispatch(Event::TurnEnded, "somebody finished"),
            turn::Heard::Ended(Why::TooLong) => {
                self.too_long = true;
                self.dispatch(Event::TurnEnded, "the turn was as long as voice.max_turn allows");
            }
        }
    }

    fn follow_exchange(&mut self) {
        if let Some(probability) = self.hearing.as_ref().and_then(|hearing| hearing.judge.answer(self.pause)) {
            self.detector.judged(probability);
        }
        let Some(exchange) = &self.exchange else { return };
        if let Some(error) = exchange.failure() {
            let reason = error.to_string();
            match self.state {
                State::Listening | State::Endpointing => self.dispatch(Event::NothingSaid, &reason),
                _ => {
                    self.player.cut();
                    self.exchange = None;
                    self.dispatch(Event::ReplyEnded, &reason);
                }
            }
            return;
        }
        let given_up = exchange.give_up.is_some_and(|when| !exchange.spoken && Instant::now() >= when);
        if given_up && self.state == State::Listening {
            self.dispatch(Event::NothingSaid, "nobody spoke");
        }
    }

    // Sound.

    fn play(&mut self) {
        let quiet = matches!(self.state, State::Idle | State::Muted | State::Unavailable);
        self.lines.retain(|line| !line.is_cut());
        if quiet
            && !self.player.is_busy()
            && self.exchange.is_none()
            && let Some(line) = self.lines.front()
        {
            if line.is_drained() && line.made() == 0 {
                self.lines.pop_front();
            } else if line.made() > 0 {
                self.player.play(Arc::clone(line));
                self.lines.pop_front();
            }
        }
        if self.exchange.is_none() && self.player.is_abandoned() {
            self.player.cut();
            self.dispatch(Event::ReplyEnded, "nobody wants to hear the rest");
        }
        let played = self.player.pump(self.config.audio.playback_buffer);
        match played {
            Played::Same => {}
            Played::Began => {
                self.barge_in.reset();
                self.detector.reset();
                if let Some(exchange) = &self.exchange {
                    exchange.tell_times();
                }
                self.dispatch(Event::SoundBegan, "the answer sounds");
            }
            Played::Ended => {
                self.sounded_at = Instant::now();
                self.detector.reset();
                if let Some(exchange) = self.exchange.take() {
                    exchange.end(true);
                }
                self.dispatch(Event::ReplyEnded, "everything is said");
            }
        }
        if self.player.has_begun() {
            self.sounded_at = Instant::now();
        }
        if played != Played::Same {
            self.publish(true);
        }
        self.give_up_sound();
    }

    /// Sound that has nowhere to go does not wait for ever.
    fn give_up_sound(&mut self) {
        let lacking = self.player.is_busy() && self.player.playback().is_none();
        if !lacking {
            self.soundless = None;
            return;
        }
        let since = *self.soundless.get_or_insert_with(Instant::now);
        if since.elapsed() >= SOUNDLESS {
            self.soundless = None;
            self.cut_answer();
            self.dispatch(Event::ReplyEnded, "there is no loudspeaker; connect one, or name it in audio.playback");
        }
    }

    // Streams.

    fn wants_microphone(&self) -> bool {
        let in_turn = matches!(self.state, State::Listening | State::Endpointing);
        !self.muted
            && self.forbidden().is_none()
            && (in_turn || !self.listeners.is_empty() || self.config.voice.mode == MicrophoneMode::Open)
    }

    fn wants_loudspeaker(&self) -> bool {
        let in_use = self.player.is_busy() || !self.lines.is_empty() || self.exchange.is_some();
        // With an open microphone it stays open: what is known of its echo would be forgotten.
        self.suspended.is_none()
            && (in_use
                || self.sounded_at.elapsed() < KEEP
                || (self.wants_microphone() && self.config.audio.echo_cancellation))
    }

    fn settle_streams(&mut self) {
        if let Some(reason) = self.forbidden()
            && !matches!(self.state, State::Muted | State::Unavailable)
        {
            self.dispatch(Event::CaptureLost, &reason);
        } else if let (Some(reason), State::Unavailable) = (self.forbidden(), self.state) {
            self.reason = reason;
        }
        if !self.wants_microphone() && self.ear.is_some() {
            self.close_microphone();
        }
        self.take_opened();
        let due = Instant::now() >= self.retry_at;
        match (self.wants_loudspeaker(), self.player.playback().is_some()) {
            (true, false) if due => self.devices.open_loudspeaker(),
            (false, true) => {
                self.player.set_playback(None);
                self.reference = None;
            }
            (true | false, _) => {}
        }
        if !due {
            return;
        }
        if self.wants_microphone() && self.ear.is_none() {
            match self.prepare_hearing() {
                Ok(()) => self.devices.open_microphone(),
                Err(reason) => self.lose(&reason),
            }
        } else if self.state == State::Unavailable && self.ear.is_none() && self.forbidden().is_none() {
            // Nobody needs it now; it is enough to know that it is there.
            match self.devices.microphone() {
                Ok(_) => self.regain(),
                Err(error) => self.lose(&error.to_string()),
            }
        }
    }

    /// Takes the devices that have been opened meanwhile.
    fn take_opened(&mut self) {
        match self.devices.opened_loudspeaker() {
            None => {}
            Some(Ok((playback, reference))) => {
                tracing::info!(device = playback.device().name, "loudspeaker opened");
                self.player.set_playback(Some(playback));
                self.soundless = None;
                let reference = Some(reference).filter(|_| self.config.audio.echo_cancellation);
                match &mut self.ear {
                    Some(ear) => {
                        if let Err(error) = ear.set_reference(reference) {
                            tracing::warn!(%error, "the echo is not taken out");
                        }
                    }
                    None => self.reference = reference,
                }
            }
            Some(Err(error)) => {
                tracing::debug!(%error, "no loudspeaker");
                self.retry_at = Instant::now() + RETRY;
            }
        }
        let opened = match self.devices.opened_microphone() {
            None => return,
            // Muted or let go meanwhile.
            Some(_) if !self.wants_microphone() || self.ear.is_some() => return,
            Some(opened) => opened.and_then(|capture| {
                let name = capture.device().name.clone();
                Ok((Ear::new(capture, self.reference.take())?, name))
            }),
        };
        match opened {
            Ok((ear, name)) => {
                tracing::info!(device = name, "microphone opened");
                self.ear = Some(ear);
                if let Some(hearing) = &mut self.hearing {
                    hearing.listener.reset();
                }
                self.regain();
                self.answer_listeners(Ok(()));
            }
            Err(error) => self.lose(&error.to_string()),
        }
    }

    fn close_loudspeaker(&mut self) {
        self.player.set_playback(None);
        self.reference = None;
        if let Some(ear) = &mut self.ear {
            let _ = ear.set_reference(None);
        }
    }

    fn prepare_hearing(&mut self) -> Result<(), String> {
        if self.hearing.is_none() {
            let load = || -> eddy_models::Result<(Runtime, Listener)> {
                let runtime = Runtime::start(&self.runtime)?;
                let listener = Listener::load(&runtime)?;
                Ok((runtime, listener))
            };
            let (runtime, listener) = load().map_err(|error| error.to_string())?;
            let judge = Judge::start(runtime).map_err(|error| error.to_string())?;
            self.hearing = Some(Hearing { listener, judge });
        }
        Ok(())
    }

    fn close_microphone(&mut self) {
        if let Some(ear) = self.ear.take() {
            tracing::info!(device = ear.capture().device().name, "microphone closed");
            self.reference = ear.into_reference();
            self.level.store(0, Ordering::Relaxed);
        }
    }

    fn lose(&mut self, reason: &str) {
        self.retry_at = Instant::now() + RETRY;
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

    fn follow_devices(&mut self) {
        let changed = self.devices.changes();
        if changed.server_lost {
            self.close_loudspeaker();
            self.close_microphone();
            self.reference = None;
            self.lose("the sound server went away; it is waited for");
        }
        let broken = self.player.playback().is_some_and(|playback| playback.trouble().is_some());
        if broken || changed.loudspeaker_moved {
            self.close_loudspeaker();
            self.devices.open_loudspeaker();
        }
        if changed.microphone_moved && self.ear.is_some() {
            self.close_microphone();
            self.devices.open_microphone();
        }
        if changed.devices {
            self.look_at_devices();
        }
    }

    /// Opens the devices that are meant now in place of those that are open.
    fn look_at_devices(&mut self) {
        self.retry_at = Instant::now();
        if let (Some(ear), Ok(meant)) = (&self.ear, self.devices.microphone())
            && ear.capture().device().name != meant.name
        {
            self.close_microphone();
            self.devices.open_microphone();
        }
        if let (Some(playback), Ok(meant)) = (self.player.playback(), self.devices.loudspeaker())
            && playback.device().name != meant.name
        {
            self.close_loudspeaker();
            self.devices.open_loudspeaker();
        }
    }

    // What others see.

    fn publish(&mut self, now: bool) {
        let figures = self.figures_at.elapsed() >= FIGURES;
        if !now && !figures {
            return;
        }
        let report = self.ear.as_ref().map(Ear::report);
        let status = Status {
            state: self.state,
            reason: self.reason.clone(),
            microphone: self.ear.is_some(),
            speaker: self.player.has_begun(),
            echo_return_loss: report.and_then(|report| report.erle_db),
            echo_delay: report.and_then(|report| report.delay),
            half_duplex: self.is_half_duplex(),
            underruns: self.player.underruns(),
            overruns: self.ear.as_ref().map_or(0, |ear| ear.capture().overruns()),
        };
        self.figures_at = Instant::now();
        self.status.send_if_modified(|seen| {
            if status.half_duplex && !seen.half_duplex {
                tracing::warn!("the echo of the loudspeaker cannot be taken out; Eddy does not listen while it speaks");
            }
            let new = *seen != status;
            *seen = status;
            new
        });
    }
}

fn told(trouble: Trouble) -> String {
    match trouble {
        Trouble::Failed(Failure::DeviceGone) => "was unplugged".into(),
        Trouble::Failed(Failure::ServerGone) => "is gone with the sound server".into(),
        Trouble::Failed(Failure::Other) => "failed".into(),
        Trouble::Stalled(time) => format!("has given nothing for {:.1} s", time.as_secs_f64()),
    }
}

fn patience(config: &Config) -> Patience {
    let voice = &config.voice;
    Patience {
        speech: voice.speech_threshold as f32,
        silence: voice.silence_threshold.min(voice.speech_threshold) as f32,
        shortest_speech: voice.min_speech,
        shortest_wait: voice.endpoint_min_wait,
        longest_wait: voice.endpoint_max_wait.max(voice.endpoint_min_wait),
        longest_turn: voice.max_turn,
        chunk: CHUNK,
    }
}

fn threshold(config: &Config) -> Threshold {
    let voice = &config.voice;
    Threshold {
        speech: voice.speech_threshold as f32,
        silence: voice.silence_threshold.min(voice.speech_threshold) as f32,
        length: voice.barge_in_speech,
        chunk: CHUNK,
    }
}
