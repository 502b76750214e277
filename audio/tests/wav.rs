//! Every kind of WAV file that is read, and every kind that is refused. The files are made here byte by byte.

use std::fs;
use std::io::{self, Read};
use std::path::PathBuf;
use std::time::Duration;

use eddy_audio::wav::{Clip, WavSink, read_wav, read_wav_from};
use eddy_audio::{Error, Result};

const MINUTE: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Pcm(u16),
    Float,
    /// `WAVE_FORMAT_EXTENSIBLE` PCM: container bits, valid bits.
    Extensible(u16, u16),
    ExtensibleFloat,
}

impl Kind {
    fn container(self) -> u16 {
        match self {
            Kind::Pcm(bits) | Kind::Extensible(bits, _) => bits,
            Kind::Float | Kind::ExtensibleFloat => 32,
        }
    }

    /// One sample as stored, and the largest error that storing it makes.
    fn store(self, value: f32) -> (Vec<u8>, f32) {
        let valid = match self {
            Kind::Float | Kind::ExtensibleFloat => return (value.to_le_bytes().to_vec(), 0.0),
            Kind::Pcm(bits) => bits,
            Kind::Extensible(_, valid) => valid,
        };
        let scale = (1i64 << (valid - 1)) as f64;
        let steps = ((f64::from(value) * scale).round() as i64).clamp(-scale as i64, scale as i64 - 1);
        let aligned = steps << (self.container() - valid);
        let bytes = match self.container() {
            8 => vec![(aligned + 128) as u8],
            bits => aligned.to_le_bytes()[..usize::from(bits / 8)].to_vec(),
        };
        (bytes, 1.0 / scale as f32)
    }
}

fn chunk(name: &[u8; 4], body: &[u8]) -> Vec<u8> {
    let mut bytes = name.to_vec();
    bytes.extend((body.len() as u32).to_le_bytes());
    bytes.extend(body);
    if body.len() % 2 == 1 {
        bytes.push(0);
    }
    bytes
}

fn format(kind: Kind, channels: u16, rate: u32) -> Vec<u8> {
    let frame = channels * kind.container() / 8;
    let (tag, sub) = match kind {
        Kind::Pcm(_) => (1u16, None),
        Kind::Float => (3, None),
        Kind::Extensible(_, valid) => (0xfffe, Some((valid, 1u16))),
        Kind::ExtensibleFloat => (0xfffe, Some((32, 3))),
    };
    let mut body = tag.to_le_bytes().to_vec();
    body.extend(channels.to_le_bytes());
    body.extend(rate.to_le_bytes());
    body.extend((rate * u32::from(frame)).to_le_bytes());
    body.extend(frame.to_le_bytes());
    body.extend(kind.container().to_le_bytes());
    if let Some((valid, sub)) = sub {
        body.extend(22u16.to_le_bytes());
        body.extend(valid.to_le_bytes());
        body.extend(0u32.to_le_bytes());
        body.extend(sub.to_le_bytes());
        body.extend([0, 0, 0, 0, 0x10, 0, 0x80, 0, 0, 0xaa, 0, 0x38, 0x9b, 0x71]);
    }
    body
}

fn riff(chunks: &[Vec<u8>]) -> Vec<u8> {
    let body = chunks.concat();
    let mut bytes = b"RIFF".to_vec();
    bytes.extend((body.len() as u32 + 4).to_le_bytes());
    bytes.extend(b"WAVE");
    bytes.extend(body);
    bytes
}

fn data(kind: Kind, samples: impl IntoIterator<Item = f32>) -> Vec<u8> {
    samples.into_iter().flat_map(|sample| kind.store(sample).0).collect()
}

fn wav(kind: Kind, channels: u16, rate: u32, samples: impl IntoIterator<Item = f32>) -> Vec<u8> {
    riff(&[chunk(b"fmt ", &format(kind, channels, rate)), chunk(b"data", &data(kind, samples))])
}

