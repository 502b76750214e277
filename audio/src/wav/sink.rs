//! WAV files out: 16-bit mono, playable at every moment of their growth.
//!
//! An answer is written while it is spoken, and may be cut off by Ctrl-C or a crash. Each block is therefore followed
//! by the header that counts it: samples first, lengths second, so that whatever a reader finds is a whole file.

use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// One sample is two bytes and a header 44; the lengths in it are 32 bits wide.
const MOST_SAMPLES: u64 = (u32::MAX as u64 - 44) / 2;

/// A growing 16-bit mono WAV file.
pub struct WavSink {
    writer: hound::WavWriter<BufWriter<File>>,
    path: PathBuf,
    written: u64,
}

impl WavSink {
    /// Creates or replaces the file at `path`, which is a valid file without samples when this returns.
    ///
    /// # Errors
    /// [`Error::WavUnwritable`] when the folder is missing, the file or medium is read-only or full, or the path
    /// is a pipe, whose header cannot be brought up to date.
    pub fn create(path: impl AsRef<Path>, sample_rate: u32) -> Result<WavSink> {
        let path = path.as_ref().to_path_buf();
        let spec =
            hound::WavSpec { channels: 1, sample_rate, bits_per_sample: 16, sample_format: hound::SampleFormat::Int };
        let writer = File::create(&path)
            .map_err(hound::Error::IoError)
            .and_then(|file| hound::WavWriter::new(BufWriter::new(file), spec))
            .and_then(|mut writer| writer.flush().map(|()| writer));
        match writer {
            Ok(writer) => Ok(WavSink { writer, path, written: 0 }),
            Err(error) => Err(unwritable(&path, error)),
        }
    }

    /// Appends samples in [-1, 1], rounded to 16 bits; what lies outside is clipped, what is not a number is silence.
    ///
    /// The file holds all of them, with a header that says so, when this returns.
    ///
    /// # Errors
    /// [`Error::WavUnwritable`] when the medium is full or gone, [`Error::WavFull`] at the format's limit; the file
    /// then keeps what came before.
    pub fn write(&mut self, samples: &[f32]) -> Result<()> {
        if self.written + samples.len() as u64 > MOST_SAMPLES {
            return Err(Error::WavFull { path: self.path.clone() });
        }
        let mut block = || {
            for &sample in samples {
                self.writer.write_sample(to_i16(sample))?;
            }
            self.writer.flush()
        };
        block().map_err(|error| unwritable(&self.path, error))?;
        self.written += samples.len() as u64;
        Ok(())
    }

    /// How many samples the file holds.
    pub fn samples_written(&self) -> u64 {
        self.written
    }

    /// Closes the file; dropping it does the same without telling of a failure.
    ///
    /// # Errors
    /// [`Error::WavUnwritable`] when the medium refuses the last bytes.
    pub fn finish(self) -> Result<()> {
        let path = self.path;
        self.writer.finalize().map_err(|error| unwritable(&path, error))
    }
}

/// Full scale is 32768, as in the reader, so that 16-bit samples survive a round trip unchanged.
fn to_i16(sample: f32) -> i16 {
    // `as` saturates and turns NaN into 0.
    (sample * 32768.0).round() as i16
}

fn unwritable(path: &Path, error: hound::Error) -> Error {
    let source = match error {
        hound::Error::IoError(source) => source,
        other => std::io::Error::other(other),
    };
    Error::WavUnwritable { path: path.into(), source }
}

#[cfg(test)]
mod tests {
    use super::to_i16;

    #[test]
    fn rounds_to_nearest_and_clips_without_wrapping() {
        let step = 1.0 / 32768.0;
        let table = [
            (0.0, 0),
            (step, 1),
            (0.4 * step, 0),
            (0.6 * step, 1),
            (-0.6 * step, -1),
            (32767.0 * step, 32767),
            (1.0, 32767),
            (1.5, 32767),
            (-1.0, -32768),
            (-7.0, -32768),
            (f32::INFINITY, 32767),
            (f32::NEG_INFINITY, -32768),
            (f32::NAN, 0),
        ];
        for (sample, expected) in table {
            assert_eq!(to_i16(sample), expected, "{sample}");
        }
    }

    #[test]
    fn sixteen_bits_survive_a_round_trip() {
        for value in i16::MIN..=i16::MAX {
            assert_eq!(to_i16(f32::from(value) / 32768.0), value);
        }
    }
}
