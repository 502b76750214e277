//! The RIFF header of a WAV file: which samples follow, and how many are promised.
//!
//! hound could read it, but it takes the padding byte after an odd-sized chunk for the next chunk's name, reads 24
//! bits from the wrong end of a 32-bit container, and cannot tell a file that was cut off from a broken disk. So the
//! chunks are walked here, every claim is checked, and hound is given a header in its plainest form.

use std::io::{self, Read};
use std::path::Path;

use super::Tape;
use crate::error::{Error, Result};
use crate::resample::{HIGHEST_RATE, LOWEST_RATE};

/// Cover art and cue lists come before the samples in some files; beyond this it is no longer a recording of speech.
const MOST_METADATA: u64 = 16 << 20;

/// Programs that write to a pipe cannot know the length; they leave 2 GiB or 4 GiB, less a header's worth.
const PLACEHOLDERS: [std::ops::RangeInclusive<u32>; 2] = [0x7fff_0000..=0x7fff_ffff, 0xffff_0000..=0xffff_ffff];

const TAG_PCM: u16 = 1;
const TAG_FLOAT: u16 = 3;
const TAG_EXTENSIBLE: u16 = 0xfffe;

/// How one sample is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    /// Integers that fill a container of 8 (unsigned), 16, 24 or 32 bits. Fewer valid bits are left-aligned in it,
    /// so that the container's full scale is theirs.
    Pcm { bits: u16 },
    /// 32-bit IEEE 754.
    Float,
}

/// What the header says, within the limits of this crate.
#[derive(Debug)]
pub(super) struct Header {
    pub encoding: Encoding,
    pub channels: u16,
    pub sample_rate: u32,
    /// Length of the data chunk; `None` when the writer did not know it either.
    pub data_bytes: Option<u64>,
}

impl Header {
    fn frame_bytes(&self) -> u16 {
        self.channels * self.sample_bits() / 8
    }

    fn sample_bits(&self) -> u16 {
        match self.encoding {
            Encoding::Pcm { bits } => bits,
            Encoding::Float => 32,
        }
    }

    /// The 44-byte header that hound is given in place of the file's own.
    pub(super) fn canonical(&self) -> Vec<u8> {
        let frame = u32::from(self.frame_bytes());
        let data = match self.data_bytes {
            Some(bytes) => bytes as u32,
            None => u32::MAX / frame * frame,
        };
        let tag = if self.encoding == Encoding::Float { TAG_FLOAT } else { TAG_PCM };
        let mut bytes = Vec::with_capacity(44);
        bytes.extend(b"RIFF");
        bytes.extend(data.saturating_add(36).to_le_bytes());
        bytes.extend(b"WAVEfmt ");
        bytes.extend(16u32.to_le_bytes());
        bytes.extend(tag.to_le_bytes());
        bytes.extend(self.channels.to_le_bytes());
        bytes.extend(self.sample_rate.to_le_bytes());
        bytes.extend((self.sample_rate * frame).to_le_bytes());
        bytes.extend(self.frame_bytes().to_le_bytes());
        bytes.extend(self.sample_bits().to_le_bytes());
        bytes.extend(b"data");
        bytes.extend(data.to_le_bytes());
        bytes
    }
}

/// Reads up to the first sample.
pub(super) fn read<R: Read>(tape: &mut Tape<R>, path: &Path) -> Result<Header> {
    let mut riff = [0u8; 12];
    let found = fill(tape, &mut riff).map_err(|source| Error::WavUnreadable { path: path.into(), source })?;
    let not_wav = |why| Err(Error::NotWav { path: path.into(), why });
    match &riff[..found.min(4)] {
        [] => return not_wav("it is empty"),
        b"RIFF" => {}
        b"RF64" | b"RIFX" | b"BW64" => {
            let what = format!("a WAV file of the kind {}", String::from_utf8_lossy(&riff[..4]));
            return Err(Error::WavUnsupported { path: path.into(), what });
        }
        _ => return not_wav("it does not begin with RIFF"),
    }
    if found < riff.len() {
        return Err(Error::WavHeaderTruncated { path: path.into(), bytes: tape.bytes });
    }
    if &riff[8..] != b"WAVE" {
        return not_wav("it is RIFF of another kind");
    }

    let mut header = None;
    loop {
        let mut chunk = [0u8; 8];
        take(tape, &mut chunk, path)?;
        let length = u32::from_le_bytes([chunk[4], chunk[5], chunk[6], chunk[7]]);
        match &chunk[..4] {
            b"fmt " => header = Some(format(tape, length, path)?),
            b"data" => {
                let malformed = |why: String| Error::WavMalformed { path: path.into(), why };
                let mut header = header.ok_or_else(|| malformed("its samples come before their format".into()))?;
                let frame = u32::from(header.frame_bytes());
                if !PLACEHOLDERS.iter().any(|range| range.contains(&length)) {
                    if length % frame != 0 {
                        return Err(malformed(format!("{length} bytes of samples are no multiple of {frame}")));
                    }
                    header.data_bytes = Some(u64::from(length));
                }
                return Ok(header);
            }
            _ => skip(tape, length, path)?,
        }
    }
}