/// A tone whose value is different in every channel.
fn tone(channels: u16, rate: u32, frames: usize) -> impl Iterator<Item = f32> {
    (0..frames).flat_map(move |frame| {
        let phase = std::f32::consts::TAU * 440.0 * frame as f32 / rate as f32;
        (0..channels).map(move |channel| 0.9 * phase.sin() / f32::from(channel + 1))
    })
}

fn read(bytes: &[u8]) -> Result<Clip> {
    read_wav_from(bytes, "test.wav", MINUTE)
}

/// A folder that is gone when the test is.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("eddy-wav-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).expect("the temporary folder can be made");
        Folder(path)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The error must be one line that names the path.
#[track_caller]
fn refused(bytes: &[u8]) -> Error {
    let error = read(bytes).expect_err("this file must be refused");
    let line = error.to_string();
    assert!(line.starts_with("test.wav: ") && !line.contains('\n') && line.contains("; "), "{line}");
    error
}

#[test]
fn every_kind_channel_count_and_rate_gives_the_same_tone() {
    let kinds = [
        Kind::Pcm(8),
        Kind::Pcm(16),
        Kind::Pcm(24),
        Kind::Pcm(32),
        Kind::Float,
        Kind::Extensible(16, 16),
        Kind::Extensible(16, 12),
        Kind::Extensible(24, 20),
        Kind::Extensible(32, 24),
        Kind::Extensible(32, 32),
        Kind::ExtensibleFloat,
    ];
    for kind in kinds {
        for channels in 1..=8 {
            for rate in [8_000, 22_050, 44_100, 192_000] {
                let frames = rate as usize / 8;
                let clip = read(&wav(kind, channels, rate, tone(channels, rate, frames))).expect("a readable file");
                assert_eq!((clip.samples.len(), clip.sample_rate), (frames, rate));
                assert_eq!(clip.source_channels, channels);
                let (_, step) = kind.store(0.0);
                let tones: Vec<f32> = tone(channels, rate, frames).collect();
                for (frame, values) in tones.chunks(usize::from(channels)).enumerate() {
                    let mean = values.iter().sum::<f32>() / f32::from(channels);
                    let error = (clip.samples[frame] - mean).abs();
                    assert!(error <= step + 1e-6, "{kind:?} x{channels} {rate} Hz, frame {frame}: {error}");
                }
            }
        }
    }
}

#[test]
fn full_scale_is_one_in_every_kind() {
    for kind in [Kind::Pcm(8), Kind::Pcm(16), Kind::Pcm(24), Kind::Pcm(32), Kind::Float] {
        let clip =
            read(&wav(kind, 1, 8_000, (0..1_000).map(|n| if n % 2 == 0 { -1.0 } else { 1.0 }))).expect("readable");
        assert_eq!(clip.samples[0], -1.0, "{kind:?}");
        assert!(clip.samples[1] > 0.99 && clip.samples[1] <= 1.0, "{kind:?}");
    }
}

#[test]
fn float_beyond_full_scale_is_clipped() {
    let clip =
        read(&wav(Kind::Float, 1, 8_000, (0..1_000).map(|n| if n % 2 == 0 { -3.0 } else { 1e30 }))).expect("readable");
    assert_eq!(&clip.samples[..2], &[-1.0, 1.0]);
}

#[test]
fn other_chunks_also_of_odd_size_are_passed_over() {
    let kind = Kind::Pcm(16);
    let bytes = riff(&[
        chunk(b"LIST", b"INFOISFT\x05\0\0\0Eddy"),
        chunk(b"odd ", &[7; 13]),
        chunk(b"fmt ", &format(kind, 1, 16_000)),
        chunk(b"fact", &[0; 4]),
        chunk(b"note", &[1; 1]),
        chunk(b"data", &data(kind, tone(1, 16_000, 8_001))),
        chunk(b"cue ", &[9; 11]),
    ]);
    assert_eq!(read(&bytes).expect("readable").samples.len(), 8_001);
}

