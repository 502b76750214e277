//! Tones through every pair of rates that matters, measured against the tone that they should have become.

use assert_no_alloc::{AllocDisabler, assert_no_alloc};
use eddy_audio::Error;
use eddy_audio::resample::{StreamResampler, clip_block, resample};

#[global_allocator]
static ALLOCATOR: AllocDisabler = AllocDisabler;

fn tone(frequency: f64, rate: u32, len: usize) -> Vec<f32> {
    let step = std::f64::consts::TAU * frequency / f64::from(rate);
    (0..len).map(|n| (0.8 * (step * n as f64).sin()) as f32).collect()
}

fn noise(len: usize) -> Vec<f32> {
    let mut state = 1u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state as f32 / u32::MAX as f32 - 0.5
    };
    (0..len).map(|_| next()).collect()
}

/// Largest difference, away from the edges, where the clip has no neighbours to interpolate from.
fn difference(a: &[f32], b: &[f32], edge: usize) -> f32 {
    assert_eq!(a.len(), b.len());
    let inside = edge..a.len() - edge;
    a[inside.clone()].iter().zip(&b[inside]).fold(0.0, |worst: f32, (a, b)| worst.max((a - b).abs()))
}

fn level(samples: &[f32]) -> f32 {
    (samples.iter().map(|s| s * s).sum::<f32>() / samples.len() as f32).sqrt()
}

const PAIRS: [(u32, u32); 10] = [
    (44_100, 16_000),
    (48_000, 16_000),
    (22_050, 16_000),
    (16_000, 48_000),
    (24_000, 48_000),
    (24_000, 44_100),
    (8_000, 16_000),
    (11_025, 16_000),
    (96_000, 16_000),
    (192_000, 16_000),
];

#[test]
fn tones_keep_their_pitch_phase_and_level() {
    for (from, to) in PAIRS {
        let top = f64::from(from.min(to)) / 2.0;
        for frequency in [97.0, 440.0, 1_000.0, 0.5 * top, 0.92 * top] {
            let len = from as usize / 2;
            let got = resample(&tone(frequency, from, len), from, to).expect("rates in range");
            let worst = difference(&got, &tone(frequency, to, got.len()), to as usize / 20);
            assert!(worst < 1e-3, "{from} to {to} Hz, {frequency} Hz: off by {worst}");
        }
    }
}

#[test]
fn what_would_alias_is_removed() {
    for (from, to) in PAIRS.into_iter().filter(|(from, to)| from > to) {
        let half = f64::from(to) / 2.0;
        for frequency in [1.02 * half, 1.2 * half] {
            let got = resample(&tone(frequency, from, from as usize / 2), from, to).expect("rates in range");
            let edge = to as usize / 20;
            let left = 20.0 * level(&got[edge..got.len() - edge]).log10();
            assert!(left < -60.0, "{from} to {to} Hz: {frequency} Hz leaves {left} dB");
        }
    }
}

#[test]
fn lengths_are_exact() {
    for (from, to) in PAIRS.into_iter().chain([(16_000, 16_000), (44_099, 16_000), (8_000, 192_000)]) {
        for len in [0usize, 1, 2, 3, 159, 160, 161, 1_023, 1_024, 44_100] {
            let wanted = (len as u64 * u64::from(to)).div_ceil(u64::from(from)) as usize;
            assert_eq!(resample(&noise(len), from, to).expect("rates in range").len(), wanted, "{from} {to} {len}");
        }
    }
}

#[test]
fn an_impulse_stays_where_it_was() {
    for (from, to) in PAIRS {
        let mut clip = vec![0.0; from as usize / 4];
        let second = from as usize / 10;
        clip[second] = 1.0;
        let got = resample(&clip, from, to).expect("rates in range");
        let peak = (0..got.len()).max_by(|&a, &b| got[a].abs().total_cmp(&got[b].abs())).expect("not empty");
        let wanted = second as f64 * f64::from(to) / f64::from(from);
        assert!((peak as f64 - wanted).abs() <= 1.0, "{from} to {to}: {peak}, not {wanted}");
    }
}

#[test]
fn a_stream_gives_the_samples_of_the_clip() {
    for (from, to) in PAIRS.into_iter().chain([(16_000, 16_000)]) {
        let clip = noise(from as usize);
        let whole = resample(&clip, from, to).expect("rates in range");
        let mut stream = StreamResampler::new(from, to, clip_block(from, to)).expect("rates in range");
        let mut streamed = vec![];
        let mut block = vec![0.0; stream.output_block()];
        for input in clip.chunks_exact(stream.input_block()) {
            stream.process(input, &mut block);
            streamed.extend_from_slice(&block);
        }
        let streamed = &streamed[stream.delay()..];
        assert_eq!(streamed, &whole[..streamed.len()], "{from} to {to}");

        stream.reset();
        stream.process(&clip[..stream.input_block()], &mut block);
        let again = &block[stream.delay().min(block.len())..];
        assert_eq!(again, &whole[..again.len()], "reset, {from} to {to}");
    }
}

#[test]
fn ten_millisecond_blocks_agree_with_the_clip_and_are_late_by_less_than_a_block() {
    for (from, to) in [(48_000, 16_000), (44_100, 16_000), (16_000, 48_000), (24_000, 48_000)] {
        let clip = tone(700.0, from, from as usize);
        let whole = resample(&clip, from, to).expect("rates in range");
        let mut stream = StreamResampler::new(from, to, from as usize / 100).expect("rates in range");
        assert_eq!((stream.input_block(), stream.output_block()), (from as usize / 100, to as usize / 100));
        assert!(stream.delay() <= to as usize / 200);
        let mut block = vec![0.0; stream.output_block()];
        let mut streamed = vec![];
        for input in clip.chunks_exact(stream.input_block()) {
            stream.process(input, &mut block);
            streamed.extend_from_slice(&block);
        }
        let streamed = &streamed[stream.delay()..];
        let worst = difference(streamed, &whole[..streamed.len()], to as usize / 20);
        // An odd block has its middle between two samples.
        let half_a_sample = 0.8 * std::f32::consts::TAU * 700.0 * 0.5 / from as f32;
        assert!(worst < half_a_sample + 1e-3, "{from} to {to}: {worst}");
    }
}

#[test]
fn a_block_allocates_nothing() {
    for (from, to) in PAIRS.into_iter().chain([(16_000, 16_000)]) {
        let mut stream = StreamResampler::new(from, to, from as usize / 100).expect("rates in range");
        let input = noise(stream.input_block());
        let mut output = vec![0.0; stream.output_block()];
        for _ in 0..50 {
            assert_no_alloc(|| stream.process(&input, &mut output));
        }
    }
}

#[test]
fn rates_out_of_range_are_refused() {
    for (from, to) in [(0, 16_000), (16_000, 0), (7_999, 16_000), (16_000, 192_001), (u32::MAX, 16_000)] {
        let error = resample(&[0.0; 100], from, to).expect_err("refused");
        assert!(matches!(error, Error::Resample { .. }), "{error}");
    }
    assert!(StreamResampler::new(48_000, 16_000, 0).is_err());
}
