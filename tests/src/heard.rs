//! Finds what the engine made in what was recorded at the loudspeaker, piece by piece.
//!
//! A machine that is busy lets a virtual loudspeaker stop for some milliseconds, and a reply that was held goes on later:
//! each piece is looked for on its own, by normalised correlation over everything that it may have moved by.

use realfft::RealFftPlanner;
use realfft::num_complex::Complex;

use eddy_audio::wav::Clip;

/// Both are compared at this rate, Hz: the room's, because a third of a sample of 16 kHz is enough to lose a high voice.
pub const COMPARED: u32 = 48_000;
/// What is above half of this is left out, because the filters between them end there.
const BAND: u32 = 16_000;
/// Samples of a piece: a tenth of a second.
pub const PIECE: usize = COMPARED as usize / 10;
/// How like a piece has to be to what was heard of it.
const LIKE: f64 = 0.97;
/// Softer pieces than this (RMS) cannot be told from others, nor heard.
const SOFT: f64 = 1e-3;
/// How far from its place a piece is looked for at first: what a resampler and a fade move.
const NEAR: usize = COMPARED as usize / 100;
/// The most that sound is looked for behind its place: a hold, or a server that was not scheduled.
const FAR: usize = 4 * COMPARED as usize;

/// A recording at the rate of comparisons.
#[must_use]
pub fn to_compare(samples: &[f32], rate: u32) -> Vec<f32> {
    let clip = Clip { samples: samples.to_vec(), sample_rate: rate, source_channels: 1 };
    clip.at_rate(BAND).and_then(|clip| clip.at_rate(COMPARED)).unwrap().samples
}

/// What was found of a reply.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// Where the reply begins and ends in the recording.
    pub begin: usize,
    pub end: usize,
    /// Of all pieces that were found.
    pub correlation: f64,
    pub pieces: usize,
    /// The pieces that were not found.
    pub lost: Vec<usize>,
    /// Silence inside the reply: behind which sample of it, and how long, seconds. Negative where a piece came too early,
    /// because something before it was left out.
    pub gaps: Vec<(usize, f64)>,
}

/// Finds `made` in `heard`, both at [`COMPARED`], from `from` on. What is too soft to be told is left out.
#[must_use]
pub fn find(made: &[f32], heard: &[f32], from: usize) -> Found {
    let mut found = Found { begin: from, end: from, correlation: 0.0, pieces: 0, lost: Vec::new(), gaps: Vec::new() };
    let (mut dot, mut ours, mut theirs) = (0.0, 0.0, 0.0);
    // Where the next piece should be, once one was found.
    let mut due: Option<usize> = None;
    for (index, piece) in made.chunks_exact(PIECE).enumerate() {
        if (product(piece, piece) / PIECE as f64).sqrt() < SOFT {
            due = due.map(|due| due + PIECE);
            continue;
        }
        found.pieces += 1;
        let regions = match due {
            None => [from..heard.len(), from..heard.len()],
            // A loudspeaker that was not scheduled is later, or leaves something out to be in time again.
            Some(due) => [due.saturating_sub(NEAR)..due + PIECE + NEAR, found.end.saturating_sub(NEAR)..due + FAR],
        };
        let place = regions.into_iter().find_map(|region| {
            let region = region.start.min(heard.len())..region.end.min(heard.len());
            let wanted = due.map(|due| due.saturating_sub(region.start));
            place_of(piece, &heard[region.clone()], wanted).map(|at| at + region.start)
        });
        let Some(place) = place else {
            // Perhaps it was interrupted in its middle: the next piece will tell where it went on.
            found.lost.push(index);
            due = due.map(|due| due + PIECE);
            continue;
        };
        match due {
            None => found.begin = place.saturating_sub(index * PIECE),
            Some(due) => {
                let gap = (place as f64 - due as f64) / f64::from(COMPARED);
                match index.checked_sub(1) {
                    Some(cut) if found.lost.last() == Some(&cut) => {
                        let piece = &made[cut * PIECE..index * PIECE];
                        if let Some(at) = split(piece, heard, due - PIECE, place) {
                            found.lost.pop();
                            found.gaps.push((cut * PIECE + at, gap));
                        }
                    }
                    _ if place.abs_diff(due) > NEAR => found.gaps.push((index * PIECE, gap)),
                    _ => {}
                }
            }
        }
        let there = &heard[place..place + PIECE];
        dot += product(piece, there);
        ours += product(piece, piece);
        theirs += product(there, there);
        due = Some(place + PIECE);
        found.end = place + PIECE;
    }
    found.correlation = dot / (ours * theirs).sqrt().max(1e-12);
    found
}

