//! Image files: from bytes to pixels to patches.

use eddy_models::vision::{Knobs, Limits, Picture, Settings, prepare};

use super::{Target, fixture, words};

const LIMITS: Limits = Limits { bytes: 1 << 20, pixels: 1 << 18 };

/// See the module.
pub struct Image;

impl Target for Image {
    fn run(&mut self, input: &[u8]) -> String {
        let picture = match Picture::decode(input, &LIMITS) {
            Ok(picture) => picture,
            Err(error) => return error.to_string(),
        };
        let pixels = picture.width() * picture.height();
        assert!(pixels as u64 <= LIMITS.pixels && picture.rgb().len() == pixels * 3, "{pixels} pixels");
        // Small tiles, so that every input takes the whole way in little time.
        let settings = Settings { tile: 64, min_tokens: 1, max_tokens: 4, max_tiles: 4, ..Settings::default() };
        match prepare(&settings, &picture, &Knobs::default()) {
            Ok(image) => {
                let tiling = image.tiling();
                let patches = (0..).map_while(|entry| image.entries().patches(entry));
                let floats: usize = patches.map(|patches| patches.values.len()).sum();
                let tokens = tiling.tokens() * settings.token_side().pow(2) * 3;
                assert_eq!(floats, tokens, "{tiling:?}");
                format!("{:?} {:?}", tiling.rows, tiling.columns)
            }
            Err(error) => error.to_string(),
        }
    }

    fn seeds(&self) -> anyhow::Result<Vec<Vec<u8>>> {
        let mut seeds = Vec::new();
        for entry in std::fs::read_dir(fixture("vision-reference/images"))? {
            seeds.push(std::fs::read(entry?.path())?);
        }
        seeds.sort();
        Ok(seeds)
    }

    fn dictionary(&self) -> Vec<Vec<u8>> {
        let mut dictionary = words(&[
            "IHDR",
            "PLTE",
            "IDAT",
            "IEND",
            "tRNS",
            "eXIf",
            "iCCP",
            "acTL",
            "fcTL",
            "fdAT",
            "GIF89a",
            "NETSCAPE2.0",
            "RIFF",
            "WEBP",
            "VP8 ",
            "VP8L",
            "VP8X",
            "ANIM",
            "ANMF",
            "ALPH",
            "EXIF",
            "Exif\0\0",
            "Adobe\0",
            "JFIF\0",
            "II*\0",
            "MM\0*",
        ]);
        // Markers of JPEG: frames of all kinds, tables, scans, restarts.
        dictionary.extend((0xc0..=0xfe).step_by(2).map(|marker| vec![0xff, marker]));
        dictionary
    }

    fn mend(&self, input: &mut Vec<u8>) {
        const SIGNATURE: &[u8] = b"\x89PNG\r\n\x1a\n";
        if !input.starts_with(SIGNATURE) {
            return;
        }
        let mut at = SIGNATURE.len();
        while let Some(length) = input.get(at..at + 4).and_then(|bytes| <[u8; 4]>::try_from(bytes).ok()) {
            let body = at + 4..(at + 8).saturating_add(u32::from_be_bytes(length) as usize);
            let Some(checksum) = input.get(body.clone()).map(crc) else { return };
            let place = body.end..body.end + 4;
            match input.get_mut(place) {
                Some(place) => place.copy_from_slice(&checksum.to_be_bytes()),
                None => return,
            }
            at = body.end + 4;
        }
    }

    fn most_memory(&self) -> usize {
        48 << 20
    }
}

/// The checksum of PNG's chunks.
fn crc(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 })
    })
}
