//! Microphone and loudspeaker through a real sound server without hardware: what goes in comes out, counted to the
//! sample, and what disturbs it is noticed.
//!
//! Needs the system packages `pulseaudio` and `pulseaudio-utils`. The allocator aborts when a callback allocates.

mod common;

use std::time::{Duration, Instant};

use common::server::{Server, belongings, with_server, within};
use common::{correlation, db, rms, voice};
use eddy_audio::Error;
use eddy_audio::capture::Capture;
use eddy_audio::device::{Backend, Choice, Direction, choose, list};
use eddy_audio::playback::{FADE, Playback, State};
use eddy_audio::realtime::{AllocDisabler, Failure, Trouble};
use eddy_audio::resample::resample;
use eddy_audio::watch::{Event, Watch};

#[global_allocator]
static ALLOCATOR: AllocDisabler = AllocDisabler;

const VOICE: u32 = 24_000;
const SOON: Duration = Duration::from_secs(5);
/// A stream that says nothing for so long is lost.
const PATIENCE: Duration = Duration::from_millis(500);
/// What the project promises: every change of devices is noticed within this.
const NOTICED: Duration = Duration::from_secs(2);

fn microphone() -> Capture {
    let device = choose(Backend::Pulse, Direction::Capture, &Choice::Default).expect("a microphone");
    Capture::open(&device, 480).expect("it opens")
}

fn loudspeaker() -> Playback {
    let device = choose(Backend::Pulse, Direction::Playback, &Choice::Default).expect("a loudspeaker");
    Playback::open(&device, VOICE, 480).expect("it opens").0
}

fn tone(frequency: f32, rate: u32, len: usize) -> Vec<f32> {
    (0..len).map(|n| 0.5 * (std::f32::consts::TAU * frequency * n as f32 / rate as f32).sin()).collect()
}

/// Reads until `count` samples have been recorded.
fn record(capture: &mut Capture, count: usize) -> Vec<f32> {
    let mut samples = vec![0.0; count];
    for block in samples.chunks_mut(480) {
        assert!(capture.wait(block.len(), SOON), "the microphone is silent: {:?}", capture.trouble(PATIENCE));
        assert!(capture.read(block));
    }
    samples
}

/// Pushes everything, as fast as it is taken.
fn say(playback: &mut Playback, samples: &[f32]) {
    let mut rest = samples;
    within(Duration::from_secs(60), "all samples are taken", || {
        rest = &rest[playback.push(rest)..];
        rest.is_empty().then_some(())
    });
    within(SOON, "the utterance ends", || playback.finish().then_some(()));
}

/// Where `part` begins in `whole`, which is silent before: near the first sound of both, at the best match.
fn find(part: &[f32], whole: &[f32]) -> usize {
    let first = |samples: &[f32]| samples.iter().position(|sample| sample.abs() > 1e-3).expect("a sound");
    let about = first(whole).saturating_sub(first(part));
    let probe = &part[..part.len().min(24_000)];
    (about.saturating_sub(200)..about + 200)
        .max_by(|&a, &b| correlation(&whole[a..], probe).total_cmp(&correlation(&whole[b..], probe)))
        .expect("a range")
}

#[test]
fn devices_are_listed_and_a_monitor_is_never_the_default() {
    with_server("devices_are_listed_and_a_monitor_is_never_the_default", |server| {
        let microphones = list(Backend::Pulse, Direction::Capture).expect("a list");
        assert_eq!((microphones[0].name.as_str(), microphones[0].monitor), ("vmic", false));
        assert!(microphones.iter().any(|device| device.name == "vspk.monitor" && device.monitor));
        let loudspeaker = choose(Backend::Pulse, Direction::Playback, &Choice::Default).expect("a loudspeaker");
        assert_eq!((loudspeaker.name.as_str(), loudspeaker.sample_rate, loudspeaker.channels), ("vspk", 48_000, 2));
        assert_eq!(Backend::detect(), Backend::Pulse);

        server.unload("source_name=vmic");
        let error = choose(Backend::Pulse, Direction::Capture, &Choice::Default).expect_err("monitors are left");
        assert!(matches!(error, Error::NoDevice { .. }), "{error}");
        let named = Choice::Named("vspk.monitor".into());
        assert!(choose(Backend::Pulse, Direction::Capture, &named).expect("asked for").monitor);
        let absent = Choice::Named("vmic".into());
        let error = choose(Backend::Pulse, Direction::Capture, &absent).expect_err("unloaded");
        assert!(error.to_string().contains("vspk.monitor"), "{error}");
        server.kill();
        let error = list(Backend::Pulse, Direction::Capture).expect_err("no server");
        assert!(matches!(error, Error::NoSoundServer { .. }), "{error}");
    });
}

