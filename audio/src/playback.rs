//! The loudspeaker: samples go in at the voice's rate, and it is known to the sample how many came out.
//!
//! What is pushed belongs to an *utterance*; [`Playback::finish`] ends it. A hold takes effect within one callback,
//! keeps everything that was not played, and goes on where it stopped. Positions count samples at the voice's rate
//! from the beginning of the current utterance, so that an interrupted answer can be cut where it was heard to end.

mod flow;

use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::time::Duration;

use cpal::traits::{DeviceTrait, StreamTrait};
use cpal::{BufferSize, FromSample, SampleFormat, SizedSample, StreamConfig};
use ringbuf::traits::{Observer as _, Producer as _, Split as _};
use ringbuf::{HeapCons, HeapProd, HeapRb};

use crate::capture::OPEN;
use crate::device::{self, Device};
use crate::error::{Error, Result};
use crate::realtime::{self, CallbackThread, Health, Trouble};
use crate::resample::StreamResampler;
pub use flow::FADE;
use flow::{Flow, Shared};

/// How much is resampled at a time.
const BLOCK: Duration = Duration::from_millis(10);

/// How much speech waits here; whoever produces faster is told to wait.
const RING: Duration = Duration::from_secs(2);

/// How much of what was played the echo canceller may be behind.
const REFERENCE_RING: Duration = Duration::from_millis(500);

/// How much must have been pushed before an utterance begins to sound, so that it does not stutter at once.
pub const LEAD: Duration = Duration::from_millis(60);

/// What a loudspeaker does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Silent: nothing was pushed, or not yet enough to begin.
    Waiting,
    /// Sounding.
    Playing,
    /// Silent by [`Playback::hold`], with its place kept.
    Held,
}

/// What has been given to the device, as mono samples at the device's rate: the echo canceller's reference.
///
/// Every sample that the device takes comes by here, silence included, so its count is the playback clock.
pub struct Reference {
    pub(crate) ring: HeapCons<f32>,
    sample_rate: u32,
    health: Arc<Health>,
}

impl Reference {
    /// The device's rate, Hz.
    pub fn sample_rate(&self) -> u32 {
        self.sample_rate
    }

    /// How much of what was played has not been read, in seconds, as if the device took samples one by one.
    pub fn backlog(&self) -> f64 {
        self.ring.occupied_len() as f64 / f64::from(self.sample_rate) + self.health.since_callback()
    }
}

/// An open loudspeaker.
pub struct Playback {
    _stream: cpal::Stream,
    feed: Feed,
    health: Arc<Health>,
    device: Device,
}

impl Playback {
    /// Opens `device` at its own rate, for a voice of `voice_rate` Hz, in callbacks of about `frames` samples. Silence
    /// flows until something is pushed.
    ///
    /// # Errors
    /// As [`Capture::open`](crate::capture::Capture::open), and [`Error::Resample`] when the rates do not fit.
    pub fn open(device: &Device, voice_rate: u32, frames: u32) -> Result<(Playback, Reference)> {
        let refused = |error: cpal::Error| Error::DeviceRefused {
            direction: device.direction,
            name: device.name.clone(),
            why: error.to_string(),
        };
        let sink = device::resolve(device)?;
        let supported = sink.default_output_config().map_err(refused)?;
        let rate = supported.sample_rate();
        let health = Arc::new(Health::new());
        let (feed, flow) = Feed::new(voice_rate, rate, health.clone())?;
        let (reference_in, reference) = HeapRb::new(samples_in(REFERENCE_RING, rate)).split();
        let config =
            StreamConfig { channels: supported.channels(), sample_rate: rate, buffer_size: BufferSize::Fixed(frames) };
        let format = match device.backend {
            device::Backend::Pulse => SampleFormat::F32,
            device::Backend::Alsa => supported.sample_format(),
        };
        let build = match format {
            SampleFormat::F32 => build::<f32>,
            SampleFormat::I32 => build::<i32>,
            SampleFormat::I16 => build::<i16>,
            SampleFormat::U8 => build::<u8>,
            other => {
                let unsupported = format!("its sample format {other} is not supported");
                return Err(refused(cpal::Error::with_message(cpal::ErrorKind::UnsupportedConfig, unsupported)));
            }
        };
        let stream = build(&sink, config, flow, reference_in).map_err(refused)?;
        stream.play().map_err(refused)?;
        health.start();
        let device = Device { sample_rate: rate, channels: config.channels, ..device.clone() };
        let reference = Reference { ring: reference, sample_rate: rate, health: health.clone() };
        Ok((Playback { _stream: stream, feed, health, device }, reference))
    }

