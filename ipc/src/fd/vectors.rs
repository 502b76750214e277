//! The stream of `Encode`: vectors of several texts, each as soon as it is there.
//!
//! `EDDYVEC1`, number of texts, width; then for each text the number of its vectors and the vectors.
//! All numbers are little-endian, counts 32 bits wide, components 32-bit floats.

use std::io::{self, Read};

const MAGIC: [u8; 8] = *b"EDDYVEC1";

/// The start of the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VectorsHeader {
    /// Texts to follow.
    pub texts: u32,
    /// Components of a vector.
    pub width: u32,
}

impl VectorsHeader {
    /// As it is sent.
    pub fn to_bytes(self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&self.texts.to_le_bytes());
        bytes[12..].copy_from_slice(&self.width.to_le_bytes());
        bytes
    }

    /// From the front of a stream.
    pub fn read(stream: &mut impl Read) -> io::Result<Self> {
        let mut magic = [0; 8];
        stream.read_exact(&mut magic)?;
        if magic != MAGIC {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "this is no stream of vectors"));
        }
        Ok(Self { texts: count(stream)?, width: count(stream)? })
    }
}

/// Appends one text's vectors, `values` being one after the other. `None` if `values` is not a whole number
/// of vectors of this width.
pub fn text_vectors(values: &[f32], width: u32, out: &mut Vec<u8>) -> Option<()> {
    let width = usize::try_from(width).ok().filter(|width| *width > 0)?;
    if !values.len().is_multiple_of(width) {
        return None;
    }
    let rows = u32::try_from(values.len() / width).ok()?;
    out.reserve(4 + values.len() * 4);
    out.extend_from_slice(&rows.to_le_bytes());
    for value in values {
        out.extend_from_slice(&value.to_le_bytes());
    }
    Some(())
}

/// Reads a whole stream: for each text its vectors one after the other, and the width of a vector. A stream
/// that ends early is an `UnexpectedEof`: encoding failed or was cancelled.
pub fn vectors(stream: &mut impl Read) -> io::Result<(Vec<Vec<f32>>, u32)> {
    let header = VectorsHeader::read(stream)?;
    let mut texts = Vec::new();
    for _ in 0..header.texts {
        let rows = count(stream)?;
        let bytes = u64::from(rows)
            .checked_mul(u64::from(header.width))
            .and_then(|values| values.checked_mul(4))
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "more vectors than there can be"))?;
        // Through `take`, so that memory grows with what arrives and not with what is claimed.
        let mut raw = Vec::new();
        stream.take(bytes).read_to_end(&mut raw)?;
        if raw.len() as u64 != bytes {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        texts.push(raw.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect());
    }
    Ok((texts, header.width))
}

fn count(stream: &mut impl Read) -> io::Result<u32> {
    let mut bytes = [0; 4];
    stream.read_exact(&mut bytes)?;
    Ok(u32::from_le_bytes(bytes))
}
