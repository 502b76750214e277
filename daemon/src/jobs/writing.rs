//! Writing down what a person said in a turn of the live voice, for the one who asked. Less urgent than the answer.

use std::sync::Arc;

use eddy_models::backbone::Cache;
use eddy_models::speech::{MelClip, Mode, Prompt, ReplyOptions};

use super::live::{Audience, Told};
use super::loader::{Model, SpeechModel};
use super::{refusal, wrong_model};
use crate::engine::{Ending, Job, Step};
use crate::speech::{Made, Progress, TRANSCRIBE, Turn};

/// Text tokens of the longest transcript.
const LONGEST: usize = 256;

/// One utterance to write down.
pub struct WritingJob {
    /// Mono at [`super::HEARD_RATE`].
    samples: Vec<f32>,
    audience: Arc<dyn Audience>,
    writing: Option<(Turn, Cache)>,
}

impl WritingJob {
    /// For what was heard, mono at [`super::HEARD_RATE`].
    #[must_use]
    pub fn new(samples: Vec<f32>, audience: Arc<dyn Audience>) -> Self {
        Self { samples, audience, writing: None }
    }

    fn advance(&mut self, SpeechModel { speech, .. }: &mut SpeechModel) -> eddy_models::Result<Step> {
        let Some((turn, cache)) = &mut self.writing else {
            let mut clip = MelClip::new(speech.front_end());
            clip.push(&std::mem::take(&mut self.samples));
            let rows = speech.embed(&Prompt::instructed(TRANSCRIBE).sound(clip.features()?).awaiting_reply())?;
            let options = ReplyOptions { max_items: LONGEST, ..ReplyOptions::new(Mode::Sequential) }.greedy();
            self.writing = Some((Turn::new(speech, rows, options, false)?, speech.new_cache()?));
            return Ok(Step::More);
        };
        let mut made = Made::default();
        let progress = turn.step(speech, cache, &mut made)?;
        if let Progress::Complete(_) = progress {
            turn.finish(speech, &mut made)?;
        }
        if !made.text.is_empty() {
            self.audience.tell(Told::Transcript(&made.text));
        }
        Ok(if progress == Progress::More { Step::More } else { Step::Done })
    }
}

impl Job<Model> for WritingJob {
    fn step(&mut self, model: &mut Model) -> Step {
        let Model::Speech(model) = model else { return Step::Failed(wrong_model()) };
        self.advance(model).unwrap_or_else(|error| Step::Failed(refusal(&error)))
    }

    fn end(&mut self, _: Option<&mut Model>, ending: Ending) {
        // The answer is what matters: a turn without its transcript is no failure.
        if let Ending::Failed(error) = ending {
            tracing::debug!(%error, "what was said is not written down");
        }
        self.audience.tell(Told::Written);
    }
}
