//! Random weights, streamed to the data files beside a graph: no more than a block of them is ever in memory.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::onnx::ExternalData;

/// Exporters begin another file here.
const MOST_BYTES_A_FILE: u64 = 2_000_000_000;
/// Where a tensor may begin.
const ALIGNMENT: u64 = 64;
/// Bytes that are made at a time.
const BLOCK: usize = 1 << 20;

const REMEDY: &str = "check that the folder may be written and the disk has room";

/// The data files of one graph, or a raw table.
#[derive(Debug)]
pub(super) struct Weights {
    folder: PathBuf,
    first: String,
    /// Files that were begun.
    files: usize,
    open: Option<(PathBuf, BufWriter<File>)>,
    offset: u64,
    written: u64,
    random: fastrand::Rng,
}

impl Weights {
    /// Weights in `folder/FIRST`, and behind it in `FIRST_1` and so on; the same seed gives the same bytes.
    pub fn new(folder: &Path, first: &str, seed: u64) -> Self {
        Self {
            folder: folder.to_path_buf(),
            first: first.to_owned(),
            files: 0,
            open: None,
            offset: 0,
            written: 0,
            random: fastrand::Rng::with_seed(seed),
        }
    }

    /// A tensor of `count` floats around zero, `spread` being their standard deviation.
    pub fn floats(&mut self, count: usize, spread: f32) -> Result<ExternalData> {
        // A uniform distribution of that deviation: no kernel is faster for one or the other.
        let width = spread * 12.0_f32.sqrt();
        self.tensor(count * 4, move |bytes| each(bytes, |unit| (unit - 0.5) * width))
    }

    /// A tensor of `count` positive floats around `mean`, such as norms and scales.
    pub fn positive(&mut self, count: usize, mean: f32) -> Result<ExternalData> {
        self.tensor(count * 4, move |bytes| each(bytes, |unit| mean * (0.9 + 0.2 * unit)))
    }

    /// A tensor of `count` random bytes.
    pub fn bytes(&mut self, count: usize) -> Result<ExternalData> {
        self.tensor(count, |_| {})
    }

    /// A tensor with these floats.
    pub fn exactly(&mut self, values: impl Iterator<Item = f32>, count: usize) -> Result<ExternalData> {
        let place = self.begin(count * 4)?;
        let mut block = Vec::with_capacity(BLOCK);
        for value in values.take(count) {
            block.extend_from_slice(&value.to_le_bytes());
            if block.len() >= BLOCK {
                self.put(&block)?;
                block.clear();
            }
        }
        self.put(&block)?;
        Ok(place)
    }

    /// Ends the files, and says how many bytes they hold.
    pub fn finish(mut self) -> Result<u64> {
        self.end_file()?;
        Ok(self.written)
    }

    /// Random bytes that `turn` makes into what is wanted, a block at a time.
    fn tensor(&mut self, count: usize, turn: impl Fn(&mut [u8])) -> Result<ExternalData> {
        let place = self.begin(count)?;
        let mut block = vec![0; BLOCK.min(count)];
        for start in (0..count).step_by(BLOCK) {
            let part = &mut block[..BLOCK.min(count - start)];
            self.random.fill(part);
            turn(part);
            self.put(part)?;
        }
        Ok(place)
    }

    /// Where the next `length` bytes go.
    fn begin(&mut self, length: usize) -> Result<ExternalData> {
        let length = length as u64;
        if self.open.is_some() && self.offset + length > MOST_BYTES_A_FILE {
            self.end_file()?;
        }
        if self.open.is_none() {
            let path = self.folder.join(location(&self.first, self.files));
            let file = File::create(&path).map_err(Error::io(&path, REMEDY))?;
            self.open = Some((path, BufWriter::with_capacity(BLOCK, file)));
            self.files += 1;
            self.offset = 0;
        }
        let gap = self.offset.next_multiple_of(ALIGNMENT) - self.offset;
        self.put(&[0; ALIGNMENT as usize][..gap as usize])?;
        Ok(ExternalData { location: location(&self.first, self.files - 1), offset: self.offset, length: Some(length) })
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        if let Some((path, file)) = &mut self.open {
            file.write_all(bytes).map_err(Error::io(&*path, REMEDY))?;
            self.offset += bytes.len() as u64;
            self.written += bytes.len() as u64;
        }
        Ok(())
    }

    fn end_file(&mut self) -> Result<()> {
        match self.open.take() {
            Some((path, mut file)) => file.flush().map_err(Error::io(&path, REMEDY)),
            None => Ok(()),
        }
    }
}

fn location(first: &str, index: usize) -> String {
    match index {
        0 => first.to_owned(),
        index => format!("{first}_{index}"),
    }
}

/// Makes every float of `bytes` from a random number in [0, 1).
fn each(bytes: &mut [u8], value: impl Fn(f32) -> f32) {
    for bytes in bytes.as_chunks_mut::<4>().0 {
        let unit = f32::from_bits(u32::from_le_bytes(*bytes) >> 9 | 0x3f80_0000) - 1.0;
        *bytes = value(unit).to_le_bytes();
    }
}
