//! What is made of the microphone's sound: that somebody begins, pauses, finishes or interrupts.
//!
//! Owns the speech detector, the memory of the last seconds, the follower of turns, the judge of pauses and the detector of
//! interruptions. Fed frame by frame; touches no device and decides nothing.

use std::collections::VecDeque;
use std::time::Duration;

use eddy_audio::ear::{FRAME, RATE};
use eddy_config::{Config, MicrophoneMode};
use eddy_models::listening::wake_word::{Examples, Spotted, WakeWord};
use eddy_models::{Runtime, RuntimeOptions, Stop};

use super::barge_in::{self, BargeIn, Echo, Threshold};
use super::listener::{CHUNK, Judge, Listener};
use super::turn::{Heard, Patience, TurnDetector, Why};
use super::wake;

/// Quiet after which the judge is asked and the answer is begun: long enough to be no stop inside a word.
const NOTICE: Duration = Duration::from_millis(224);
/// A suspicion so soon after one that was dropped goes on where that one began, in samples.
const SAME: u64 = RATE as u64 / 2;

/// Chunks whose probabilities are remembered: those that may lie between the wake word and its being noticed.
const RECENT: usize = 48;
/// How exactly the end of the wake word is known. What is said behind it may begin so much earlier, and speech that is
/// nearer belongs to it.
const EDGE: Duration = Duration::from_millis(96);

/// What is listened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attention {
    /// Nothing; what is heard is remembered all the same.
    Nothing,
    /// Somebody who says the wake word.
    Call,
    /// Somebody who begins to speak.
    Beginning,
    /// The person who has the turn.
    Turn,
    /// Somebody who speaks over the reply.
    Interruption,
}

/// What was noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Noticed {
    /// Somebody has begun; in a turn that was waited for, its first words.
    Began,
    /// The wake word; `more` says whether something was said behind it already.
    Called {
        /// Whether the turn has its first words.
        more: bool,
    },
    /// The person paused, and the judge was asked.
    Paused,
    /// The person went on after such a pause.
    Resumed,
    /// The turn is over.
    Ended(Why),
    /// Perhaps an interruption.
    Suspected,
    /// It is one.
    Confirmed,
    /// It was none.
    Denied,
}

/// One frame of the microphone, 10 ms at 16 kHz.
#[derive(Debug, Clone, Copy)]
pub struct Frame<'a> {
    /// As it was recorded.
    pub recorded: &'a [f32; FRAME],
    /// Without the echo.
    pub clean: &'a [f32; FRAME],
    /// What the loudspeaker was given.
    pub played: &'a [f32; FRAME],
    /// What is known of the echo.
    pub echo: Echo,
}

struct Models {
    listener: Listener,
    judge: Judge,
    wake_word: Option<WakeWord>,
    /// How far into the listener's clock the wake word was listened for.
    listened: u64,
}

/// The wake word, as it is configured.
enum Phrase {
    Unwanted,
    /// Wanted, and not to be had, for this reason.
    Missing(String),
    Enrolled(Examples, f32),
}

impl Models {
    fn listen_for_call(&mut self, speech: bool, attention: Attention) -> eddy_models::Result<Option<Spotted>> {
        let Some(wake_word) = &mut self.wake_word else { return Ok(None) };
        let new = self.listener.since(self.listened);
        self.listened = self.listener.total();
        if attention == Attention::Call {
            return wake_word.push(&new, speech);
        }
        wake_word.remember(&new);
        Ok(None)
    }
}

/// The hearing of one microphone.
pub struct Hearing {
    models: Option<Models>,
    detector: TurnDetector,
    barge_in: BargeIn,
    phrase: Phrase,
    /// The last probabilities of speech.
    recent: VecDeque<f32>,
    threshold: (f32, f32),
    lead_in: Duration,
    /// The pause that the judge was asked about.
    pause: u32,
    /// A turn was ended for its length: what goes on is not a new one.
    too_long: bool,
    /// Where in the listener's clock the next utterance begins.
    begin: u64,
    /// When a suspicion was dropped last, in the same clock.
    denied: Option<u64>,
    /// Whether the last chunk held speech.
    speech: bool,
}

