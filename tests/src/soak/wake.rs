//! The wake word: how often it is missed in the voice that enrolled it and in others, how often other speech is taken for
//! it, and what it costs.
//!
//! Nobody spoke into a microphone for this: voices are espeak-ng's and flite's, and what makes one utterance differ from
//! the next is pace, pitch, level, noise and what is said behind it.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use eddy_audio::wav::read_wav;
use eddy_config::Config;
use eddy_models::listening::VoiceActivity;
use eddy_models::listening::wake_word::{Embedder, Examples, WakeWord};
use eddy_models::{Runtime, Stop};

use super::Report;
use super::ears::add_noise;
use super::hour::used;
use crate::fixtures::runtime;
use crate::room::noise;

const RATE: usize = 16_000;
/// Who enrols which phrase.
const USERS: [(&str, &str); 8] = [
    ("en-gb", "Computer"),
    ("en-us+f2", "Computer"),
    ("flite slt", "Computer"),
    ("flite rms", "Computer"),
    ("en-gb-scotland+m3", "Hey Eddy"),
    ("en-us+m7", "Hey Eddy"),
    ("flite awb", "Hey Eddy"),
    ("en-029+f4", "Hey Eddy"),
];
/// Pace and pitch of the takes, and of what is tried afterwards, as parts of the usual.
const TAKES: [(f64, f64); 3] = [(1.0, 1.0), (0.94, 0.95), (1.07, 1.05)];
const TRIED: [(f64, f64); 5] = [(0.97, 1.0), (1.03, 0.9), (0.9, 1.05), (1.1, 1.0), (1.0, 1.1)];
const QUESTIONS: [&str; 5] = [
    "what is two plus two?",
    "set a timer for five minutes.",
    "what is the capital of France?",
    "how many days are there in a year?",
    "can you play some music for me?",
];
/// What sounds like one of the phrases.
const SIMILAR: [&str; 24] = [
    "The commuter is late.",
    "Computing is fun.",
    "He wants to compete here.",
    "Can you compute her age?",
    "Confuse her with it.",
    "The pewter cup is old.",
    "A scooter is in the street.",
    "The comforter is warm.",
    "Come and do it.",
    "A tutor came.",
    "Compare the two.",
    "Come, Peter, it is late.",
    "Hey Teddy, come here.",
    "Hey buddy, how are you?",
    "Are you ready?",
    "Hey Henry, good morning.",
    "Steady now.",
    "Hey, Betty is here.",
    "Hey Freddy, wait.",
    "Heavy rain is coming.",
    "The head is big.",
    "Already done.",
    "They edit it.",
    "Hey, any day will do.",
];

/// A voice at a pace and pitch, mono at 16 kHz, peak 0.5.
fn say(voice: &str, (pace, pitch): (f64, f64), text: &str) -> Vec<f32> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("speech.wav");
    let mut command = match voice.strip_prefix("flite ") {
        Some(voice) => {
            let mut command = Command::new("flite");
            command.args(["-voice", voice, "--setf", &format!("duration_stretch={}", 1.0 / pace)]);
            command.args(["--setf", &format!("int_f0_target_mean={}", 100.0 * pitch), "-t", text, "-o"]).arg(&file);
            command
        }
        None => {
            let mut command = Command::new("espeak-ng");
            let (speed, pitch) = ((150.0 * pace).round(), (50.0 * pitch).round());
            command.args(["-v", voice, "-s", &speed.to_string(), "-p", &pitch.to_string(), "-w"]);
            command.arg(&file).args(["--", text]);
            command
        }
    };
    assert!(command.status().expect("espeak-ng and flite are installed").success(), "{voice}: {text}");
    let mut samples = read_wav(&file, Duration::from_secs(60)).unwrap().at_rate(RATE as u32).unwrap().samples;
    let peak = samples.iter().fold(1e-9f32, |peak, sample| peak.max(sample.abs()));
    samples.iter_mut().for_each(|sample| *sample *= 0.5 / peak);
    samples
}

