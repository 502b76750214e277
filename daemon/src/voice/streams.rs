//! The open streams: which ones there are follows from who wants them, whatever the devices do meanwhile.
//!
//! Owns the microphone and what is to become of the loudspeaker, which the player holds. Devices are opened on threads of
//! their own; one that is lost is looked for until it is back or nobody wants it.

use std::time::{Duration, Instant};

use eddy_audio::ear::Ear;
use eddy_audio::playback::Reference;
use eddy_audio::realtime::{Failure, Trouble};
use eddy_config::Audio;

use super::devices::Devices;
use super::player::Player;

/// How often a device that is missing is tried again.
const RETRY: Duration = Duration::from_millis(250);

/// Which streams are wanted.
#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    /// The microphone is to be open.
    pub microphone: bool,
    /// The loudspeaker is to be open.
    pub loudspeaker: bool,
    /// Nobody needs the microphone, but whether there is one is not known.
    pub look: bool,
}

/// What became of the microphone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// It is open.
    Opened,
    /// It is there.
    Present,
    /// It cannot be had, for this reason.
    Lost(String),
}

/// The streams.
pub struct Streams {
    devices: Devices,
    audio: Audio,
    ear: Option<Ear>,
    /// The loudspeaker's, while no microphone listens.
    reference: Option<Reference>,
    retry_at: Instant,
    news: Vec<News>,
}

impl Streams {
    /// None is open.
    #[must_use]
    pub fn new(audio: &Audio) -> Self {
        Self {
            devices: Devices::new(audio),
            audio: audio.clone(),
            ear: None,
            reference: None,
            retry_at: Instant::now(),
            news: Vec::new(),
        }
    }

    /// Takes another configuration.
    pub fn configure(&mut self, audio: &Audio, player: &mut Player) {
        self.audio = audio.clone();
        let moved = self.devices.configure(audio);
        if moved {
            self.look_at_devices(player);
        }
        self.retry_now();
    }

    /// The microphone, while it is open.
    #[must_use]
    pub fn ear(&self) -> Option<&Ear> {
        self.ear.as_ref()
    }

    /// The same, to listen.
    pub fn ear_mut(&mut self) -> Option<&mut Ear> {
        self.ear.as_mut()
    }

    /// Whether it is time for another try.
    #[must_use]
    pub fn is_due(&self) -> bool {
        Instant::now() >= self.retry_at
    }

    /// Tries again later.
    pub fn put_off(&mut self) {
        self.retry_at = Instant::now() + RETRY;
    }

    /// Does not wait for the next try.
    pub fn retry_now(&mut self) {
        self.retry_at = Instant::now();
    }

    /// Brings the streams closer to what is wanted, and tells what that meant for the microphone.
    pub fn settle(&mut self, wanted: Wanted, player: &mut Player) -> Vec<News> {
        self.follow_devices(player);
        if !wanted.microphone {
            self.close_microphone();
        }
        self.take_opened(wanted, player);
        let due = self.is_due();
        match (wanted.loudspeaker, player.playback().is_some()) {
            (true, false) if due => self.devices.open_loudspeaker(),
            (false, true) => {
                player.set_playback(None);
                self.reference = None;
            }
            (true | false, _) => {}
        }
        if due && wanted.microphone && self.ear.is_none() {
            self.devices.open_microphone();
        } else if due && wanted.look && self.ear.is_none() {
            match self.devices.microphone() {
                Ok(_) => self.news.push(News::Present),
                Err(error) => self.lose(error.to_string()),
            }
        }
        std::mem::take(&mut self.news)
    }

    /// Whether there is a microphone that could be opened.
    ///
    /// # Errors
    /// Why there is none.
    pub fn look(&mut self) -> Result<(), String> {
        self.devices.microphone().map(drop).map_err(|error| error.to_string())
    }

    /// The microphone no longer delivers: it is opened anew, and only if that fails it was lost.
    pub fn reopen_microphone(&mut self, trouble: Trouble) {
        if let Some(ear) = &self.ear {
            tracing::info!(device = ear.capture().device().name, "the microphone {}", told(trouble));
        }
        self.close_microphone();
        self.devices.open_microphone();
    }

