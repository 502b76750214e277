//! Pixels to patches: what the vision encoder takes, one entry at a time.

use super::intake::Picture;
use super::resize::resized;
use super::settings::Settings;
use super::tiling::{Size, Tiling};

/// One entry of an image, a tile or the whole, as patches.
#[derive(Debug, Clone, PartialEq)]
pub struct Patches {
    /// Rows of patches.
    pub height: usize,
    /// Columns of patches.
    pub width: usize,
    /// `[height * width, patch * patch * 3]`, patches row by row, each pixel by pixel, each pixel red, green, blue.
    pub values: Vec<f32>,
}

impl Patches {
    /// The pixels as planes `[3, height * side, width * side]`, for patches of `side` pixels.
    #[must_use]
    pub fn planes(&self, side: usize) -> Vec<f32> {
        let (high, wide) = (self.height * side, self.width * side);
        let mut planes = vec![0.0; self.values.len()];
        for (number, patch) in self.values.chunks_exact(side * side * 3).enumerate() {
            let corner = (number / self.width * side, number % self.width * side);
            for (place, pixel) in patch.as_chunks::<3>().0.iter().enumerate() {
                let (y, x) = (corner.0 + place / side, corner.1 + place % side);
                for (channel, value) in pixel.iter().enumerate() {
                    planes[(channel * high + y) * wide + x] = *value;
                }
            }
        }
        planes
    }
}

/// An image at the sizes that it is looked at in; patches are made of it entry by entry, because all of them together
/// are four times as large.
#[derive(Debug, Clone)]
pub struct Entries {
    settings: Settings,
    tiling: Tiling,
    /// All tiles in one.
    tiles: Vec<u8>,
    thumbnail: Vec<u8>,
    /// What each byte of a channel becomes.
    normalised: [Vec<f32>; 3],
}

impl Entries {
    /// Resizes `picture` as `tiling` says.
    #[must_use]
    pub fn new(settings: &Settings, tiling: Tiling, picture: &Picture) -> Self {
        let at = |size: Size| resized(picture, settings.filter, size.width, size.height);
        let whole = Size { width: tiling.tile.width * tiling.columns, height: tiling.tile.height * tiling.rows };
        let normalised = [0, 1, 2].map(|channel| {
            let (mean, by) = (settings.mean[channel], settings.deviation[channel]);
            (0..=u8::MAX).map(|byte| (f32::from(byte) - mean) / by).collect()
        });
        Self {
            normalised,
            tiles: at(whole),
            thumbnail: tiling.thumbnail.map(at).unwrap_or_default(),
            settings: settings.clone(),
            tiling,
        }
    }

    /// How the image was cut.
    #[must_use]
    pub fn tiling(&self) -> &Tiling {
        &self.tiling
    }

    /// What tells two images of the same tiling apart.
    pub(super) fn bytes(&self) -> (&[u8], &[u8]) {
        (&self.tiles, &self.thumbnail)
    }

    /// Entry `index`, in the order of [`Tiling::entries`]; `None` behind the last.
    #[must_use]
    pub fn patches(&self, index: usize) -> Option<Patches> {
        let size = self.tiling.entries().nth(index)?;
        let (pixels, line, corner) = match index < self.tiling.rows * self.tiling.columns {
            true => {
                let (row, column) = (index / self.tiling.columns, index % self.tiling.columns);
                (&self.tiles, size.width * self.tiling.columns, (row * size.height, column * size.width))
            }
            false => (&self.thumbnail, size.width, (0, 0)),
        };
        let patch = self.settings.patch;
        let (height, width) = (size.height / patch, size.width / patch);
        let [red, green, blue] = &self.normalised;
        let mut values = Vec::with_capacity(size.width * size.height * 3);
        for (down, across) in (0..height).flat_map(|down| (0..width).map(move |across| (down, across))) {
            for y in 0..patch {
                let start = (corner.0 + down * patch + y) * line + corner.1 + across * patch;
                let bytes = &pixels[start * 3..(start + patch) * 3];
                for [r, g, b] in bytes.as_chunks::<3>().0 {
                    values.extend_from_slice(&[red[usize::from(*r)], green[usize::from(*g)], blue[usize::from(*b)]]);
                }
            }
        }
        Some(Patches { height, width, values })
    }
}
