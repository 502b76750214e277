//! Replies in rooms whose echo is louder than any person: nobody may be heard in them but persons.

use eddy_audio::ear::{FRAME, RATE};
use eddyd::voice::{Attention, Noticed};

use super::ears::{Ears, STEP, add_noise, voice};
use super::{Report, quantile, spread};
use crate::sounds::Room;

/// Echo delays, milliseconds.
const DELAYS: [u32; 6] = [40, 80, 120, 160, 200, 250];
/// Level of the loudspeaker at the microphone (RMS): 10 dB above a person at 0.03.
const LOUDSPEAKER: f32 = 0.095;
/// Level at which replies are played.
const PLAYED: f32 = 0.2;
/// The room's own noise.
const HISS: f32 = 3e-4;

const REPLIES: [&str; 10] = [
    "The kettle is on, and the rain will come before noon.",
    "Once upon a time there was a fox who lived at the edge of a wood, and he was hungry most of the year.",
    "There are three hundred and sixty five days in a year, and one more in a leap year.",
    "The capital of Italy is Rome. It lies on the river Tiber, not far from the sea.",
    "I have set a timer for ten minutes and will tell you when it is over.",
    "You have two appointments tomorrow: the dentist at nine, and lunch with your sister at half past twelve.",
    "The tallest mountain in the world is Mount Everest, which is eight thousand eight hundred metres high.",
    "It will be cloudy in the morning, with some sunshine in the afternoon and a light wind from the west.",
    "To make the dough, mix the flour with a little salt and some warm water, and let it rest for an hour.",
    "I did not find anything about that in your notes, but there are two pages that come close to it.",
];

const INTERRUPTIONS: [&str; 5] = [
    "Stop it please, that is enough.",
    "Wait, what about the day after tomorrow?",
    "No, I meant the other one.",
    "Thank you, that will do for now.",
    "Please tell me something else instead.",
];

/// So many minutes of replies with nobody speaking, and fifty persons who interrupt.
pub fn run(minutes: f64) -> Report {
    let mut report = Report::new("echo");
    let mut ears = Ears::default();
    let (mut holds, mut interruptions, mut beginnings, mut spoken, mut erles) = (0, 0, 0, 0.0, Vec::new());
    for (number, delay) in DELAYS.into_iter().enumerate() {
        let room = Room {
            delay: delay as f32 / 1e3,
            reverberation: if number.is_multiple_of(2) { 0.12 } else { 0.2 },
            gain: LOUDSPEAKER / PLAYED,
            clips: number % 3 == 2,
        };
        ears.restart();
        let (mut here, mut heard) = ([0; 3], 0.0);
        let share = minutes * 60.0 / DELAYS.len() as f64;
        let mut reply = number;
        while heard < share {
            let (played, recorded) = said(&room, REPLIES[reply % REPLIES.len()], reply as u64);
            reply += 1;
            ears.turn_to(Attention::Interruption);
            let sounding = played.len() - RATE as usize;
            for (n, (played, recorded)) in played.chunks_exact(FRAME).zip(recorded.chunks_exact(FRAME)).enumerate() {
                let over = n * FRAME >= sounding;
                let attention = if over { Attention::Beginning } else { Attention::Interruption };
                if n == sounding.div_ceil(FRAME) {
                    ears.turn_to(attention);
                }
                match ears.hear(played, recorded, attention).0 {
                    Some(Noticed::Suspected) => here[0] += 1,
                    Some(Noticed::Confirmed) => here[1] += 1,
                    Some(Noticed::Began) => here[2] += 1,
                    _ => {}
                }
            }
            heard += sounding as f64 / f64::from(RATE);
        }
        let erle = ears.report().erle_db.unwrap_or_default();
        erles.push(f64::from(erle));
        report.line(&format!(
            "echo after {delay} ms, tail {:.2} s, loudspeaker {}: {heard:.0} s of replies, {} holds, {} self-interruptions, \
             {} turns begun by its own echo, echo return loss {erle:.1} dB, delay found {:?}",
            room.reverberation,
            if room.clips { "distorts" } else { "is clean" },
            here[0],
            here[1],
            here[2],
            ears.report().delay
        ));
        holds += here[0];
        interruptions += here[1];
        beginnings += here[2];
        spoken += heard;
    }
    let what =
        format!("no self-interruption in {:.1} minutes of replies, loudspeaker 10 dB above the person", spoken / 60.0);
    let found =
        format!("{interruptions} interruptions and {beginnings} turns by itself, {holds} holds that were dropped");
    report.promise(&what, &found, interruptions == 0 && beginnings == 0);
    let least = quantile(&erles, 0.0);
    report.promise("echo return loss of at least 30 dB", &format!("least {least:.1} dB"), least >= 30.0);
    for below in [0.0, 5.0, 10.0] {
        persons(&mut report, &mut ears, below, true);
    }
    persons(&mut report, &mut ears, 0.0, false);
    report
}

