//! Into how many tiles an image is cut, how large it is made, and how many tokens that comes to. Sizes alone: no pixels.

use crate::error::Result;

use super::intake::unseeable;
use super::settings::Settings;

/// A side is at least one token, which makes long and narrow images larger than an entry should be. The reference sets no
/// bound; attention over so many patches takes about a gigabyte.
const MOST_PATCHES: usize = 4096;

/// Width and height in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Width.
    pub width: usize,
    /// Height.
    pub height: usize,
}

/// What becomes of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tiling {
    /// Rows of tiles; one for a whole image.
    pub rows: usize,
    /// Columns of tiles; one for a whole image.
    pub columns: usize,
    /// One tile, or the whole image.
    pub tile: Size,
    /// The small whole image behind the tiles.
    pub thumbnail: Option<Size>,
    token_side: usize,
}

impl Tiling {
    /// Decides for an image of `width` by `height` pixels.
    ///
    /// # Errors
    /// [`Error::Unseeable`](crate::Error::Unseeable) for an image without pixels, or one so long that the whole of it comes to
    /// more than 4,096 patches (and more than the settings allow).
    pub fn of(settings: &Settings, width: usize, height: usize) -> Result<Self> {
        if width == 0 || height == 0 {
            return Err(unseeable("it has no pixels".into(), "give another image"));
        }
        let whole = whole_size(settings, width, height);
        let most = settings.most_patches().max(MOST_PATCHES) * settings.patch.pow(2);
        if whole.width.saturating_mul(whole.height) > most {
            return Err(unseeable(
                format!("{width} by {height} pixels are too long and narrow to be looked at as one"),
                "cut it into pieces",
            ));
        }
        let token_side = settings.token_side();
        if settings.max_tiles == 1 || !is_large(settings, width, height) {
            return Ok(Self { rows: 1, columns: 1, tile: whole, thumbnail: None, token_side });
        }
        let (columns, rows) = grid(settings, width, height);
        let tile = Size { width: settings.tile, height: settings.tile };
        let thumbnail = (settings.thumbnail && rows * columns > 1).then_some(whole);
        Ok(Self { rows, columns, tile, thumbnail, token_side })
    }

    /// The sizes of all entries in order: tiles row by row, then the thumbnail.
    pub fn entries(&self) -> impl Iterator<Item = Size> {
        std::iter::repeat_n(self.tile, self.rows * self.columns).chain(self.thumbnail)
    }

    /// Tokens of an entry of this size.
    #[must_use]
    pub fn tokens_of(&self, size: Size) -> usize {
        (size.width / self.token_side) * (size.height / self.token_side)
    }

    /// Tokens of all entries.
    #[must_use]
    pub fn tokens(&self) -> usize {
        self.entries().map(|size| self.tokens_of(size)).sum()
    }
}

/// The multiple of `side` nearest to `length`; of two equally near the even one, as Python rounds.
fn nearest(length: usize, side: usize) -> usize {
    (length as f64 / side as f64).round_ties_even() as usize * side
}

/// Whether an image has too many pixels to be looked at whole.
fn is_large(settings: &Settings, width: usize, height: usize) -> bool {
    // The floor is one patch and not one token: a difference of the reference that only very long images see.
    let side = |length| nearest(length, settings.token_side()).max(settings.patch);
    (side(width) * side(height)) as f64 > settings.pixels(settings.max_tokens) as f64 * settings.tolerance
}

/// The size of a whole image: whole tokens, their number within bounds, the proportions as near as that allows.
fn whole_size(settings: &Settings, width: usize, height: usize) -> Size {
    let side = settings.token_side();
    let (most, least) = (settings.pixels(settings.max_tokens), settings.pixels(settings.min_tokens));
    let area = width as f64 * height as f64;
    let nearest = |length| nearest(length, side).max(side);
    let (wide, high) = (nearest(width), nearest(height));
    let to_tokens = |length: f64| length / side as f64;
    if wide * high > most {
        let shrink = (area / most as f64).sqrt();
        let fitted = |length: usize| (to_tokens(length as f64 / shrink).floor() as usize * side).max(side);
        Size { width: fitted(width), height: fitted(height) }
    } else if wide * high < least {
        let grow = (least as f64 / area).sqrt();
        let fitted = |length: usize| to_tokens(length as f64 * grow).ceil() as usize * side;
        Size { width: fitted(width), height: fitted(height) }
    } else {
        Size { width: wide, height: high }
    }
}

/// Columns and rows whose proportions are nearest to the image's. Of grids that are equally near, a later one wins if the
/// image has more than half of its pixels.
fn grid(settings: &Settings, width: usize, height: usize) -> (usize, usize) {
    let wanted = width as f64 / height as f64;
    let area = width as f64 * height as f64;
    let tile = (settings.tile * settings.tile) as f64;
    let mut best = (1, 1);
    let mut nearest = f64::INFINITY;
    for count in settings.min_tiles..=settings.max_tiles {
        for columns in (1..=count).filter(|columns| count % columns == 0) {
            let rows = count / columns;
            let difference = (wanted - columns as f64 / rows as f64).abs();
            if difference < nearest {
                (nearest, best) = (difference, (columns, rows));
            } else if difference == nearest && area > 0.5 * tile * count as f64 {
                best = (columns, rows);
            }
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(width: usize, height: usize) -> ([usize; 2], usize) {
        let tiling = Tiling::of(&Settings::default(), width, height).expect("a usual size");
        ([tiling.rows, tiling.columns], tiling.tokens())
    }

    #[test]
    fn published_sizes_are_met() {
        for (size, expected) in [
            ((512, 512), ([1, 1], 256)),
            ((300, 200), ([1, 1], 70)),
            ((64, 64), ([1, 1], 64)),
            ((640, 480), ([1, 1], 234)),
            ((1000, 400), ([1, 1], 250)),
            ((724, 724), ([2, 2], 1280)),
            ((1024, 768), ([2, 3], 1770)),
            ((1920, 1080), ([2, 4], 2300)),
            ((2000, 300), ([1, 7], 2038)),
            ((100, 1500), ([1, 1], 141)),
            ((12_000, 100), ([1, 10], 2735)),
        ] {
            assert_eq!(counted(size.0, size.1), expected, "{size:?}");
        }
    }

    #[test]
    fn lengths_beyond_sense_are_refused() {
        for (width, height) in [(0, 5), (1, 1_000_000), (5_000_000, 3)] {
            assert!(Tiling::of(&Settings::default(), width, height).is_err(), "{width} by {height}");
        }
    }
}