#[test]
fn what_is_spoken_is_recorded() {
    with_server("what_is_spoken_is_recorded", |server| {
        let mut capture = microphone();
        assert_eq!((capture.device().sample_rate, capture.device().channels), (48_000, 1));
        let spoken = voice(3, 140.0, 48_000, 4 * 48_000);
        let _speaker = server.speak(spoken.clone());
        let heard = record(&mut capture, 5 * 48_000);
        // Before the search, in which nobody reads.
        let (overruns, trouble) = (capture.overruns(), capture.trouble(PATIENCE));
        let begin = find(&spoken, &heard);
        let alike = correlation(&heard[begin..], &spoken);
        println!("recorded: correlation {alike:.5}, latency {:?}", capture.latency());
        assert!(alike > 0.999, "{alike}");
        assert_eq!((overruns, trouble), (0, None));
    });
}

#[test]
fn what_is_pushed_is_what_sounds() {
    with_server("what_is_pushed_is_what_sounds", |server| {
        let listener = server.listen("vspk.monitor");
        let mut playback = loudspeaker();
        let speech = voice(4, 110.0, VOICE, 5 * VOICE as usize);
        let begun = Instant::now();
        say(&mut playback, &speech);
        within(2 * SOON, "all is played", || playback.done().then_some(()));
        assert!(begun.elapsed() > Duration::from_millis(4_500), "faster than sound: {:?}", begun.elapsed());
        assert_eq!(playback.position(), speech.len() as u64);
        within(SOON, "all is heard", || (playback.heard() == speech.len() as u64).then_some(()));
        let wanted = resample(&speech, VOICE, 48_000).expect("rates in range");
        let end = listener.count() + 9_600;
        within(SOON, "the recorder has it", || (listener.count() > end).then_some(()));
        let heard = listener.samples();
        let begin = find(&wanted, &heard);
        let alike = correlation(&heard[begin..], &wanted);
        println!(
            "played: correlation {alike:.5}, latency {:?}, underruns {}",
            playback.latency(),
            playback.underruns()
        );
        assert!(alike > 0.99, "{alike}");
        assert_eq!((playback.underruns(), playback.trouble(PATIENCE)), (0, None));
    });
}

#[test]
fn a_hold_is_quick_and_loses_no_sample() {
    with_server("a_hold_is_quick_and_loses_no_sample", |server| {
        let listener = server.listen("vspk.monitor");
        let mut playback = loudspeaker();
        // Constant, so that every sample that is heard or is missing can be counted.
        let speech = vec![0.5; 2 * VOICE as usize];
        let mut waits = vec![];
        let mut held_at = 0;
        assert_eq!(playback.push(&speech[..VOICE as usize]), VOICE as usize);
        for round in 0..5u64 {
            within(SOON, "it plays on", || (playback.position() > held_at + 2_000).then_some(()));
            let asked = Instant::now();
            playback.hold();
            within(SOON, "it holds", || (playback.state() == State::Held).then_some(()));
            waits.push(asked.elapsed());
            held_at = playback.position();
            let quiet = listener.count() + 9_600;
            within(SOON, "time passes", || (listener.count() > quiet).then_some(()));
            assert_eq!(playback.position(), held_at, "round {round}");
            playback.resume();
        }
        say(&mut playback, &speech[VOICE as usize..]);
        within(2 * SOON, "all is played", || playback.done().then_some(()));
        assert_eq!(playback.position(), speech.len() as u64);
        let end = listener.count() + 9_600;
        within(SOON, "the recorder has it", || (listener.count() > end).then_some(()));
        let heard = listener.samples();
        let full = heard.iter().filter(|sample| **sample > 0.49).count();
        println!("hold took {waits:?}; {full} of 96000 samples at full level, {} underruns", playback.underruns());
        // Five fades in, and the resampler's ringing at both ends.
        assert!((96_000 - 6 * FADE..=96_000).contains(&full), "{full}");
        assert_eq!(playback.underruns(), 0);
        assert!(waits.iter().all(|wait| *wait < Duration::from_millis(100)), "{waits:?}");
    });
}

