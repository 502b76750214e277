//! One reply on its way: a step makes a piece of text, or a piece of sound, or neither yet.
//!
//! Owns the grouping of frames for the detokenizer and the account of what was made when.

use std::time::{Duration, Instant};

use eddy_ipc::FinishReason;
use eddy_models::backbone::Cache;
use eddy_models::chat::tools::{CALLS_START, ToolCall, read_calls};
use eddy_models::speech::{Event, Finish, Mode, Reply, ReplyOptions, SampleStream, Speech, StageTimes};

use super::pace::{Cycle, Pace, Paces};

/// Frames of the first groups that are turned into samples together: small, because somebody waits for them, and cheap,
/// because there is little before them.
const FIRST_GROUPS: [usize; 3] = [1, 2, 3];
/// Frames of the later ones. Each call computes the left context again, 17 frames in published models, so larger groups
/// cost less; they come later too, which the sound that is ahead of the listener has to afford.
const LATER_GROUPS: [usize; 2] = [6, 24];

/// The name of the real-time factor in reports.
pub const RTF: &str = "rtf";

/// What a step made. Both stay allocated from step to step.
#[derive(Debug, Default)]
pub struct Made {
    /// Text that is settled.
    pub text: String,
    /// Samples that are settled.
    pub samples: Vec<f32>,
}

/// Whether there is more to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// There is.
    More,
    /// The reply is complete, and what was held back has to be taken with [`Turn::finish`].
    Complete(FinishReason),
}

/// What a reply came to.
#[derive(Debug, Clone, Default)]
pub struct Summary {
    /// All of the text.
    pub text: String,
    /// Text tokens and audio frames.
    pub items: u64,
    /// Samples at the model's rate.
    pub samples: u64,
    /// From the first step to the first token.
    pub first_text: Option<Duration>,
    /// From the first step to the first sample.
    pub first_sound: Option<Duration>,
    /// From the first step until now.
    pub whole: Duration,
    /// Time in the detokenizer.
    pub detokenizing: Duration,
    /// Time in the other stages.
    pub stages: StageTimes,
    /// The real-time factor over whole cycles, if there is sound.
    pub factor: Option<f64>,
}

impl Summary {
    /// The calls of a reply that is nothing else.
    ///
    /// # Errors
    /// [`eddy_models::Error::BadRequest`] for what cannot be read as calls.
    pub fn calls(&self) -> Result<Vec<ToolCall>, eddy_models::Error> {
        read_calls(self.text.trim())
    }

    /// Seconds by stage, and the real-time factor, under the names that reports use.
    #[must_use]
    pub fn latency(&self) -> Vec<(&'static str, f64)> {
        let mut stages = vec![
            ("prefill", self.stages.prefill),
            ("decode", self.stages.decode),
            ("depthformer", self.stages.depthformer),
            ("detokenize", self.detokenizing),
        ];
        stages.extend(self.first_text.map(|time| ("first_text", time)));
        stages.extend(self.first_sound.map(|time| ("first_sound", time)));
        stages.push(("reply", self.whole));
        let seconds = stages.into_iter().map(|(stage, time)| (stage, time.as_secs_f64()));
        seconds.chain(self.factor.map(|factor| (RTF, factor))).collect()
    }
}

/// The sound of a reply, if anybody wants it.
#[derive(Debug)]
struct Sound {
    stream: SampleStream,
    waiting: Vec<Vec<u32>>,
    /// Groups that are through.
    groups: usize,
    /// Frames that sound.
    frames: u64,
    end_code: u32,
    /// When the first samples were there.
    since: Option<Instant>,
    /// Frames that are samples.
    through: usize,
    /// How long a frame sounds.
    frame: Duration,
}

impl Sound {
    /// Frames that the next group needs: half of what a listener who began with the first samples has left to hear.
    fn group(&self) -> usize {
        if let Some(first) = FIRST_GROUPS.get(self.groups) {
            return *first;
        }
        let heard = self.since.map_or(Duration::ZERO, |since| since.elapsed());
        let heard = heard.as_secs_f64() / self.frame.as_secs_f64();
        let ahead = (self.through as f64 - heard).max(0.0) as usize;
        (ahead / 2).clamp(LATER_GROUPS[0], LATER_GROUPS[1])
    }
}

/// A reply in progress.
#[derive(Debug)]
pub struct Turn {
    reply: Reply,
    sound: Option<Sound>,
    begun: Instant,
    summary: Summary,
    /// The token that begins a call of a tool.
    call_start: Option<u32>,
    calls_tool: bool,
    pace: Pace,
    /// The longest that it can sound.
    longest: Duration,
    /// When the last item was there, unless nothing was wanted since.
    last: Option<Instant>,
}

impl Turn {
    /// Begins a reply to what `rows` hold. Without `sound` the frames that the model makes are not turned into samples.
    ///
    /// # Errors
    /// [`eddy_models::Error::PartMissing`] for sound from a model that cannot speak.
    pub fn new(
        speech: &mut Speech,
        rows: Vec<f32>,
        options: ReplyOptions,
        sound: bool,
    ) -> Result<Self, eddy_models::Error> {
        let settings = speech.settings();
        let end_code = settings.end_code();
        let tokens = if options.mode == Mode::Interleaved { settings.interleaved_text as f64 } else { 0.0 };
        let frames = settings.interleaved_audio.max(1) as f64;
        let sound = match sound {
            true => {
                let rate = f64::from(speech.settings().stft.sample_rate);
                let detokenizer = speech.detokenizer()?;
                let frame = detokenizer.samples_per_frame() as f64 / rate;
                Some(Sound {
                    stream: detokenizer.stream(),
                    waiting: Vec::new(),
                    groups: 0,
                    frames: 0,
                    end_code,
                    since: None,
                    through: 0,
                    frame: Duration::from_secs_f64(frame),
                })
            }
            false => None,
        };
        // Of a reply without sound no frame is counted.
        let frame = sound.as_ref().map_or(0.08, |sound| sound.frame.as_secs_f64());
        let pace = Pace::new(Cycle { tokens, frames, frame });
        let longest = pace.cycle().longest(options.max_items);
        let call_start = speech.tokenizer().find(CALLS_START);
        let reply = Reply::new(speech, rows, options);
        Ok(Self {
            reply,
            sound,
            begun: Instant::now(),
            summary: Summary::default(),
            call_start,
            calls_tool: false,
            pace,
            longest,
            last: None,
        })
    }

