//! Image files to pixels. Promises that nothing is decoded, and nothing of the image's size allocated, before the file's
//! own head has been held against the limits.

use std::fs::File;
use std::io::{Cursor, Read};
use std::path::Path;

use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader};

use super::jpeg;
use crate::error::{Error, Result};
use crate::runtime::one_line;

/// What an image may be at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the file.
    pub bytes: u64,
    /// Pixels of the image.
    pub pixels: u64,
}

impl Default for Limits {
    /// 64 MiB and 64 million pixels, a little more than cameras give by default.
    fn default() -> Self {
        Self { bytes: 64 << 20, pixels: 64_000_000 }
    }
}

impl Limits {
    /// Bytes that a decoder may take.
    pub(super) fn decoder_bytes(&self) -> u64 {
        self.pixels.saturating_mul(BYTES_PER_PIXEL).saturating_add(DECODER_BYTES)
    }

    /// Holds the size that a file's head claims against the limits.
    pub(super) fn check(&self, width: u64, height: u64) -> Result<()> {
        let pixels = width.saturating_mul(height);
        if pixels == 0 {
            return Err(unseeable("it has no pixels".into(), SEND_ANOTHER));
        }
        if pixels > self.pixels {
            let allowed = self.pixels;
            let reason = format!("{width} by {height} pixels are more than the {allowed} that are allowed");
            return Err(unseeable(reason, MAKE_SMALLER));
        }
        Ok(())
    }
}

/// Bytes that a decoder may take for one pixel: four channels of 16 bits, and as much again for what it works with.
const BYTES_PER_PIXEL: u64 = 16;
/// Further bytes that a decoder may take, for tables and lines.
const DECODER_BYTES: u64 = 16 << 20;
pub(super) const SEND_ANOTHER: &str = "save it again as PNG or JPEG";
const MAKE_SMALLER: &str = "make it smaller";

/// A decoded image: RGB, 8 bits a channel, row by row, the way up that it is meant to be seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    width: usize,
    height: usize,
    rgb: Vec<u8>,
}

impl Picture {
    /// An image from its pixels, `[height, width, 3]`.
    ///
    /// # Errors
    /// [`Error::Unseeable`] when the bytes are not that many, or none.
    pub fn from_rgb(width: usize, height: usize, rgb: Vec<u8>) -> Result<Self> {
        let wanted = width.checked_mul(height).and_then(|pixels| pixels.checked_mul(3));
        match wanted == Some(rgb.len()) && !rgb.is_empty() {
            true => Ok(Self { width, height, rgb }),
            false => Err(unseeable(
                format!("{} bytes are no image of {width} by {height} pixels", rgb.len()),
                "give its size in pixels",
            )),
        }
    }

    /// Reads and decodes the file at `path`.
    ///
    /// # Errors
    /// [`Error::Io`], and those of [`Self::decode`] with the path in front.
    pub fn open(path: &Path, limits: &Limits) -> Result<Self> {
        Self::decode(&read_file(path, limits)?, limits).map_err(|error| named(path, error))
    }

    /// Decodes a PNG, JPEG, WebP or GIF file, of the last the first frame, and turns it as its EXIF orientation says.
    /// Transparency is dropped, as transformers' `load_image` does.
    ///
    /// # Errors
    /// [`Error::Unseeable`] for another format, a damaged file, or one beyond `limits`.
    pub fn decode(bytes: &[u8], limits: &Limits) -> Result<Self> {
        if bytes.len() as u64 > limits.bytes {
            return Err(too_many_bytes(limits));
        }
        let (mut image, orientation) = match format_of(bytes)? {
            ImageFormat::Jpeg => jpeg::decode(bytes, limits)?,
            format => decode(bytes, format, limits)?,
        };
        image.apply_orientation(orientation);
        let rgb = image.into_rgb8();
        let (width, height) = (rgb.width() as usize, rgb.height() as usize);
        Self::from_rgb(width, height, rgb.into_raw())
    }

    /// Width in pixels.
    #[must_use]
    pub fn width(&self) -> usize {
        self.width
    }

    /// Height in pixels.
    #[must_use]
    pub fn height(&self) -> usize {
        self.height
    }

