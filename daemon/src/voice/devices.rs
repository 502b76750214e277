//! Which microphone and loudspeaker the voice uses, and what happens to them.

use std::time::Duration;

use eddy_audio::Result;
use eddy_audio::capture::Capture;
use eddy_audio::device::{Backend, Choice, Device, Direction, choose};
use eddy_audio::playback::{Playback, Reference};
use eddy_audio::watch::{Event, Watch};
use eddy_config::{Audio, AudioHost, Device as AudioDevice};

use crate::jobs::RATE;

/// The devices that the configuration asks for.
pub struct Devices {
    host: AudioHost,
    /// Once a sound server was there it is waited for: the bare devices are not ours to take while it restarts.
    backend: Option<Backend>,
    microphone: Choice,
    loudspeaker: Choice,
    watch: Option<Watch>,
}

/// What has to be looked at again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Changed {
    /// The stream of the microphone is not where it was opened, or is gone.
    pub microphone_moved: bool,
    /// The same of the loudspeaker.
    pub loudspeaker_moved: bool,
    /// Devices came, went, or changed their rank.
    pub devices: bool,
    /// The server has gone, with all streams.
    pub server_lost: bool,
}

impl Devices {
    /// As configured; nothing is opened yet.
    #[must_use]
    pub fn new(audio: &Audio) -> Self {
        Self {
            host: audio.host,
            backend: None,
            microphone: choice(&audio.capture),
            loudspeaker: choice(&audio.playback),
            watch: None,
        }
    }

    /// Takes another configuration; whether another device may be meant now.
    pub fn configure(&mut self, audio: &Audio) -> bool {
        let before = (self.microphone.clone(), self.loudspeaker.clone());
        self.microphone = choice(&audio.capture);
        self.loudspeaker = choice(&audio.playback);
        before != (self.microphone.clone(), self.loudspeaker.clone())
    }

    /// The microphone that is meant now.
    ///
    /// # Errors
    /// When there is none, or no sound server.
    pub fn microphone(&mut self) -> Result<Device> {
        let backend = self.backend()?;
        choose(backend, Direction::Capture, &self.microphone)
    }

    /// The loudspeaker that is meant now.
    ///
    /// # Errors
    /// As for [`Self::microphone`].
    pub fn loudspeaker(&mut self) -> Result<Device> {
        let backend = self.backend()?;
        choose(backend, Direction::Playback, &self.loudspeaker)
    }

    /// Opens the microphone.
    ///
    /// # Errors
    /// Those of the device.
    pub fn open_microphone(&mut self) -> Result<Capture> {
        Capture::open(&self.microphone()?)
    }

    /// Opens the loudspeaker.
    ///
    /// # Errors
    /// Those of the device.
    pub fn open_loudspeaker(&mut self) -> Result<(Playback, Reference)> {
        Playback::open(&self.loudspeaker()?, RATE)
    }

    /// What has happened since the last call.
    pub fn changes(&mut self) -> Changed {
        let mut changed = Changed::default();
        let Some(watch) = &self.watch else { return changed };
        while let Some(event) = watch.next(Duration::ZERO) {
            tracing::debug!(?event, "devices");
            match event {
                Event::ServerLost => changed.server_lost = true,
                Event::StreamMoved { direction: Direction::Capture, .. } => changed.microphone_moved = true,
                Event::StreamMoved { direction: Direction::Playback, .. } => changed.loudspeaker_moved = true,
                Event::ServerBack | Event::DefaultChanged { .. } | Event::Appeared(_) | Event::Vanished { .. } => {
                    changed.devices = true;
                }
            }
        }
        changed
    }

    fn backend(&mut self) -> Result<Backend> {
        let backend = match (self.backend, self.host) {
            (Some(Backend::Pulse), _) | (None, AudioHost::PulseAudio) => Backend::Pulse,
            (_, AudioHost::Alsa) => Backend::Alsa,
            (None | Some(Backend::Alsa), AudioHost::Auto) => Backend::detect(),
            (Some(Backend::Alsa), AudioHost::PulseAudio) => Backend::Pulse,
        };
        if backend == Backend::Pulse && self.watch.is_none() {
            self.watch = Some(Watch::start());
        }
        self.backend = Some(backend);
        Ok(backend)
    }
}

fn choice(device: &AudioDevice) -> Choice {
    match device {
        AudioDevice::Default => Choice::Default,
        AudioDevice::Named(name) => Choice::Named(name.clone()),
    }
}
