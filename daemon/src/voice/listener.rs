//! What the loop hears with: the speech detector chunk by chunk, the memory of the last seconds, and the judge of how
//! finished a turn sounds, who has a thread of its own because an answer takes a tenth of a second.

use std::collections::VecDeque;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};
use eddy_audio::ear::FRAME;
use eddy_models::listening::{EndOfTurn, VoiceActivity};
use eddy_models::{Runtime, Stop};

use super::barge_in::Chunk;
use super::quiet::Quiet;

/// The length of a chunk.
pub const CHUNK: Duration = Duration::from_millis(32);
/// How much of what was heard is remembered: the longest lead-in, and the speech that it takes to be noticed.
const REMEMBERED: usize = 8 * VoiceActivity::SAMPLE_RATE as usize;
/// Chunks before the one that ended a rest which the detector is shown: a word may begin more softly than the room.
const BEFORE: usize = 4;

/// The detector and the memory.
pub struct Listener {
    detector: VoiceActivity,
    quiet: Quiet,
    /// Chunks that were not looked at, in a row.
    passed: usize,
    chunk: Vec<f32>,
    powers: [f32; 3],
    /// The last seconds without the echo, and how many samples there ever were.
    heard: VecDeque<f32>,
    total: u64,
}

impl Listener {
    /// Loads the detector.
    ///
    /// # Errors
    /// Those of the model.
    pub fn load(runtime: &Runtime) -> eddy_models::Result<Self> {
        Ok(Self {
            detector: VoiceActivity::load(runtime, &Stop::new(runtime)?)?,
            quiet: Quiet::default(),
            passed: 0,
            chunk: Vec::with_capacity(VoiceActivity::CHUNK + FRAME),
            powers: [0.0; 3],
            heard: VecDeque::with_capacity(REMEMBERED + FRAME),
            total: 0,
        })
    }

    /// Takes a frame: what the microphone recorded, what is left without the echo, what was played. A chunk comes of
    /// about every third. Where it `may_rest`, chunks of a quiet room are not looked at.
    ///
    /// # Errors
    /// Those of the model.
    pub fn push(
        &mut self,
        recorded: &[f32; FRAME],
        clean: &[f32; FRAME],
        played: &[f32; FRAME],
        may_rest: bool,
    ) -> eddy_models::Result<Option<Chunk>> {
        self.heard.extend(clean);
        let over = self.heard.len().saturating_sub(REMEMBERED);
        self.heard.drain(..over);
        self.total += FRAME as u64;
        for (sum, frame) in self.powers.iter_mut().zip([recorded, clean, played]) {
            *sum += frame.iter().map(|sample| sample * sample).sum::<f32>();
        }
        self.quiet.push(clean);
        self.chunk.extend_from_slice(clean);
        if self.chunk.len() < VoiceActivity::CHUNK {
            return Ok(None);
        }
        let [recorded, clean, played] = self.powers.map(|sum| sum / VoiceActivity::CHUNK as f32);
        self.powers = [0.0; 3];
        let quiet = self.quiet.ends_chunk();
        let looked = if quiet && may_rest { None } else { Some(self.look()) };
        self.passed = if looked.is_none() { self.passed.saturating_add(1) } else { 0 };
        self.chunk.drain(..VoiceActivity::CHUNK);
        let speech = looked.transpose()?.unwrap_or_default();
        Ok(Some(Chunk { speech, recorded, clean, played }))
    }

    /// The probability of speech in the chunk, after those that were passed over just before it.
    fn look(&mut self) -> eddy_models::Result<f32> {
        let end = self.heard.len().saturating_sub(self.chunk.len());
        let count = (end / VoiceActivity::CHUNK).min(BEFORE).min(self.passed);
        if count > 0 {
            let before: Vec<f32> = self.heard.range(end - count * VoiceActivity::CHUNK..end).copied().collect();
            for chunk in before.chunks_exact(VoiceActivity::CHUNK) {
                self.detector.probability(chunk)?;
            }
        }
        self.detector.probability(&self.chunk[..VoiceActivity::CHUNK])
    }

    /// Samples that were ever heard: the clock of utterances.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.total
    }

    /// What was heard from `from` on, as far as it is remembered.
    #[must_use]
    pub fn since(&self, from: u64) -> Vec<f32> {
        let count = usize::try_from(self.total.saturating_sub(from)).unwrap_or(usize::MAX).min(self.heard.len());
        self.heard.range(self.heard.len() - count..).copied().collect()
    }

    /// Another microphone begins: what the last one heard does not go before it.
    pub fn reset(&mut self) {
        self.detector.reset();
        self.quiet = Quiet::default();
        self.passed = 0;
        self.chunk.clear();
        self.powers = [0.0; 3];
        self.heard.clear();
    }
}

/// The judge, on a thread of its own, which ends before this is gone: a process that ends while the runtime still computes
/// ends with a crash.
pub struct Judge {
    /// `None` once it is to end.
    questions: Option<Sender<(u32, Vec<f32>)>>,
    answers: Receiver<(u32, f32)>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Judge {
    fn drop(&mut self) {
        self.questions = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Judge {
    /// Starts the thread, which loads the model first.
    ///
    /// # Errors
    /// When the system refuses a thread.
    pub fn start(runtime: Runtime) -> std::io::Result<Self> {
        let (questions, asked) = crossbeam_channel::bounded::<(u32, Vec<f32>)>(4);
        let (answer, answers) = crossbeam_channel::bounded(4);
        let thread = std::thread::Builder::new().name("turn-judge".into()).spawn(move || {
            let model = Stop::new(&runtime).and_then(|stop| EndOfTurn::load(&runtime, &stop));
            let mut model = match model {
                Ok(model) => model,
                Err(error) => {
                    tracing::warn!(%error, "ends of turns are told by silence alone");
                    return;
                }
            };
            for (number, sound) in asked {
                match model.probability(&sound) {
                    Ok(probability) if answer.send((number, probability)).is_err() => return,
                    Ok(_) => {}
                    Err(error) => tracing::warn!(%error, "the end of a turn could not be judged"),
                }
            }
        })?;
        Ok(Self { questions: Some(questions), answers, thread: Some(thread) })
    }

    /// Asks about the pause with this number; without a free judge, silence alone decides.
    pub fn ask(&self, number: u32, sound: &[f32]) {
        let last = &sound[sound.len().saturating_sub(EndOfTurn::REACH)..];
        if let Some(questions) = &self.questions {
            let _ = questions.try_send((number, last.to_vec()));
        }
    }

    /// The probability that the turn had ended, if it has come for this pause.
    #[must_use]
    pub fn answer(&self, number: u32) -> Option<f32> {
        self.answers.try_iter().filter(|(asked, _)| *asked == number).last().map(|(_, probability)| probability)
    }

    /// The same, waited for.
    #[must_use]
    pub fn wait(&self, number: u32, most: Duration) -> Option<f32> {
        let end = Instant::now() + most;
        loop {
            let (asked, probability) = self.answers.recv_deadline(end).ok()?;
            if asked == number {
                return Some(probability);
            }
        }
    }
}
