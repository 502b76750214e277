//! Resampling of 8-bit RGB, number for number as torchvision does it on a CPU: antialiased, columns before rows, weights
//! in 16-bit fixed point, rounded to bytes after each pass.

use super::intake::Picture;

/// The shape of the filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filter {
    /// A triangle; `resample: 2`.
    Bilinear,
    /// Keys' cubic with a = -0.5; `resample: 3`.
    Bicubic,
}

impl Filter {
    /// Half the width of the filter, in pixels of the output.
    fn reach(self) -> f64 {
        match self {
            Self::Bilinear => 1.0,
            Self::Bicubic => 2.0,
        }
    }

    fn weight(self, at: f64) -> f64 {
        const A: f64 = -0.5;
        let x = at.abs();
        match self {
            Self::Bilinear if x < 1.0 => 1.0 - x,
            Self::Bicubic if x < 1.0 => ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0,
            Self::Bicubic if x < 2.0 => ((A * x - 5.0 * A) * x + 8.0 * A) * x - 4.0 * A,
            Self::Bilinear | Self::Bicubic => 0.0,
        }
    }
}

/// What each place of an output line is made of.
struct Taps {
    /// First place of the input, and how many.
    ranges: Vec<(usize, usize)>,
    /// `widest` weights for each place of the output.
    weights: Vec<i32>,
    widest: usize,
    /// Bits behind the point.
    precision: u32,
}

impl Taps {
    fn new(filter: Filter, from: usize, to: usize) -> Self {
        let scale = from as f64 / to as f64;
        let support = filter.reach() * scale.max(1.0);
        let shrink = if scale >= 1.0 { 1.0 / scale } else { 1.0 };
        let widest = support.ceil() as usize * 2 + 1;
        let mut ranges = Vec::with_capacity(to);
        let mut exact = vec![0.0; to * widest];
        for (place, row) in exact.chunks_exact_mut(widest).enumerate() {
            let centre = scale * (place as f64 + 0.5);
            let first = (centre - support + 0.5).max(0.0) as usize;
            let end = ((centre + support + 0.5) as usize).min(from);
            let count = end.saturating_sub(first).min(widest);
            for (tap, weight) in row[..count].iter_mut().enumerate() {
                *weight = filter.weight(((first + tap) as f64 - centre + 0.5) * shrink);
            }
            let total: f64 = row.iter().sum();
            if total != 0.0 {
                row.iter_mut().for_each(|weight| *weight /= total);
            }
            ranges.push((first, count));
        }
        // As many bits as let the largest weight fit into 16 with its sign.
        let largest = exact.iter().copied().fold(0.0, f64::max);
        let fits = |bits: u32| 0.5 + largest * f64::from(1 << (bits + 1)) < f64::from(1 << 15);
        let precision = (0..22).find(|bits| !fits(*bits)).unwrap_or(22);
        let unit = f64::from(1 << precision);
        let weights = exact.iter().map(|weight| (weight * unit + 0.5_f64.copysign(*weight)) as i32).collect();
        Self { ranges, weights, widest, precision }
    }

    /// The weights of one place, and the first place of the input that they belong to.
    fn of(&self, place: usize) -> (usize, &[i32]) {
        let (first, count) = self.ranges[place];
        (first, &self.weights[place * self.widest..][..count])
    }

    fn start(&self) -> i32 {
        1 << self.precision.saturating_sub(1)
    }

    fn byte(&self, sum: i32) -> u8 {
        (sum >> self.precision).clamp(0, 255) as u8
    }
}

/// `picture` at `width` by `height` pixels; each has to be at least one.
#[must_use]
pub fn resized(picture: &Picture, filter: Filter, width: usize, height: usize) -> Vec<u8> {
    let across = match width == picture.width() {
        true => picture.rgb().to_vec(),
        false => columns(picture.rgb(), picture.width(), &Taps::new(filter, picture.width(), width)),
    };
    match height == picture.height() {
        true => across,
        false => rows(&across, width, &Taps::new(filter, picture.height(), height)),
    }
}

fn columns(from: &[u8], width: usize, taps: &Taps) -> Vec<u8> {
    let to = taps.ranges.len();
    let mut out = vec![0; from.len() / width.max(1) * to];
    for (line, made) in from.chunks_exact(width * 3).zip(out.chunks_exact_mut(to * 3)) {
        for (place, pixel) in made.chunks_exact_mut(3).enumerate() {
            let (first, weights) = taps.of(place);
            let mut sums = [taps.start(); 3];
            for (source, weight) in line[first * 3..].as_chunks::<3>().0.iter().zip(weights) {
                for (sum, byte) in sums.iter_mut().zip(source) {
                    *sum += i32::from(*byte) * weight;
                }
            }
            pixel.iter_mut().zip(sums).for_each(|(byte, sum)| *byte = taps.byte(sum));
        }
    }
    out
}

fn rows(from: &[u8], width: usize, taps: &Taps) -> Vec<u8> {
    let line = width * 3;
    let mut out = vec![0; taps.ranges.len() * line];
    let mut sums = vec![0; line];
    for (place, made) in out.chunks_exact_mut(line).enumerate() {
        let (first, weights) = taps.of(place);
        sums.fill(taps.start());
        for (source, weight) in from[first * line..].chunks_exact(line).zip(weights) {
            for (sum, byte) in sums.iter_mut().zip(source) {
                *sum += i32::from(*byte) * weight;
            }
        }
        made.iter_mut().zip(&sums).for_each(|(byte, sum)| *byte = taps.byte(*sum));
    }
    out
}
