//! Persons who interrupt, and coughs and doors that do not, at a virtual loudspeaker in real time.

use std::time::{Duration, Instant};

use eddyd::voice::{RATE, State};

use super::{Report, quantile, spread};
use crate::heard::{find, to_compare};
use crate::room::{Living, ROOM, noise, spoken};
use crate::server::{Listener, Server, within};

const QUESTION: &str = "Tell me a story about a fox and a hen.";
const INTERRUPTION: &str = "Please tell me something else.";
/// What is louder than this at the loudspeaker is heard; a fade is over below it.
const AUDIBLE: f32 = 1e-3;

/// Asks, and waits until the answer sounds.
fn ask(server: &Server, living: &Living) {
    living.wait(State::Idle, 60.0);
    let person = server.speak(spoken(QUESTION));
    living.wait(State::Speaking, 15.0);
    // The person's voice is over by then; the stream goes with them.
    drop(person);
}

/// So many interruptions of the model in that folder, or of a tiny one that never ends.
pub fn barge_in(count: usize, model: Option<&str>, server: &mut Server) -> Report {
    let mut report = Report::new("barge-in");
    let room = server.listen("vmic_sink.monitor");
    let _recorder = server.listen("vmic");
    let ear = server.listen("vspk.monitor");
    let settings = ["voice.mode=\"open\"", "generation.greedy=true", "generation.max_items=400"].map(String::from);
    let living = Living::start(model.unwrap_or("talkative"), &settings);
    // The first reply is heard to its end, in which the canceller learns that there is no echo to take out.
    ask(server, &living);
    let (mut silences, mut forgotten, mut more, mut missed) = (Vec::new(), 0, 0, 0);
    for number in 0..count {
        ask(server, &living);
        std::thread::sleep(Duration::from_millis(700 + 37 * (number as u64 % 10)));
        let (from, from_room) = (ear.count(), room.count());
        let ended = living.witness.read(|diary| diary.ended.len());
        let person = server.speak(spoken(INTERRUPTION));
        let begun = Instant::now();
        while living.state() != State::Listening && begun.elapsed() < Duration::from_secs(4) {
            std::thread::sleep(Duration::from_millis(2));
        }
        if living.state() != State::Listening {
            missed += 1;
            let loudest = room.samples()[from_room..].iter().fold(0.0f32, |most, sample| most.max(sample.abs()));
            let status = living.voice().statuses().borrow().clone();
            report.line(&format!("{number}: not heard, at a peak of {loudest:.3}; {status:?}"));
            living.voice().interrupt().unwrap();
            living.wait(State::Idle, 5.0);
            continue;
        }
        std::thread::sleep(Duration::from_millis(400));
        living.voice().interrupt().unwrap();
        drop(person);
        living.wait(State::Idle, 5.0);
        within(Duration::from_secs(5), "the turn ends", || {
            living.witness.read(|diary| (diary.ended.len() > ended).then_some(()))
        });
        match silence_after(&room, from_room, &ear, from) {
            Some(seconds) => silences.push(seconds),
            None => report.line(&format!("{number}: it cannot be told when it fell silent")),
        }
        let end = living.witness.read(|diary| diary.ended[ended].clone());
        forgotten += usize::from(end.remembered + 1_920 <= end.played);
        more += usize::from(end.remembered > end.played);
    }
    let values: Vec<String> = silences.iter().map(|seconds| format!("{:.0}", seconds * 1e3)).collect();
    report.line(&format!("milliseconds from the person's first sound in the room to silence: {}", values.join(" ")));
    report.promise("every interruption is heard", &format!("{missed} of {count} were not"), missed == 0);
    let ninety_five = quantile(&silences, 0.95);
    let enough = silences.len() * 10 >= count * 9;
    let what = format!("silence within 120 ms of the first sound of {count} interruptions, 95th percentile");
    report.promise(&what, &spread(&silences), ninety_five <= 0.120 && enough);
    report.promise(
        "the conversation holds what was audible, to the frame, by the count of played samples",
        &format!("{more} times more, {forgotten} times less"),
        more + forgotten == 0,
    );
    report
}

/// From the first sound in the room to the silence of the loudspeaker.
fn silence_after(room: &Listener, from_room: usize, ear: &Listener, from: usize) -> Option<f64> {
    let first = from_room + room.samples()[from_room..].iter().position(|sample| sample.abs() > 0.02)?;
    let heard = ear.samples();
    let begun = room.time_of(first)?;
    // The first silence of a tenth of a second that begins after the person did, less a little for the clocks.
    let mut quiet_since = None;
    for (at, sample) in heard.iter().enumerate().skip(from) {
        if sample.abs() > AUDIBLE {
            quiet_since = None;
            continue;
        }
        let since = *quiet_since.get_or_insert(at);
        if at - since >= ROOM as usize / 10 {
            let when = ear.time_of(since)?;
            if when + Duration::from_millis(20) >= begun {
                return Some(when.saturating_duration_since(begun).as_secs_f64());
            }
        }
    }
    None
}