/// Reads a `fmt ` chunk of `length` bytes, with the byte that pads it.
fn format<R: Read>(tape: &mut Tape<R>, length: u32, path: &Path) -> Result<Header> {
    let malformed = |why: String| Error::WavMalformed { path: path.into(), why };
    let unsupported = |what: String| Error::WavUnsupported { path: path.into(), what };
    if length < 16 {
        return Err(malformed(format!("a format of {length} bytes")));
    }
    let mut body = [0u8; 40];
    let known = body.len().min(length as usize);
    take(tape, &mut body[..known], path)?;
    skip_bytes(tape, u64::from(length) - known as u64 + u64::from(length % 2), path)?;

    let u16_at = |at: usize| u16::from_le_bytes([body[at], body[at + 1]]);
    let (mut tag, channels, frame_bytes, bits) = (u16_at(0), u16_at(2), u16_at(12), u16_at(14));
    let sample_rate = u32::from_le_bytes([body[4], body[5], body[6], body[7]]);
    if tag == TAG_EXTENSIBLE {
        if known < 40 {
            return Err(malformed(format!("an extensible format of {length} bytes")));
        }
        // A sub-format is the old tag followed by a constant.
        const FAMILY: [u8; 14] = [0, 0, 0, 0, 0x10, 0, 0x80, 0, 0, 0xaa, 0, 0x38, 0x9b, 0x71];
        tag = if body[26..40] == FAMILY { u16_at(24) } else { TAG_EXTENSIBLE };
    }

    if !(1..=8).contains(&channels) {
        return Err(unsupported(format!("a recording of {channels} channels")));
    }
    if !(LOWEST_RATE..=HIGHEST_RATE).contains(&sample_rate) {
        return Err(unsupported(format!("a sample rate of {sample_rate} Hz")));
    }
    if frame_bytes % channels != 0 || u32::from(bits) > u32::from(frame_bytes / channels) * 8 || bits == 0 {
        return Err(malformed(format!("{channels} channels of {bits} bits in {frame_bytes} bytes")));
    }
    let container = u32::from(frame_bytes / channels) * 8;
    let encoding = match (tag, container) {
        (TAG_PCM, 8 | 16 | 24 | 32) => Encoding::Pcm { bits: container as u16 },
        (TAG_FLOAT, 32) => Encoding::Float,
        (TAG_PCM, _) => return Err(unsupported(format!("{container}-bit PCM"))),
        (TAG_FLOAT, _) => return Err(unsupported(format!("{container}-bit float"))),
        _ => {
            return Err(unsupported(format!("compressed audio (format tag {tag:#06x})")));
        }
    };
    Ok(Header { encoding, channels, sample_rate, data_bytes: None })
}

/// Skips a chunk of `length` bytes and the byte that pads it to an even size.
fn skip<R: Read>(tape: &mut Tape<R>, length: u32, path: &Path) -> Result<()> {
    skip_bytes(tape, u64::from(length) + u64::from(length % 2), path)
}

fn skip_bytes<R: Read>(tape: &mut Tape<R>, count: u64, path: &Path) -> Result<()> {
    if tape.bytes + count > MOST_METADATA {
        // A length beyond the end is a cut-off or overwritten file far more often than real metadata.
        let rest = io::copy(&mut tape.by_ref().take(MOST_METADATA), &mut io::sink());
        return match rest {
            Ok(read) if read < MOST_METADATA => Err(Error::WavHeaderTruncated { path: path.into(), bytes: tape.bytes }),
            Ok(_) => Err(Error::WavMalformed { path: path.into(), why: "16 MiB without a sample".into() }),
            Err(source) => Err(Error::WavUnreadable { path: path.into(), source }),
        };
    }
    let skipped = io::copy(&mut tape.by_ref().take(count), &mut io::sink())
        .map_err(|source| Error::WavUnreadable { path: path.into(), source })?;
    if skipped < count {
        return Err(Error::WavHeaderTruncated { path: path.into(), bytes: tape.bytes });
    }
    Ok(())
}

/// Fills `buffer`, or says that the file ends inside its header.
fn take<R: Read>(tape: &mut Tape<R>, buffer: &mut [u8], path: &Path) -> Result<()> {
    match fill(tape, buffer) {
        Ok(found) if found == buffer.len() => Ok(()),
        Ok(_) => Err(Error::WavHeaderTruncated { path: path.into(), bytes: tape.bytes }),
        Err(source) => Err(Error::WavUnreadable { path: path.into(), source }),
    }
}

/// Reads until `buffer` is full or the source ends; how much was read.
fn fill(source: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match source.read(&mut buffer[filled..])? {
            0 => break,
            count => filled += count,
        }
    }
    Ok(filled)
}