/// Where a piece was parted, if both parts were heard: the first at `begin`, the second up to `end`.
fn split(piece: &[f32], heard: &[f32], begin: usize, end: usize) -> Option<usize> {
    let first = heard.get(begin..begin + piece.len())?;
    let second = heard.get(end.checked_sub(piece.len())?..end)?;
    let wrong = |there: &[f32]| piece.iter().zip(there).map(|(a, b)| f64::from(a - b).powi(2)).collect::<Vec<_>>();
    let (before, behind) = (wrong(first), wrong(second));
    let mut error: f64 = behind.iter().sum();
    let mut best = (error, 0);
    for at in 0..piece.len() {
        error += before[at] - behind[at];
        if error < best.0 {
            best = (error, at + 1);
        }
    }
    // The few milliseconds that fade are played twice, softly and whole; only the whole ones count.
    (best.0 < 0.1 * product(piece, piece)).then_some(best.1)
}

/// Where `piece` is in `region`; of places that are as good, the one that is nearest to `due`.
fn place_of(piece: &[f32], region: &[f32], due: Option<usize>) -> Option<usize> {
    let likeness = likeness(piece, region);
    let best = likeness.iter().copied().fold(f64::MIN, f64::max);
    if best < LIKE {
        return None;
    }
    let good = likeness.iter().enumerate().filter(|(_, like)| **like > best - 0.003);
    match due {
        Some(due) => good.min_by_key(|(at, _)| at.abs_diff(due)),
        None => good.into_iter().next(),
    }
    .map(|(at, _)| at)
}

/// The normalised correlation of `piece` with every place of `region`.
fn likeness(piece: &[f32], region: &[f32]) -> Vec<f64> {
    let Some(last) = region.len().checked_sub(piece.len()) else { return Vec::new() };
    let size = (region.len() + piece.len()).next_power_of_two();
    let mut planner = RealFftPlanner::<f64>::new();
    let (forward, back) = (planner.plan_fft_forward(size), planner.plan_fft_inverse(size));
    let spectrum = |samples: &[f32]| {
        let mut padded: Vec<f64> = samples.iter().map(|sample| f64::from(*sample)).collect();
        padded.resize(size, 0.0);
        let mut out = forward.make_output_vec();
        forward.process(&mut padded, &mut out).unwrap();
        out
    };
    let mut both: Vec<Complex<f64>> =
        spectrum(region).iter().zip(spectrum(piece)).map(|(there, here)| there * here.conj()).collect();
    let mut products = back.make_output_vec();
    back.process(&mut both, &mut products).unwrap();
    let own = product(piece, piece);
    let mut there = product(&region[..piece.len()], &region[..piece.len()]);
    let square = |at: usize| f64::from(region[at]).powi(2);
    (0..=last)
        .map(|at| {
            let like = products[at] / size as f64 / (own * there.max(own * 1e-6)).sqrt();
            if at < last {
                there += square(at + piece.len()) - square(at);
            }
            like
        })
        .collect()
}

fn product(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Something that is nowhere like itself.
    fn reply() -> Vec<f32> {
        let mut seed = 7u64;
        let mut low = 0.0;
        (0..4 * COMPARED as usize)
            .map(|_| {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                low += 0.3 * ((seed >> 40) as f32 / (1u64 << 23) as f32 - 1.0 - low);
                0.3 * low
            })
            .collect()
    }

    #[test]
    fn a_whole_reply_is_found_and_a_wrong_one_is_not() {
        let made = reply();
        let heard = [vec![0.0; 12_345], made.clone(), vec![0.0; 12_000]].concat();
        let found = find(&made, &heard, 0);
        assert_eq!((found.begin, found.end), (12_345, 12_345 + made.len()));
        assert!(found.correlation > 0.9999 && found.lost.is_empty() && found.gaps.is_empty(), "{found:?}");
        let backwards: Vec<f32> = made.iter().rev().copied().collect();
        let found = find(&backwards, &heard, 0);
        assert_eq!(found.lost.len(), found.pieces);
    }

    #[test]
    fn a_hold_is_a_gap_and_what_was_left_out_is_lost() {
        let made = reply();
        let at = 60_011;
        let held = [&made[..at], &vec![0.0; 28_800], &made[at..]].concat();
        let found = find(&made, &held, 0);
        assert!(found.lost.is_empty() && found.gaps.len() == 1, "{found:?}");
        let (place, gap) = found.gaps[0];
        assert!(place.abs_diff(at) < 8 && (gap - 0.6).abs() < 1e-3, "{found:?}");
        // Some milliseconds fewer: the pieces that they belong to were not heard, and the rest is found again.
        let skipped = [&made[..at], &vec![0.0; 28_800], &made[at + 3_000..]].concat();
        let found = find(&made, &skipped, 0);
        assert_eq!(found.lost, [at / PIECE, (at + 3_000) / PIECE], "{found:?}");
    }
}