    /// The device, with the rate and channels of the stream.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Appends samples of the current utterance, beginning one if none is open; how many were taken.
    ///
    /// Takes fewer than given when two seconds are waiting already: the caller keeps the rest and comes again.
    pub fn push(&mut self, samples: &[f32]) -> usize {
        self.feed.push(samples)
    }

    /// Ends the utterance: the last samples leave the resampler, and the silence that follows is not an underrun.
    ///
    /// `false` when the ring is too full for the last samples; the caller comes again.
    pub fn finish(&mut self) -> bool {
        self.feed.finish()
    }

    /// Stops at once, within one callback, and keeps what was not played.
    pub fn hold(&self) {
        self.feed.shared.hold.store(true, Release);
    }

    /// Goes on with the first sample that was not played.
    pub fn resume(&self) {
        self.feed.shared.hold.store(false, Release);
    }

    /// Forgets everything that was not played and ends the utterance. A hold stays.
    ///
    /// The position stays too, until the next utterance begins. Flush after a hold has taken effect (the state is
    /// [`State::Held`]) and [`position`](Self::position) is final; flush without one and the callback that runs at
    /// this moment may still play its period.
    pub fn flush(&mut self) {
        self.feed.flush();
    }

    /// What the loudspeaker does at this moment.
    pub fn state(&self) -> State {
        self.feed.shared.state()
    }

    /// How many samples of the current utterance the device was given, at the voice's rate.
    ///
    /// All of them are or will be heard, within [`latency`](Self::latency): the device gives nothing back.
    pub fn position(&self) -> u64 {
        self.feed.position(self.feed.shared.position.load(Acquire))
    }

    /// How many samples of the current utterance have left the loudspeaker by now, as far as its latency is known.
    pub fn heard(&self) -> u64 {
        let (position, since) = self.feed.shared.heard(self.health.now());
        let on_the_way = since * f64::from(self.device.sample_rate) / 1e9;
        self.feed.position(position.saturating_sub(on_the_way as u64))
    }

    /// Whether the utterance was finished and all of it was given to the device, or flushed.
    pub fn done(&self) -> bool {
        let shared = &self.feed.shared;
        let gone = shared.position.load(Acquire).max(shared.skip_to.load(Relaxed));
        shared.finished.load(Relaxed) && gone >= shared.pushed.load(Relaxed)
    }

    /// How often the voice ran out of samples in the middle of an utterance.
    pub fn underruns(&self) -> u64 {
        self.feed.shared.underruns.load(Relaxed) + self.health.gaps.load(Relaxed)
    }

    /// Samples that the echo canceller's reference lost because nobody read it.
    pub fn reference_lost(&self) -> u64 {
        self.health.lost_samples.load(Relaxed)
    }

    /// Time from the callback to the loudspeaker, as the audio system estimates it.
    pub fn latency(&self) -> Duration {
        Duration::from_nanos(self.health.latency_ns.load(Relaxed))
    }

    /// What is wrong with the stream, if anything is: the owner opens another then. `patience` without a callback is a
    /// fault.
    pub fn trouble(&self, patience: Duration) -> Option<Trouble> {
        self.health.trouble(patience)
    }

    /// The thread that its callbacks run on.
    pub fn callback_thread(&self) -> CallbackThread {
        CallbackThread::new(self.health.clone())
    }
}

/// The producing end: resamples the voice and counts what belongs to which utterance.
struct Feed {
    ring: HeapProd<f32>,
    shared: Arc<Shared>,
    resampler: StreamResampler,
    voice_rate: u64,
    device_rate: u64,
    /// Voice samples that do not fill a block yet.
    block: Vec<f32>,
    output: Vec<f32>,
    utterance: Utterance,
}

/// The piece of speech that is being pushed.
#[derive(Default)]
struct Utterance {
    open: bool,
    /// Index in the ring's stream of its first sample.
    begin: u64,
    /// Voice samples pushed, and device samples that came of them.
    voice: u64,
    device: u64,
    /// Device samples of the resampler's delay that are still to be dropped.
    late: usize,
}