/// So many coughs, and as many doors.
pub fn false_alarms(count: usize, server: &mut Server) -> Report {
    let mut report = Report::new("false-alarms");
    let room = server.listen("vmic_sink.monitor");
    let _recorder = server.listen("vmic");
    let ear = server.listen("vspk.monitor");
    let settings = ["voice.mode=\"open\"", "generation.greedy=true", "generation.max_items=400"].map(String::from);
    let living = Living::start("talkative", &settings);
    let (mut held, mut after, mut cut, mut made, mut from) = (Vec::new(), Vec::new(), 0, 0, 0);
    let (mut lost, mut pieces, mut correlations) = (0, 0, Vec::new());
    while made < 2 * count {
        let (first_state, ended) = living.witness.read(|diary| (diary.states.len(), diary.ended.len()));
        ask(server, &living);
        let mut sounds = Vec::new();
        std::thread::sleep(Duration::from_millis(600));
        while made < 2 * count && matches!(living.state(), State::Speaking | State::Holding) {
            let kind = if made % 2 == 0 { "cough" } else { "door" };
            sounds.push(server.speak(noise(kind, made as u64)));
            made += 1;
            std::thread::sleep(Duration::from_millis(1_700));
        }
        living.wait(State::Idle, 60.0);
        within(Duration::from_secs(5), "the turn ends", || {
            living.witness.read(|diary| (diary.ended.len() > ended).then_some(()))
        });
        std::thread::sleep(Duration::from_millis(300));
        let heard = to_compare(&ear.samples()[from..], ROOM);
        from = ear.count().saturating_sub(ROOM as usize / 2);
        living.witness.read(|diary| {
            let states: Vec<(Instant, State)> =
                diary.states[first_state..].iter().map(|(at, state, _)| (*at, *state)).collect();
            for pair in states.windows(2) {
                match (pair[0].1, pair[1].1) {
                    (State::Holding, State::Speaking) => {
                        held.push((pair[1].0 - pair[0].0).as_secs_f64());
                        // The noise that it was held for, which may go on when it is known to be none.
                        let cause = noises(&room).into_iter().rfind(|(begin, _)| *begin < pair[0].0);
                        after.extend(cause.map(|(_, end)| pair[1].0.saturating_duration_since(end)));
                    }
                    (State::Holding, _) => cut += 1,
                    _ => {}
                }
            }
            let (end, answer) = (&diary.ended[ended], &diary.answers[ended]);
            if end.played as usize == answer.len() {
                let found = find(&to_compare(answer, RATE), &heard, 0);
                lost += found.lost.len();
                pieces += found.pieces;
                correlations.push(found.correlation);
            } else {
                cut += 1;
            }
        });
    }
    report.line(&format!("{made} noises, {} of them held the reply: {}", held.len(), spread(&held)));
    report.promise(&format!("none of {count} coughs and {count} doors cuts a reply"), &format!("{cut} did"), cut == 0);
    let after: Vec<f64> = after.iter().map(Duration::as_secs_f64).collect();
    let late = after.iter().filter(|seconds| **seconds > 0.3).count();
    let found = format!("{late} of {} took longer; {}", after.len(), spread(&after));
    report.promise("a hold for nothing ends within 300 ms of the noise", &found, late == 0);
    let least = quantile(&correlations, 0.0);
    // A hold parts the piece that it falls into; what a virtual loudspeaker loses when it is not scheduled comes on top.
    let holds = held.len();
    let what = "no sample lost: every reply was played to its last sample, and is found in what was heard";
    let found = format!(
        "correlation at least {least:.4}; of {pieces} tenths of a second {lost} not in one piece, with {holds} holds"
    );
    report.promise(what, &found, least > 0.99 && lost.saturating_sub(holds) * 20 <= pieces);
    report
}

/// When noises in the room began and ended: a quarter of a second without any is an end.
fn noises(room: &Listener) -> Vec<(Instant, Instant)> {
    let heard = room.samples();
    let loud: Vec<usize> = (0..heard.len()).filter(|at| heard[*at].abs() > 0.01).collect();
    let noises = loud.chunk_by(|one, next| next - one <= ROOM as usize / 4);
    noises.filter_map(|noise| Some((room.time_of(*noise.first()?)?, room.time_of(*noise.last()?)?))).collect()
}
