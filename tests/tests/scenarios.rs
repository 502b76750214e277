//! Scenarios of the live voice, one file each in `tests/scenarios`: who says what when, what happens to the devices, and
//! what has to come of it.

#![allow(clippy::unwrap_used, missing_docs)]

use std::time::{Duration, Instant};

use eddy_audio::realtime::AllocDisabler;
use eddy_tests::room::{Living, ROOM, noise, spoken};
use eddy_tests::server::{Listener, Server, Speaker, with_server, within};
use eddyd::voice::RATE;
use serde::Deserialize;

#[global_allocator]
static ALLOCATOR: AllocDisabler = AllocDisabler;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Scenario {
    #[serde(default = "model")]
    model: String,
    settings: Vec<String>,
    /// Milliseconds from the loudspeaker to the microphone, if it hears it.
    echo: Option<u32>,
    /// Level of that echo, as a part of full scale.
    #[serde(default = "half")]
    echo_level: f32,
    step: Vec<Step>,
    expect: Expect,
}

fn model() -> String {
    "talkative".into()
}

fn half() -> f32 {
    0.5
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Step {
    /// The person says this; the next step begins at once.
    say: Option<String>,
    /// Something that is no speech is heard: cough, door.
    noise: Option<String>,
    /// Waits for this state, at most so many seconds.
    until: Option<String>,
    #[serde(default = "patience")]
    within: f64,
    /// Waits so many seconds.
    pause: Option<f64>,
    /// What a key or a caller does: listen, stop, interrupt, mute, unmute.
    order: Option<String>,
    /// What happens to the devices.
    devices: Option<String>,
    /// Whether the microphone is open after this step.
    microphone: Option<bool>,
}

fn patience() -> f64 {
    5.0
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Expect {
    /// Every state from the first on, in this order.
    #[serde(default)]
    states: Vec<String>,
    /// The last state.
    last: Option<String>,
    /// What was heard of each answer: whole, cut, resumed (whole, with silence in it), nothing.
    #[serde(default)]
    answers: Vec<String>,
}

struct Play<'a> {
    server: &'a mut Server,
    living: Living,
    speakers: Vec<Speaker>,
    began: Instant,
}

impl Play<'_> {
    fn step(&mut self, step: &Step) {
        if let Some(text) = &step.say {
            self.speakers.push(self.server.speak(spoken(text)));
        }
        if let Some(kind) = &step.noise {
            self.speakers.push(self.server.speak(noise(kind, 0)));
        }
        if let Some(order) = &step.order {
            let voice = self.living.voice();
            match order.as_str() {
                "listen" => voice.listen_blocking(None).unwrap(),
                "stop" => voice.stop_listening().unwrap(),
                "interrupt" => voice.interrupt().unwrap(),
                "mute" => voice.mute_blocking(true).unwrap(),
                "unmute" => voice.mute_blocking(false).unwrap(),
                other => panic!("no order {other}"),
            }
        }
        if let Some(state) = &step.until {
            let begun = Instant::now();
            let limit = Duration::from_secs_f64(step.within);
            while word(self.living.state()) != *state {
                assert!(begun.elapsed() < limit, "not {state} within {limit:?}\n{}", self.account());
                std::thread::sleep(Duration::from_millis(2));
            }
        }
        if let Some(seconds) = step.pause {
            std::thread::sleep(Duration::from_secs_f64(seconds));
        }
        match step.devices.as_deref() {
            None => {}
            Some("kill server") => self.server.kill(),
            Some("start server") => self.server.start(),
            Some(other) => panic!("nothing known of \"{other}\""),
        }
        if let Some(open) = step.microphone {
            let statuses = self.living.voice().statuses();
            within(Duration::from_secs(3), "the microphone is as it should be", || {
                (statuses.borrow().microphone == open).then_some(())
            });
        }
    }

    fn account(&self) -> String {
        let seconds = |at: &Instant| at.saturating_duration_since(self.began).as_secs_f64();
        self.living.witness.read(|diary| {
            let states = diary.states.iter().map(|(at, state, why)| format!("{:7.3} {state:?}: {why}", seconds(at)));
            let now = self.living.voice().statuses().borrow().clone();
            format!("{}\n{now:?}\nfailed: {:?}", states.collect::<Vec<_>>().join("\n"), diary.failed)
        })
    }
}

fn word(state: eddyd::voice::State) -> String {
    format!("{state:?}").to_lowercase()
}

