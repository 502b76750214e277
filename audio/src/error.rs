//! Everything that can go wrong in this crate, as one enum.
//!
//! Each variant prints as one line that names the file or device, says what is the matter with it and what to do
//! about it, so that a command line or a bus error can pass it on unchanged.

use std::io;
use std::path::PathBuf;

use crate::device::Direction;

/// What went wrong, with which file or device, and what to do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Nothing is at the path.
    #[error("{}: there is no such file; check the path", path.display())]
    WavMissing {
        /// The path as the caller gave it.
        path: PathBuf,
    },

    /// The path is a directory.
    #[error("{}: is a directory; name a WAV file in it", path.display())]
    WavIsDirectory {
        /// The path as the caller gave it.
        path: PathBuf,
    },

    /// Opening or reading failed for a reason of the system's: permission, a broken disk, a closed socket.
    #[error("{}: cannot be read ({source}); check its permissions and the medium it is on", path.display())]
    WavUnreadable {
        /// The file, or the name that the caller gave to a stream.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },

    /// The first bytes are not those of a WAV file.
    #[error("{}: is not a WAV file ({why}); convert it to WAV first, for example with sox or ffmpeg", path.display())]
    NotWav {
        /// The file, or the name that the caller gave to a stream.
        path: PathBuf,
        /// What was found instead.
        why: &'static str,
    },

    /// It is a WAV file, but its header contradicts itself.
    #[error("{}: has a broken WAV header ({why}); write the file again with another program", path.display())]
    WavMalformed {
        /// The file, or the name that the caller gave to a stream.
        path: PathBuf,
        /// The contradiction.
        why: String,
    },

    /// It is a WAV file of a kind that is not read here.
    #[error(
        "{}: {what} is not supported; convert it to 8 to 32-bit PCM or 32-bit float, 1 to 8 channels, 8 to 192 kHz",
        path.display()
    )]
    WavUnsupported {
        /// The file, or the name that the caller gave to a stream.
        path: PathBuf,
        /// The property that is not supported, with its value.
        what: String,
    },

    /// The file ends before its header does.
    #[error("{}: is cut off inside its header, after {bytes} bytes; copy or record it again", path.display())]
    WavHeaderTruncated {
        /// The file, or the name that the caller gave to a stream.
        path: PathBuf,
        /// How many bytes there were.
        bytes: u64,
    },

    /// The header promises more samples than the file has.
    #[error(
        "{}: is cut off: its header promises {promised} bytes of samples and {found} are there; copy or record it again",
        path.display()
    )]
    WavTruncated {
        /// The file, or the name that the caller gave to a stream.
        path: PathBuf,
        /// Length of the data chunk according to its header, bytes.
        promised: u64,
        /// Bytes of samples actually present.
        found: u64,
    },

    /// The header is sound and says that there are no samples.
    #[error("{}: holds no samples; record it again", path.display())]
    WavEmpty {
        /// The file, or the name that the caller gave to a stream.
        path: PathBuf,
    },

    /// Shorter than anything that can be understood.
    #[error("{}: lasts {seconds:.3} s, and at least {least:.1} s are needed; record a longer clip", path.display())]
    WavTooShort {
        /// The file, or the name that the caller gave to a stream.
        path: PathBuf,
        /// How long it is, seconds.
        seconds: f64,
        /// [`crate::wav::SHORTEST`], seconds.
        least: f64,
    },

    /// Longer than the caller accepts.
    #[error("{}: lasts longer than the {most:.1} s that are accepted; cut it into shorter clips", path.display())]
    WavTooLong {
        /// The file, or the name that the caller gave to a stream.
        path: PathBuf,
        /// The caller's limit, seconds.
        most: f64,
    },

    /// No sample is audible.
    #[error("{}: is silent (peak {peak:.1e} of full scale); check the microphone that recorded it", path.display())]
    WavSilent {
        /// The file, or the name that the caller gave to a stream.
        path: PathBuf,
        /// The largest magnitude in it, full scale being 1.
        peak: f32,
    },

    /// A floating-point sample that is not a number.
    #[error("{}: has a sample that is not a finite number, at frame {frame}; write the file again", path.display())]
    WavNotFinite {
        /// The file, or the name that the caller gave to a stream.
        path: PathBuf,
        /// Index of the first such frame.
        frame: u64,
    },

    /// A WAV file cannot be created or written.
    #[error("{}: cannot be written ({source}); check that its folder exists, is writable and has room", path.display())]
    WavUnwritable {
        /// The file to be written.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },

    /// A WAV file cannot grow past 4 GiB, because its lengths are 32 bits wide.
    #[error("{}: has reached the 4 GiB limit of the WAV format; go on in a second file", path.display())]
    WavFull {
        /// The file being written; it is valid as it stands.
        path: PathBuf,
    },

    /// No sound server answers and there is no other way to the hardware.
    #[error("no sound server: {why}; start PipeWire or PulseAudio, or choose the ALSA backend")]
    NoSoundServer {
        /// What was tried and how it failed.
        why: String,
    },

    /// The device that was asked for by name is not there.
    #[error("{direction} {name:?}: there is no such device; plug it in, or choose one of: {known}")]
    DeviceMissing {
        /// Microphone or loudspeaker.
        direction: Direction,
        /// The name asked for.
        name: String,
        /// The names that exist, separated by commas.
        known: String,
    },

    /// There is no device of this kind at all.
    #[error("there is no {direction}; plug one in, or check that the session may use it")]
    NoDevice {
        /// Microphone or loudspeaker.
        direction: Direction,
    },

    /// The device is there and does not open.
    #[error("{direction} {name:?}: does not open ({why}); check that no other program holds it")]
    DeviceRefused {
        /// Microphone or loudspeaker.
        direction: Direction,
        /// The device's name.
        name: String,
        /// What the audio system says.
        why: String,
    },

    /// No resampler exists between these two rates.
    #[error("cannot resample from {from} Hz to {to} Hz ({why}); use rates from 8000 to 192000 Hz")]
    Resample {
        /// Rate of the input, Hz.
        from: u32,
        /// Rate asked for, Hz.
        to: u32,
        /// What the resampler says.
        why: String,
    },
}

/// A result whose error is [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;
