//! Which microphones and loudspeakers there are, and which one is meant.
//!
//! A monitor (the source that plays back what a loudspeaker is given) is never chosen unless it is asked for by name:
//! an assistant that listens to a monitor hears itself, at full level, for ever.

use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use cpal::traits::{DeviceTrait, HostTrait};

use crate::error::{Error, Result};
use crate::pulse;

/// Towards the program or away from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// A microphone.
    Capture,
    /// A loudspeaker.
    Playback,
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Direction::Capture => "microphone",
            Direction::Playback => "loudspeaker",
        })
    }
}

/// The system that gives access to devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Backend {
    /// A PulseAudio server, or PipeWire in its place.
    Pulse,
    /// The kernel's devices, which one program at a time can hold.
    Alsa,
}

impl Backend {
    /// The sound server if one answers, the bare devices otherwise.
    pub fn detect() -> Backend {
        if pulse::Connection::open().is_ok() { Backend::Pulse } else { Backend::Alsa }
    }

    fn host(self) -> Result<cpal::Host> {
        let id = match self {
            Backend::Pulse => cpal::HostId::PulseAudio,
            Backend::Alsa => cpal::HostId::Alsa,
        };
        cpal::host_from_id(id).map_err(no_server)
    }

    /// All devices by the library that opens them.
    fn candidates(self) -> Result<cpal::Devices> {
        match self {
            Backend::Alsa => self.host()?.devices().map_err(no_server),
            Backend::Pulse => {
                let known = SERVER.lock().unwrap_or_else(PoisonError::into_inner).clone();
                if let Some(devices) = known.and_then(|server| server.devices().ok()) {
                    return Ok(devices);
                }
                // There was none yet, or it has gone.
                let server = Arc::new(self.host()?);
                *SERVER.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&server));
                server.devices().map_err(no_server)
            }
        }
    }
}

/// The one connection to a sound server that all streams share for as long as the server lives. Closing a connection leaves
/// its thread asleep for ever, with three descriptors, if the server happens to have nothing more to say to it.
static SERVER: Mutex<Option<Arc<cpal::Host>>> = Mutex::new(None);

fn no_server(error: cpal::Error) -> Error {
    Error::NoSoundServer { why: error.to_string() }
}

/// Which device a person asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Choice {
    /// Whatever the system's default is, also after it changes.
    #[default]
    Default,
    /// This one, by the `name` of its [`Device`].
    Named(String),
}

/// A device as it was when it was listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// How it is reached.
    pub backend: Backend,
    /// Microphone or loudspeaker.
    pub direction: Direction,
    /// The stable name, for configuration and [`Choice::Named`].
    pub name: String,
    /// The name for people.
    pub description: String,
    /// Whether it is a loudspeaker's monitor rather than a microphone.
    pub monitor: bool,
    /// Whether it is the system's default.
    pub default: bool,
    /// Its own sample rate, Hz.
    pub sample_rate: u32,
    /// Its own number of channels.
    pub channels: u16,
}

/// All devices of one direction; the system's default comes first.
///
/// # Errors
/// [`Error::NoSoundServer`] when the backend does not answer.
pub fn list(backend: Backend, direction: Direction) -> Result<Vec<Device>> {
    let mut devices = match backend {
        Backend::Pulse => pulse::Connection::open().and_then(|mut server| server.topology())?.devices(direction),
        Backend::Alsa => list_alsa(direction)?,
    };
    devices.sort_by_key(|device| !device.default);
    Ok(devices)
}

/// The device that `choice` means at this moment.
///
/// # Errors
/// [`Error::DeviceMissing`], [`Error::NoDevice`] or [`Error::NoSoundServer`].
pub fn choose(backend: Backend, direction: Direction, choice: &Choice) -> Result<Device> {
    pick(list(backend, direction)?, direction, choice)
}

fn pick(devices: Vec<Device>, direction: Direction, choice: &Choice) -> Result<Device> {
    match choice {
        Choice::Named(name) => {
            let known: Vec<&str> = devices.iter().map(|device| device.name.as_str()).collect();
            let known = known.join(", ");
            let found = devices.into_iter().find(|device| device.name == *name);
            found.ok_or_else(|| Error::DeviceMissing { direction, name: name.clone(), known })
        }
        // Servers without a microphone name a monitor as the default.
        Choice::Default => {
            let mut real: Vec<Device> = devices.into_iter().filter(|device| !device.monitor).collect();
            let at = real.iter().position(|device| device.default).unwrap_or(0);
            if real.is_empty() { Err(Error::NoDevice { direction }) } else { Ok(real.swap_remove(at)) }
        }
    }
}

