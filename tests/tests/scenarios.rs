//! Scenarios of the live voice, one file each in `tests/scenarios`: who says what when, what happens to the devices, and
//! what has to come of it.

#![allow(clippy::unwrap_used, missing_docs)]

use std::time::{Duration, Instant};

use eddy_audio::realtime::AllocDisabler;
use eddy_ipc::FinishReason;
use eddy_tests::heard::{COMPARED, PIECE, find, to_compare};
use eddy_tests::room::{Living, ROOM, echo, enrolled, noise, spoken};
use eddy_tests::server::{Listener, Server, Speaker, with_server, within};
use eddyd::voice::{RATE, State, TurnEnd};
use serde::Deserialize;

#[global_allocator]
static ALLOCATOR: AllocDisabler = AllocDisabler;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Scenario {
    #[serde(default = "model")]
    model: String,
    settings: Vec<String>,
    /// The wake word that is enrolled, if any.
    enrol: Option<String>,
    /// Milliseconds from the loudspeaker to the microphone, if it hears it.
    echo: Option<u32>,
    /// Level of that echo, as a part of full scale.
    #[serde(default = "half")]
    echo_level: f32,
    /// Milliseconds that something else takes of the engine before every step of the voice.
    slow: Option<u64>,
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
    /// Every state from the first on, in this order. Pauses that were taken back are left out.
    #[serde(default)]
    states: Vec<String>,
    /// Pauses that were taken back, at least.
    #[serde(default)]
    pauses: usize,
    /// The last state.
    last: Option<String>,
    /// What was heard of each answer: whole, unbroken (whole, without silence in it), cut, resumed (whole, with silence in
    /// it), written (text, and not a sound), nothing.
    #[serde(default)]
    answers: Vec<String>,
    /// Real-time factor of each answer, at least and at most; of a written one that of the last spoken one.
    #[serde(default)]
    rtf: Vec<(f64, f64)>,
    /// Seconds that each was held back, at least and at most.
    #[serde(default)]
    held_back: Vec<(f64, f64)>,
    /// How often the voice paused because there was no more, at least and at most.
    #[serde(default)]
    ran_dry: (u64, u64),
    /// Tools that were called.
    #[serde(default)]
    called: Vec<String>,
    /// What each answer says.
    #[serde(default)]
    texts: Vec<String>,
    /// What the reason of the last state says.
    reason: Option<String>,
}

struct Play<'a> {
    server: &'a mut Server,
    living: Living,
    /// Somebody else records too: a virtual microphone that nobody uses takes two seconds to wake up.
    recorder: Listener,
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
            Some("start server") => {
                self.server.start();
                self.recorder = self.server.listen("vmic");
            }
            // A new default would move the listener at the loudspeaker too, and lose what it hears meanwhile.
            Some("another default microphone") => {
                self.server.control(&["set-default-source", "vmic_sink.monitor"]);
            }
            Some("unload microphone") => self.server.unload("source_name=vmic"),
            Some("load microphone") => {
                self.server.load(&["module-remap-source", "master=vmic_sink.monitor", "source_name=vmic"]);
                self.recorder = self.server.listen("vmic");
            }
            Some("unload loudspeaker") => self.server.unload("sink_name=vspk"),
            Some("load loudspeaker") => {
                self.server.load(&["module-null-sink", "sink_name=vspk", "rate=48000", "channels=2"]);
                self.server.control(&["set-default-sink", "vspk"]);
            }
            Some("another loudspeaker") => {
                self.server.load(&["module-null-sink", "sink_name=spare", "rate=44100", "channels=1"]);
                self.server.control(&["set-default-sink", "spare"]);
            }
            Some(other) => panic!("nothing known of \"{other}\""),
        }
        if step.devices.is_some() {
            self.server.reseat_listeners();
        }
        if let Some(open) = step.microphone {
            let statuses = self.living.voice().statuses();
            within(Duration::from_secs(3), "the microphone is as it should be", || {
                (statuses.borrow().microphone == open).then_some(())
            });
        }
    }

    fn account(&self) -> String {
        self.living.account(self.began)
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
        let recorder = server.listen("vmic");
        let ear = server.listen("vspk.monitor");
        let learnt = scenario.enrol.as_deref().map(enrolled);
        let learnt = learnt.iter().map(|file| format!("voice.wake_word_file=\"{}\"", file.path().display()));
        let settings: Vec<String> = scenario.settings.iter().cloned().chain(learnt).collect();
        let living = Living::start(&scenario.model, &settings);
        if let Some(milliseconds) = scenario.slow {
            living.slow_down(Duration::from_millis(milliseconds));
        }
        let mut play = Play { server, living, recorder, speakers: Vec::new(), began: Instant::now() };
        for (number, step) in scenario.step.iter().enumerate() {
            println!("{:7.3} step {number}", play.began.elapsed().as_secs_f64());
            play.step(step);
        }
        println!("{}", play.account());
        let states: Vec<String> =
            play.living.witness.read(|diary| diary.states.iter().map(|(_, state, _)| word(*state)).collect());
        let (states, pauses) = without_pauses(states);
        if !scenario.expect.states.is_empty() {
            assert_eq!(states, scenario.expect.states, "{}", play.account());
        }
        assert!(pauses >= scenario.expect.pauses, "{pauses} pauses were taken back");
        play.living.witness.read(|diary| assert_eq!(diary.called, scenario.expect.called, "tools"));
        if let Some(last) = &scenario.expect.last {
            assert_eq!(states.last(), Some(last));
        }
        answers(&play, &scenario, &ear);
        let status = play.living.voice().statuses().borrow().clone();
        println!("{status:?}");
        let (least, most) = scenario.expect.ran_dry;
        assert!((least..=most).contains(&status.underruns), "it ran dry");
        if let Some(reason) = &scenario.expect.reason {
            assert!(status.reason.contains(reason.as_str()), "{}", status.reason);
        }
        paces(&play, &scenario.expect);
    });
}