/// One at a time: they run in real time, each with a sound server of its own.
static ALONE: std::sync::Mutex<()> = std::sync::Mutex::new(());

fn run(file: &str) {
    let _alone = ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios").join(file);
    let text = std::fs::read_to_string(&path).unwrap();
    let scenario: Scenario = toml::from_str(&text).unwrap_or_else(|error| panic!("{file}: {error}"));
    let test = file.strip_suffix(".toml").unwrap().replace('-', "_");
    with_server(&test, |server| {
        if let Some(delay) = scenario.echo {
            echo(server, delay, scenario.echo_level);
        }
        // Somebody else records too: a virtual microphone that nobody uses takes two seconds to wake up.
        let _recorder = server.listen("vmic");
        let ear = server.listen("vspk.monitor");
        let living = Living::start(&scenario.model, &scenario.settings);
        let mut play = Play { server, living, speakers: Vec::new(), began: Instant::now() };
        for (number, step) in scenario.step.iter().enumerate() {
            println!("{:7.3} step {number}", play.began.elapsed().as_secs_f64());
            play.step(step);
        }
        println!("{}", play.account());
        let states: Vec<String> =
            play.living.witness.read(|diary| diary.states.iter().map(|(_, state, _)| word(*state)).collect());
        if !scenario.expect.states.is_empty() {
            assert_eq!(states, scenario.expect.states, "{}", play.account());
        }
        if let Some(last) = &scenario.expect.last {
            assert_eq!(states.last(), Some(last));
        }
        answers(&play, &scenario, &ear);
        let status = play.living.voice().statuses().borrow().clone();
        println!("{status:?}");
        assert_eq!(status.underruns, 0, "it ran dry");
    });
}

/// The loudspeaker is heard by the microphone.
fn echo(server: &Server, delay: u32, level: f32) {
    let late = format!("latency_msec={delay}");
    server.load(&["module-loopback", "source=vspk.monitor", "sink=vmic_sink", &late, "adjust_time=0"]);
    within(Duration::from_secs(5), "the loopback is there", || {
        let list = server.control(&["list", "short", "sink-inputs"]);
        let index = list.split('\t').next().filter(|index| !index.is_empty())?.to_string();
        // The server's volumes are cubic.
        let volume = format!("{}", (65_536.0 * level.cbrt()) as u32);
        server.control(&["set-sink-input-volume", &index, &volume]);
        Some(())
    });
}

/// What was heard of each answer is what was made of it.
fn answers(play: &Play<'_>, scenario: &Scenario, ear: &Listener) {
    let expected = &scenario.expect.answers;
    within(Duration::from_secs(3), "the turns end", || {
        play.living.witness.read(|diary| (diary.ended.len() >= expected.len()).then_some(()))
    });
    // What was played last is still on its way to the recorder.
    std::thread::sleep(Duration::from_millis(200));
    let heard = to_compare(&ear.samples(), ROOM);
    let mut from = 0;
    play.living.witness.read(|diary| {
        for (number, how) in expected.iter().enumerate() {
            let (end, answer) = (&diary.ended[number], diary.answers.get(number).map_or(&[][..], Vec::as_slice));
            println!("{number}: {} of {} samples, {:?}, {:?}", end.played, answer.len(), end.reason, diary.waits);
            if how == "nothing" {
                assert!(end.played == 0 && end.text.is_empty());
                continue;
            }
            match how.as_str() {
                "whole" | "resumed" => assert_eq!(end.played as usize, answer.len()),
                "cut" => assert!((end.played as usize) < answer.len() && end.played > 0),
                other => panic!("no answer can be {other}"),
            }
            assert!(end.remembered <= end.played, "more was remembered than was heard");
            assert!(end.played - end.remembered < 1_920, "an audible frame was forgotten");
            if end.played > u64::from(RATE) / 5 {
                from += assert_heard(&to_compare(&answer[..end.played as usize], RATE), &heard[from..], number);
            }
        }
    });
}

/// Where the recorder's and the voice's own rate are compared: below the edges of the filters between them.
const COMPARED: u32 = 16_000;

fn to_compare(samples: &[f32], rate: u32) -> Vec<f32> {
    let clip = eddy_audio::wav::Clip { samples: samples.to_vec(), sample_rate: rate, source_channels: 1 };
    clip.at_rate(COMPARED).unwrap().samples
}