#[test]
fn an_interrupted_utterance_ends_where_the_position_says() {
    with_server("an_interrupted_utterance_ends_where_the_position_says", |server| {
        let listener = server.listen("vspk.monitor");
        let mut playback = loudspeaker();
        for round in 0..3 {
            let before = listener.count();
            playback.push(&vec![0.5; VOICE as usize]);
            within(SOON, "it plays", || (playback.position() > 7_000 + 311 * round).then_some(()));
            playback.hold();
            within(SOON, "it holds", || (playback.state() == State::Held).then_some(()));
            playback.flush();
            playback.resume();
            let said = playback.position();
            let end = listener.count() + 9_600;
            within(SOON, "the recorder has it", || (listener.count() > end).then_some(()));
            let heard = listener.samples()[before..].iter().filter(|sample| **sample > 0.49).count() as u64;
            println!("position {said} at 24 kHz, {heard} samples heard at 48 kHz");
            // The first samples ring, and so do the last of a round that faded in.
            assert!(heard.abs_diff(2 * said) <= 2 * FADE as u64, "{heard} and {said}");
            assert_eq!(playback.position(), said);
            assert!(playback.done());
        }
        assert_eq!(playback.underruns(), 0);
    });
}

#[test]
fn a_stream_that_says_nothing_is_lost_after_the_time_that_was_set() {
    with_server("a_stream_that_says_nothing_is_lost_after_the_time_that_was_set", |server| {
        let mut capture = microphone();
        let playback = loudspeaker();
        record(&mut capture, 4_800);
        server.stand_still(true);
        let silent = |patience| {
            let stalled = |trouble| matches!(trouble, Some(Trouble::Stalled(_)));
            (stalled(capture.trouble(patience)) && stalled(playback.trouble(patience))).then_some(())
        };
        within(SOON, "both streams are silent", || silent(Duration::from_millis(700)));
        assert!(silent(Duration::from_secs(60)).is_none());
        server.stand_still(false);
        within(SOON, "both streams go on", || {
            let well = capture.trouble(PATIENCE).is_none() && playback.trouble(PATIENCE).is_none();
            well.then_some(())
        });
    });
}

#[test]
fn sound_comes_in_pieces_of_the_size_that_was_set() {
    with_server("sound_comes_in_pieces_of_the_size_that_was_set", |_| {
        let device = choose(Backend::Pulse, Direction::Capture, &Choice::Default).expect("a microphone");
        let piece = |frames: u32| {
            let capture = Capture::open(&device, frames).expect("it opens");
            // More than one is there at once when this thread comes late; half of the time it does not.
            let (mut sizes, mut before) = (vec![], 0);
            within(2 * SOON, "forty pieces come", || {
                let now = capture.available();
                if now > before {
                    sizes.push(now - before);
                    before = now;
                }
                (sizes.len() == 40 || before > 20_000).then_some(())
            });
            sizes.sort_unstable();
            sizes[sizes.len() / 4]
        };
        let (small, large) = (piece(96), piece(960));
        println!("pieces of {small} and of {large} samples");
        assert!(small < 480 && large > 2 * small, "{small} and {large}");
    });
}

/// Waits for an event of the wanted kind; says how long it took.
#[track_caller]
fn expect(watch: &Watch, since: Instant, what: &str, wanted: impl Fn(&Event) -> bool) -> Duration {
    let mut others = vec![];
    while let Some(left) = NOTICED.checked_sub(since.elapsed()) {
        match watch.next(left) {
            Some(event) if wanted(&event) => return since.elapsed(),
            Some(event) => others.push(event),
            None => break,
        }
    }
    panic!("no {what} within {NOTICED:?}; others: {others:?}");
}

const SPARE: [&str; 4] = ["module-null-sink", "sink_name=spare", "rate=48000", "channels=2"];

