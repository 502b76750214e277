//! What is made of the microphone's sound: that somebody begins, pauses, finishes or interrupts.
//!
//! Owns the speech detector, the memory of the last seconds, the follower of turns, the judge of pauses and the detector of
//! interruptions. Fed frame by frame; touches no device and decides nothing.

use std::time::Duration;

use eddy_audio::ear::{FRAME, RATE};
use eddy_config::Config;
use eddy_models::{Runtime, RuntimeOptions};

use super::barge_in::{self, BargeIn, Echo, Threshold};
use super::listener::{CHUNK, Judge, Listener};
use super::turn::{Heard, Patience, TurnDetector, Why};

/// Quiet after which the judge is asked and the answer is begun: long enough to be no stop inside a word.
const NOTICE: Duration = Duration::from_millis(224);
/// A suspicion so soon after one that was dropped goes on where that one began, in samples.
const SAME: u64 = RATE as u64 / 2;

/// What is listened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attention {
    /// Nothing; what is heard is remembered all the same.
    Nothing,
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
}

/// The hearing of one microphone.
pub struct Hearing {
    models: Option<Models>,
    detector: TurnDetector,
    barge_in: BargeIn,
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
            self.models = Some(Models { listener, judge });
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
        let Some(chunk) = models.listener.push(frame.recorded, frame.clean, frame.played)? else { return Ok(None) };
        self.speech = chunk.speech >= self.threshold.0;
        Ok(match attention {
            Attention::Nothing => None,
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
