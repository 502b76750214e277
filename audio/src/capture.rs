//! The microphone: a stream that is open as long as this value lives, and a ring of mono samples.
//!
//! Dropping a [`Capture`] closes the stream at the server; nothing is recorded and thrown away. Samples come at the
//! device's own rate. A full ring loses the newest samples and counts them.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use cpal::traits::{DeviceTrait, StreamTrait};
use cpal::{BufferSize, FromSample, SampleFormat, SizedSample, StreamConfig};
use ringbuf::traits::{Consumer as _, Observer as _, Producer as _, Split as _};
use ringbuf::{HeapCons, HeapProd, HeapRb};

use crate::device::{self, Device};
use crate::error::{Error, Result};
use crate::realtime::{self, CallbackThread, Health, Trouble};

/// How much the ring holds while the reading thread is busy.
const RING: Duration = Duration::from_millis(500);

/// Opening a stream at a server that hangs must not hang.
pub(crate) const OPEN: Duration = Duration::from_secs(2);

/// An open microphone.
pub struct Capture {
    // Before the ring, so that the callback has ended when the ring goes.
    _stream: cpal::Stream,
    ring: HeapCons<f32>,
    health: Arc<Health>,
    device: Device,
}

impl Capture {
    /// Opens `device` at its own rate and starts to record, in callbacks of about `frames` samples.
    ///
    /// # Errors
    /// [`Error::DeviceMissing`] when it has gone since it was listed, [`Error::DeviceRefused`] when it does not open,
    /// [`Error::NoSoundServer`] when the backend does not answer.
    pub fn open(device: &Device, frames: u32) -> Result<Capture> {
        let refused = |error: cpal::Error| Error::DeviceRefused {
            direction: device.direction,
            name: device.name.clone(),
            why: error.to_string(),
        };
        let source = device::resolve(device)?;
        let supported = source.default_input_config().map_err(refused)?;
        let rate = supported.sample_rate();
        let (producer, ring) = HeapRb::new((rate as f64 * RING.as_secs_f64()) as usize).split();
        let health = Arc::new(Health::new());
        let config = StreamConfig {
            channels: supported.channels(),
            sample_rate: rate,
            // The default of one host is two seconds.
            buffer_size: BufferSize::Fixed(frames),
        };
        // The server converts; on bare hardware the format is what the hardware has.
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
        let stream = build(&source, config, producer, health.clone()).map_err(refused)?;
        stream.play().map_err(refused)?;
        health.start();
        let device = Device { sample_rate: rate, channels: config.channels, ..device.clone() };
        Ok(Capture { _stream: stream, ring, health, device })
    }

    /// The device, with the rate and channels of the stream.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// How many samples can be read now.
    pub fn available(&self) -> usize {
        self.ring.occupied_len()
    }

    /// How much was recorded and has not been read, in seconds, as if the device gave samples one by one.
    pub fn backlog(&self) -> f64 {
        self.available() as f64 / f64::from(self.device.sample_rate) + self.health.since_callback()
    }

    /// Fills `samples` if so many are there; takes nothing otherwise.
    pub fn read(&mut self, samples: &mut [f32]) -> bool {
        let enough = self.ring.occupied_len() >= samples.len();
        if enough {
            self.ring.pop_slice(samples);
        }
        enough
    }

    /// Waits until `count` samples can be read, the stream fails, or `timeout` passes; says whether they can.
    ///
    /// The first thread to call this is the one that will be woken, so call it from one thread only.
    pub fn wait(&self, count: usize, timeout: Duration) -> bool {
        self.health.wake_me();
        let deadline = Instant::now() + timeout;
        while self.ring.occupied_len() < count {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || matches!(self.trouble(Duration::MAX), Some(Trouble::Failed(_))) {
                return false;
            }
            std::thread::park_timeout(left);
        }
        true
    }

    /// What is wrong with the stream, if anything is: the owner opens another then. Callbacks come every few
    /// milliseconds; `patience` without one is a fault.
    pub fn trouble(&self, patience: Duration) -> Option<Trouble> {
        self.health.trouble(patience)
    }

    /// The thread that its callbacks run on.
    pub fn callback_thread(&self) -> CallbackThread {
        CallbackThread::new(self.health.clone())
    }

    /// Samples lost so far because the ring was full.
    pub fn overruns(&self) -> u64 {
        self.health.lost_samples.load(Relaxed)
    }

    /// Time from the microphone to the callback, as the audio system estimates it.
    pub fn latency(&self) -> Duration {
        Duration::from_nanos(self.health.latency_ns.load(Relaxed))
    }
}

fn build<T>(
    source: &cpal::Device,
    config: StreamConfig,
    mut producer: HeapProd<f32>,
    health: Arc<Health>,
) -> Result<cpal::Stream, cpal::Error>
where
    T: SizedSample,
    f32: FromSample<T>,
{
    let channels = usize::from(config.channels.max(1));
    let failed = health.clone();
    source.build_input_stream::<T, _, _>(
        config,
        move |data, info| {
            realtime::callback(|| {
                downmix(data, channels, &mut producer, &health);
                let stamp = info.timestamp();
                let latency = stamp.callback.duration_since(stamp.capture);
                health.latency_ns.store(latency.as_nanos() as u64, Relaxed);
                health.beat();
            });
        },
        move |error| failed.fail(&error),
        Some(OPEN),
    )
}

/// Averages the channels and hands them on in small blocks; what the ring does not take is counted.
fn downmix<T>(data: &[T], channels: usize, producer: &mut HeapProd<f32>, health: &Health)
where
    T: SizedSample,
    f32: FromSample<T>,
{
    let mut block = [0.0f32; 128];
    for frames in data.chunks(channels * block.len()) {
        let mut count = 0;
        for frame in frames.chunks_exact(channels) {
            block[count] = frame.iter().map(|&sample| f32::from_sample_(sample)).sum::<f32>() / channels as f32;
            count += 1;
        }
        let lost = count - producer.push_slice(&block[..count]);
        if lost > 0 {
            health.lost_samples.fetch_add(lost as u64, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_are_averaged_whatever_the_size_of_the_callback() {
        for frames in [1usize, 24, 128, 129, 480, 960] {
            let (mut producer, mut ring) = HeapRb::new(2_048).split();
            let data: Vec<f32> = (0..frames).flat_map(|n| [n as f32, 3.0 * n as f32]).collect();
            downmix(&data, 2, &mut producer, &Health::new());
            let got: Vec<f32> = ring.pop_iter().collect();
            assert_eq!(got, (0..frames).map(|n| 2.0 * n as f32).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_full_ring_keeps_the_oldest_and_counts_the_rest() {
        let (mut producer, mut ring) = HeapRb::new(300).split();
        let health = Health::new();
        downmix(&(0..1_000).map(|n| n as f32).collect::<Vec<_>>(), 1, &mut producer, &health);
        assert_eq!(health.lost_samples.load(Relaxed), 700);
        assert_eq!(ring.pop_iter().collect::<Vec<_>>(), (0..300).map(|n| n as f32).collect::<Vec<_>>());
    }
}
