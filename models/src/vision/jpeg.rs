//! JPEG files to pixels. Promises the bytes that libjpeg-turbo makes of a file, which is what the reference's processor
//! reads: decoders differ in how they interpolate colours, by 0.2 to 0.4 of a grey level on average.

use std::panic::{AssertUnwindSafe, catch_unwind};

use image::metadata::Orientation;
use image::{DynamicImage, RgbImage};
use libjpeg_turbo_rs::{ComponentInfo, DecodeLimits, Decoder, JpegError, PixelFormat};

use super::intake::{Limits, SEND_ANOTHER, damaged, unseeable};
use crate::error::{Error, Result};

/// Passes over the image that a file may ask for. Encoders make about ten; each costs as much as the first.
const MOST_SCANS: usize = 100;

/// The image, and how it has to be turned.
///
/// # Errors
/// [`Error::Unseeable`] for a damaged file, or one beyond `limits`.
pub(super) fn decode(bytes: &[u8], limits: &Limits) -> Result<(DynamicImage, Orientation)> {
    // A decoder's panic would be a fault of its own; to the one who sent the file it is a damaged one all the same.
    catch_unwind(AssertUnwindSafe(|| decode_unguarded(bytes, limits)))
        .unwrap_or_else(|_| Err(damaged(&"its parts contradict each other")))
}

fn decode_unguarded(bytes: &[u8], limits: &Limits) -> Result<(DynamicImage, Orientation)> {
    let failed = |error: JpegError| -> Error {
        match error {
            JpegError::UnexpectedEof => damaged(&"cut off"),
            other => damaged(&other),
        }
    };
    let mut decoder = Decoder::new(bytes).map_err(failed)?;
    let header = decoder.header();
    let (width, height) = (u32::from(header.width), u32::from(header.height));
    limits.check(width.into(), height.into())?;
    if !can_be_read(&header.components) {
        return Err(unseeable("its colours are stored at sizes that do not fit each other".into(), SEND_ANOTHER));
    }
    decoder.set_limits(DecodeLimits {
        max_pixels: limits.pixels,
        max_scans: MOST_SCANS,
        max_memory: Some(limits.decoder_bytes()),
        ..DecodeLimits::default()
    });
    decoder.set_output_format(PixelFormat::Rgb);
    let image = decoder.decode_image().map_err(failed)?;
    let orientation = image.exif_orientation().and_then(Orientation::from_exif);
    let pixels = RgbImage::from_raw(width, height, image.data).ok_or_else(|| damaged(&"too few pixels"))?;
    Ok((pixels.into(), orientation.unwrap_or(Orientation::NoTransforms)))
}

/// Whether every colour is stored at the first one's size or at a whole fraction of it, and black, where there is one, at
/// the first one's. The standard knows other files, which no encoder writes and the decoder does not survive.
fn can_be_read(components: &[ComponentInfo]) -> bool {
    let sizes = components.iter().map(|it| (it.horizontal_sampling, it.vertical_sampling));
    let sizes: Vec<(u8, u8)> = sizes.collect();
    let Some(&(wide, high)) = sizes.first() else { return false };
    let fits = |&(h, v): &(u8, u8)| h > 0 && v > 0 && wide % h == 0 && high % v == 0;
    sizes.iter().all(fits) && sizes.get(3).is_none_or(|black| *black == (wide, high))
}
