//! WAV files in: any common kind becomes one mono clip, or one typed error.
//!
//! Owns what a clip may be (limits, silence, downmix). Sizes in a header are claims: nothing is allocated because of
//! them, and a file that holds less than it claims is an error rather than a shorter clip.

mod header;
mod sink;

use std::fs::File;
use std::io::{self, BufReader, Cursor, Read};
use std::path::Path;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::resample;
use header::{Encoding, Header};
pub use sink::WavSink;

/// No clip may be shorter: nothing can be recognised in less, and the encoder's convolutions need a few frames.
pub const SHORTEST: Duration = Duration::from_millis(100);

/// A clip whose largest magnitude stays below this (about -80 dB of full scale, three steps of 16 bits) is silent.
pub const SILENCE_PEAK: f32 = 1e-4;

/// A mono recording in memory.
#[derive(Debug, Clone, PartialEq)]
pub struct Clip {
    /// Samples in [-1, 1]; the channels of the source are averaged.
    pub samples: Vec<f32>,
    /// Samples a second, Hz.
    pub sample_rate: u32,
    /// How many channels the source had.
    pub source_channels: u16,
}

impl Clip {
    /// Length in seconds.
    pub fn seconds(&self) -> f64 {
        self.samples.len() as f64 / f64::from(self.sample_rate)
    }

    /// The same sound at `rate` Hz: `ceil(len * rate / sample_rate)` samples, aligned with the original.
    ///
    /// # Errors
    /// [`Error::Resample`] when either rate is outside 8 to 192 kHz.
    pub fn at_rate(self, rate: u32) -> Result<Clip> {
        if rate == self.sample_rate {
            return Ok(self);
        }
        let samples = resample::resample(&self.samples, self.sample_rate, rate)?;
        Ok(Clip { samples, sample_rate: rate, ..self })
    }
}

/// Reads a WAV file that lasts at least [`SHORTEST`] and at most `longest`.
///
/// PCM of 8, 16, 24 and 32 bits and 32-bit float, 1 to 8 channels, 8 to 192 kHz, plain or `WAVE_FORMAT_EXTENSIBLE`.
/// Float samples beyond full scale are clipped.
///
/// # Errors
/// One variant of [`Error`] for each thing that can be wrong with the path, the header or the samples.
pub fn read_wav(path: impl AsRef<Path>, longest: Duration) -> Result<Clip> {
    let path = path.as_ref();
    let unreadable = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound => Error::WavMissing { path: path.into() },
        _ => Error::WavUnreadable { path: path.into(), source },
    };
    let file = File::open(path).map_err(unreadable)?;
    if file.metadata().map_err(unreadable)?.is_dir() {
        return Err(Error::WavIsDirectory { path: path.into() });
    }
    read_wav_from(file, path, longest)
}

/// Reads a WAV stream, such as a descriptor that another process passed; `name` stands for the path in errors.
///
/// Reads in blocks, so the caller need not buffer, and stops at `longest`.
///
/// # Errors
/// As [`read_wav`].
pub fn read_wav_from(source: impl Read, name: impl AsRef<Path>, longest: Duration) -> Result<Clip> {
    let path = name.as_ref();
    let mut tape = Tape::new(source);
    let header = header::read(&mut tape, path)?;
    let most = (longest.as_secs_f64() * f64::from(header.sample_rate)) as u64;
    let samples = match header.encoding {
        Encoding::Pcm { bits } => {
            let scale = 1.0 / (1u64 << (bits - 1)) as f32;
            samples(&mut tape, &header, path, most, longest, |value: i32| value as f32 * scale)?
        }
        Encoding::Float => samples(&mut tape, &header, path, most, longest, |value: f32| value)?,
    };

    let seconds = samples.len() as f64 / f64::from(header.sample_rate);
    if samples.is_empty() {
        return Err(Error::WavEmpty { path: path.into() });
    }
    if seconds < SHORTEST.as_secs_f64() {
        return Err(Error::WavTooShort { path: path.into(), seconds, least: SHORTEST.as_secs_f64() });
    }
    let peak = samples.iter().fold(0.0f32, |peak, sample| peak.max(sample.abs()));
    if peak < SILENCE_PEAK {
        return Err(Error::WavSilent { path: path.into(), peak });
    }
    Ok(Clip { samples, sample_rate: header.sample_rate, source_channels: header.channels })
}

/// Decodes and downmixes the data chunk that `tape` stands before.
fn samples<S: hound::Sample>(
    tape: &mut Tape<impl Read>,
    header: &Header,
    path: &Path,
    most: u64,
    longest: Duration,
    to_float: impl Fn(S) -> f32,
) -> Result<Vec<f32>> {
    let began = tape.bytes;
    let failed = |error: hound::Error| match error {
        hound::Error::IoError(source) => Error::WavUnreadable { path: path.into(), source },
        other => Error::WavMalformed { path: path.into(), why: other.to_string() },
    };
    let mut decoder = hound::WavReader::new(Cursor::new(header.canonical()).chain(&mut *tape)).map_err(failed)?;

    let channels = usize::from(header.channels);
    let mut mono = Vec::with_capacity(header.sample_rate as usize);
    let (mut sum, mut filled) = (0.0f64, 0);
    let mut stopped = None;
    for sample in decoder.samples::<S>() {
        let value = match sample {
            Ok(sample) => to_float(sample),
            Err(error) => {
                stopped = Some(error);
                break;
            }
        };
        if !value.is_finite() {
            return Err(Error::WavNotFinite { path: path.into(), frame: mono.len() as u64 });
        }
        sum += f64::from(value.clamp(-1.0, 1.0));
        filled += 1;
        if filled == channels {
            if mono.len() as u64 >= most {
                return Err(Error::WavTooLong { path: path.into(), most: longest.as_secs_f64() });
            }
            mono.push((sum / channels as f64) as f32);
            (sum, filled) = (0.0, 0);
        }
    }
    drop(decoder);

    match (stopped, header.data_bytes) {
        (None, _) => Ok(mono),
        // The end of a stream whose length nobody knew; a last incomplete frame is dropped with it.
        (Some(_), None) if tape.ended => Ok(mono),
        (Some(_), Some(promised)) if tape.ended => {
            Err(Error::WavTruncated { path: path.into(), promised, found: tape.bytes - began })
        }
        (Some(error), _) => Err(failed(error)),
    }
}

/// A reader that remembers how much it has given and whether the source has ended, because hound reports the end of
/// a file and a failing disk as the same error.
struct Tape<R> {
    source: BufReader<R>,
    bytes: u64,
    ended: bool,
}

impl<R: Read> Tape<R> {
    fn new(source: R) -> Self {
        Tape { source: BufReader::new(source), bytes: 0, ended: false }
    }
}

impl<R: Read> Read for Tape<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.source.read(buffer) {
                // hound takes an interrupted call for a failure.
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
                Ok(count) => {
                    self.bytes += count as u64;
                    self.ended |= count == 0 && !buffer.is_empty();
                    return Ok(count);
                }
            }
        }
    }
}
