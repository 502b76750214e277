//! The image processor's settings, from the folder, and the knobs that a caller may turn.

use serde_json::Value;

use crate::error::{Error, Result};
use crate::folder::{Json, ModelFolder};

use super::resize::Filter;

/// How images become patches and tokens (transformers' `Lfm2VlImageProcessor`).
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Pixels along the side of a patch.
    pub patch: usize,
    /// Patches along the side of what becomes one token.
    pub downsample: usize,
    /// Fewest tokens of a whole image.
    pub min_tokens: usize,
    /// Most tokens of a whole image, and of a thumbnail.
    pub max_tokens: usize,
    /// Pixels along the side of a tile.
    pub tile: usize,
    /// Fewest tiles of an image that is cut.
    pub min_tiles: usize,
    /// Most tiles; one means that no image is cut.
    pub max_tiles: usize,
    /// An image is cut when it has this many times the pixels of `max_tokens`.
    pub tolerance: f64,
    /// Whether a small whole image follows the tiles.
    pub thumbnail: bool,
    /// How pixels are resampled.
    pub filter: Filter,
    /// What is subtracted from each channel's bytes.
    pub mean: [f32; 3],
    /// What they are divided by.
    pub deviation: [f32; 3],
    /// Whether images are put between markers.
    pub markers: bool,
}

impl Default for Settings {
    /// Those of LFM2.5-VL.
    fn default() -> Self {
        Self {
            patch: 16,
            downsample: 2,
            min_tokens: 64,
            max_tokens: 256,
            tile: 512,
            min_tiles: 2,
            max_tiles: 10,
            tolerance: 2.0,
            thumbnail: true,
            filter: Filter::Bilinear,
            mean: [127.5; 3],
            deviation: [127.5; 3],
            markers: true,
        }
    }
}

/// What trades accuracy for latency; what is not given is as the folder says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Knobs {
    /// Most tokens of a whole image, and of a thumbnail. Fewer make more images large enough to be cut, as in the
    /// reference.
    pub max_image_tokens: Option<usize>,
    /// Most tiles of an image, no more than the folder says; one keeps every image whole.
    pub tiles: Option<usize>,
    /// Whether a small whole image follows the tiles.
    pub thumbnail: Option<bool>,
}

impl Settings {
    /// Reads `preprocessor_config.json`, or `image_processor` in `processor_config.json`; what they leave out is as in
    /// LFM2.5-VL.
    ///
    /// # Errors
    /// [`Error::Malformed`] for values of the wrong kind or out of any sense.
    pub fn read(folder: &ModelFolder) -> Result<Self> {
        let processor = Json::read(folder.root(), "processor_config.json")?;
        let inside = ["image_processor"];
        let (file, within) = match processor.get(&inside) {
            Some(_) => (Json::read(folder.root(), "processor_config.json")?, &inside[..]),
            None => (Json::read(folder.root(), "preprocessor_config.json")?, &[][..]),
        };
        let usual = Self::default();
        let path = |key: &'static str| [within, &[key]].concat();
        let count = |key, usual| -> Result<usize> { Ok(file.count(&path(key))?.unwrap_or(usual)) };
        let number = |key, usual| -> Result<f64> { Ok(file.number(&path(key))?.unwrap_or(usual)) };
        let flag = |key| file.get(&path(key)).and_then(Value::as_bool);
        let channels = |key, usual: f64| -> Result<[f64; 3]> {
            let Some(found) = file.get(&path(key)) else { return Ok([usual; 3]) };
            let list: Option<Vec<f64>> = match found {
                Value::Array(values) => values.iter().map(Value::as_f64).collect(),
                one => one.as_f64().map(|value| vec![value; 3]),
            };
            list.and_then(|list| list.try_into().ok())
                .ok_or_else(|| malformed(folder, format!("{key} is {found}, not three numbers")))
        };
        // Rescaling and normalising in one step, as the reference does.
        let scale = match flag("do_rescale") {
            Some(false) => 1.0,
            _ => number("rescale_factor", 1.0 / 255.0)?,
        };
        let (mean, deviation) = match flag("do_normalize") {
            Some(false) => ([0.0; 3], [1.0; 3]),
            _ => (channels("image_mean", 0.5)?, channels("image_std", 0.5)?),
        };
        let filter = match count("resample", 2)? {
            2 => Filter::Bilinear,
            3 => Filter::Bicubic,
            other => return Err(malformed(folder, format!("resample is {other}, and only 2 and 3 are known"))),
        };
        let whole = flag("do_image_splitting") == Some(false);
        let settings = Self {
            patch: count("encoder_patch_size", usual.patch)?,
            downsample: count("downsample_factor", usual.downsample)?,
            min_tokens: count("min_image_tokens", usual.min_tokens)?,
            max_tokens: count("max_image_tokens", usual.max_tokens)?,
            tile: count("tile_size", usual.tile)?,
            min_tiles: if whole { 1 } else { count("min_tiles", usual.min_tiles)? },
            max_tiles: if whole { 1 } else { count("max_tiles", usual.max_tiles)? },
            tolerance: number("max_pixels_tolerance", usual.tolerance)?,
            thumbnail: flag("use_thumbnail").unwrap_or(usual.thumbnail),
            filter,
            mean: mean.map(|mean| (mean / scale) as f32),
            deviation: deviation.map(|deviation| (deviation / scale) as f32),
            markers: processor.get(&["use_image_special_tokens"]).and_then(Value::as_bool).unwrap_or(usual.markers),
        };
        settings.check().map_err(|reason| malformed(folder, reason))?;
        Ok(settings)
    }