    /// Does one step; what it makes is added to `made`. After an error the turn can be stepped again.
    ///
    /// # Errors
    /// Those of the model.
    pub fn step(
        &mut self,
        speech: &mut Speech,
        cache: &mut Cache,
        made: &mut Made,
    ) -> Result<Progress, eddy_models::Error> {
        let begun = self.last.take().unwrap_or_else(Instant::now);
        let event = self.reply.step(speech, cache)?;
        match event {
            Event::Prefilled { .. } => {}
            Event::Text { id, text } => {
                self.calls_tool |= self.summary.items == 0 && self.call_start == Some(id);
                self.pace.token(begun.elapsed());
                self.summary.items += 1;
                self.summary.first_text.get_or_insert_with(|| self.begun.elapsed());
                self.summary.text.push_str(&text);
                made.text.push_str(&text);
            }
            Event::Frame(frame) => {
                self.summary.items += 1;
                if let Some(sound) = self.sound.as_mut().filter(|sound| frame.first() != Some(&sound.end_code)) {
                    sound.waiting.push(frame);
                    sound.frames += 1;
                    if sound.waiting.len() >= sound.group() {
                        self.flush(speech, made)?;
                    }
                    self.pace.frame(begun.elapsed());
                }
            }
            Event::Finished(Finish::Stop) if self.reply.is_shortened() => {
                return Ok(Progress::Complete(FinishReason::Length));
            }
            Event::Finished(Finish::Stop) if self.calls_tool => {
                return Ok(Progress::Complete(FinishReason::ToolCalls));
            }
            Event::Finished(Finish::Stop) => return Ok(Progress::Complete(FinishReason::Stop)),
            Event::Finished(Finish::Length) => return Ok(Progress::Complete(FinishReason::Length)),
        }
        // What others compute until the next step is part of this reply's pace: the listener waits for it too.
        self.last = Some(Instant::now());
        Ok(Progress::More)
    }

    /// The reply has to wait for its listener: the time until its next step is not its own.
    pub fn rest(&mut self) {
        self.last = None;
    }

    /// Ends the text with its sentence, and the reply with the sound of it.
    pub fn wind_up(&mut self) {
        self.reply.wind_up();
    }

    /// Whether it is no answer but calls of tools; its text is theirs.
    #[must_use]
    pub fn calls_tool(&self) -> bool {
        self.calls_tool
    }

    /// How fast the sound is made.
    #[must_use]
    pub fn pace(&self) -> &Pace {
        &self.pace
    }

    /// Expects it to be made as fast as the replies before.
    pub fn follow(&mut self, paces: &Paces) {
        self.pace.expect(paces.factor());
    }

    /// Sound that has to be ready so that the rest, as long as replies were before, does not break off.
    #[must_use]
    pub fn lead(&self, paces: &Paces) -> Duration {
        self.pace.lead(paces.rest(self.pace.sound(), self.longest))
    }

    /// Takes what was held back: the end of the text and of the sound. Also after a reply was cut short.
    ///
    /// # Errors
    /// Those of the tokenizer and the detokenizer.
    pub fn finish(&mut self, speech: &mut Speech, made: &mut Made) -> Result<(), eddy_models::Error> {
        let rest = self.reply.finish_text(speech)?;
        self.summary.text.push_str(&rest);
        made.text.push_str(&rest);
        self.flush(speech, made)?;
        if let Some(sound) = &mut self.sound {
            let before = made.samples.len();
            sound.stream.finish(&mut made.samples);
            self.summary.samples += (made.samples.len() - before) as u64;
        }
        Ok(())
    }

    /// The account until now.
    #[must_use]
    pub fn summary(&self) -> Summary {
        let (stages, factor) = (self.reply.times(), self.pace.measured());
        Summary { whole: self.begun.elapsed(), stages, factor, ..self.summary.clone() }
    }

    /// Frames of sound so far, without the one that ends it.
    #[must_use]
    pub fn frames(&self) -> u64 {
        self.sound.as_ref().map_or(0, |sound| sound.frames)
    }

    /// The reply itself.
    #[must_use]
    pub fn reply(&self) -> &Reply {
        &self.reply
    }

    fn flush(&mut self, speech: &mut Speech, made: &mut Made) -> Result<(), eddy_models::Error> {
        let Some(sound) = &mut self.sound else { return Ok(()) };
        let (begun, before) = (Instant::now(), made.samples.len());
        let frames = std::mem::take(&mut sound.waiting);
        speech.detokenizer()?.push(&mut sound.stream, &frames, &mut made.samples)?;
        let settled = made.samples.len() - before;
        sound.groups += 1;
        sound.through += frames.len();
        sound.since.get_or_insert_with(Instant::now);
        self.summary.samples += settled as u64;
        self.summary.detokenizing += begun.elapsed();
        if settled > 0 {
            self.summary.first_sound.get_or_insert_with(|| self.begun.elapsed());
        }
        Ok(())
    }
}