/// One reply and the second after it: what is played, and what the microphone hears of it.
fn said(room: &Room, text: &str, seed: u64) -> (Vec<f32>, Vec<f32>) {
    let mut played = voice(text, PLAYED);
    played.resize((played.len() + RATE as usize).div_ceil(FRAME) * FRAME, 0.0);
    let recorded = recorded_of(room, &played, seed);
    (played, recorded)
}

/// What the microphone hears of `played`, and the room's hiss.
fn recorded_of(room: &Room, played: &[f32], seed: u64) -> Vec<f32> {
    // Reflections add a little to the gain.
    let mut recorded = room.hear(played, RATE);
    add_noise(&mut recorded, HISS, seed);
    recorded
}

/// Persons who speak over the reply, so many dB below it at the microphone.
fn persons(report: &mut Report, ears: &mut Ears, below: f32, echo: bool) {
    let level = LOUDSPEAKER / 10f32.powf(below / 20.0);
    let (mut to_hold, mut to_cut, mut missed) = (Vec::new(), Vec::new(), 0);
    for number in 0..50 {
        let delay = DELAYS[number % DELAYS.len()];
        let gain = if echo { LOUDSPEAKER / PLAYED } else { 0.0 };
        let room = Room { delay: delay as f32 / 1e3, reverberation: 0.12, gain, clips: false };
        if number.is_multiple_of(10) {
            ears.restart();
        }
        let text = [REPLIES[number % REPLIES.len()], REPLIES[(number + 3) % REPLIES.len()]].join(" ");
        let (played, mut recorded) = said(&room, &text, number as u64);
        let begin = 3 * RATE as usize;
        let person = voice(INTERRUPTIONS[number % INTERRUPTIONS.len()], level);
        let silent = person.iter().position(|sample| sample.abs() > 0.1 * level).unwrap();
        recorded[begin..].iter_mut().zip(&person).for_each(|(sample, person)| *sample += person);
        ears.turn_to(Attention::Interruption);
        let first = (begin + silent) as f64 / f64::from(RATE);
        let (mut hold, mut cut) = (None, None);
        let (mut given, mut there) = (played.clone(), recorded.clone());
        for n in 0..played.len() / FRAME {
            let (now, range) = ((n + 1) as f64 * STEP, n * FRAME..(n + 1) * FRAME);
            match ears.hear(&given[range.clone()], &there[range.clone()], Attention::Interruption).0 {
                Some(Noticed::Suspected) if now > first => {
                    hold = hold.or(Some(now - first));
                    // Two callbacks later the loudspeaker is silent, and then its echo.
                    let silent = range.end + 2 * FRAME;
                    given.iter_mut().skip(silent).for_each(|sample| *sample = 0.0);
                    there = recorded_of(&room, &given, text.len() as u64);
                    there[begin..].iter_mut().zip(&person).for_each(|(sample, person)| *sample += person);
                }
                Some(Noticed::Denied) => (given, there) = (played.clone(), recorded.clone()),
                Some(Noticed::Confirmed) if now > first => cut = cut.or(Some(now - first)),
                _ => {}
            }
            if cut.is_some() || now > first + 2.5 {
                break;
            }
        }
        to_hold.extend(hold);
        to_cut.extend(cut);
        missed += usize::from(cut.is_none());
    }
    report.line(&format!(
        "50 persons {}, from their first sound to the hold: {}; to the cut: {}; {missed} were \
         not heard within 2.5 s",
        if echo { format!("{below} dB below the loudspeaker") } else { "while the reply goes to headphones".into() },
        spread(&to_hold),
        spread(&to_cut)
    ));
}