impl Hearing {
    /// With nothing loaded.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let mut hearing = Self {
            models: None,
            detector: TurnDetector::new(patience(config)),
            barge_in: BargeIn::new(threshold(config)),
            phrase: Phrase::Unwanted,
            recent: VecDeque::with_capacity(RECENT),
            threshold: (0.0, 0.0),
            lead_in: Duration::ZERO,
            pause: 0,
            too_long: false,
            begin: 0,
            denied: None,
            speech: false,
        };
        hearing.configure(config);
        hearing
    }

    /// Takes another configuration, and forgets what it was about to notice.
    pub fn configure(&mut self, config: &Config) {
        self.detector = TurnDetector::new(patience(config));
        self.barge_in = BargeIn::new(threshold(config));
        self.threshold = (config.voice.speech_threshold as f32, config.voice.silence_threshold as f32);
        self.lead_in = config.voice.lead_in;
        self.phrase = phrase(config);
        if let Some(models) = &mut self.models {
            models.wake_word = None;
        }
    }

    /// Why the wake word that is configured cannot be listened for.
    #[must_use]
    pub fn missing_phrase(&self) -> Option<&str> {
        match &self.phrase {
            Phrase::Missing(reason) => Some(reason),
            Phrase::Unwanted | Phrase::Enrolled(..) => None,
        }
    }

    /// Loads the models, once.
    ///
    /// # Errors
    /// A sentence: the runtime is missing, or refuses them.
    pub fn load(&mut self, runtime: &RuntimeOptions) -> Result<(), String> {
        if self.models.is_none() {
            let load = || -> eddy_models::Result<(Runtime, Listener)> {
                let runtime = Runtime::start(runtime)?;
                let listener = Listener::load(&runtime)?;
                Ok((runtime, listener))
            };
            let (runtime, listener) = load().map_err(|error| error.to_string())?;
            let judge = Judge::start(runtime).map_err(|error| error.to_string())?;
            self.models = Some(Models { listener, judge, wake_word: None, listened: 0 });
        }
        if let (Some(models), Phrase::Enrolled(examples, threshold)) = (&mut self.models, &self.phrase)
            && models.wake_word.is_none()
        {
            let load = || {
                let runtime = Runtime::start(runtime)?;
                WakeWord::load(&runtime, &Stop::new(&runtime)?, examples.clone(), *threshold)
            };
            models.wake_word = Some(load().map_err(|error: eddy_models::Error| error.to_string())?);
        }
        Ok(())
    }

    /// Another microphone begins: what the last one heard does not go before it.
    pub fn restart(&mut self) {
        if let Some(models) = &mut self.models {
            models.listener.reset();
        }
        self.rest();
    }

    /// Forgets what it was about to notice.
    pub fn rest(&mut self) {
        self.detector.reset();
        self.barge_in.reset();
    }

    /// The next utterance begins now, without a lead-in.
    pub fn begin_here(&mut self) {
        self.begin = self.clock();
        self.denied = None;
        self.rest();
    }

    /// The turn is the person's already, by speech that was confirmed in another way.
    pub fn begin_turn(&mut self) {
        self.detector.begin();
    }

    /// What was heard from the beginning of the utterance on, mono at 16 kHz, as far as it is remembered.
    #[must_use]
    pub fn utterance(&self) -> Vec<f32> {
        self.models.as_ref().map_or_else(Vec::new, |models| models.listener.since(self.begin))
    }

    /// Whether the last chunk held speech.
    #[must_use]
    pub fn is_speech(&self) -> bool {
        self.speech
    }

    /// Waits for what the judge thinks of the pause that was noticed last: for sound that comes faster than it was spoken,
    /// where [`Self::judged`] is told when it would have been known.
    #[must_use]
    pub fn wait_for_judge(&self, most: Duration) -> Option<f32> {
        self.models.as_ref()?.judge.wait(self.pause, most)
    }

    /// Takes the probability that the turn has ended.
    pub fn judged(&mut self, ended: f32) {
        self.detector.judged(ended);
    }

    /// Takes a frame; `said` is the turn so far, for the judge.
    ///
    /// # Errors
    /// Those of the model; the frame is not looked at then.
    pub fn push(
        &mut self,
        frame: Frame<'_>,
        attention: Attention,
        said: &[f32],
    ) -> eddy_models::Result<Option<Noticed>> {
        self.speech = false;
        let Some(models) = &mut self.models else { return Ok(None) };
        // A turn and an interruption have their own ideas of loudness; what is waited for the day long has not begun.
        let may_rest = matches!(attention, Attention::Nothing | Attention::Call | Attention::Beginning);
        let heard = models.listener.push(frame.recorded, frame.clean, frame.played, may_rest)?;
        let Some(chunk) = heard else { return Ok(None) };
        self.speech = chunk.speech >= self.threshold.0;
        if self.recent.len() == RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back(chunk.speech);
        // Speech that is only suspected is looked at too: the phrase may begin softly.
        let called = models.listen_for_call(chunk.speech >= self.threshold.1, attention)?;
        Ok(match attention {
            Attention::Nothing => None,
            Attention::Call => called.map(|called| self.take_call(called)),
            Attention::Beginning if self.too_long => {
                self.too_long = chunk.speech >= self.threshold.1;
                None
            }
            Attention::Beginning => match self.detector.push(chunk.speech) {
                Heard::Began(length) => {
                    self.begin = self.ago(length);
                    Some(Noticed::Began)
                }
                Heard::Same | Heard::Paused | Heard::Resumed | Heard::Ended(_) => None,
            },
            Attention::Turn => self.follow_turn(chunk.speech, said),
            Attention::Interruption => match self.barge_in.push(chunk, frame.echo) {
                barge_in::Verdict::Same => None,
                barge_in::Verdict::Suspected => {
                    // "Stop", and only then the sentence: both are what the person said.
                    if self.denied.is_none_or(|denied| self.clock() - denied > SAME) {
                        self.begin = self.ago(CHUNK);
                    }
                    Some(Noticed::Suspected)
                }
                barge_in::Verdict::Confirmed => Some(Noticed::Confirmed),
                barge_in::Verdict::Denied => {
                    self.denied = Some(self.clock());
                    Some(Noticed::Denied)
                }
            },
        })
    }

    fn follow_turn(&mut self, speech: f32, said: &[f32]) -> Option<Noticed> {
        if let Some(models) = &self.models
            && let Some(probability) = models.judge.answer(self.pause)
        {
            self.detector.judged(probability);
        }
        match self.detector.push(speech) {
            Heard::Same => None,
            Heard::Began(_) => Some(Noticed::Began),
            Heard::Paused => {
                self.pause = self.pause.wrapping_add(1);
                if let Some(models) = &self.models {
                    models.judge.ask(self.pause, said);
                }
                Some(Noticed::Paused)
            }
            Heard::Resumed => Some(Noticed::Resumed),
            Heard::Ended(why) => {
                self.too_long = why == Why::TooLong;
                Some(Noticed::Ended(why))
            }
        }
    }

    /// The turn begins behind the phrase, with what was said there since.
    fn take_call(&mut self, called: Spotted) -> Noticed {
        tracing::debug!(score = called.score, ago = called.ago, "the wake word");
        let edge = (EDGE.as_secs_f64() * f64::from(RATE)) as u64;
        self.begin = self.clock().saturating_sub(called.ago as u64 + edge);
        self.denied = None;
        self.rest();
        let chunk = (CHUNK.as_secs_f64() * f64::from(RATE)) as usize;
        let since = called.ago.saturating_sub(edge as usize) / chunk;
        let mut more = false;
        for probability in self.recent.iter().skip(self.recent.len().saturating_sub(since)) {
            more |= matches!(self.detector.push(*probability), Heard::Began(_));
        }
        Noticed::Called { more }
    }

    /// Samples that were ever heard.
    fn clock(&self) -> u64 {
        self.models.as_ref().map_or(0, |models| models.listener.total())
    }

    /// The place in the clock that is so long ago, and the lead-in before it.
    fn ago(&self, time: Duration) -> u64 {
        let samples = (time + self.lead_in).as_secs_f64() * f64::from(RATE);
        self.clock().saturating_sub(samples as u64)
    }
}

fn phrase(config: &Config) -> Phrase {
    if config.voice.mode != MicrophoneMode::WakeWord {
        return Phrase::Unwanted;
    }
    match wake::enrolled(config) {
        Ok(examples) => Phrase::Enrolled(examples, config.voice.wake_word_threshold as f32),
        Err(reason) => {
            tracing::error!("{reason}; until then Eddy listens when asked to (push to talk)");
            Phrase::Missing(format!("{reason}; until then Eddy listens when asked to"))
        }
    }
}

fn patience(config: &Config) -> Patience {
    let voice = &config.voice;
    Patience {
        speech: voice.speech_threshold as f32,
        silence: voice.silence_threshold.min(voice.speech_threshold) as f32,
        shortest_speech: voice.min_speech,
        notice: NOTICE.min(voice.endpoint_min_wait),
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
