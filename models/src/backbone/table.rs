//! Embedding tables that a folder ships as raw floats: mapped, never read whole.

use std::path::Path;

use memmap2::Mmap;

use crate::error::{Error, Result};
use crate::folder::{Json, map};

/// A memory-mapped table of little-endian f32 rows.
#[derive(Debug)]
pub struct Table {
    bytes: Mmap,
    rows: usize,
    width: usize,
}

impl Table {
    /// Maps `folder/NAME.bin`, whose shape `folder/NAME.json` gives; `None` when there is no such file.
    ///
    /// # Errors
    /// [`Error::Malformed`] when the file is shorter than its description or wider than `width`.
    pub fn open(folder: &Path, name: &str, width: usize) -> Result<Option<Self>> {
        let path = folder.join(format!("{name}.bin"));
        if !path.is_file() {
            return Ok(None);
        }
        let malformed = |reason: String| Error::Malformed {
            path: path.clone(),
            reason,
            remedy: "download or export the folder again",
        };
        let json = Json::read(folder, &format!("{name}.json"))?;
        for (key, expected) in [("dtype", "float32"), ("byte_order", "little")] {
            if let Some(found) = json.text(&[key]).filter(|found| *found != expected) {
                return Err(malformed(format!("its {key} is {found}, only {expected} is known")));
            }
        }
        let described = json.count(&["hidden_size"])?.unwrap_or(width);
        if described != width {
            return Err(malformed(format!("its rows have {described} floats, the decoder takes {width}")));
        }
        let bytes = map(&path)?;
        let row_bytes = width * size_of::<f32>();
        let whole = bytes.len() / row_bytes.max(1);
        let rows = json.count(&["vocab_size"])?.unwrap_or(whole);
        if rows > whole || !bytes.len().is_multiple_of(row_bytes.max(1)) {
            return Err(malformed(format!(
                "cut off: {} bytes, but {rows} rows of {width} floats need {}",
                bytes.len(),
                rows.saturating_mul(row_bytes)
            )));
        }
        Ok(Some(Self { bytes, rows, width }))
    }

    /// Number of rows.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Appends row `index` to `out`.
    ///
    /// # Errors
    /// [`Error::BadRequest`] when there is no such row.
    pub fn append(&self, index: usize, out: &mut Vec<f32>) -> Result<()> {
        out.extend(self.row(index)?);
        Ok(())
    }

    /// Adds row `index` to `sum`, which has the table's width.
    ///
    /// # Errors
    /// [`Error::BadRequest`] when there is no such row.
    pub fn add(&self, index: usize, sum: &mut [f32]) -> Result<()> {
        for (sum, value) in sum.iter_mut().zip(self.row(index)?) {
            *sum += value;
        }
        Ok(())
    }

    fn row(&self, index: usize) -> Result<impl Iterator<Item = f32>> {
        if index >= self.rows {
            return Err(Error::BadRequest(format!("row {index} of a table of {} rows", self.rows)));
        }
        let row_bytes = self.width * size_of::<f32>();
        let row = &self.bytes[index * row_bytes..][..row_bytes];
        Ok(row.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)))
    }
}
