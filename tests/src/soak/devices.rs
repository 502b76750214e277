//! Devices that go and come back in the middle of a reply.

use std::time::{Duration, Instant};

use eddyd::voice::State;

use super::{Report, quantile, spread};
use crate::room::{Living, spoken};
use crate::server::{Listener, Server, within};

const QUESTION: &str = "Tell me a story about a fox and a hen.";

/// So many times each: the microphone unloaded and loaded, the server killed and started, the default loudspeaker changed.
pub fn run(count: usize, server: &mut Server) -> Report {
    let mut report = Report::new("devices");
    let settings = ["voice.mode=\"open\"", "generation.greedy=true", "generation.max_items=400"].map(String::from);
    let living = Living::start("talkative", &settings);
    // Somebody else records too: a virtual microphone that nobody uses takes two seconds to wake up.
    let mut recorder = server.listen("vmic");
    server.load(&["module-null-sink", "sink_name=spare", "rate=44100", "channels=1"]);
    let times = [
        ("microphone unloaded and loaded", (0..count).map(|_| microphone(server, &living, &mut recorder)).collect()),
        ("default loudspeaker changed", (0..count).map(|turn| loudspeaker(server, &living, turn)).collect()),
        ("sound server killed and started", (0..count).map(|_| restart(server, &living, &mut recorder)).collect()),
    ];
    for (what, back) in times {
        let back: Vec<f64> = back;
        let most = quantile(&back, 1.0);
        report.promise(
            &format!("{what}: heard or sounding again within 2 s of the device"),
            &spread(&back),
            most <= 2.0,
        );
    }
    let failed = living.witness.read(|diary| diary.failed.clone());
    report.promise("no turn failed", &format!("{failed:?}"), failed.is_empty());
    report
}

/// In the middle of a reply.
fn speaking(server: &Server, living: &Living) {
    if living.state() == State::Speaking {
        return;
    }
    living.wait(State::Idle, 30.0);
    let _person = server.speak(spoken(QUESTION));
    living.wait(State::Speaking, 15.0);
    std::thread::sleep(Duration::from_millis(500));
}

fn is_open(living: &Living) -> Option<()> {
    living.voice().statuses().borrow().microphone.then_some(())
}

fn microphone(server: &Server, living: &Living, recorder: &mut Listener) -> f64 {
    speaking(server, living);
    server.unload("source_name=vmic");
    living.wait(State::Unavailable, 3.0);
    server.load(&["module-remap-source", "master=vmic_sink.monitor", "source_name=vmic"]);
    // A virtual microphone gives nothing for two seconds at first, to anybody: it is back when another recorder has sound.
    *recorder = server.listen("vmic");
    let begun = Instant::now();
    within(Duration::from_secs(10), "the microphone is open", || is_open(living));
    begun.elapsed().as_secs_f64()
}

fn loudspeaker(server: &Server, living: &Living, turn: usize) -> f64 {
    let name = if turn.is_multiple_of(2) { "spare" } else { "vspk" };
    let there = server.listen(&format!("{name}.monitor"));
    let replies = || living.witness.read(|diary| diary.ended.len());
    speaking(server, living);
    let (mut reply, mut from, mut begun) = (replies(), there.count(), Instant::now());
    server.control(&["set-default-sink", name]);
    loop {
        if there.samples()[from..].iter().any(|sample| sample.abs() > 0.01) {
            return begun.elapsed().as_secs_f64();
        }
        if replies() > reply {
            // It came to its end just then; the next one is to be heard there.
            speaking(server, living);
            (reply, from, begun) = (replies(), there.count(), Instant::now());
        }
        assert!(begun.elapsed() < Duration::from_secs(10), "nothing sounds at {name}\n{}", living.account(begun));
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn restart(server: &mut Server, living: &Living, recorder: &mut Listener) -> f64 {
    speaking(server, living);
    server.kill();
    living.wait(State::Unavailable, 3.0);
    server.start();
    // A virtual microphone gives nothing for two seconds at first, to anybody: it is back when another recorder has sound.
    *recorder = server.listen("vmic");
    let begun = Instant::now();
    within(Duration::from_secs(10), "the microphone is open", || is_open(living));
    begun.elapsed().as_secs_f64()
}
