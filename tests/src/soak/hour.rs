//! A long conversation, in which nothing may grow; and a long silence, which may cost next to nothing.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use eddyd::voice::State;

use super::{Report, minutes, spread};
use crate::room::{Living, spoken};
use crate::server::{Server, belongings};

const QUESTIONS: [&str; 5] = [
    "What is the tallest mountain in the world?",
    "Tell me a story about a fox and a hen.",
    "How many days are there in a year?",
    "What is the weather like in London today?",
    "Can you play some music for me please?",
];

/// Resident memory of this process, bytes.
fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    text.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * rustix::param::page_size() as u64
}

/// Processor time that this process has used, seconds.
pub(super) fn used() -> f64 {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = text.rsplit_once(')').unwrap().1.split_whitespace().collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap())
        / rustix::param::clock_ticks_per_second() as f64
}

/// The same for each of its threads, by name; threads of one name together.
fn used_by_thread() -> BTreeMap<String, f64> {
    let mut used = BTreeMap::new();
    for task in std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten() {
        // A thread may end while it is looked at.
        let Ok(text) = std::fs::read_to_string(task.path().join("schedstat")) else { continue };
        let Ok(name) = std::fs::read_to_string(task.path().join("comm")) else { continue };
        let nanoseconds: f64 = text.split(' ').next().unwrap().parse().unwrap();
        *used.entry(name.trim().to_owned()).or_default() += nanoseconds / 1e9;
    }
    used
}

/// So many minutes of questions and answers.
pub fn conversation(length: f64, server: &mut Server) -> Report {
    let mut report = Report::new("hour");
    // Not a listener, whose recording would grow all the time.
    let _recorder = server.keep_awake("vmic");
    let settings = ["voice.mode=\"open\"", "generation.greedy=true", "generation.max_items=60"].map(String::from);
    let living = Living::start("talkative", &settings);
    let (begun, mut turns, mut noted) = (Instant::now(), 0, Instant::now());
    // The conversation fills its context first, and is folded from then on.
    let warm = minutes(length / 4.0);
    let mut points = Vec::new();
    while begun.elapsed() < minutes(length) {
        living.wait(State::Idle, 30.0);
        let person = server.speak(spoken(QUESTIONS[turns % QUESTIONS.len()]));
        living.wait(State::Speaking, 20.0);
        living.wait(State::Idle, 30.0);
        drop(person);
        turns += 1;
        if noted.elapsed() >= Duration::from_secs(30) {
            noted = Instant::now();
            living.witness.forget_sound();
            let (files, threads) = belongings();
            let point = (begun.elapsed(), resident(), files, threads);
            report.line(&format!(
                "{:5.1} min: {turns} turns, {:.1} MB, {files} descriptors, {threads} threads",
                point.0.as_secs_f64() / 60.0,
                point.1 as f64 / 1e6
            ));
            points.push(point);
        }
    }
    let status = living.voice().statuses().borrow().clone();
    let (failed, folded, waits) = living.witness.read(|diary| {
        let waits: Vec<f64> = diary.waits.iter().map(|(wait, think)| (*wait + *think).as_secs_f64()).collect();
        (diary.failed.clone(), diary.folded, waits)
    });
    report.line(&format!("{turns} turns, {folded} of the oldest folded away, failed: {failed:?}"));
    report.line(&format!("from the last word to the first sound: {}", spread(&waits)));
    let settled: Vec<_> = points.iter().filter(|point| point.0 >= warm).collect();
    if let (Some(first), Some(last)) = (settled.first(), settled.last()) {
        let grown = last.1 as f64 / first.1 as f64 - 1.0;
        report.promise("memory is flat once warm", &format!("{:+.1} %", grown * 1e2), grown < 0.05);
        let (files, threads) = (last.2 as i64 - first.2 as i64, last.3 as i64 - first.3 as i64);
        let found = format!("{files:+} descriptors, {threads:+} threads");
        report.promise("no descriptor and no thread is left behind", &found, files <= 2 && threads <= 0);
    }
    report.promise("no turn failed", &format!("{}", failed.len()), failed.is_empty());
    let allocations = if cfg!(debug_assertions) { "checked: the process would have ended" } else { "not checked here" };
    report.line(&format!(
        "allocations in callbacks: {allocations}; underruns: {}, overruns: {}",
        status.underruns, status.overruns
    ));
    report
}

/// So many minutes of silence with an open microphone.
pub fn idle(length: f64, server: &mut Server) -> Report {
    let mut report = Report::new("idle");
    let settings = ["voice.mode=\"open\""].map(String::from);
    let living = Living::start("talkative", &settings);
    living.wait(State::Idle, 10.0);
    // A room is never silent to the last bit.
    let mut hiss = vec![0.0; (length * 60.0 + 20.0) as usize * 48_000];
    super::ears::add_noise(&mut hiss, 3e-4, 1);
    let _room = server.speak(hiss);
    std::thread::sleep(Duration::from_secs(8));
    let (begun, before, threads) = (Instant::now(), used(), used_by_thread());
    std::thread::sleep(minutes(length));
    let time = begun.elapsed().as_secs_f64();
    let share = (used() - before) / time;
    for (name, after) in used_by_thread() {
        let share = (after - threads.get(&name).copied().unwrap_or_default()) / time;
        if share >= 5e-4 {
            report.line(&format!("of it the thread {name}: {:.2} %", share * 1e2));
        }
    }
    report.promise(
        "idle with an open microphone: at most 2 % of a core",
        &format!("{:.2} %", share * 1e2),
        share <= 0.02,
    );
    report
}