impl Feed {
    fn new(voice_rate: u32, device_rate: u32, health: Arc<Health>) -> Result<(Feed, Flow)> {
        let resampler = StreamResampler::new(voice_rate, device_rate, samples_in(BLOCK, voice_rate))?;
        let (ring, consumer) = HeapRb::new(samples_in(RING, device_rate)).split();
        let shared = Arc::new(Shared::default());
        let flow = Flow::new(consumer, shared.clone(), health, samples_in(LEAD, device_rate));
        let feed = Feed {
            ring,
            shared,
            block: Vec::with_capacity(resampler.input_block()),
            output: vec![0.0; resampler.output_block()],
            resampler,
            voice_rate: u64::from(voice_rate),
            device_rate: u64::from(device_rate),
            utterance: Utterance::default(),
        };
        Ok((feed, flow))
    }

    fn push(&mut self, samples: &[f32]) -> usize {
        if !self.utterance.open {
            let begin = self.shared.pushed.load(Relaxed);
            self.utterance = Utterance { open: true, begin, late: self.resampler.delay(), ..Utterance::default() };
            self.resampler.reset();
            self.block.clear();
            self.shared.finished.store(false, Release);
        }
        let mut taken = 0;
        while taken < samples.len() && self.ring.vacant_len() >= self.output.len() {
            let room = self.resampler.input_block() - self.block.len();
            let next = &samples[taken..samples.len().min(taken + room)];
            self.block.extend_from_slice(next);
            taken += next.len();
            self.utterance.voice += next.len() as u64;
            if self.block.len() == self.resampler.input_block() {
                self.send(u64::MAX);
            }
        }
        taken
    }

    /// Resamples the block and hands on what came of it, up to `wanted` samples for the whole utterance.
    fn send(&mut self, wanted: u64) {
        self.resampler.process(&self.block, &mut self.output);
        self.block.clear();
        let begin = self.utterance.late.min(self.output.len());
        self.utterance.late -= begin;
        let count = ((self.output.len() - begin) as u64).min(wanted - self.utterance.device) as usize;
        self.ring.push_slice(&self.output[begin..begin + count]);
        self.utterance.device += count as u64;
        self.shared.pushed.fetch_add(count as u64, Release);
    }

    fn finish(&mut self) -> bool {
        if !self.utterance.open {
            return true;
        }
        let wanted = (self.utterance.voice * self.device_rate).div_ceil(self.voice_rate);
        while self.utterance.device < wanted {
            if self.ring.vacant_len() < self.output.len() {
                return false;
            }
            self.block.resize(self.resampler.input_block(), 0.0);
            self.send(wanted);
        }
        self.utterance.open = false;
        self.shared.finished.store(true, Release);
        true
    }

    fn flush(&mut self) {
        self.utterance.open = false;
        self.shared.skip_to.store(self.shared.pushed.load(Relaxed), Release);
        self.shared.finished.store(true, Release);
    }

    /// A position in the ring's stream, as voice samples of the current utterance.
    fn position(&self, at: u64) -> u64 {
        let device = at.saturating_sub(self.utterance.begin).min(self.utterance.device);
        (device * self.voice_rate / self.device_rate).min(self.utterance.voice)
    }
}

fn build<T>(
    sink: &cpal::Device,
    config: StreamConfig,
    mut flow: Flow,
    mut reference: HeapProd<f32>,
) -> Result<cpal::Stream, cpal::Error>
where
    T: SizedSample + FromSample<f32>,
{
    let channels = usize::from(config.channels.max(1));
    let health = flow.health();
    let failed = health.clone();
    sink.build_output_stream::<T, _, _>(
        config,
        move |data, info| {
            realtime::callback(|| {
                let stamp = info.timestamp();
                let latency = stamp.playback.duration_since(stamp.callback);
                health.latency_ns.store(latency.as_nanos() as u64, Relaxed);
                let mut heard_at = health.now() + latency.as_nanos() as u64;
                let mut block = [0.0f32; 128];
                for frames in data.chunks_mut(channels * block.len()) {
                    let mono = &mut block[..frames.len() / channels];
                    flow.fill(mono);
                    heard_at += mono.len() as u64 * 1_000_000_000 / u64::from(config.sample_rate);
                    flow.stamp(heard_at);
                    for (frame, &sample) in frames.chunks_mut(channels).zip(mono.iter()) {
                        frame.fill(T::from_sample_(sample.clamp(-1.0, 1.0)));
                    }
                    let lost = mono.len() - reference.push_slice(mono);
                    if lost > 0 {
                        health.lost_samples.fetch_add(lost as u64, Relaxed);
                    }
                }
                health.beat();
            });
        },
        move |error| failed.fail(&error),
        Some(OPEN),
    )
}

