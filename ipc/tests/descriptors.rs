//! Descriptors from callers that are careless, slow, or up to something.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use eddy_ipc::Error;
use eddy_ipc::fd::{
    Outlet, Patience, Stop, VectorsHeader, lease, outgoing_pipe, read_whole, s16le, seal, text_vectors, vectors,
};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::pipe::pipe;

/// For what has to fail.
const QUICK: Patience = Patience { idle: Duration::from_millis(60), total: Duration::from_millis(300) };

/// For what has to succeed, however busy the machine is.
const LONG: Patience = Patience { idle: Duration::from_secs(30), total: Duration::from_secs(60) };

fn read_within(fd: impl Into<OwnedFd>, limit: u64, patience: Patience) -> Result<Vec<u8>, Error> {
    read_whole(fd.into(), "wav", limit, "limits.wav_bytes", patience)
}

fn read(fd: impl Into<OwnedFd>, limit: u64) -> Result<Vec<u8>, Error> {
    read_within(fd, limit, LONG)
}

fn memfd(bytes: &[u8], seals: SealFlags) -> OwnedFd {
    let fd = memfd_create("test", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).expect("a memfd");
    let mut file = File::from(fd);
    file.write_all(bytes).expect("written");
    let fd = OwnedFd::from(file);
    fcntl_add_seals(&fd, seals).expect("sealed");
    fd
}

#[test]
fn sealed_memory_is_read_from_its_start_wherever_its_position_is() {
    let mut file = File::from(seal("test", b"hello").expect("sealed"));
    assert_eq!(file.stream_position().expect("a position"), 5);
    assert!(file.write_all(b"x").is_err(), "sealed against writing");
    assert!(file.set_len(1).is_err(), "sealed against shrinking");
    assert_eq!(read(file, 5).expect("fits"), b"hello");
}

#[test]
fn memory_that_could_change_is_refused() {
    let all = SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
    for missing in [SealFlags::SHRINK, SealFlags::GROW, SealFlags::WRITE] {
        match read(memfd(b"hello", all - missing), 100) {
            Err(Error::InvalidDescriptor(why)) => assert!(why.contains("lacks seals"), "{why}"),
            other => panic!("{other:?}"),
        }
    }
    assert!(read(memfd(b"hello", all), 100).is_ok());
}

#[test]
fn sizes_are_bounded_before_anything_is_read() {
    let message = read(seal("test", &[0; 101]).expect("sealed"), 100).expect_err("too large").to_string();
    assert_eq!(message, "wav has 101 bytes, more than the 100 that limits.wav_bytes allows");
    assert!(matches!(read(seal("test", b"").expect("sealed"), 100), Err(Error::InvalidContent(_))));
    // Sparse: a terabyte that takes no memory until somebody reads it.
    let fd = memfd_create("test", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).expect("a memfd");
    let file = File::from(fd);
    file.set_len(1 << 40).expect("sparse");
    let fd = OwnedFd::from(file);
    fcntl_add_seals(&fd, SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE).expect("sealed");
    assert!(matches!(read(fd, 100), Err(Error::TooLarge(_))));
}

#[test]
fn what_is_neither_memory_nor_a_pipe_is_refused() {
    for path in ["/etc/passwd", "/", "/dev/zero"] {
        let error = read(File::open(path).expect("there"), 100).expect_err(path);
        assert!(matches!(error, Error::InvalidDescriptor(_)), "{path}: {error:?}");
    }
    let (_reader, writer) = pipe().expect("a pipe");
    let error = read(writer, 100).expect_err("the wrong end").to_string();
    assert_eq!(error, "wav: this is the write end; pass the read end");
}

#[test]
fn pipes_and_sockets_are_read_to_their_end() {
    let (reader, writer) = pipe().expect("a pipe");
    let bytes = vec![7u8; 300_000];
    let sent = bytes.clone();
    let thread = std::thread::spawn(move || File::from(writer).write_all(&sent));
    assert_eq!(read(reader, 300_000).expect("whole"), bytes);
    thread.join().expect("no panic").expect("written");

    let (mut ours, theirs) = UnixStream::pair().expect("a pair");
    ours.write_all(b"hello").expect("written");
    drop(ours);
    assert_eq!(read(theirs, 100).expect("whole"), b"hello");

    let (reader, writer) = pipe().expect("a pipe");
    drop(writer);
    assert!(matches!(read(reader, 100), Err(Error::InvalidContent(_))));
}

#[test]
fn endless_and_idle_writers_are_given_up() {
    let (reader, writer) = pipe().expect("a pipe");
    let mut endless = File::from(writer);
    let thread = std::thread::spawn(move || while endless.write_all(&[0; 4096]).is_ok() {});
    assert!(matches!(read(reader, 100_000), Err(Error::TooLarge(_))));
    thread.join().expect("ended by the closed pipe");

    let (reader, _idle) = pipe().expect("a pipe");
    let error = read_within(reader, 100, QUICK).expect_err("nothing comes").to_string();
    assert_eq!(error, "wav: waiting for the writer took longer than 60ms");

    // Each byte starts the idle time anew, so that only the total can end this.
    let patience = Patience { idle: QUICK.total, total: QUICK.total };
    let (reader, writer) = pipe().expect("a pipe");
    let mut dripping = File::from(writer);
    let thread = std::thread::spawn(move || {
        while dripping.write_all(b"x").is_ok() {
            std::thread::sleep(Duration::from_millis(10));
        }
    });
    let error = read_within(reader, 1 << 20, patience).expect_err("a drip is no end").to_string();
    assert_eq!(error, "wav: waiting for the writer took longer than 300ms");
    thread.join().expect("ended by the closed pipe");
}