/// The sound in a room: at this level, with silence of an odd length before it, and with noise so many dB weaker.
fn in_room(sound: &[f32], level: f32, snr: Option<f32>, seed: u64) -> Vec<f32> {
    let before = RATE + (seed as usize * 337) % 1_280;
    let mut room = vec![0.0; before + sound.len() + RATE];
    for (to, from) in room[before..].iter_mut().zip(sound) {
        *to = level * from;
    }
    let power = sound.iter().map(|sample| sample * sample).sum::<f32>() / sound.len() as f32;
    add_noise(&mut room, 3e-4 + snr.map_or(0.0, |snr| level * power.sqrt() / 10f32.powf(snr / 20.0)), seed);
    room
}

struct Bench {
    runtime: Runtime,
    stop: Stop,
    detector: VoiceActivity,
    threshold: f32,
}

impl Bench {
    fn enrol(&mut self, voice: &str, phrase: &str) -> WakeWord {
        let takes: Vec<Vec<f32>> =
            (0..).zip(TAKES).map(|(n, take)| in_room(&say(voice, take, &format!("{phrase}.")), 1.0, None, n)).collect();
        let mut embedder = Embedder::load(&self.runtime, &self.stop).unwrap();
        let examples = Examples::enrol(&mut embedder, &mut self.detector, &takes).unwrap();
        WakeWord::load(&self.runtime, &self.stop, examples, self.threshold).unwrap()
    }

    fn hears(&mut self, wake_word: &mut WakeWord, sound: &[f32]) -> usize {
        wake_word.find(&mut self.detector, sound).unwrap().len()
    }
}

/// At least so many minutes of other speech for each who enrols.
pub fn run(minutes: f64) -> Report {
    let mut report = Report::new("wake-word");
    let runtime = runtime();
    let stop = Stop::new(&runtime).unwrap();
    let detector = VoiceActivity::load(&runtime, &stop).unwrap();
    let threshold = Config::default().voice.wake_word_threshold as f32;
    let mut bench = Bench { runtime, stop, detector, threshold };
    report.line(&format!(
        "{} voices enrol {} takes each of \"Computer\" or \"Hey Eddy\"; threshold {threshold}",
        USERS.len(),
        TAKES.len()
    ));
    let mut words: Vec<WakeWord> = USERS.iter().map(|(voice, phrase)| bench.enrol(voice, phrase)).collect();

    let conditions = [
        ("quiet", 1.0, None, false),
        ("16 dB softer", 0.15, None, false),
        ("noise at 15 dB", 1.0, Some(15.0), false),
        ("noise at 10 dB", 1.0, Some(10.0), false),
        ("in one breath with a question", 1.0, None, true),
    ];
    let (mut missed, mut tried) = (0, 0);
    for (name, level, snr, breath) in conditions {
        let (mut lost, mut whose) = (0, String::new());
        for (word, (voice, phrase)) in words.iter_mut().zip(USERS) {
            for (n, style) in TRIED.into_iter().enumerate() {
                let text = if breath { format!("{phrase}, {}", QUESTIONS[n]) } else { format!("{phrase}.") };
                let sound = in_room(&say(voice, style, &text), level, snr, 100 + n as u64);
                if bench.hears(word, &sound) == 0 {
                    lost += 1;
                    write!(whose, " {voice}").unwrap();
                }
            }
        }
        report.line(&format!("the own voice, {name}: {lost} of {} missed{whose}", USERS.len() * TRIED.len()));
        tried += USERS.len() * TRIED.len();
        // Ten decibels are beyond what is promised.
        if snr != Some(10.0) {
            missed += lost;
        }
    }
    let promised = tried - USERS.len() * TRIED.len();
    report.promise(
        "at most one call in twenty is missed, noise of 10 dB aside",
        &format!("{missed} of {promised}"),
        missed * 20 <= promised,
    );

    let (mut heard, mut others) = (0, 0);
    for (word, (own, phrase)) in words.iter_mut().zip(USERS) {
        for (voice, _) in USERS.iter().filter(|(voice, _)| *voice != own) {
            others += 1;
            heard += usize::from(
                bench.hears(word, &in_room(&say(voice, (1.0, 1.0), &format!("{phrase}.")), 1.0, None, 7)) > 0,
            );
        }
    }
    report.line(&format!("another voice that says the enrolled phrase is answered {heard} times in {others}"));
    false_alarms(minutes, &mut bench, &mut words, &mut report);
    cost(&mut bench, &mut words[0], &mut report);
    report
}