#[test]
fn a_length_that_the_writer_could_not_know_means_until_the_end() {
    for placeholder in [0x7fff_f000u32, 0xffff_ffff, 0x7fff_ffff] {
        let mut bytes = wav(Kind::Pcm(16), 1, 16_000, tone(1, 16_000, 4_000));
        bytes[40..44].copy_from_slice(&placeholder.to_le_bytes());
        assert_eq!(read(&bytes).expect("readable").samples.len(), 4_000);
        // A last incomplete frame is not worth a refusal when nobody knew the length.
        bytes.push(1);
        assert_eq!(read(&bytes).expect("readable").samples.len(), 4_000);
    }
}

#[test]
fn what_is_not_wav_is_said_not_to_be() {
    for bytes in [&b""[..], b"RI", b"What is the capital of France?\n", b"ID3\x04\0\0\0\0", b"RIFF\x10\0\0\0AVI LIST"] {
        let error = refused(bytes);
        match (&error, bytes) {
            (Error::NotWav { .. }, _) => {}
            _ => panic!("{error}"),
        }
    }
}

#[test]
fn a_file_cut_off_anywhere_is_an_error_at_every_byte() {
    let whole = wav(Kind::Extensible(16, 16), 2, 8_000, tone(2, 8_000, 900));
    assert!(read(&whole).is_ok());
    let header = whole.len() - 900 * 4;
    for length in 4..whole.len() {
        match refused(&whole[..length]) {
            Error::WavHeaderTruncated { bytes, .. } if length < header => {
                assert_eq!(bytes, length as u64)
            }
            Error::WavTruncated { promised: 3_600, found, .. } if length >= header => {
                assert_eq!(found, (length - header) as u64);
            }
            error => panic!("{length} bytes: {error}"),
        }
    }
}

#[test]
fn limits_of_length() {
    let bytes = wav(Kind::Pcm(16), 1, 8_000, tone(1, 8_000, 800));
    assert!(read_wav_from(&bytes[..], "x", Duration::from_millis(100)).is_ok());
    let error = read_wav_from(&bytes[..], "x", Duration::from_millis(99)).expect_err("too long");
    assert!(matches!(error, Error::WavTooLong { .. }), "{error}");
    let error = refused(&wav(Kind::Pcm(16), 1, 8_000, tone(1, 8_000, 799)));
    assert!(matches!(error, Error::WavTooShort { .. }), "{error}");
    let error = refused(&wav(Kind::Pcm(16), 1, 8_000, []));
    assert!(matches!(error, Error::WavEmpty { .. }), "{error}");
}

#[test]
fn silence_is_refused_and_a_whisper_is_not() {
    for kind in [Kind::Pcm(8), Kind::Pcm(16), Kind::Float] {
        let error = refused(&wav(kind, 1, 8_000, vec![0.0; 8_000]));
        assert!(matches!(error, Error::WavSilent { .. }), "{error}");
    }
    let step = 1.0 / 32_768.0;
    assert!(read(&wav(Kind::Pcm(16), 1, 8_000, tone(1, 8_000, 8_000).map(|v| v * 3.0 * step))).is_err());
    assert!(read(&wav(Kind::Pcm(16), 1, 8_000, tone(1, 8_000, 8_000).map(|v| v * 8.0 * step))).is_ok());
}

#[test]
fn samples_that_are_not_numbers_are_refused_where_they_stand() {
    for poison in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut samples: Vec<f32> = tone(2, 16_000, 4_000).collect();
        samples[2 * 1_234 + 1] = poison;
        match refused(&wav(Kind::Float, 2, 16_000, samples)) {
            Error::WavNotFinite { frame, .. } => assert_eq!(frame, 1_234),
            error => panic!("{error}"),
        }
    }
}