#[test]
fn a_moved_stream_a_lost_device_and_a_new_default_are_noticed() {
    with_server("a_moved_stream_a_lost_device_and_a_new_default_are_noticed", |server| {
        server.load(&SPARE);
        let capture = microphone();
        let playback = loudspeaker();
        let watch = Watch::start();
        // The watch has seen the streams once it tells of something that came after them.
        server.load(&["module-null-sink", "sink_name=sign"]);
        expect(&watch, Instant::now(), "Appeared", |event| matches!(event, Event::Appeared(d) if d.name == "sign"));

        let since = Instant::now();
        server.unload("source_name=vmic");
        let moved = expect(
            &watch,
            since,
            "StreamMoved",
            |event| matches!(event, Event::StreamMoved { direction: Direction::Capture, from, .. } if from == "vmic"),
        );
        // The stream itself knows nothing of it.
        assert_eq!(capture.trouble(PATIENCE), None);
        drop(capture);

        let since = Instant::now();
        server.load(&["module-remap-source", "master=vmic_sink.monitor", "source_name=vmic"]);
        let back = expect(&watch, since, "Appeared", |event| matches!(event, Event::Appeared(d) if d.name == "vmic"));
        let _again = microphone();

        let since = Instant::now();
        server.unload("sink_name=vspk");
        let gone = expect(
            &watch,
            since,
            "StreamMoved",
            |event| matches!(event, Event::StreamMoved { direction: Direction::Playback, from, .. } if from == "vspk"),
        );
        drop(playback);

        let since = Instant::now();
        server.control(&["set-default-sink", "sign"]);
        let default = expect(
            &watch,
            since,
            "DefaultChanged",
            |event| matches!(event, Event::DefaultChanged { direction: Direction::Playback, name: Some(name) } if name == "sign"),
        );
        println!("noticed: moved {moved:?}, back {back:?}, gone {gone:?}, default {default:?}");
    });
}

fn sounds(server: &Server, capture: &mut Capture) {
    let _speaker = server.speak(tone(440.0, 48_000, 5 * 48_000));
    within(SOON, "the tone is heard", || (db(rms(&record(capture, 4_800))) > -15.0).then_some(()));
}

#[test]
fn a_killed_server_is_noticed_and_a_new_one_is_used_twenty_times() {
    with_server("a_killed_server_is_noticed_and_a_new_one_is_used_twenty_times", |server| {
        let watch = Watch::start();
        let mut slowest = [Duration::ZERO; 3];
        let mut kept = None;
        for round in 0..20 {
            let mut capture = microphone();
            let playback = loudspeaker();
            if round % 5 == 0 {
                sounds(server, &mut capture);
            }
            assert_eq!((capture.trouble(PATIENCE), playback.trouble(PATIENCE)), (None, None));
            let since = Instant::now();
            server.kill();
            within(NOTICED, "both streams know", || {
                let failed = Some(Trouble::Failed(Failure::ServerGone));
                (capture.trouble(PATIENCE) == failed && playback.trouble(PATIENCE) == failed).then_some(())
            });
            slowest[0] = slowest[0].max(since.elapsed());
            slowest[1] = slowest[1].max(expect(&watch, since, "ServerLost", |event| *event == Event::ServerLost));
            drop((capture, playback));
            server.start();
            let since = Instant::now();
            slowest[2] = slowest[2].max(expect(&watch, since, "ServerBack", |event| *event == Event::ServerBack));
            // The first rounds may start threads and open files that stay.
            match round {
                2 => kept = Some(belongings()),
                19 => {
                    let (files, threads) = kept.expect("noted");
                    within(SOON, "files and threads are given back", || {
                        let now = belongings();
                        (now.0 <= files && now.1 <= threads).then_some(())
                    });
                }
                _ => {}
            }
        }
        println!("slowest of 20: streams {:?}, watch {:?}, back {:?}", slowest[0], slowest[1], slowest[2]);
    });
}

#[test]
fn streams_that_are_closed_give_everything_back_while_the_server_goes_on() {
    with_server("streams_that_are_closed_give_everything_back_while_the_server_goes_on", |server| {
        let _recorder = server.keep_awake("vmic");
        let mut kept = None;
        for round in 0..12 {
            let mut capture = microphone();
            let playback = loudspeaker();
            sounds(server, &mut capture);
            drop((capture, playback));
            if round == 2 {
                kept = Some(belongings());
            }
        }
        let (files, threads) = kept.expect("noted");
        within(SOON, "files and threads are given back", || {
            let now = belongings();
            (now.0 <= files && now.1 <= threads).then_some(())
        });
    });
}
