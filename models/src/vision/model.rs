//! A vision-language model: a text model with an eye.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::folder::{ModelFolder, Role, Wanted};
use crate::graph::Stop;
use crate::runtime::Runtime;
use crate::text::{Identity, Prompt, TextModel};

use super::encoder::VisionEncoder;
use super::intake::Picture;
use super::patches::Entries;
use super::settings::{Knobs, Settings};
use super::tiling::Tiling;
use super::tokens::ImageTokens;

/// A loaded vision-language model. One thread owns it.
#[derive(Debug)]
pub struct VisionModel {
    text: TextModel,
    encoder: VisionEncoder,
    settings: Settings,
    tokens: ImageTokens,
}

/// An image at the sizes that a model looks at it in.
#[derive(Debug, Clone)]
pub struct Image {
    entries: Arc<Entries>,
    /// Tells images apart that stand at the same place of two prompts.
    digest: u64,
}

impl Image {
    /// How it was cut.
    #[must_use]
    pub fn tiling(&self) -> &Tiling {
        self.entries.tiling()
    }

    /// Its patches, entry by entry.
    #[must_use]
    pub fn entries(&self) -> &Entries {
        &self.entries
    }
}

/// A prompt's ids, images among them.
#[derive(Debug, Clone)]
pub struct VisionPrompt {
    ids: Vec<u32>,
    /// Ids, and for a row of an image the image and which of its rows it is.
    marks: Vec<u64>,
    images: Vec<Image>,
}

impl Prompt for VisionPrompt {
    fn ids(&self) -> &[u32] {
        &self.ids
    }

    fn mark(&self, at: usize) -> u64 {
        self.marks[at]
    }
}

impl VisionPrompt {
    fn new(ids: Vec<u32>, images: Vec<Image>, placeholder: u32) -> Self {
        /// Set in the marks of images, so that they are no ids.
        const IMAGE: u64 = 1 << 63;
        let rows_of = |image: &Image| (0..image.tiling().tokens()).map(|row| (image.digest, row)).collect::<Vec<_>>();
        let mut rows = images.iter().flat_map(rows_of);
        let mark = |id: &u32| match (*id == placeholder).then(|| rows.next()).flatten() {
            Some(row) => {
                let mut hasher = DefaultHasher::new();
                row.hash(&mut hasher);
                IMAGE | hasher.finish()
            }
            None => u64::from(*id),
        };
        let marks = ids.iter().map(mark).collect();
        Self { ids, marks, images }
    }

    /// The ids, with a placeholder for every row of features.
    #[must_use]
    pub fn ids(&self) -> &[u32] {
        &self.ids
    }

    /// The images in order.
    #[must_use]
    pub fn images(&self) -> &[Image] {
        &self.images
    }

    /// Rows of features in it.
    #[must_use]
    pub fn image_tokens(&self) -> usize {
        self.images.iter().map(|image| image.tiling().tokens()).sum()
    }
}

impl VisionModel {
    /// Loads the folder `root`.
    ///
    /// # Errors
    /// Those of [`TextModel::load`], and the like for the vision encoder; [`Error::NotAModel`] for a folder without one.
    pub fn load(runtime: &Runtime, root: &Path, wanted: Wanted, stop: &Stop) -> Result<Self> {
        let folder = ModelFolder::open(root)?;
        let Some(file) = folder.graph(Role::VisionEncoder, wanted)? else {
            return Err(Error::NotAModel {
                path: root.to_path_buf(),
                reason: "it holds no vision encoder, so it sees nothing".into(),
                expected: "a vision-language model with vision_encoder*.onnx or embed_images*.onnx",
            });
        };
        let settings = Settings::read(&folder)?;
        let mut text = TextModel::load(runtime, root, wanted, stop)?;
        if text.backbone().takes_ids() {
            return Err(Error::NotAModel {
                path: root.to_path_buf(),
                reason: "its decoder takes token ids, and images cannot be put among them".into(),
                expected: "a vision-language model whose decoder takes embeddings",
            });
        }
        let sizes = [text.backbone().hidden(), settings.patch * settings.patch * 3];
        let encoder = VisionEncoder::load(runtime, &file, sizes, stop)?;
        let tokens = ImageTokens::find(&folder, text.tokenizer(), settings.markers, settings.max_tiles)?;
        Ok(Self { text, encoder, settings, tokens })
    }

    /// What is known of the model.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        self.text.identity()
    }

    /// What was repaired in its graphs when they were loaded.
    #[must_use]
    pub fn repairs(&self) -> &[String] {
        self.encoder.repairs()
    }

    /// Its text side.
    #[must_use]
    pub fn text(&self) -> &TextModel {
        &self.text
    }

    /// Its text side, to encode a caller's words.
    pub fn text_mut(&mut self) -> &mut TextModel {
        &mut self.text
    }

    /// How its images are cut.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Cuts and resizes `picture`.
    ///
    /// # Errors
    /// [`Error::Unseeable`] for proportions beyond what can be looked at, [`Error::BadRequest`] for a knob beyond what makes
    /// sense.
    pub fn image(&self, picture: &Picture, knobs: &Knobs) -> Result<Image> {
        prepare(&self.settings, picture, knobs)
    }

    /// Puts `images` in the places that `ids`, a rendered and tokenised conversation, has for them.
    ///
    /// # Errors
    /// [`Error::BadRequest`] when there are more or fewer images than places.
    pub fn prompt(&self, ids: &[u32], images: Vec<Image>) -> Result<VisionPrompt> {
        let ids = self.tokens.expand(ids, images.iter().map(Image::tiling))?;
        Ok(VisionPrompt::new(ids, images, self.tokens.placeholder))
    }

    /// The id that stands for a row of features.
    pub(super) fn placeholder(&self) -> u32 {
        self.tokens.placeholder
    }

    /// Appends the features of entry `index` of `image`, `[tokens, hidden]`, to `out`.
    ///
    /// # Errors
    /// [`Error::Stopped`], [`Error::Graph`], [`Error::BadRequest`] without such an entry.
    pub fn look(&mut self, image: &Image, index: usize, out: &mut Vec<f32>) -> Result<()> {
        let tiling = image.tiling();
        let (Some(patches), Some(size)) = (image.entries.patches(index), tiling.entries().nth(index)) else {
            return Err(Error::BadRequest(format!("the image has no entry {index}")));
        };
        self.encoder.append(&patches, &self.settings, tiling.tokens_of(size), out)
    }
}

/// Cuts and resizes `picture` for a model with these settings; no graph takes part in it.
///
/// # Errors
/// Those of [`VisionModel::image`].
pub fn prepare(settings: &Settings, picture: &Picture, knobs: &Knobs) -> Result<Image> {
    let settings = settings.turned(knobs)?;
    let tiling = Tiling::of(&settings, picture.width(), picture.height())?;
    let entries = Entries::new(&settings, tiling, picture);
    let mut hasher = DefaultHasher::new();
    (tiling.rows, tiling.columns, entries.bytes()).hash(&mut hasher);
    Ok(Image { entries: Arc::new(entries), digest: hasher.finish() })
}