fn list_alsa(direction: Direction) -> Result<Vec<Device>> {
    // To ask a device what it can do is to open it. Plugins that lead to a server (jack, pulse, oss) look for theirs every
    // time, say so on standard error, and have crashed the process after some thousand tries: none is opened without need.
    if !has_card(Path::new(KERNEL_DEVICES)) {
        return Ok(vec![]);
    }
    let host = Backend::Alsa.host()?;
    let default = match direction {
        Direction::Capture => host.default_input_device(),
        Direction::Playback => host.default_output_device(),
    };
    let default = default.and_then(|device| device.id().ok());
    let mut devices = vec![];
    for device in host.devices().map_err(no_server)? {
        if !device.id().is_ok_and(|id| id.id() == "default" || id.id().contains("CARD=")) {
            continue;
        }
        let config = match direction {
            Direction::Capture => device.default_input_config(),
            Direction::Playback => device.default_output_config(),
        };
        // A device of the other direction, or one that another program holds.
        let (Ok(config), Ok(id)) = (config, device.id()) else {
            continue;
        };
        let description = device.description().map_or_else(|_| id.id().to_string(), |text| text.name().to_string());
        devices.push(Device {
            backend: Backend::Alsa,
            direction,
            default: default.as_ref() == Some(&id),
            name: id.id().to_string(),
            description,
            monitor: false,
            sample_rate: config.sample_rate(),
            channels: config.channels(),
        });
    }
    Ok(devices)
}

/// Where the kernel's sound devices are.
const KERNEL_DEVICES: &str = "/dev/snd";

/// Whether the kernel knows a sound card.
fn has_card(folder: &Path) -> bool {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.into_iter().any(|entry| entry.file_name().to_string_lossy().starts_with("controlC"))
}

/// The cpal device of the same name.
pub(crate) fn resolve(device: &Device) -> Result<cpal::Device> {
    let Device { backend, direction, name, .. } = device;
    let found = backend.candidates()?.find(|candidate| {
        let same_direction = match direction {
            Direction::Capture => candidate.supports_input(),
            Direction::Playback => candidate.supports_output(),
        };
        same_direction && candidate.id().is_ok_and(|id| id.id() == name)
    });
    found.ok_or_else(|| Error::DeviceMissing { direction: *direction, name: name.clone(), known: "none".into() })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn device(name: &str, monitor: bool, default: bool) -> Device {
        Device {
            backend: Backend::Pulse,
            direction: Direction::Capture,
            name: name.into(),
            description: name.into(),
            monitor,
            default,
            sample_rate: 48_000,
            channels: 2,
        }
    }

    #[test]
    fn without_a_card_nothing_is_opened() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["seq", "timer"] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        assert!(!has_card(folder.path()) && !has_card(&folder.path().join("nowhere")));
        std::fs::write(folder.path().join("controlC0"), "").unwrap();
        assert!(has_card(folder.path()));
    }

    fn picked(devices: &[Device], choice: Choice) -> Result<String> {
        pick(devices.to_vec(), Direction::Capture, &choice).map(|device| device.name)
    }

    #[test]
    fn a_monitor_is_chosen_by_name_alone() {
        let only_monitor = [device("out.monitor", true, true)];
        let both = [device("out.monitor", true, true), device("mic", false, false)];
        let named = || Choice::Named("out.monitor".into());
        assert!(matches!(picked(&only_monitor, Choice::Default), Err(Error::NoDevice { .. })));
        assert_eq!(picked(&both, Choice::Default).expect("the microphone"), "mic");
        assert_eq!(picked(&only_monitor, named()).expect("asked for"), "out.monitor");
    }

    #[test]
    fn the_default_is_followed_and_a_missing_name_is_told_with_the_known_ones() {
        let two = [device("a", false, false), device("b", false, true)];
        assert_eq!(picked(&two, Choice::Default).expect("the default"), "b");
        let error = picked(&two, Choice::Named("c".into())).expect_err("absent");
        assert!(error.to_string().contains("\"c\"") && error.to_string().contains("a, b"), "{error}");
    }
}