    /// The pixels, `[height, width, 3]`.
    #[must_use]
    pub fn rgb(&self) -> &[u8] {
        &self.rgb
    }
}

/// The bytes of an image file.
///
/// # Errors
/// [`Error::Io`], [`Error::Unseeable`] for what is no plain file or has too many bytes.
pub fn read_file(path: &Path, limits: &Limits) -> Result<Vec<u8>> {
    let remedy = "check that the file exists and may be read";
    // Looked at before it is opened: opening a pipe waits for a writer.
    if !std::fs::metadata(path).map_err(Error::io(path, remedy))?.is_file() {
        return Err(named(path, unseeable("it is no plain file".into(), remedy)));
    }
    let file = File::open(path).map_err(Error::io(path, remedy))?;
    let mut bytes = Vec::new();
    // One more than allowed, so that a file that is too large is noticed, even if it has grown since.
    file.take(limits.bytes.saturating_add(1)).read_to_end(&mut bytes).map_err(Error::io(path, remedy))?;
    match bytes.len() as u64 > limits.bytes {
        true => Err(named(path, too_many_bytes(limits))),
        false => Ok(bytes),
    }
}

fn named(path: &Path, error: Error) -> Error {
    match error {
        Error::Unseeable { reason, remedy } => unseeable(format!("{}: {reason}", path.display()), remedy),
        other => other,
    }
}

fn too_many_bytes(limits: &Limits) -> Error {
    unseeable(format!("more than {} bytes are too many for an image", limits.bytes), MAKE_SMALLER)
}

/// The format by the file's first bytes; names are not believed.
fn format_of(bytes: &[u8]) -> Result<ImageFormat> {
    match image::guess_format(bytes) {
        Ok(format @ (ImageFormat::Png | ImageFormat::Jpeg | ImageFormat::WebP | ImageFormat::Gif)) => Ok(format),
        _ => Err(unseeable("it is no PNG, JPEG, WebP or GIF file".into(), SEND_ANOTHER)),
    }
}

/// The image in a file of any other format, and how it has to be turned.
fn decode(bytes: &[u8], format: ImageFormat, limits: &Limits) -> Result<(DynamicImage, Orientation)> {
    if format == ImageFormat::WebP && webp_is_cut_off(bytes) {
        return Err(damaged(&"cut off"));
    }
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    let mut bounds = image::Limits::no_limits();
    bounds.max_alloc = Some(limits.decoder_bytes());
    reader.limits(bounds);
    let mut decoder = reader.into_decoder().map_err(|error| match error {
        ImageError::Limits(_) => {
            unseeable(format!("it has more than the {} pixels that are allowed", limits.pixels), MAKE_SMALLER)
        }
        other => damaged(&other),
    })?;
    let (width, height) = decoder.dimensions();
    limits.check(width.into(), height.into())?;
    // An image whose EXIF part is damaged is shown as it lies, as viewers do.
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    Ok((DynamicImage::from_decoder(decoder).map_err(|error| damaged(&error))?, orientation))
}

/// Whether a chunk of a WebP file claims to go on behind the file's end: its decoder would make room for all of it.
fn webp_is_cut_off(bytes: &[u8]) -> bool {
    /// `RIFF`, its length, `WEBP`.
    const HEAD: usize = 12;
    let mut at = HEAD;
    while let Some(length) = bytes.get(at + 4..at + 8).and_then(|length| <[u8; 4]>::try_from(length).ok()) {
        let length = u32::from_le_bytes(length) as usize;
        at = at.saturating_add(8).saturating_add(length);
        if at > bytes.len() {
            return true;
        }
        // Chunks begin at even places.
        at += length % 2;
    }
    false
}

pub(super) fn damaged(error: &dyn std::fmt::Display) -> Error {
    unseeable(format!("damaged image ({})", told(error)), SEND_ANOTHER)
}

/// The first of a decoder's words, in one line: some repeat bytes of the file at length.
fn told(error: &dyn std::fmt::Display) -> String {
    one_line(&error.to_string()).chars().take(120).collect()
}

pub(super) fn unseeable(reason: String, remedy: &'static str) -> Error {
    Error::Unseeable { reason, remedy }
}
