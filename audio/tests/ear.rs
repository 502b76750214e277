//! The whole way through a real sound server: a loudspeaker that the microphone hears, cancelled while both run.
//!
//! Needs the system packages `pulseaudio` and `pulseaudio-utils`.

mod common;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use common::server::{Server, with_server, within};
use common::{db, rms, voice};
use eddy_audio::capture::Capture;
use eddy_audio::device::{Backend, Choice, Direction, choose};
use eddy_audio::ear::{Ear, FRAME, Heard};
use eddy_audio::echo::Verdict;
use eddy_audio::playback::Playback;
use eddy_audio::realtime::AllocDisabler;

#[global_allocator]
static ALLOCATOR: AllocDisabler = AllocDisabler;

const VOICE: u32 = 24_000;
const SECOND: usize = 16_000;
const PATIENCE: Duration = Duration::from_secs(2);

fn open() -> (Ear, Playback) {
    let loudspeaker = choose(Backend::Pulse, Direction::Playback, &Choice::Default).expect("a loudspeaker");
    let microphone = choose(Backend::Pulse, Direction::Capture, &Choice::Default).expect("a microphone");
    let (playback, reference) = Playback::open(&loudspeaker, VOICE, 480).expect("it opens");
    let capture = Capture::open(&microphone, 480).expect("it opens");
    (Ear::new(capture, Some(reference), false).expect("rates in range"), playback)
}

/// The loudspeaker is heard by the microphone, so many milliseconds late and 6 dB weaker.
fn join(server: &Server, milliseconds: u32) {
    let late = format!("latency_msec={milliseconds}");
    server.load(&["module-loopback", "source=vspk.monitor", "sink=vmic_sink", &late, "adjust_time=0"]);
    within(Duration::from_secs(5), "the loopback is there", || {
        let list = server.control(&["list", "short", "sink-inputs"]);
        let index = list.split('\t').next().filter(|index| !index.is_empty())?.to_string();
        server.control(&["set-sink-input-volume", &index, "32768"]);
        Some(())
    });
}

/// Plays and listens at once; what was recorded, what was left, and the seconds in which the reference came too late: a
/// machine that does not schedule the loudspeaker's callbacks takes the canceller's reference away.
fn converse(ear: &mut Ear, playback: &mut Playback, speech: &[f32]) -> (Vec<f32>, Vec<f32>, BTreeSet<usize>) {
    let (mut recorded, mut clean, mut disturbed) = (vec![], vec![], BTreeSet::new());
    let mut faults = ear.reference_faults();
    let mut frame = [0.0; FRAME];
    let mut rest = speech;
    while !playback.done() || rest.len() == speech.len() {
        rest = &rest[playback.push(rest)..];
        if rest.is_empty() {
            playback.finish();
        }
        assert_eq!(ear.next(&mut frame, PATIENCE, PATIENCE), Heard::Frame);
        recorded.extend_from_slice(ear.recorded());
        clean.extend_from_slice(&frame);
        if std::mem::replace(&mut faults, ear.reference_faults()) != faults {
            // And the next one, in which the canceller finds its way back.
            disturbed.extend([clean.len() / SECOND, clean.len() / SECOND + 1]);
        }
    }
    (recorded, clean, disturbed)
}

fn cancels(server: &Server, milliseconds: u32) {
    join(server, milliseconds);
    let (mut ear, mut playback) = open();
    let speech = voice(6, 120.0, VOICE, 10 * VOICE as usize);
    let (recorded, clean, disturbed) = converse(&mut ear, &mut playback, &speech);
    // Second by second, from the third on: a server that is not scheduled in time drops samples now and then too.
    let seconds = recorded.chunks_exact(SECOND).zip(clean.chunks_exact(SECOND)).enumerate();
    let mut seconds: Vec<f32> = seconds
        .filter(|(number, _)| *number >= 2 && !disturbed.contains(number))
        .map(|(_, (recorded, clean))| db(rms(recorded) / rms(clean)))
        .collect();
    println!("{seconds:.0?}, disturbed: {disturbed:?}");
    assert!(seconds.len() >= 4, "the machine is too busy to tell");
    seconds.sort_by(f32::total_cmp);
    let erle = seconds[seconds.len() / 2];
    println!(
        "{milliseconds} ms: {erle:.1} dB, {:?}, drift {:.0} ppm, faults {:?}, underruns {}, overruns {}",
        ear.report(),
        ear.drift() * 1e6,
        ear.reference_faults(),
        playback.underruns(),
        ear.capture().overruns()
    );
    assert!(db(rms(&recorded[3 * SECOND..])) > -40.0, "no echo came");
    assert!(erle >= 30.0, "{milliseconds} ms: {erle:.1} dB");
    assert_eq!(ear.report().verdict, Verdict::Helps);
    assert_eq!((playback.underruns(), ear.capture().overruns(), playback.reference_lost()), (0, 0, 0));
}

#[test]
fn a_reply_is_not_heard_by_its_speaker() {
    with_server("a_reply_is_not_heard_by_its_speaker", |server| cancels(server, 60));
}

#[test]
fn a_late_echo_is_cancelled_too() {
    with_server("a_late_echo_is_cancelled_too", |server| cancels(server, 200));
}

#[test]
fn without_a_loudspeaker_the_microphone_passes() {
    with_server("without_a_loudspeaker_the_microphone_passes", |server| {
        let microphone = choose(Backend::Pulse, Direction::Capture, &Choice::Default).expect("a microphone");
        let mut ear =
            Ear::new(Capture::open(&microphone, 480).expect("it opens"), None, false).expect("rates in range");
        let _speaker = server.speak(voice(7, 200.0, 48_000, 10 * 48_000));
        let mut frame = [0.0; FRAME];
        let mut clean = vec![];
        let begun = Instant::now();
        while db(rms(&clean)) < -30.0 {
            assert_eq!(ear.next(&mut frame, PATIENCE, PATIENCE), Heard::Frame);
            clean.extend_from_slice(&frame);
            assert!(begun.elapsed() < 3 * PATIENCE, "nothing is heard");
        }
        server.kill();
        let lost = within(PATIENCE, "the loss is told", || match ear.next(&mut frame, PATIENCE, PATIENCE) {
            Heard::Lost(trouble) => Some(trouble),
            _ => None,
        });
        println!("{lost:?}");
    });
}