    /// Takes the devices that have been opened meanwhile.
    fn take_opened(&mut self, wanted: Wanted, player: &mut Player) {
        match self.devices.opened_loudspeaker() {
            None => {}
            Some(Ok((playback, reference))) => {
                tracing::info!(device = playback.device().name, "loudspeaker opened");
                player.set_playback(Some(playback));
                let reference = Some(reference).filter(|_| self.audio.echo_cancellation);
                match &mut self.ear {
                    Some(ear) => {
                        if let Err(error) = ear.set_reference(reference) {
                            tracing::warn!(%error, "the echo is not taken out");
                        }
                    }
                    None => self.reference = reference,
                }
            }
            Some(Err(error)) => {
                tracing::debug!(%error, "no loudspeaker");
                self.put_off();
            }
        }
        let opened = match self.devices.opened_microphone() {
            None => return,
            // Muted or let go meanwhile.
            Some(_) if !wanted.microphone || self.ear.is_some() => return,
            Some(opened) => opened.and_then(|capture| {
                let name = capture.device().name.clone();
                Ok((Ear::new(capture, self.reference.take(), self.audio.noise_suppression)?, name))
            }),
        };
        match opened {
            Ok((ear, name)) => {
                tracing::info!(device = name, "microphone opened");
                self.ear = Some(ear);
                self.news.push(News::Opened);
            }
            Err(error) => self.lose(error.to_string()),
        }
    }

    fn close_loudspeaker(&mut self, player: &mut Player) {
        player.set_playback(None);
        self.reference = None;
        if let Some(ear) = &mut self.ear {
            let _ = ear.set_reference(None);
        }
    }

    fn close_microphone(&mut self) {
        if let Some(ear) = self.ear.take() {
            tracing::info!(device = ear.capture().device().name, "microphone closed");
            self.reference = ear.into_reference();
        }
    }

    fn lose(&mut self, reason: String) {
        self.put_off();
        self.news.push(News::Lost(reason));
    }

    fn follow_devices(&mut self, player: &mut Player) {
        let changed = self.devices.changes();
        if changed.server_lost {
            self.close_loudspeaker(player);
            self.close_microphone();
            self.reference = None;
            self.lose("the sound server went away; it is waited for".into());
        }
        let trouble = player.playback().and_then(|playback| playback.trouble(self.audio.device_timeout));
        if let (Some(trouble), Some(playback)) = (trouble, player.playback()) {
            tracing::info!(device = playback.device().name, "the loudspeaker {}", told(trouble));
        }
        if trouble.is_some() || changed.loudspeaker_moved {
            self.close_loudspeaker(player);
            self.devices.open_loudspeaker();
        }
        if changed.microphone_moved && self.ear.is_some() {
            self.close_microphone();
            self.devices.open_microphone();
        }
        if changed.devices {
            self.look_at_devices(player);
        }
    }

    /// Opens the devices that are meant now in place of those that are open.
    fn look_at_devices(&mut self, player: &mut Player) {
        self.retry_now();
        if let (Some(ear), Ok(meant)) = (&self.ear, self.devices.microphone())
            && ear.capture().device().name != meant.name
        {
            self.close_microphone();
            self.devices.open_microphone();
        }
        if let (Some(playback), Ok(meant)) = (player.playback(), self.devices.loudspeaker())
            && playback.device().name != meant.name
        {
            self.close_loudspeaker(player);
            self.devices.open_loudspeaker();
        }
    }
}

fn told(trouble: Trouble) -> String {
    match trouble {
        Trouble::Failed(Failure::DeviceGone) => "was unplugged".into(),
        Trouble::Failed(Failure::ServerGone) => "is gone with the sound server".into(),
        Trouble::Failed(Failure::Other) => "failed".into(),
        Trouble::Stalled(time) => format!("has given nothing for {:.1} s", time.as_secs_f64()),
    }
}
