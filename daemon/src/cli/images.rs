//! What the verbs that look at images share: how images are read and cut.

use std::path::PathBuf;

use eddy_models::vision::{Image, Knobs, Limits, Picture, VisionModel};

/// What trades accuracy for latency.
#[derive(Debug, Clone, clap::Args)]
pub struct LookArguments {
    /// Tokens of a whole image at most; the folder's own number without it.
    #[arg(long, value_name = "N")]
    max_image_tokens: Option<u32>,
    /// Tiles of an image at most; 1 keeps every image whole.
    #[arg(long, value_name = "N")]
    tiles: Option<u32>,
    /// Leave out the small whole image behind the tiles.
    #[arg(long)]
    no_thumbnail: bool,
}

impl LookArguments {
    fn knobs(&self) -> Knobs {
        let count = |given: Option<u32>| given.map(|count| count as usize);
        Knobs { max_image_tokens: count(self.max_image_tokens), tiles: count(self.tiles), thumbnail: self.thumbnail() }
    }

    fn thumbnail(&self) -> Option<bool> {
        self.no_thumbnail.then_some(false)
    }

    /// `options` of a request to the daemon, with what is said here.
    #[must_use]
    pub fn over(&self, options: eddy_ipc::Options) -> eddy_ipc::Options {
        let (max_image_tokens, tiles) = (self.max_image_tokens, self.tiles);
        eddy_ipc::Options { max_image_tokens, tiles, thumbnail: self.thumbnail(), ..options }
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

/// Rows and columns of an image's tiles.
pub fn tiles_of(image: &Image) -> [usize; 2] {
    [image.tiling().rows, image.tiling().columns]
}
