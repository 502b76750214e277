//! `[audio]`: the microphone, the speaker and how much sound they hand over at a time.

use std::time::Duration;

use crate::place::{Value, quoted};
use crate::schema::{choice, settings};
use crate::setting::Setting;

/// A sound device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Device {
    /// The one that the sound server or ALSA offers first.
    Default,
    /// The one of this name, as `eddy doctor` lists them.
    Named(String),
}

impl Setting for Device {
    type Bound = u32;
    fn read(value: &Value) -> Result<Self, String> {
        match value {
            Value::Text(name) if name == "default" => Ok(Self::Default),
            Value::Text(name) if !name.trim().is_empty() => Ok(Self::Named(name.clone())),
            _ => Err(Self::accepts()),
        }
    }
    fn write(&self) -> String {
        match self {
            Self::Default => quoted("default"),
            Self::Named(name) => quoted(name),
        }
    }
    fn accepts() -> String {
        "\"default\" or the name of a device".into()
    }
}

choice! {
    /// The interface through which devices are opened.
    pub enum AudioHost {
        /// The sound server if one answers, else ALSA.
        Auto = "auto",
        /// A PulseAudio server, or PipeWire's stand-in for it.
        PulseAudio = "pulseaudio",
        /// The kernel's devices, without a server.
        Alsa = "alsa",
    }
}

settings! {
    /// The microphone, the speaker, and how much sound they hand over at a time.
    pub struct Audio("audio") {
        /// How devices are reached: "pulseaudio" also means PipeWire; "alsa" needs no sound server;
        /// "auto" takes the server if one answers.
        host: AudioHost = AudioHost::Auto, restart;
        /// The microphone.
        capture: Device = Device::Default, live;
        /// The speaker.
        playback: Device = Device::Default, live;
        /// Frames that the microphone hands over at a time, at the device's rate: 480 are 10 ms at
        /// 48 kHz. Fewer answer sooner and cost more processor time.
        capture_frames: u32 = 480, restart, (64, 960);
        /// Frames that the speaker takes at a time, at the device's rate. More would bring what the echo
        /// canceller needs to know later than the echo itself.
        playback_frames: u32 = 480, restart, (64, 960);
        /// Sound kept ready for the speaker. More rides out a busier machine; an interruption is as
        /// quick with any.
        playback_buffer: Duration = Duration::from_millis(1_000), live,
            (Duration::from_millis(100), Duration::from_secs(2));
        /// Take what the speaker plays out of what the microphone hears. Without it, barge-in needs
        /// headphones.
        echo_cancellation: bool = true, restart;
        /// Reduce steady noise, such as a fan, in what the microphone hears. Costs some processor time as
        /// long as the microphone is open.
        noise_suppression: bool = false, restart;
        /// Time without any word from a device after which it counts as lost and is opened anew.
        device_timeout: Duration = Duration::from_millis(500), live,
            (Duration::from_millis(200), Duration::from_secs(60));
    }
}
