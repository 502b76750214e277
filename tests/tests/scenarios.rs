//! Scenarios of the live voice, one file each in `tests/scenarios`: who says what when, what happens to the devices, and
//! what has to come of it.

#![allow(clippy::unwrap_used, missing_docs)]

use std::time::{Duration, Instant};

use eddy_audio::realtime::AllocDisabler;
use eddy_tests::room::{Living, ROOM, spoken};
use eddy_tests::server::{Listener, Server, Speaker, with_server, within};
use eddyd::jobs::RATE;
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
    "speech-a".into()
}

fn half() -> f32 {
    0.5
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Step {
    /// The person says this; the next step begins at once.
    say: Option<String>,
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
}

fn patience() -> f64 {
    5.0
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Expect {
    /// Every state from the first on, in this order.
    states: Vec<String>,
    /// What was heard of each answer: whole, cut.
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
        if let Some(order) = &step.order {
            let voice = &self.living.voice;
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
    }

    fn account(&self) -> String {
        let seconds = |at: &Instant| at.saturating_duration_since(self.began).as_secs_f64();
        self.living.witness.read(|diary| {
            let states = diary.states.iter().map(|(at, state, why)| format!("{:7.3} {state:?}: {why}", seconds(at)));
            let now = self.living.voice.statuses().borrow().clone();
            format!("{}\n{now:?}\nfailed: {:?}", states.collect::<Vec<_>>().join("\n"), diary.failed)
        })
    }
}

fn word(state: eddyd::voice::State) -> String {
    format!("{state:?}").to_lowercase()
}

fn run(file: &str) {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios").join(file);
    let text = std::fs::read_to_string(&path).unwrap();
    let scenario: Scenario = toml::from_str(&text).unwrap_or_else(|error| panic!("{file}: {error}"));
    let test = file.strip_suffix(".toml").unwrap().replace('-', "_");
    with_server(&test, |server| {
        if let Some(delay) = scenario.echo {
            echo(server, delay, scenario.echo_level);
        }
        let ear = server.listen("vspk.monitor");
        let living = Living::start(&scenario.model, &scenario.settings);
        let mut play = Play { server, living, speakers: Vec::new(), began: Instant::now() };
        for step in &scenario.step {
            play.step(step);
        }
        println!("{}", play.account());
        let states: Vec<String> =
            play.living.witness.read(|diary| diary.states.iter().map(|(_, state, _)| word(*state)).collect());
        assert_eq!(states, scenario.expect.states, "{}", play.account());
        answers(&play, &scenario, &ear);
        let status = play.living.voice.statuses().borrow().clone();
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
    let heard = ear.samples();
    let mut from = 0;
    play.living.witness.read(|diary| {
        for (number, how) in expected.iter().enumerate() {
            let (end, answer) = (&diary.ended[number], &diary.answers[number]);
            println!("{number}: {} of {} samples, {:?}, {:?}", end.played, answer.len(), end.reason, diary.waits);
            match how.as_str() {
                "whole" => assert_eq!(end.played as usize, answer.len()),
                "cut" => assert!((end.played as usize) < answer.len() && end.played > 0),
                other => panic!("no answer can be {other}"),
            }
            assert!(end.remembered <= end.played, "more was remembered than was heard");
            assert!(end.played - end.remembered < 1_920, "an audible frame was forgotten");
            let made = at_room_rate(&answer[..end.played as usize]);
            let (at, correlation) = find(&made, &heard[from..]);
            println!("{number}: at {:.3} s, correlation {correlation:.5}", (from + at) as f64 / f64::from(ROOM));
            assert!(correlation > 0.99, "{number}: {correlation}");
            from += at + made.len();
        }
    });
}

fn at_room_rate(samples: &[f32]) -> Vec<f32> {
    let clip = eddy_audio::wav::Clip { samples: samples.to_vec(), sample_rate: RATE, source_channels: 1 };
    clip.at_rate(ROOM).unwrap().samples
}

/// Where `piece` is in `whole`, and how much it is like it there.
fn find(piece: &[f32], whole: &[f32]) -> (usize, f64) {
    let first = whole.iter().position(|sample| sample.abs() > 1e-5).expect("something was heard");
    let start = piece.iter().position(|sample| sample.abs() > 1e-5).unwrap_or(0);
    let around = first.saturating_sub(start);
    let like = |at: usize| {
        let there = &whole[at..(at + piece.len()).min(whole.len())];
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
        dot(piece, there) / (dot(piece, piece) * dot(there, there)).sqrt().max(1e-12)
    };
    let places = around.saturating_sub(480)..around + 480;
    places.map(|at| (at, like(at))).max_by(|a, b| a.1.total_cmp(&b.1)).unwrap()
}

#[test]
fn question() {
    run("question.toml");
}