/// What is told of how each answer kept up with its sound.
fn paces(play: &Play<'_>, expect: &Expect) {
    play.living.witness.read(|diary| {
        for (number, end) in diary.ended.iter().enumerate() {
            println!("{number}: {:?}, {:?}", end.text, end.latency);
            if let Some(text) = expect.texts.get(number) {
                assert_eq!(end.text, *text);
            }
            let figure = |name: &str| end.latency.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
            if let Some((least, most)) = expect.rtf.get(number) {
                let rtf = figure("last_rtf").or(figure("rtf")).unwrap();
                assert!((*least..=*most).contains(&rtf), "{number}: {rtf}");
            }
            if let (Some((least, most)), Some(held)) = (expect.held_back.get(number), figure("held_back")) {
                assert!((*least..=*most).contains(&held), "{number}: {held}");
            }
        }
        let dry =
            |end: &TurnEnd| end.latency.iter().find(|(name, _)| *name == "ran_dry").map_or(0.0, |(_, count)| *count);
        let told = diary.ended.iter().map(dry).sum::<f64>();
        assert_eq!(told, play.living.voice().statuses().borrow().underruns as f64, "what is told is what there was");
    });
}

/// A person who hesitates, or a voice on the edge, makes a pause that is taken back.
fn without_pauses(states: Vec<String>) -> (Vec<String>, usize) {
    let (mut left, mut pauses): (Vec<String>, usize) = (Vec::new(), 0);
    for state in states {
        if state == "listening" && left.last().is_some_and(|last| last == "endpointing") {
            left.pop();
            pauses += 1;
        } else {
            left.push(state);
        }
    }
    (left, pauses)
}