/// Fails unless what was made was heard, piece by piece: between two pieces the answer may have been held, which adds
/// silence and the sound that faded into it. A machine that is busy with other things lets the virtual loudspeaker stop
/// for some milliseconds now and then; one piece in eight may be disturbed by that. Gives the place where it ends.
fn assert_heard(made: &[f32], heard: &[f32], number: usize) -> usize {
    const PIECE: usize = COMPARED as usize / 5;
    let mut at = heard.iter().position(|sample| sample.abs() > 1e-4).expect("something was heard");
    let (mut dot, mut ours, mut theirs) = (0.0, 0.0, 0.0);
    let mut disturbed = Vec::new();
    for (index, piece) in made.chunks_exact(PIECE).enumerate() {
        // Near where the last piece ended, or after the next silence. The first begins softly.
        let around = if index == 0 { 800 } else { 64 };
        let found = search(piece, heard, at.saturating_sub(around)..at + around)
            .filter(|(_, likeness)| *likeness > 0.95)
            .or_else(|| {
                // After a disturbance it may go on a little later.
                let wide = if disturbed.last() == Some(&(index.wrapping_sub(1))) { 4_000 } else { 400 };
                search(piece, heard, at.saturating_sub(wide)..at + wide).filter(|(_, likeness)| *likeness > 0.95)
            })
            .or_else(|| {
                let silence = heard[at..].windows(16).position(|few| few.iter().all(|sample| sample.abs() < 1e-4))?;
                let sound = heard[at + silence..].iter().position(|sample| sample.abs() > 1e-4)?;
                let again = at + silence + sound;
                println!("{number}: silent for {:.1} ms", sound as f64 / 16.0);
                search(piece, heard, again.saturating_sub(400)..again + 400).filter(|(_, likeness)| *likeness > 0.95)
            });
        let Some((place, _)) = found else {
            disturbed.push(index);
            at += PIECE;
            continue;
        };
        let there = &heard[place..place + PIECE];
        dot += product(piece, there);
        ours += product(piece, piece);
        theirs += product(there, there);
        at = place + PIECE;
    }
    let pieces = made.len() / PIECE;
    let whole = dot / (ours * theirs).sqrt();
    println!("{number}: correlation {whole:.5}, of {pieces} pieces these were disturbed: {disturbed:?}");
    assert!(whole > 0.99, "{number}: {whole}");
    assert!(disturbed.len() <= 1 + pieces / 8, "{number}: {disturbed:?} of {pieces} were not heard");
    at
}

fn product(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
}

/// The place among `places` where `piece` is most like what was heard.
fn search(piece: &[f32], heard: &[f32], places: std::ops::Range<usize>) -> Option<(usize, f64)> {
    let last = heard.len().checked_sub(piece.len())?;
    let like = |at: usize| {
        let there = &heard[at..at + piece.len()];
        product(piece, there) / (product(piece, piece) * product(there, there)).sqrt().max(1e-12)
    };
    (places.start..places.end.min(last + 1)).map(|at| (at, like(at))).max_by(|a, b| a.1.total_cmp(&b.1))
}

#[test]
fn question() {
    run("question.toml");
}

#[test]
#[ignore = "a proof in real time; `make scenarios` runs it"]
fn ten_turns() {
    run("ten-turns.toml");
}

#[test]
#[ignore = "a proof in real time; `make scenarios` runs it"]
fn push_to_talk() {
    run("push-to-talk.toml");
}

#[test]
#[ignore = "a proof in real time; `make scenarios` runs it"]
fn mute() {
    run("mute.toml");
}

#[test]
#[ignore = "a proof in real time; `make scenarios` runs it"]
fn pause() {
    run("pause.toml");
}

#[test]
#[ignore = "a proof in real time; `make scenarios` runs it"]
fn interruption() {
    run("interruption.toml");
}

#[test]
#[ignore = "a proof in real time; `make scenarios` runs it"]
fn interrupted_with_echo() {
    run("interrupted-with-echo.toml");
}

#[test]
#[ignore = "a proof in real time; `make scenarios` runs it"]
fn echo_alone() {
    run("echo-alone.toml");
}

#[test]
#[ignore = "a proof in real time; `make scenarios` runs it"]
fn server_restart() {
    run("server-restart.toml");
}

#[test]
#[ignore = "a proof in real time; `make scenarios` runs it"]
fn false_alarm() {
    run("false-alarm.toml");
}