fn false_alarms(minutes: f64, bench: &mut Bench, words: &mut [WakeWord], report: &mut Report) {
    let (mut similar, mut said) = (0, 0);
    for (word, (voice, _)) in words.iter_mut().zip(USERS) {
        for (n, text) in SIMILAR.into_iter().enumerate() {
            said += 1;
            let found = bench.hears(word, &in_room(&say(voice, TRIED[n % 5], text), 1.0, None, n as u64));
            if found > 0 {
                report.line(&format!("  {voice}: taken for the phrase: {text}"));
            }
            similar += found;
        }
    }
    report.line(&format!("similar phrases in the own voice: {similar} of {said} are taken for it"));

    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let texts = ["README.md", "CHANGELOG.md"].map(|name| std::fs::read_to_string(root.join(name)).unwrap()).concat();
    let plain: String =
        texts.chars().map(|c| if c.is_alphanumeric() || ",.;:' ".contains(c) { c } else { ' ' }).collect();
    let calls = |text: &str| ["eddy", "computer"].iter().any(|word| text.to_lowercase().contains(word));
    let sentences: Vec<&str> = plain
        .split_inclusive(['.', ';', ':'])
        .map(str::trim)
        .filter(|text| (30..250).contains(&text.len()) && !calls(text))
        .collect();
    let (mut length, mut alarms, mut by_own, mut number) = (0, 0, 0, 0);
    while length < (minutes * 60.0) as usize * RATE {
        let (voice, _) = USERS[number % USERS.len()];
        let sound =
            in_room(&say(voice, TRIED[number % 5], sentences[number % sentences.len()]), 0.6, None, number as u64);
        length += sound.len();
        for (word, (own, _)) in words.iter_mut().zip(USERS) {
            let found = bench.hears(word, &sound);
            alarms += found;
            by_own += if own == voice { found } else { 0 };
        }
        number += 1;
    }
    let said = length as f64 / RATE as f64 / 60.0;
    let hours = said * words.len() as f64 / 60.0;
    report.promise(
        "less than one false alarm in an hour of other speech",
        &format!("{alarms} in {said:.1} minutes for each of {} phrases ({hours:.1} h together), {by_own} of them by the voice that enrolled", words.len()),
        (alarms as f64) < hours.max(1.0),
    );
    let mut alarms = 0;
    for seed in 0..60 {
        let kind = ["cough", "door"][seed as usize % 2];
        let sound: Vec<f32> = noise(kind, seed).into_iter().step_by(3).collect();
        alarms +=
            words.iter_mut().map(|word| bench.hears(word, &in_room(&sound, 1.0, Some(20.0), seed))).sum::<usize>();
    }
    report.promise(
        "no noise is taken for the phrase",
        &format!("{alarms} of 60 coughs and doors for each"),
        alarms == 0,
    );
}

/// Processor time, without the speech detector, which every open microphone has.
fn cost(bench: &mut Bench, word: &mut WakeWord, report: &mut Report) {
    let sentence =
        say("en-gb", (1.0, 1.0), "This is somebody who speaks all the time and says nothing to Eddy, as a radio does.");
    let mut percent = |speech: bool| {
        let before = used();
        let mut pushed = 0;
        while pushed < 120 * RATE {
            for chunk in sentence.chunks_exact(VoiceActivity::CHUNK) {
                word.push(chunk, speech).unwrap();
                pushed += chunk.len();
            }
        }
        (used() - before) / (pushed as f64 / RATE as f64) * 100.0
    };
    let (speaking, silent) = (percent(true), percent(false));
    let before = used();
    for _ in 0..60 * RATE / VoiceActivity::CHUNK {
        bench.detector.probability(&sentence[..VoiceActivity::CHUNK]).unwrap();
    }
    let detector = (used() - before) / 60.0 * 100.0;
    report.line(&format!(
        "cost: {speaking:.1} % of a core while somebody speaks, {silent:.2} % while nobody does; the speech detector that \
         tells them apart takes {detector:.1} %"
    ));
}
