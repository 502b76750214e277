//! What the verbs that look at images share: how they are cut, and a question about them.

use std::path::PathBuf;

use eddy_models::chat::Conversation;
use eddy_models::vision::{Image, Knobs, Limits, Picture, VisionModel};
use serde_json::{Value, json};

/// What trades accuracy for latency.
#[derive(Debug, Clone, clap::Args)]
pub struct LookArguments {
    /// Tokens of a whole image at most; the folder's own number without it.
    #[arg(long, value_name = "N")]
    max_image_tokens: Option<usize>,
    /// Tiles of an image at most; 1 keeps every image whole.
    #[arg(long, value_name = "N")]
    tiles: Option<usize>,
    /// Leave out the small whole image behind the tiles.
    #[arg(long)]
    no_thumbnail: bool,
}

impl LookArguments {
    fn knobs(&self) -> Knobs {
        Knobs {
            max_image_tokens: self.max_image_tokens,
            tiles: self.tiles,
            thumbnail: self.no_thumbnail.then_some(false),
        }
    }

    /// Reads, cuts and resizes image files.
    ///
    /// # Errors
    /// For the first file that is no usable image.
    pub fn read(&self, model: &VisionModel, files: &[PathBuf]) -> anyhow::Result<Vec<Image>> {
        let knobs = self.knobs();
        let read = |file: &PathBuf| Ok(model.image(&Picture::open(file, &Limits::default())?, &knobs)?);
        files.iter().map(read).collect()
    }
}

/// A conversation of one turn: `images` images, then a question.
pub fn asked_about(images: usize, question: &str) -> Conversation {
    if images == 0 {
        // Some templates of text models know no content in parts.
        return Conversation::question(question);
    }
    let image = json!({ "type": "image" });
    let parts = std::iter::repeat_n(image, images).chain([json!({ "type": "text", "text": question })]);
    Conversation {
        messages: json!([{ "role": "user", "content": parts.collect::<Value>() }]),
        add_generation_prompt: true,
        ..Conversation::default()
    }
}

/// Rows and columns of an image's tiles.
pub fn tiles_of(image: &Image) -> [usize; 2] {
    [image.tiling().rows, image.tiling().columns]
}