    /// These settings with a caller's knobs turned.
    ///
    /// # Errors
    /// [`Error::BadRequest`] for a knob beyond what makes sense.
    pub fn turned(&self, knobs: &Knobs) -> Result<Self> {
        let mut turned = self.clone();
        if let Some(tokens) = knobs.max_image_tokens {
            turned.max_tokens = tokens;
            turned.min_tokens = turned.min_tokens.min(tokens);
        }
        if let Some(tiles) = knobs.tiles {
            if tiles > self.max_tiles {
                return Err(Error::BadRequest(format!(
                    "{tiles} tiles are more than the {} that this model was made for",
                    self.max_tiles
                )));
            }
            turned.max_tiles = tiles;
            turned.min_tiles = turned.min_tiles.min(tiles);
        }
        turned.thumbnail = knobs.thumbnail.unwrap_or(turned.thumbnail);
        turned.check().map_err(Error::BadRequest)?;
        Ok(turned)
    }

    /// Pixels along the side of what becomes one token.
    #[must_use]
    pub fn token_side(&self) -> usize {
        self.patch * self.downsample
    }

    /// Pixels of `tokens` tokens.
    pub(super) fn pixels(&self, tokens: usize) -> usize {
        tokens * self.token_side() * self.token_side()
    }

    /// Most patches of one entry, a tile or a whole image.
    #[must_use]
    pub fn most_patches(&self) -> usize {
        let cut = if self.max_tiles > 1 { (self.tile / self.patch).pow(2) } else { 0 };
        cut.max(self.max_tokens * self.downsample * self.downsample)
    }

    fn check(&self) -> Result<(), String> {
        let within = |name: &str, value: usize, least: usize, most: usize| match (least..=most).contains(&value) {
            true => Ok(()),
            false => Err(format!("{name} is {value}; it has to be from {least} to {most}")),
        };
        within("encoder_patch_size", self.patch, 1, 64)?;
        within("downsample_factor", self.downsample, 1, 8)?;
        within("max_image_tokens", self.max_tokens, 1, 1 << 14)?;
        within("min_image_tokens", self.min_tokens, 1, self.max_tokens)?;
        within("tile_size", self.tile, self.token_side(), 4096)?;
        within("max_tiles", self.max_tiles, 1, 100)?;
        within("min_tiles", self.min_tiles, 1, self.max_tiles)?;
        if !self.tile.is_multiple_of(self.token_side()) {
            return Err(format!("tile_size is {} and no multiple of {}", self.tile, self.token_side()));
        }
        let usable = |value: &f32| value.is_finite();
        if !self.mean.iter().all(usable) || !self.deviation.iter().all(|value| usable(value) && *value != 0.0) {
            return Err("image_mean, image_std and rescale_factor make no numbers of the pixels".into());
        }
        match self.tolerance.is_finite() && self.tolerance > 0.0 {
            true => Ok(()),
            false => Err(format!("max_pixels_tolerance is {}", self.tolerance)),
        }
    }
}

fn malformed(folder: &ModelFolder, reason: String) -> Error {
    Error::Malformed {
        path: folder.root().to_path_buf(),
        reason: format!("preprocessor_config.json: {reason}"),
        remedy: "correct it, or download the folder again",
    }
}
