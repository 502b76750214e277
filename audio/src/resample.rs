//! From one sample rate to another: whole clips, and streams in small fixed blocks.
//!
//! Both forms are the same arithmetic (rubato's FFT resampler), so a stream gives the samples of the whole clip. A
//! clip comes back aligned with its source and of exactly the right length; a stream comes `delay` samples late and
//! allocates nothing after it was made. Clocks that drift apart are not this module's matter.

use audioadapter_buffers::direct::InterleavedSlice;
use rubato::{Fft, FixedSync, Resampler, WindowFunction};

use crate::error::{Error, Result};

/// The lowest sample rate that this crate accepts, Hz.
pub const LOWEST_RATE: u32 = 8_000;
/// The highest sample rate that this crate accepts, Hz.
pub const HIGHEST_RATE: u32 = 192_000;

/// Resamples a whole clip; the result has `ceil(len * to / from)` samples and is aligned with the source.
///
/// # Errors
/// [`Error::Resample`] when a rate is outside [`LOWEST_RATE`] to [`HIGHEST_RATE`].
pub fn resample(samples: &[f32], from: u32, to: u32) -> Result<Vec<f32>> {
    let mut stream = StreamResampler::new(from, to, clip_block(from, to))?;
    let wanted = (samples.len() as u64 * u64::from(to)).div_ceil(u64::from(from)) as usize;
    let mut late = stream.delay();
    let mut output = Vec::with_capacity(wanted);
    let mut from_block = vec![0.0; stream.input_block()];
    let mut to_block = vec![0.0; stream.output_block()];
    let mut rest = samples;
    while output.len() < wanted {
        let (now, later) = rest.split_at(rest.len().min(from_block.len()));
        rest = later;
        from_block[..now.len()].copy_from_slice(now);
        from_block[now.len()..].fill(0.0);
        stream.process(&from_block, &mut to_block);
        let begin = late.min(to_block.len());
        late -= begin;
        let end = to_block.len().min(begin + wanted - output.len());
        output.extend_from_slice(&to_block[begin..end]);
    }
    Ok(output)
}

/// Input samples to a block of [`resample`]: at least 512 samples at the lower of the two rates, so that the filter
/// passes 92 % of what can be kept.
///
/// An even multiple of the smallest block, because the filter's middle falls between two samples of an odd one and
/// the clip would be displaced by half a sample.
pub fn clip_block(from: u32, to: u32) -> usize {
    let pair = 2 * (from / gcd(from, to).max(1)).max(1) as usize;
    let least = 512 * from.div_ceil(to.clamp(1, from.max(1))) as usize;
    least.div_ceil(pair) * pair
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// Resamples a stream, block by block.
pub struct StreamResampler {
    /// `None` between equal rates.
    fft: Option<Fft<f32>>,
    input_block: usize,
    output_block: usize,
}

impl StreamResampler {
    /// Takes mono blocks at `from` Hz and gives mono blocks at `to` Hz.
    ///
    /// A block is the first multiple of the smallest possible one (`from / gcd(from, to)` samples) that reaches
    /// `least_block` input samples. Small blocks are late by less and cut off more of the highest frequencies.
    ///
    /// # Errors
    /// [`Error::Resample`] when a rate is outside [`LOWEST_RATE`] to [`HIGHEST_RATE`] or `least_block` is 0.
    pub fn new(from: u32, to: u32, least_block: usize) -> Result<Self> {
        let refused = |why: String| Error::Resample { from, to, why };
        for rate in [from, to] {
            if !(LOWEST_RATE..=HIGHEST_RATE).contains(&rate) {
                return Err(refused(format!("{rate} Hz is out of range")));
            }
        }
        if least_block == 0 {
            return Err(refused("a block needs at least one sample".into()));
        }
        if from == to {
            return Ok(StreamResampler { fft: None, input_block: least_block, output_block: least_block });
        }
        let fft = Fft::new_custom(
            from as usize,
            to as usize,
            least_block,
            1,
            1,
            WindowFunction::BlackmanHarris2,
            FixedSync::Both,
        )
        .map_err(|error| refused(error.to_string()))?;
        let (input_block, output_block) = (fft.input_frames_next(), fft.output_frames_next());
        Ok(StreamResampler { fft: Some(fft), input_block, output_block })
    }

    /// Samples that each call takes.
    pub fn input_block(&self) -> usize {
        self.input_block
    }

    /// Samples that each call gives.
    pub fn output_block(&self) -> usize {
        self.output_block
    }

    /// How many output samples later than in the input an event appears, to within half an input sample.
    pub fn delay(&self) -> usize {
        self.fft.as_ref().map_or(0, Resampler::output_delay)
    }

    /// Resamples one block. Allocates nothing.
    ///
    /// # Panics
    /// When the slices are not of [`input_block`](Self::input_block) and [`output_block`](Self::output_block) samples.
    pub fn process(&mut self, input: &[f32], output: &mut [f32]) {
        assert_eq!((input.len(), output.len()), (self.input_block, self.output_block), "block sizes are fixed");
        let Some(fft) = &mut self.fft else {
            output.copy_from_slice(input);
            return;
        };
        let frames = output.len();
        let done = match (InterleavedSlice::new(input, 1, input.len()), InterleavedSlice::new_mut(output, 1, frames)) {
            (Ok(from), Ok(mut to)) => fft.process_into_buffer(&from, &mut to, None).is_ok(),
            _ => false,
        };
        assert!(done, "rubato refused blocks of the sizes it asked for");
    }

    /// Forgets what came before, as if newly made.
    pub fn reset(&mut self) {
        if let Some(fft) = &mut self.fft {
            fft.reset();
        }
    }
}