#[test]
fn a_caller_that_reads_its_own_pipe_blocks_nobody() {
    let (reader, writer) = pipe().expect("a pipe");
    let mut thief = File::from(reader.try_clone().expect("a copy"));
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = stop.clone();
    let stealing = std::thread::spawn(move || {
        let mut writer = File::from(writer);
        rustix::io::ioctl_fionbio(&thief, true).expect("settable");
        let mut taken = [0; 1];
        while !stopped.load(Ordering::Relaxed) {
            writer.write_all(b"x").expect("there is room");
            // We may have been quicker; then the next one.
            let _ = thief.read(&mut taken);
        }
    });
    let start = Instant::now();
    let patience = Patience { idle: LONG.idle, total: QUICK.total };
    let error = read_within(reader, 1 << 30, patience).expect_err("it never ends");
    assert!(matches!(error, Error::TimedOut(_)), "{error:?}");
    assert!(start.elapsed() < Duration::from_secs(5));
    stop.store(true, Ordering::Relaxed);
    stealing.join().expect("no panic");
}

#[test]
fn sound_leaves_as_16_bit_samples_and_ends_with_the_outlet() {
    let (reader, mut outlet) = outgoing_pipe().expect("a pipe");
    let mut bytes = Vec::new();
    s16le(&[0.0, 1.0, -1.0, 3.0, -3.0, f32::NAN, 0.5], &mut bytes);
    outlet.write_all(&bytes, QUICK.idle).expect("there is room");
    assert!(!outlet.is_closed());
    drop(outlet);
    let mut heard = Vec::new();
    File::from(reader).read_to_end(&mut heard).expect("until the end");
    let samples: Vec<i16> = heard.chunks_exact(2).map(|b| i16::from_le_bytes([b[0], b[1]])).collect();
    assert_eq!(samples, [0, 32_767, -32_768, 32_767, -32_768, 0, 16_384]);
}

#[test]
fn readers_that_leave_or_sleep_are_noticed() {
    let (reader, mut outlet) = outgoing_pipe().expect("a pipe");
    let much = vec![0; 8 << 20];
    let start = Instant::now();
    assert_eq!(outlet.write_all(&much, QUICK.idle), Err(Stop::Stalled));
    assert!(start.elapsed() < Duration::from_secs(5));
    assert_eq!(outlet.offer(&much), Ok(0), "a full pipe takes nothing and does not wait");
    drop(reader);
    assert!(outlet.is_closed());
    assert_eq!(outlet.offer(b"x"), Err(Stop::Closed));
    assert_eq!(outlet.write_all(b"x", QUICK.idle), Err(Stop::Closed));
}

#[test]
fn an_outlet_takes_the_write_end_only() {
    let (reader, writer) = pipe().expect("a pipe");
    assert!(matches!(Outlet::open(reader, "stream"), Err(Error::InvalidDescriptor(_))));
    assert!(Outlet::open(writer, "stream").is_ok());
    let (ours, _theirs) = UnixStream::pair().expect("a pair");
    assert!(Outlet::open(ours.into(), "stream").is_ok());
    let file = File::open("/etc/passwd").expect("there");
    assert!(matches!(Outlet::open(file.into(), "stream"), Err(Error::InvalidDescriptor(_))));
}

#[test]
fn a_lease_lasts_as_long_as_any_copy() {
    let (held, lease) = lease().expect("a pipe");
    let copy = held.try_clone().expect("a copy");
    drop(held);
    assert!(!lease.is_over());
    drop(copy);
    assert!(lease.is_over());
}

#[test]
fn vectors_come_back_and_a_cut_stream_is_noticed() {
    let mut stream = VectorsHeader { texts: 3, width: 2 }.to_bytes().to_vec();
    for values in [&[1.0, -2.0, 0.5, 0.25][..], &[], &[3.0, 4.0]] {
        text_vectors(values, 2, &mut stream).expect("whole vectors");
    }
    assert_eq!(text_vectors(&[1.0], 2, &mut Vec::new()), None);
    assert_eq!(text_vectors(&[], 0, &mut Vec::new()), None);
    let (texts, width) = vectors(&mut stream.as_slice()).expect("whole");
    assert_eq!((texts, width), (vec![vec![1.0, -2.0, 0.5, 0.25], vec![], vec![3.0, 4.0]], 2));
    for cut in [0, 7, 12, 17, 30, stream.len() - 1] {
        assert!(vectors(&mut &stream[..cut]).is_err(), "cut after {cut} bytes");
    }
    let mut lying = VectorsHeader { texts: 1, width: u32::MAX }.to_bytes().to_vec();
    lying.extend(u32::MAX.to_le_bytes());
    assert!(vectors(&mut lying.as_slice()).is_err(), "memory follows what arrives, not what is claimed");
}