/// What was heard of each answer is what was made of it.
fn answers(play: &Play<'_>, scenario: &Scenario, ear: &Listener) {
    let expected = &scenario.expect.answers;
    within(Duration::from_secs(3), "the turns end", || {
        play.living.witness.read(|diary| (diary.ended.len() >= expected.len()).then_some(()))
    });
    // What was played last is still on its way to the recorder.
    std::thread::sleep(Duration::from_millis(300));
    let heard = to_compare(&ear.samples(), ROOM);
    let mut from = 0;
    play.living.witness.read(|diary| {
        for (number, how) in expected.iter().enumerate() {
            let (end, answer) = (&diary.ended[number], diary.answers.get(number).map_or(&[][..], Vec::as_slice));
            println!("{number}: {} of {} samples, {:?}, {:?}", end.played, answer.len(), end.reason, diary.waits);
            match how.as_str() {
                "nothing" => {
                    assert!(end.played == 0 && end.text.is_empty());
                    continue;
                }
                "written" => {
                    assert!(end.played == 0 && answer.is_empty() && !end.text.is_empty(), "{end:?}");
                    assert!(end.reason.is_some_and(|reason| reason != FinishReason::Cancelled));
                    let thinking = diary.states.iter().rev().find(|(_, state, _)| *state == State::Thinking);
                    let since = thinking.unwrap().0.elapsed().as_secs_f64() * f64::from(COMPARED);
                    let begin = heard.len().saturating_sub(since as usize);
                    assert!(heard.len() - begin > COMPARED as usize, "{number}: too little was recorded");
                    let loudest = heard[begin..].iter().fold(0.0f32, |most, s| most.max(s.abs()));
                    assert!(loudest < 1e-3, "{number}: {loudest} was heard of it");
                    continue;
                }
                "whole" | "resumed" | "unbroken" => assert_eq!(end.played as usize, answer.len()),
                "cut" => assert!((end.played as usize) < answer.len() && end.played > 0),
                other => panic!("no answer can be {other}"),
            }
            assert!(end.remembered <= end.played, "more was remembered than was heard");
            assert!(end.played - end.remembered < 1_920, "an audible frame was forgotten");
            if end.played < u64::from(RATE) {
                // Too short to be told from a loudspeaker that stutters.
                continue;
            }
            let made = to_compare(&answer[..end.played as usize], RATE);
            let found = find(&made, &heard, from);
            println!("{number}: {found:?}");
            if found.correlation < 0.99 || found.lost.len() > 1 + found.pieces / 8 {
                keep("made", &made);
                keep("heard", &heard);
            }
            assert!(found.correlation > 0.99, "{number}: {found:?}");
            // A machine that is busy with other things lets the virtual loudspeaker stop for some milliseconds.
            assert!(found.lost.len() <= 1 + found.pieces / 8, "{number}: {found:?} was not heard");
            if how == "unbroken" {
                // A machine that is busy with other things lets the virtual loudspeaker stop for some milliseconds.
                let silence: f64 = found.gaps.iter().map(|(_, seconds)| seconds.max(0.0)).sum();
                assert!(silence < 0.05, "{number}: {found:?}");
            }
            from = found.end;
            if how == "cut" && found.lost.is_empty() {
                silent_behind(&made, &heard, found.end, number);
            }
        }
    });
}

/// Leaves sound behind for whoever looks into a failure.
fn keep(name: &str, samples: &[f32]) {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/scenarios");
    std::fs::create_dir_all(&folder).unwrap();
    let mut sink = eddy_audio::wav::WavSink::create(folder.join(format!("{name}.wav")), COMPARED).unwrap();
    sink.write(samples).unwrap();
    sink.finish().unwrap();
}

/// Nothing of a reply that was cut is heard behind the sample that was counted as the last.
fn silent_behind(made: &[f32], heard: &[f32], end: usize, number: usize) {
    // The last whole piece ends there; what is shorter than a piece, and a fade, come after it.
    let begin = end + made.len() % PIECE + COMPARED as usize / 50;
    let loudest = heard[begin..].iter().take(COMPARED as usize / 10).fold(0.0f32, |most, s| most.max(s.abs()));
    assert!(loudest < 1e-3, "{number}: more was heard ({loudest}) than was counted");
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
fn wake_word() {
    run("wake-word.toml");
}

#[test]
#[ignore = "a proof in real time; `make scenarios` runs it"]
fn wake_word_follow_up() {
    run("wake-word-follow-up.toml");
}

#[test]
fn pause() {
    run("pause.toml");
}

#[test]
fn interruption() {
    run("interruption.toml");
}

#[test]
#[ignore = "a proof in real time; `make scenarios` runs it"]
fn interrupted_with_echo() {
    run("interrupted-with-echo.toml");
}

#[test]
fn echo_alone() {
    run("echo-alone.toml");
}

#[test]
fn server_restart() {
    run("server-restart.toml");
}

#[test]
fn false_alarm() {
    run("false-alarm.toml");
}

#[test]
fn microphone_unplugged() {
    run("microphone-unplugged.toml");
}

#[test]
fn another_microphone() {
    run("another-microphone.toml");
}

#[test]
#[ignore = "a proof in real time; `make scenarios` runs it"]
fn another_loudspeaker() {
    run("another-loudspeaker.toml");
}

#[test]
fn slow_machine() {
    run("slow-machine.toml");
}

#[test]
fn slow_machine_in_text() {
    run("slow-machine-in-text.toml");
}

#[test]
fn slow_machine_in_short() {
    run("slow-machine-in-short.toml");
}

#[test]
#[ignore = "a proof in real time; `make scenarios` runs it"]
fn slow_machine_beyond_patience() {
    run("slow-machine-beyond-patience.toml");
}

#[test]
fn timer() {
    run("timer.toml");
}

#[test]
#[ignore = "a proof in real time; `make scenarios` runs it"]
fn timer_rings() {
    run("timer-rings.toml");
}