#[test]
fn kinds_that_are_not_read_are_named() {
    let patched = |at: usize, value: &[u8]| {
        let mut bytes = wav(Kind::Pcm(16), 1, 16_000, tone(1, 16_000, 4_000));
        bytes[at..at + value.len()].copy_from_slice(value);
        bytes
    };
    let unsupported = [
        (patched(0, b"RF64"), "RF64"),
        (patched(20, &2u16.to_le_bytes()), "0x0002"),
        (patched(20, &0x55u16.to_le_bytes()), "0x0055"),
        (patched(22, &0u16.to_le_bytes()), "0 channels"),
        (patched(22, &9u16.to_le_bytes()), "9 channels"),
        (patched(24, &7_999u32.to_le_bytes()), "7999 Hz"),
        (patched(24, &0u32.to_le_bytes()), "0 Hz"),
        (patched(24, &u32::MAX.to_le_bytes()), "4294967295 Hz"),
        (patched(20, &3u16.to_le_bytes()), "16-bit float"),
        (patched(32, &[8, 0, 64, 0]), "64-bit PCM"),
    ];
    for (bytes, word) in unsupported {
        match refused(&bytes) {
            Error::WavUnsupported { what, .. } => assert!(what.contains(word), "{what}"),
            error => panic!("{error}"),
        }
    }
    let malformed = [
        patched(32, &1u16.to_le_bytes()),
        patched(32, &0u16.to_le_bytes()),
        patched(34, &17u16.to_le_bytes()),
        patched(34, &0u16.to_le_bytes()),
        patched(40, &7_999u32.to_le_bytes()),
        patched(16, &15u32.to_le_bytes()),
        riff(&[chunk(b"data", &[0; 8_000])]),
    ];
    for bytes in malformed {
        let error = refused(&bytes);
        assert!(matches!(error, Error::WavMalformed { .. }), "{error}");
    }
}

#[test]
fn claimed_sizes_cost_nothing() {
    // A data chunk of 1.9 GB, a chunk of 4 GB before the format, a format chunk of 4 GB.
    let mut huge_data = wav(Kind::Pcm(16), 1, 16_000, tone(1, 16_000, 4_000));
    huge_data[40..44].copy_from_slice(&0x7000_0000u32.to_le_bytes());
    assert!(matches!(refused(&huge_data), Error::WavTruncated { .. }));

    let mut huge_chunk = riff(&[chunk(b"LIST", &[0; 100])]);
    huge_chunk[16..20].copy_from_slice(&u32::MAX.to_le_bytes());
    assert!(matches!(refused(&huge_chunk), Error::WavHeaderTruncated { .. }));

    let mut huge_format = wav(Kind::Pcm(16), 1, 16_000, tone(1, 16_000, 4_000));
    huge_format[16..20].copy_from_slice(&u32::MAX.to_le_bytes());
    assert!(matches!(refused(&huge_format), Error::WavHeaderTruncated { .. }));

    // Metadata without end, from something that never closes.
    let mut header = riff(&[]);
    header.extend(b"LIST\xff\xff\xff\xff");
    let endless = io::Cursor::new(header).chain(io::repeat(0));
    let error = read_wav_from(endless, "pipe", MINUTE).expect_err("refused");
    assert!(matches!(error, Error::WavMalformed { .. }), "{error}");
}

#[test]
fn random_damage_is_an_error_or_a_clip_and_never_a_panic() {
    let whole = wav(Kind::Extensible(24, 20), 2, 16_000, tone(2, 16_000, 2_000));
    let mut state = 0x2545_f491_4f6c_dd1du64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as usize
    };
    for _ in 0..20_000 {
        let mut bytes = whole[..whole.len() - random() % 64].to_vec();
        for _ in 0..1 + random() % 4 {
            // Most of the damage goes where the lengths and formats are.
            let at = if random() % 8 == 0 { random() % bytes.len() } else { random() % 68 };
            bytes[at] = random() as u8;
        }
        if let Ok(clip) = read_wav_from(&bytes[..], "damaged", MINUTE) {
            assert!(clip.samples.iter().all(|sample| sample.abs() <= 1.0));
        }
    }
}

#[test]
fn a_failing_source_is_not_taken_for_a_short_one() {
    struct Failing(usize);
    impl Read for Failing {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            if self.0 == 0 {
                return Err(io::Error::other("the disk broke"));
            }
            let count = self.0.min(buffer.len());
            buffer[..count].fill(0);
            self.0 -= count;
            Ok(count)
        }
    }
    let header = wav(Kind::Pcm(16), 1, 16_000, tone(1, 16_000, 4_000))[..44].to_vec();
    for good in [3, 20, 44, 200] {
        let start = io::Cursor::new(header[..good.min(44)].to_vec());
        let error = read_wav_from(start.chain(Failing(good.saturating_sub(44))), "fd 7", MINUTE).expect_err("refused");
        assert!(matches!(error, Error::WavUnreadable { .. }), "{good}: {error}");
        assert!(error.to_string().contains("the disk broke"), "{error}");
    }
}

