//! Which microphone and loudspeaker the voice uses, and what happens to them.

use std::time::Duration;

use crossbeam_channel::{Receiver, TryRecvError};
use eddy_audio::capture::Capture;
use eddy_audio::device::{Backend, Choice, Device, Direction, choose};
use eddy_audio::playback::{Playback, Reference};
use eddy_audio::realtime::CallbackThread;
use eddy_audio::watch::{Event, Watch};
use eddy_audio::{Error, Result};
use eddy_config::{Audio, AudioHost, Device as AudioDevice};

use super::priority;
use crate::jobs::RATE;

/// The devices that the configuration asks for.
pub struct Devices {
    host: AudioHost,
    /// Once a sound server was there it is waited for: the bare devices are not ours to take while it restarts.
    backend: Option<Backend>,
    microphone: Choice,
    loudspeaker: Choice,
    /// Frames to a callback: the microphone's and the loudspeaker's.
    frames: [u32; 2],
    watch: Option<Watch>,
    microphone_opening: Opening<Capture>,
    loudspeaker_opening: Opening<(Playback, Reference)>,
}

/// A device that a thread opens. A server may take seconds to answer, and sound must flow meanwhile.
type Opening<T> = Option<Receiver<Result<T>>>;

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
            frames: [audio.capture_frames, audio.playback_frames],
            watch: None,
            microphone_opening: None,
            loudspeaker_opening: None,
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
        let backend = self.backend();
        choose(backend, Direction::Capture, &self.microphone)
    }

    /// The loudspeaker that is meant now.
    ///
    /// # Errors
    /// As for [`Self::microphone`].
    pub fn loudspeaker(&mut self) -> Result<Device> {
        let backend = self.backend();
        choose(backend, Direction::Playback, &self.loudspeaker)
    }

    /// Begins to open the microphone, unless that has begun.
    pub fn open_microphone(&mut self) {
        let backend = self.backend();
        self.follow(backend);
        let choice = self.microphone.clone();
        let [frames, _] = self.frames;
        let open = move || Capture::open(&choose(backend, Direction::Capture, &choice)?, frames);
        self.microphone_opening.get_or_insert_with(|| in_a_thread(open, Capture::callback_thread));
    }

    /// The microphone, once it has been opened, or why it could not be.
    pub fn opened_microphone(&mut self) -> Option<Result<Capture>> {
        taken(&mut self.microphone_opening)
    }

    /// Begins to open the loudspeaker, unless that has begun.
    pub fn open_loudspeaker(&mut self) {
        let backend = self.backend();
        self.follow(backend);
        let choice = self.loudspeaker.clone();
        let [_, frames] = self.frames;
        let open = move || Playback::open(&choose(backend, Direction::Playback, &choice)?, RATE, frames);
        self.loudspeaker_opening.get_or_insert_with(|| in_a_thread(open, |(playback, _)| playback.callback_thread()));
    }

    /// The loudspeaker, once it has been opened, or why it could not be.
    pub fn opened_loudspeaker(&mut self) -> Option<Result<(Playback, Reference)>> {
        taken(&mut self.loudspeaker_opening)
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

    fn backend(&mut self) -> Backend {
        let backend = match (self.backend, self.host) {
            (Some(Backend::Pulse), _) | (None, AudioHost::PulseAudio) => Backend::Pulse,
            (_, AudioHost::Alsa) => Backend::Alsa,
            (None | Some(Backend::Alsa), AudioHost::Auto) => Backend::detect(),
            (Some(Backend::Alsa), AudioHost::PulseAudio) => Backend::Pulse,
        };
        self.backend = Some(backend);
        backend
    }

    /// Listens for news of devices from the first stream on.
    fn follow(&mut self, backend: Backend) {
        if backend == Backend::Pulse && self.watch.is_none() {
            self.watch = Some(Watch::start());
        }
    }
}

/// The loudspeaker that is meant now, for those who want to know before they make any sound.
///
/// # Errors
/// When there is none, or no sound server.
pub fn loudspeaker(audio: &Audio) -> Result<Device> {
    Devices::new(audio).loudspeaker()
}

/// The microphone that is meant now, opened; for those who record in a process of their own.
///
/// # Errors
/// Those of choosing and opening it.
pub fn microphone(audio: &Audio) -> Result<Capture> {
    Capture::open(&Devices::new(audio).microphone()?, audio.capture_frames)
}

fn in_a_thread<T: Send + 'static>(
    open: impl FnOnce() -> Result<T> + Send + 'static,
    thread: impl FnOnce(&T) -> CallbackThread + Send + 'static,
) -> Receiver<Result<T>> {
    let (done, opening) = crossbeam_channel::bounded(1);
    let spawned = std::thread::Builder::new().name("open-device".into()).spawn(move || {
        let opened = open();
        let thread = opened.as_ref().ok().map(thread);
        // Whoever asked may have gone; the device is closed again then.
        let taken = done.send(opened).is_ok();
        if let Some(thread) = thread.filter(|_| taken) {
            priority::raise(&thread);
        }
    });
    if let Err(error) = spawned {
        return failed(Error::NoSoundServer { why: error.to_string() });
    }
    opening
}

fn failed<T>(error: Error) -> Receiver<Result<T>> {
    let (done, opening) = crossbeam_channel::bounded(1);
    let _ = done.send(Err(error));
    opening
}

fn taken<T>(opening: &mut Opening<T>) -> Option<Result<T>> {
    let taken = match opening.as_ref()?.try_recv() {
        Ok(opened) => opened,
        Err(TryRecvError::Empty) => return None,
        Err(TryRecvError::Disconnected) => Err(Error::NoSoundServer { why: "opening it failed".into() }),
    };
    *opening = None;
    Some(taken)
}

fn choice(device: &AudioDevice) -> Choice {
    match device {
        AudioDevice::Default => Choice::Default,
        AudioDevice::Named(name) => Choice::Named(name.clone()),
    }
}
