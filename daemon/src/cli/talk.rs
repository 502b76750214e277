//! `eddy talk`: a live conversation at this terminal.
//!
//! Plain lines, one for each thing that happens, so that a pipe, a screen reader and a slow connection get the same as a
//! terminal; a terminal has one line more, with the state and the level of the microphone, which is written over.

use std::io::{IsTerminal, Read, Write};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use eddy_config::{MicrophoneMode, Paths, Sources};
use serde_json::{Value, json};

use super::Outcome;
use super::daemon::{BusArguments, hush};
use super::model::{LoadArguments, own_model};
use super::output::seconds;
use crate::voice::{Audience, Change, Local, State, Told, Voice, remark};

/// How often the line at the bottom is written.
const REFRESH: Duration = Duration::from_millis(100);
/// The quietest sound that the meter shows, dB of full scale.
const QUIETEST: f32 = -60.0;
/// Characters of the meter.
const METER: usize = 20;

/// Arguments of the verb.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Model folder [default: the small model that comes with Eddy].
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
    #[command(flatten)]
    load: LoadArguments,
    /// Listen only after the space key, for one turn, instead of all the time.
    #[arg(long)]
    push_to_talk: bool,
    /// Always take the most probable.
    #[arg(long)]
    greedy: bool,
    /// Print one JSON object for each thing that happens.
    #[arg(long)]
    json: bool,
}

/// What happens, in the order in which it is shown.
enum News {
    State(Box<Change>),
    You(String),
    Written,
    Eddy(String),
    Folded(usize),
    Called(String),
    Answering(Duration, Duration),
    Ended { played: Duration, remembered: Duration, whole: bool, slow: Option<String> },
    Failed(String),
    Key(u8),
    NoMoreKeys,
    Signal,
}

/// Runs the verb.
///
/// # Errors
/// One line about what went wrong.
pub fn run(arguments: Arguments, bus: &BusArguments) -> anyhow::Result<Outcome> {
    let mut sources = Sources::standard(&Paths::from_environment()?);
    sources.only.clone_from(&arguments.load.config);
    let mut config = sources.load()?.config;
    config.voice.mode = if arguments.push_to_talk { MicrophoneMode::PushToTalk } else { MicrophoneMode::Open };
    config.generation.greedy |= arguments.greedy;
    let (send, news) = channel();
    let audience = Arc::new(Teller(Mutex::new(send.clone())));
    let states = send.clone();
    let observer = Box::new(move |change: &Change| drop(states.send(News::State(Box::new(change.clone())))));
    let (wanted, runtime) = (arguments.load.wanted()?, arguments.load.runtime()?);
    let model = arguments.model.map_or_else(own_model, Ok)?;
    // Two that listen in one room would both answer.
    let hushed = hush(bus)?;
    let local = Local::start(&model, wanted, runtime, Arc::new(config), audience, observer)?;
    signals(send.clone())?;
    let _raw = RawKeys::take();
    keys(send)?;
    let mut screen = Screen::new(arguments.json);
    screen.line("keys: space listen or stop, i interrupt, m mute or unmute, q quit")?;
    if hushed.is_some() {
        screen.line("eddyd keeps its microphone closed until this conversation ends")?;
    }
    follow(local.voice(), &news, &mut screen)
}

