//! Where images stand in a prompt: each `<image>` becomes markers and one placeholder for every row of features.

use crate::error::{Error, Result};
use crate::folder::ModelFolder;
use crate::tokenizer::Tokenizer;

use super::tiling::Tiling;

/// What stands for an image in a rendered prompt.
const IMAGE: &str = "<image>";

/// The ids that a prompt with images is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ImageTokens {
    /// Stands for one row of features, and in a prompt that is not expanded yet for an image.
    pub placeholder: u32,
    markers: Option<Markers>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Markers {
    start: u32,
    end: u32,
    thumbnail: u32,
    /// By row and column of the tile.
    tiles: Vec<Vec<u32>>,
}

impl ImageTokens {
    /// Looks the ids up; `markers` says whether images are put between markers, `most_tiles` for how many tiles there have
    /// to be some.
    ///
    /// # Errors
    /// [`Error::Malformed`] when the tokenizer lacks one of them.
    pub fn find(folder: &ModelFolder, tokenizer: &Tokenizer, markers: bool, most_tiles: usize) -> Result<Self> {
        let config = folder.config();
        let described = [config.ids(&["image_token_id"])?, config.ids(&["image_token_index"])?];
        let described = described.into_iter().flatten().next().filter(|id| tokenizer.has_token(*id));
        let placeholder = match (tokenizer.find(IMAGE), described) {
            (Some(id), _) | (None, Some(id)) => id,
            (None, None) => tokenizer.id(IMAGE)?,
        };
        let markers = match markers {
            false => None,
            true => Some(Markers {
                start: tokenizer.id("<|image_start|>")?,
                end: tokenizer.id("<|image_end|>")?,
                thumbnail: tokenizer.id("<|img_thumbnail|>")?,
                tiles: (1..=most_tiles)
                    .map(|row| {
                        // Of the many grids only those with few enough tiles are ever used.
                        (1..=most_tiles / row)
                            .map(|column| tokenizer.id(&format!("<|img_row_{row}_col_{column}|>")))
                            .collect()
                    })
                    .collect::<Result<_>>()?,
            }),
        };
        Ok(Self { placeholder, markers })
    }

    /// `ids` with every image's placeholder replaced by what its tiling takes.
    ///
    /// # Errors
    /// [`Error::BadRequest`] when there are more or fewer images than places.
    pub fn expand<'t>(&self, ids: &[u32], tilings: impl ExactSizeIterator<Item = &'t Tiling>) -> Result<Vec<u32>> {
        let places = ids.iter().filter(|id| **id == self.placeholder).count();
        if places != tilings.len() {
            return Err(Error::BadRequest(format!(
                "{} images are given and the conversation has places for {places}; give one image for each place",
                tilings.len()
            )));
        }
        let mut tilings = tilings;
        let mut out = Vec::with_capacity(ids.len());
        for id in ids {
            let image = if *id == self.placeholder { tilings.next() } else { None };
            match image {
                Some(tiling) => self.put(tiling, &mut out)?,
                None => out.push(*id),
            }
        }
        Ok(out)
    }

    fn put(&self, tiling: &Tiling, out: &mut Vec<u32>) -> Result<()> {
        let rows = |size, out: &mut Vec<u32>| out.extend(std::iter::repeat_n(self.placeholder, tiling.tokens_of(size)));
        let Some(markers) = &self.markers else {
            tiling.entries().for_each(|size| rows(size, out));
            return Ok(());
        };
        out.push(markers.start);
        if tiling.rows * tiling.columns == 1 {
            rows(tiling.tile, out);
        } else {
            for (row, column) in (0..tiling.rows).flat_map(|row| (0..tiling.columns).map(move |column| (row, column))) {
                let marker = markers.tiles.get(row).and_then(|row| row.get(column)).ok_or_else(|| {
                    let grid = format!("{} by {}", tiling.rows, tiling.columns);
                    Error::BadRequest(format!("an image of {grid} tiles was cut for another model than this one"))
                })?;
                out.push(*marker);
                rows(tiling.tile, out);
            }
        }
        if let Some(size) = tiling.thumbnail {
            out.push(markers.thumbnail);
            rows(size, out);
        }
        out.push(markers.end);
        Ok(())
    }
}
