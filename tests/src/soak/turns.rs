//! Scripted turns with pauses inside their sentences: how many are cut off, and how long the person waits at the end.

use eddy_audio::ear::{FRAME, RATE};
use eddyd::voice::{Attention, Noticed};

use super::ears::{Ears, STEP, add_noise, voice};
use super::{Report, quantile, spread};

/// What is said before a pause and behind it.
const SCRIPTS: [(&str, &str); 25] = [
    ("I would like to know,", "what the tallest mountain in the world is."),
    ("Can you tell me, um,", "how many days there are in a year?"),
    ("Please remind me to,", "call my sister tomorrow morning."),
    ("What is the weather like in,", "London today?"),
    ("Set a timer for,", "ten minutes please."),
    ("I am looking for the,", "page about the garden."),
    ("Could you play some music by,", "somebody from the north?"),
    ("The day after tomorrow I,", "will be in Rome for a week."),
    ("How far is it from here to,", "the next station?"),
    ("Tell me a story about a fox and,", "a hen who were friends."),
    ("When I was younger we used to,", "walk to school every day."),
    ("Is there anything in my notes about,", "the meeting with the bank?"),
    ("Turn off the light in the,", "kitchen and in the hall."),
    ("I think that the best way to do it is,", "to begin with the smallest one."),
    ("Who was the first person on,", "the moon, and when was that?"),
    ("My favourite colour is,", "green, but I like blue as well."),
    ("Add bread, milk, and,", "two lemons to my shopping list."),
    ("If it does not rain tomorrow,", "we will go to the lake."),
    ("What is the sum of twenty three and,", "thirty nine?"),
    ("Do you know whether the shop on the corner,", "is open on Sunday?"),
    ("I was going to ask you about,", "the train to Berlin."),
    ("Wake me up at,", "half past six, but only on weekdays."),
    ("The letter that came yesterday was from,", "the insurance company."),
    ("Write down that the key is,", "under the flower pot by the door."),
    ("How do you say good morning in,", "Japanese and in Italian?"),
];

/// Lengths of pauses, seconds.
const PAUSES: [f64; 5] = [0.2, 0.3, 0.4, 0.5, 0.7];

/// So many turns.
pub fn run(count: usize) -> Report {
    let mut report = Report::new("turns");
    let mut ears = Ears::default();
    let mut judged = [Vec::new(), Vec::new()];
    // Cut off, and all.
    let mut by_pause = [(0, 0); PAUSES.len()];
    let (mut waits, mut cut, mut missed, mut taken_back) = (Vec::new(), 0, 0, 0);
    for number in 0..count {
        let (before, behind) = SCRIPTS[number % SCRIPTS.len()];
        let which = (number / SCRIPTS.len() + number) % PAUSES.len();
        let pause = PAUSES[which];
        by_pause[which].1 += 1;
        let level = 0.03 * 10f32.powf(((number % 3) as f32 - 1.0) * 6.0 / 20.0);
        let (mut sound, last) = turn(before, behind, pause, level);
        add_noise(&mut sound, 3e-4, number as u64);
        ears.restart();
        let (mut attention, mut ended) = (Attention::Beginning, None);
        for (n, recorded) in sound.chunks_exact(FRAME).enumerate() {
            let now = (n + 1) as f64 * STEP;
            let noticed = ears.hear(&[0.0; FRAME], recorded, attention).0;
            if let Some(judgement) = ears.judgement.take() {
                judged[usize::from(now > last)].push(f64::from(judgement));
            }
            match noticed {
                Some(Noticed::Began) if attention == Attention::Beginning => {
                    attention = Attention::Turn;
                    ears.turn_to(attention);
                }
                Some(Noticed::Resumed) => taken_back += 1,
                Some(Noticed::Ended(_)) => {
                    ended = Some(now);
                    break;
                }
                _ => {}
            }
        }
        match ended {
            Some(at) if at < last => {
                cut += 1;
                by_pause[which].0 += 1;
                report.line(&format!(
                    "cut off {:.2} s before its end, pause of {pause} s: {before} / {behind}",
                    last - at
                ));
            }
            Some(at) => waits.push(at - last),
            None => missed += 1,
        }
    }
    report.line(&format!("the judge: {}", spread(&ears.judging)));
    for (judged, where_) in judged.iter().zip(["inside a turn", "at its end"]) {
        let at = |part| quantile(judged, part);
        let parts = [at(0.05), at(0.25), at(0.5), at(0.75), at(0.95)];
        report.line(&format!(
            "its probability of an end, {where_}: {} times, 5, 25, 50, 75, 95 %: {parts:.2?}",
            judged.len()
        ));
    }
    report.line(&format!("waits after the last word: {}; {taken_back} pauses were taken back", spread(&waits)));
    for (pause, (cut, all)) in PAUSES.iter().zip(by_pause) {
        report.line(&format!("pause of {pause} s: {cut} of {all} cut off"));
    }
    let share = cut as f64 / count as f64;
    let what = format!("at most 5 % of {count} turns with a pause of 0.2 to 0.7 s inside are cut off");
    report.promise(&what, &format!("{cut} ({:.1} %), {missed} never ended", share * 1e2), share <= 0.05 && missed == 0);
    let median = quantile(&waits, 0.5);
    report.promise("median wait after the last word at most 600 ms", &format!("{:.0} ms", median * 1e3), median <= 0.6);
    report
}

/// A turn with a pause, half a second before it and two behind; where its last sound is, seconds.
fn turn(before: &str, behind: &str, pause: f64, level: f32) -> (Vec<f32>, f64) {
    // What espeak-ng itself is silent for at the ends does not count.
    let trimmed = |text: &str| {
        let sound = voice(text, level);
        let loud = |sample: &f32| sample.abs() > 0.03 * level;
        let (first, last) = (sound.iter().position(loud).unwrap(), sound.iter().rposition(loud).unwrap());
        sound[first..=last].to_vec()
    };
    let silence = |seconds: f64| vec![0.0; (seconds * f64::from(RATE)) as usize];
    let mut sound = [silence(0.5), trimmed(before), silence(pause), trimmed(behind)].concat();
    let last = sound.len() as f64 / f64::from(RATE);
    sound.extend(silence(2.0));
    (sound, last)
}