fn follow(voice: &Voice, news: &Receiver<News>, screen: &mut Screen) -> anyhow::Result<Outcome> {
    loop {
        let next = match news.recv_timeout(REFRESH) {
            Ok(next) => next,
            Err(RecvTimeoutError::Timeout) => {
                screen.meter(voice)?;
                continue;
            }
            Err(RecvTimeoutError::Disconnected) => return Ok(Outcome::Done),
        };
        match next {
            News::State(change) => screen.state(&change)?,
            News::You(text) => screen.words("you", &text)?,
            News::Eddy(text) => screen.words("eddy", &text)?,
            News::Written => screen.end_words()?,
            News::Folded(turns) => {
                let what = json!({ "event": "folded", "turns": turns });
                screen.event(&format!("the {turns} oldest turns are forgotten, to make room"), what)?;
            }
            News::Called(tool) => {
                screen.event(&format!("it calls {tool}"), json!({ "event": "called", "tool": tool }))?;
            }
            News::Answering(wait, think) => {
                let line = format!("answered {} ms after the last word", (wait + think).as_millis());
                let what = json!({ "event": "answering", "wait": seconds(wait), "think": seconds(think) });
                screen.event(&line, what)?;
            }
            News::Ended { played, remembered, whole, slow } => {
                let how = if whole { "heard to its end" } else { "cut" };
                let line = format!("the answer was {how}, {:.1} s of it", played.as_secs_f64());
                let (played, remembered) = (seconds(played), seconds(remembered));
                screen.event(
                    &line,
                    json!({ "event": "ended", "whole": whole, "played": played, "remembered": remembered }),
                )?;
                if let Some(slow) = slow {
                    screen.event(&slow, json!({ "event": "slow", "remark": slow }))?;
                }
            }
            News::Failed(error) => screen.event(&error, json!({ "event": "failed", "error": error }))?,
            News::Key(key) => {
                if let Some(ended) = press(voice, key, screen)? {
                    return Ok(ended);
                }
            }
            // Without a keyboard the conversation goes on until a signal.
            News::NoMoreKeys => {}
            News::Signal => return Ok(Outcome::Interrupted),
        }
    }
}

fn press(voice: &Voice, key: u8, screen: &mut Screen) -> anyhow::Result<Option<Outcome>> {
    let state = voice.statuses().borrow().state;
    let done = match key {
        b'q' | 4 => return Ok(Some(Outcome::Done)),
        3 => return Ok(Some(Outcome::Interrupted)),
        b'i' => voice.interrupt(),
        b'm' => voice.mute_blocking(state != State::Muted),
        b' ' if matches!(state, State::Listening | State::Endpointing) => voice.stop_listening(),
        b' ' => voice.listen_blocking(None),
        _ => Ok(()),
    };
    if let Err(error) = done {
        let error = error.to_string();
        screen.event(&error, json!({ "event": "failed", "error": error }))?;
    }
    Ok(None)
}

/// Passes what the voice tells on to the screen's thread.
struct Teller(Mutex<Sender<News>>);

impl Audience for Teller {
    fn tell(&self, told: Told<'_>) {
        let time = |samples: u64| Duration::from_secs_f64(samples as f64 / f64::from(crate::voice::RATE));
        let news = match told {
            Told::Transcript(text) => News::You(text.to_owned()),
            Told::Text(text) => News::Eddy(text.to_owned()),
            Told::Written => News::Written,
            Told::Writing | Told::Sound(_) => return,
            Told::Folded(turns) => News::Folded(turns),
            Told::Called(tool) => News::Called(tool.to_owned()),
            Told::Answering { wait, think } => News::Answering(wait, think),
            // A turn in which nothing was said.
            Told::Ended(end) if end.reason.is_none() => return,
            Told::Ended(end) => News::Ended {
                played: time(end.played),
                remembered: time(end.remembered),
                whole: end.reason != Some(eddy_ipc::FinishReason::Cancelled),
                slow: remark(|name| end.latency.iter().find(|(known, _)| *known == name).map(|(_, value)| *value)),
            },
            Told::Failed(error) => News::Failed(error.to_string()),
        };
        // The screen has gone when the program ends.
        let _ = self.0.lock().unwrap_or_else(PoisonError::into_inner).send(news);
    }
}

/// Where everything is shown.
struct Screen {
    json: bool,
    terminal: bool,
    /// Whose words the open line holds.
    speaking: Option<&'static str>,
    /// The meter stands on the current line.
    metered: bool,
}

impl Screen {
    fn new(json: bool) -> Self {
        Self { json, terminal: !json && std::io::stdout().is_terminal(), speaking: None, metered: false }
    }