#[test]
fn interrupted_and_dribbling_reads_do_not_matter() {
    struct Dribble<'a>(&'a [u8], bool);
    impl Read for Dribble<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.1 = !self.1;
            if self.1 {
                return Err(io::ErrorKind::Interrupted.into());
            }
            let count = self.0.len().min(buffer.len()).min(3);
            buffer[..count].copy_from_slice(&self.0[..count]);
            self.0 = &self.0[count..];
            Ok(count)
        }
    }
    let bytes = wav(Kind::Pcm(24), 2, 16_000, tone(2, 16_000, 4_000));
    let dribbled = read_wav_from(Dribble(&bytes, false), "fd 7", MINUTE).expect("readable");
    assert_eq!(dribbled, read(&bytes).expect("readable"));
}

#[test]
fn paths_that_lead_nowhere() {
    let folder = Folder::new("nowhere");
    let error = read_wav(folder.file("absent.wav"), MINUTE).expect_err("refused");
    assert!(matches!(error, Error::WavMissing { .. }), "{error}");
    let error = read_wav(&folder.0, MINUTE).expect_err("refused");
    assert!(matches!(error, Error::WavIsDirectory { .. }), "{error}");
    let text = folder.file("text.wav");
    fs::write(&text, "not a sound").expect("written");
    let error = read_wav(&text, MINUTE).expect_err("refused");
    assert!(error.to_string().starts_with(text.to_str().expect("utf-8")), "{error}");
    let error = read_wav(text.join("inside.wav"), MINUTE).expect_err("refused");
    assert!(matches!(error, Error::WavUnreadable { .. }), "{error}");
}

#[test]
fn a_growing_file_is_whole_after_every_block() {
    let folder = Folder::new("growing");
    let path = folder.file("answer.wav");
    let mut sink = WavSink::create(&path, 24_000).expect("created");
    let samples: Vec<f32> = tone(1, 24_000, 24_000).collect();
    let error = read_wav(&path, MINUTE).expect_err("no samples yet");
    assert!(matches!(error, Error::WavEmpty { .. }), "{error}");

    let mut written = 0;
    for block in samples.chunks(2_401) {
        sink.write(block).expect("written");
        written += block.len();
        // A copy is what an interruption would leave.
        let clip = read_wav_from(&fs::read(&path).expect("read")[..], "copy", MINUTE).expect("whole");
        assert_eq!((clip.samples.len(), clip.sample_rate), (written, 24_000));
        for (got, wanted) in clip.samples.iter().zip(&samples) {
            assert!((got - wanted).abs() <= 0.5 / 32_768.0 + 1e-9);
        }
    }
    assert_eq!(sink.samples_written(), 24_000);
    // A process that dies does not run destructors.
    std::mem::forget(sink);
    assert_eq!(read_wav(&path, MINUTE).expect("whole").samples.len(), 24_000);

    let mut sink = WavSink::create(&path, 48_000).expect("replaced");
    sink.write(&samples).expect("written");
    sink.finish().expect("closed");
    assert_eq!(read_wav(&path, MINUTE).expect("whole").sample_rate, 48_000);
}

#[test]
fn targets_that_cannot_be_written() {
    let folder = Folder::new("targets");
    let targets = [folder.file("absent/answer.wav"), folder.0.clone(), "/proc/version".into(), "/dev/full".into()];
    for path in targets {
        let error = WavSink::create(&path, 24_000).err().expect("refused");
        assert!(matches!(error, Error::WavUnwritable { .. }), "{error}");
        assert!(error.to_string().starts_with(path.to_str().expect("utf-8")), "{error}");
    }
}