fn samples_in(time: Duration, rate: u32) -> usize {
    (time.as_secs_f64() * f64::from(rate)).round() as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(voice: u32, device: u32) -> (Feed, Flow) {
        Feed::new(voice, device, Arc::new(Health::new())).expect("rates in range")
    }

    fn ramp(len: usize) -> Vec<f32> {
        (0..len).map(|n| (n + 1) as f32 / 1e6).collect()
    }

    /// Runs callbacks of `size` samples until the flow is silent; everything that came out while it played.
    fn play(flow: &mut Flow, size: usize) -> Vec<f32> {
        let mut out = vec![];
        let mut block = vec![0.0; size];
        loop {
            let before = flow.shared().position.load(Acquire);
            flow.fill(&mut block);
            let count = (flow.shared().position.load(Acquire) - before) as usize;
            out.extend_from_slice(&block[..count]);
            if count < size {
                return out;
            }
        }
    }

    #[test]
    fn an_utterance_comes_out_whole_and_exact_at_every_callback_size() {
        for size in [1, 24, 128, 480, 961] {
            let (mut feed, mut flow) = pair(48_000, 48_000);
            let voice = ramp(10_007);
            assert_eq!(feed.push(&voice), voice.len());
            assert!(feed.finish());
            assert_eq!(play(&mut flow, size), voice);
            assert_eq!(feed.position(flow.shared().position.load(Acquire)), 10_007);
            assert_eq!(flow.shared().underruns.load(Relaxed), 0);
        }
    }

    #[test]
    fn resampled_utterances_have_exact_lengths_one_after_the_other() {
        for device in [16_000, 44_100, 48_000, 96_000] {
            let (mut feed, mut flow) = pair(24_000, device);
            for len in [1, 239, 240, 24_001] {
                let voice = ramp(len);
                let mut rest = &voice[..];
                let mut out = vec![];
                while !rest.is_empty() {
                    rest = &rest[feed.push(rest)..];
                }
                assert!(feed.finish());
                out.extend(play(&mut flow, 480));
                assert_eq!(out.len(), (len * device as usize).div_ceil(24_000), "{len} at {device}");
                assert_eq!(feed.position(flow.shared().position.load(Acquire)), len as u64);
            }
            assert_eq!(flow.shared().underruns.load(Relaxed), 0);
        }
    }

    #[test]
    fn a_full_ring_takes_no_more_and_loses_nothing() {
        let (mut feed, mut flow) = pair(48_000, 48_000);
        let voice = ramp(300_000);
        let mut taken = 0;
        let mut out = vec![];
        let mut refusals = 0;
        while taken < voice.len() {
            let now = feed.push(&voice[taken..]);
            refusals += usize::from(now < voice.len() - taken);
            taken += now;
            let mut block = [0.0; 480];
            flow.fill(&mut block);
            out.extend_from_slice(&block);
        }
        while !feed.finish() {
            let mut block = [0.0; 480];
            flow.fill(&mut block);
            out.extend_from_slice(&block);
        }
        out.extend(play(&mut flow, 480));
        assert!(refusals > 0);
        assert_eq!(out, voice);
    }

    #[test]
    fn flush_keeps_the_position_and_the_next_utterance_begins_at_its_first_sample() {
        let (mut feed, mut flow) = pair(48_000, 48_000);
        feed.push(&ramp(48_000));
        let mut block = [0.0; 480];
        for _ in 0..10 {
            flow.fill(&mut block);
        }
        feed.shared.hold.store(true, Release);
        flow.fill(&mut block);
        assert_eq!(flow.shared().state(), State::Held);
        feed.flush();
        flow.fill(&mut block);
        assert_eq!(feed.position(flow.shared().position.load(Acquire).min(4_800)), 4_800);
        feed.shared.hold.store(false, Release);
        let next: Vec<f32> = ramp(9_600).iter().map(|v| -v).collect();
        feed.push(&next);
        feed.finish();
        let mut out = vec![0.0; next.len()];
        flow.fill(&mut out);
        assert_eq!(&out[FADE..], &next[FADE..]);
        assert_eq!(feed.position(flow.shared().position.load(Acquire)), 9_600);
    }
}