    /// A line for people.
    fn line(&mut self, line: &str) -> std::io::Result<()> {
        if self.json {
            return Ok(());
        }
        self.clear()?;
        write!(std::io::stdout(), "{line}\r\n")
    }

    fn event(&mut self, line: &str, event: Value) -> std::io::Result<()> {
        if self.json { writeln!(std::io::stdout(), "{event}") } else { self.line(line) }
    }

    fn state(&mut self, change: &Change) -> std::io::Result<()> {
        let word = format!("{:?}", change.now.state).to_lowercase();
        let what = json!({ "event": "state", "state": word, "reason": change.now.reason });
        self.event(&format!("[{word}] {}", change.now.reason), what)
    }

    /// Words as they come, on a line of their own.
    fn words(&mut self, who: &'static str, text: &str) -> std::io::Result<()> {
        if self.json {
            return writeln!(std::io::stdout(), "{}", json!({ "event": who, "text": text }));
        }
        if self.speaking != Some(who) {
            self.clear()?;
            write!(std::io::stdout(), "{who}: ")?;
            self.speaking = Some(who);
        }
        write!(std::io::stdout(), "{}", text.replace('\n', " "))?;
        std::io::stdout().flush()
    }

    fn end_words(&mut self) -> std::io::Result<()> {
        if self.json { Ok(()) } else { self.clear() }
    }

    /// The line at the bottom, while nobody's words are on it.
    fn meter(&mut self, voice: &Voice) -> std::io::Result<()> {
        if !self.terminal || self.speaking.is_some() {
            return Ok(());
        }
        let status = voice.statuses().borrow().clone();
        let decibels = 20.0 * voice.level().max(1e-6).log10();
        let filled = ((1.0 - decibels / QUIETEST).clamp(0.0, 1.0) * METER as f32) as usize;
        let meter = if status.microphone { format!("{:-<METER$}", "#".repeat(filled)) } else { "closed".into() };
        let word = format!("{:?}", status.state).to_lowercase();
        let echo = if status.half_duplex { "  (its echo stays: it does not listen while it speaks)" } else { "" };
        self.metered = true;
        write!(std::io::stdout(), "\r\x1b[K{word:<12} mic {meter}{echo}")?;
        std::io::stdout().flush()
    }

    /// Ends what stands on the current line.
    fn clear(&mut self) -> std::io::Result<()> {
        if self.speaking.take().is_some() {
            write!(std::io::stdout(), "\r\n")?;
        } else if std::mem::take(&mut self.metered) {
            write!(std::io::stdout(), "\r\x1b[K")?;
        }
        Ok(())
    }
}

/// Keys without the enter key, until this is dropped.
struct RawKeys(Option<rustix::termios::Termios>);

impl RawKeys {
    fn take() -> Self {
        use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
        let stdin = std::io::stdin();
        // Standard input may be a pipe, which needs nothing.
        let Ok(before) = tcgetattr(&stdin) else { return Self(None) };
        let mut raw = before.clone();
        raw.local_modes.remove(LocalModes::ICANON | LocalModes::ECHO);
        let _ = tcsetattr(&stdin, OptionalActions::Now, &raw);
        Self(Some(before))
    }
}

impl Drop for RawKeys {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            let _ = rustix::termios::tcsetattr(std::io::stdin(), rustix::termios::OptionalActions::Now, before);
        }
    }
}

fn keys(send: Sender<News>) -> std::io::Result<()> {
    std::thread::Builder::new().name("keys".into()).spawn(move || {
        let mut pressed = [0; 16];
        while let Ok(count @ 1..) = std::io::stdin().read(&mut pressed) {
            for key in &pressed[..count] {
                if send.send(News::Key(*key)).is_err() {
                    return;
                }
            }
        }
        let _ = send.send(News::NoMoreKeys);
    })?;
    Ok(())
}

fn signals(send: Sender<News>) -> std::io::Result<()> {
    use signal_hook::consts::{SIGINT, SIGTERM};
    let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM])?;
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        for _ in signals.forever() {
            let _ = send.send(News::Signal);
        }
    })?;
    Ok(())
}
