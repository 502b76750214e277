//! One answer about images on its way: from images and a question to a prompt, through every tile, and on to the end, a
//! step at a time.

use std::time::{Duration, Instant};

use eddy_ipc::FinishReason;
use eddy_models::Result;
use eddy_models::chat::Conversation;
use eddy_models::text::{self, Finish, GenerationOptions};
use eddy_models::vision::{Event, Image, VisionGeneration, VisionSession};
use serde_json::{Value, json};

use super::viewer::Viewer;
use crate::text::{Draw, Summary};

/// What is asked.
#[derive(Debug, Clone, Default)]
pub struct Question {
    /// The words.
    pub words: String,
    /// How tokens are chosen.
    pub draw: Draw,
    /// How the answer is generated otherwise.
    pub options: GenerationOptions,
}

/// What one step came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Looked {
    /// There is more to come.
    More,
    /// So many tiles of so many have been looked at.
    At(usize, usize),
    /// The answer is complete; take the rest with [`LookTurn::finish`].
    Complete(FinishReason),
}

/// What an answer came to.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// The answer.
    pub answer: Summary,
    /// Rows of features in the prompt.
    pub image_tokens: usize,
    /// Rows and columns of tiles of each image.
    pub tiles: Vec<[usize; 2]>,
    /// Time on the images.
    pub looking: Duration,
}

/// An answer in progress.
#[derive(Debug)]
pub struct LookTurn {
    session: VisionSession,
    generation: VisionGeneration,
    begun: Instant,
    seen: Seen,
}

/// A conversation of one turn: `images` images, then words.
#[must_use]
pub fn asked_about(images: usize, words: &str) -> Conversation {
    let image = json!({ "type": "image" });
    let parts = std::iter::repeat_n(image, images).chain([json!({ "type": "text", "text": words })]);
    Conversation {
        messages: json!([{ "role": "user", "content": parts.collect::<Value>() }]),
        add_generation_prompt: true,
        ..Conversation::default()
    }
}

impl LookTurn {
    /// Begins the answer to `question` about `images`.
    ///
    /// # Errors
    /// [`eddy_models::Error::ContextFull`] when the images are too many.
    pub fn begin(viewer: &mut Viewer, images: Vec<Image>, question: Question) -> Result<Self> {
        let conversation = asked_about(images.len(), &question.words);
        let tokenizer = viewer.model.text_mut().tokenizer_mut();
        let ids = viewer.template.guarded_ids(&conversation, &jiff::Zoned::now(), tokenizer)?;
        let prompt = viewer.model.prompt(&ids, images)?;
        let sampling = question.draw.over(viewer.model.text().habits());
        let options = GenerationOptions { sampling, ..question.options };
        let session = viewer.prefixes.session(viewer.model.text_mut(), &prompt)?;
        let mut session = VisionSession::over(session);
        let generation = match session.begin(&mut viewer.model, &prompt, options) {
            Ok(generation) => generation,
            Err(error) => {
                viewer.prefixes.keep(session.into_text());
                return Err(error);
            }
        };
        let answer = Summary { prompt: (prompt.ids().len(), session.reused()), ..Summary::default() };
        let tiles = prompt.images().iter().map(|image| [image.tiling().rows, image.tiling().columns]).collect();
        let seen = Seen { answer, image_tokens: prompt.image_tokens(), tiles, ..Seen::default() };
        Ok(Self { session, generation, begun: Instant::now(), seen })
    }

    /// Does one step; text that is settled by it is added to `made`. After an error the turn can be stepped again.
    ///
    /// # Errors
    /// Those of the model.
    pub fn step(&mut self, viewer: &mut Viewer, made: &mut String) -> Result<Looked> {
        match self.session.step(&mut viewer.model, &mut self.generation, |_| true)? {
            Event::Looked { done, total } => return Ok(Looked::At(done, total)),
            Event::Text(text::Event::Prefilled { .. }) => {}
            Event::Text(text::Event::Token { text, .. }) => {
                self.seen.answer.tokens += 1;
                self.seen.answer.first.get_or_insert_with(|| self.begun.elapsed());
                self.tell(&text, made);
            }
            Event::Text(text::Event::Finished(Finish::Stop)) => return Ok(Looked::Complete(FinishReason::Stop)),
            Event::Text(text::Event::Finished(Finish::Length)) => return Ok(Looked::Complete(FinishReason::Length)),
        }
        Ok(Looked::More)
    }

    /// Takes what was held back. Also after an answer was cut short.
    ///
    /// # Errors
    /// Those of the tokenizer.
    pub fn finish(&mut self, viewer: &Viewer, made: &mut String) -> Result<()> {
        let rest = self.generation.finish_text(&viewer.model)?;
        self.tell(&rest, made);
        Ok(())
    }

    /// Gives back what the turn has read, for the next one, and its account.
    pub fn close(self, viewer: Option<&mut Viewer>) -> Seen {
        let (looking, prefill, decode) = self.generation.times();
        let mut seen = self.seen;
        seen.looking = looking;
        seen.answer.times = (prefill, decode);
        seen.answer.whole = self.begun.elapsed();
        if let Some(viewer) = viewer {
            viewer.prefixes.keep(self.session.into_text());
        }
        seen
    }

    fn tell(&mut self, text: &str, made: &mut String) {
        self.seen.answer.said.push_str(text);
        made.push_str(text);
    }
}
