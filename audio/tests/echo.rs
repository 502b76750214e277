//! Echo cancellation in rooms made by arithmetic: how much is removed, and what is left of a person who interrupts.

mod common;

use common::{Random, Room, correlation, db, rms, voice};
use eddy_audio::echo::{EchoCanceller, Report, Verdict};

const RATE: u32 = 16_000;
const SECOND: usize = RATE as usize;

/// Runs everything through a canceller; the result is as long as the input.
fn cancel(played: &[f32], recorded: &[f32]) -> (Vec<f32>, Report) {
    let mut canceller = EchoCanceller::new(RATE, false);
    let frame = canceller.frame();
    let mut clean = vec![0.0; recorded.len()];
    for ((played, recorded), clean) in
        played.chunks_exact(frame).zip(recorded.chunks_exact(frame)).zip(clean.chunks_exact_mut(frame))
    {
        canceller.process(played, recorded, clean);
    }
    (clean, canceller.report())
}

fn add_noise(samples: &mut [f32], level: f32, seed: u64) {
    let mut random = Random::new(seed);
    // Uniform noise in [-1, 1) has an RMS of 1/sqrt(3).
    samples.iter_mut().for_each(|sample| *sample += level * 1.732 * random.draw());
}

#[test]
fn thirty_decibels_after_two_seconds_from_40_to_250_ms() {
    let played = voice(1, 120.0, RATE, 10 * SECOND);
    for delay in [0.040, 0.090, 0.140, 0.200, 0.250] {
        for (reverberation, clips) in [(0.08, false), (0.25, false), (0.08, true)] {
            let room = Room { delay, reverberation, gain: 0.5, clips };
            let mut recorded = room.hear(&played, RATE);
            let echo = rms(&recorded[2 * SECOND..]);
            add_noise(&mut recorded, 1e-4, 3);
            let (clean, report) = cancel(&played, &recorded);
            let erle = db(echo / rms(&clean[2 * SECOND..]));
            println!("{delay:.3} s, tail {reverberation} s, clips {clips}: {erle:.1} dB, {report:?}");
            assert!(erle >= 30.0, "{delay} s, tail {reverberation} s, clips {clips}: {erle:.1} dB");
            assert_eq!(report.verdict, Verdict::Helps);
        }
    }
}

/// Levels of 20 ms pieces, as a curve around zero.
fn envelope(samples: &[f32]) -> Vec<f32> {
    let levels: Vec<f32> = samples.chunks_exact(320).map(rms).collect();
    let mean = levels.iter().sum::<f32>() / levels.len() as f32;
    levels.iter().map(|level| level - mean).collect()
}

/// A person who speaks from the sixth second on, so many dB below the echo: how alike what is left is to what was
/// said (waveform and envelope), its level against the original, and the level of the echo alone before, dB.
fn interrupt(below: f32) -> (f32, f32, f32, f32) {
    let played = voice(1, 120.0, RATE, 12 * SECOND);
    let room = Room { delay: 0.120, reverberation: 0.15, gain: 0.5, clips: false };
    let mut recorded = room.hear(&played, RATE);
    let begin = 6 * SECOND;
    let mut person = voice(2, 210.0, RATE, 12 * SECOND);
    person[..begin].fill(0.0);
    let scale = rms(&recorded[begin..]) / rms(&person[begin..]) / 10f32.powf(below / 20.0);
    person.iter_mut().for_each(|sample| *sample *= scale);
    recorded.iter_mut().zip(&person).for_each(|(recorded, person)| *recorded += person);
    add_noise(&mut recorded, 1e-4, 3);
    let (clean, report) = cancel(&played, &recorded);

    let at = |lag: usize| (&clean[begin + lag..], &person[begin..clean.len() - lag]);
    let alike = |lag: usize| correlation(at(lag).0, at(lag).1);
    let lag = (0..400).max_by(|&a, &b| alike(a).total_cmp(&alike(b))).expect("a lag");
    let (left, said) = at(lag);
    let curve = correlation(&envelope(left), &envelope(said));
    let before = correlation(&envelope(&recorded[begin..]), &envelope(&person[begin..]));
    let level = db(rms(left) / rms(said));
    let echo = db(rms(&clean[2 * SECOND..begin]) / rms(said));
    println!(
        "{below} dB below: lag {lag}, waveform {:.2}, envelope {before:.2} -> {curve:.2}, level {level:.1} dB, \
         echo alone {echo:.1} dB, {report:?}",
        alike(lag)
    );
    (alike(lag), curve, level, echo)
}

#[test]
fn a_person_who_interrupts_stays_audible() {
    let (waveform, curve, level, echo) = interrupt(0.0);
    assert!(waveform > 0.35 && curve > 0.7 && level > -6.0, "{waveform} {curve} {level}");
    assert!(echo < level - 25.0, "the echo is {echo} dB");
    // The loudspeaker 10 dB above the person: no longer good to listen to, and plain to hear.
    let (_, curve, level, echo) = interrupt(10.0);
    assert!(curve > 0.5 && level > -10.0, "{curve} {level}");
    assert!(echo < level - 25.0, "the echo is {echo} dB");
}

#[test]
fn steady_noise_is_taken_out_where_that_is_wanted() {
    let mut recorded = vec![0.0; 6 * SECOND];
    add_noise(&mut recorded, 0.01, 4);
    let left = |noise: bool| {
        let mut canceller = EchoCanceller::new(RATE, noise);
        let mut clean = vec![0.0; recorded.len()];
        for (recorded, clean) in recorded.chunks_exact(160).zip(clean.chunks_exact_mut(160)) {
            canceller.process(&[0.0; 160], recorded, clean);
        }
        db(rms(&clean[4 * SECOND..]) / rms(&recorded[4 * SECOND..]))
    };
    let (with, without) = (left(true), left(false));
    assert!(with < -6.0 && without > -3.0, "{with:.1} dB and {without:.1} dB");
}

#[test]
fn a_person_alone_passes() {
    let played = vec![0.0; 6 * SECOND];
    let mut person = voice(2, 210.0, RATE, 6 * SECOND);
    add_noise(&mut person, 1e-4, 3);
    let (clean, report) = cancel(&played, &person);
    let level = db(rms(&clean[SECOND..]) / rms(&person[SECOND..]));
    assert!(level.abs() < 1.5, "{level} dB");
    assert_eq!(report.verdict, Verdict::Unproven);
}

#[test]
fn a_person_passes_unbroken_when_the_canceller_rests_and_wakes() {
    // Played: five seconds of nothing, two of a reply without an echo (headphones), five of nothing.
    let mut played = vec![0.0; 12 * SECOND];
    let reply = voice(1, 120.0, RATE, 2 * SECOND);
    played[5 * SECOND..7 * SECOND].copy_from_slice(&reply);
    let person: Vec<f32> = (0..12 * SECOND).map(|n| 0.3 * (n as f32 * 0.2).sin()).collect();
    let (clean, _) = cancel(&played, &person);
    // A jump in a tone of 509 Hz is a step that the tone itself never makes.
    let steepest = |range: std::ops::Range<usize>| {
        clean[range].windows(2).fold(0.0f32, |most, pair| most.max((pair[1] - pair[0]).abs()))
    };
    let own = steepest(SECOND..2 * SECOND);
    for range in [2 * SECOND..5 * SECOND, 8 * SECOND..11 * SECOND] {
        let most = steepest(range.clone());
        println!("{range:?}: steepest step {most:.4}, the tone's own {own:.4}");
        assert!(most < 3.0 * own, "{range:?}: {most} against {own}");
        let level = db(rms(&clean[range.clone()]) / rms(&person[range]));
        assert!(level.abs() < 1.0, "{level} dB");
    }
}

#[test]
fn where_nothing_is_heard_nothing_is_made_up() {
    // A person, and then a reply into headphones, on a line that is silent to the last bit.
    let mut played = voice(1, 120.0, RATE, 8 * SECOND);
    played[..3 * SECOND].fill(0.0);
    let mut recorded = voice(2, 210.0, RATE, 8 * SECOND);
    recorded[2 * SECOND + SECOND / 2..].fill(0.0);
    let (clean, report) = cancel(&played, &recorded);
    let frames = clean[3 * SECOND..].chunks(160).map(rms);
    let loudest = frames.fold(0.0f32, f32::max);
    println!("{:.1} dB at most, {report:?}", db(loudest));
    assert!(db(loudest) < -60.0, "{:.1} dB, {report:?}", db(loudest));
    assert_eq!((report.erle_db, report.verdict), (None, Verdict::Helps));
}

#[test]
fn a_person_who_keeps_interrupting_is_no_echo_that_stays() {
    // Replies into headphones. The person speaks over each of them, and is noticed a quarter of a second later.
    let played = voice(1, 120.0, RATE, 20 * SECOND);
    let mut recorded = voice(2, 210.0, RATE, 20 * SECOND);
    let speaks = |sample: usize| sample % (3 * SECOND) > 2 * SECOND;
    for (sample, value) in recorded.iter_mut().enumerate() {
        *value *= f32::from(u8::from(speaks(sample)));
    }
    let mut canceller = EchoCanceller::new(RATE, false);
    let mut clean = vec![0.0; 160];
    for (n, (played, recorded)) in played.chunks_exact(160).zip(recorded.chunks_exact(160)).enumerate() {
        canceller.set_near_end(speaks((n * 160).saturating_sub(SECOND / 4)) && speaks(n * 160));
        canceller.process(played, recorded, &mut clean);
    }
    let report = canceller.report();
    assert_eq!((report.erle_db, report.verdict), (None, Verdict::Helps), "{report:?}");
}

#[test]
fn headphones_are_no_reason_for_half_duplex() {
    let played = voice(1, 120.0, RATE, 8 * SECOND);
    let mut recorded = vec![0.0; played.len()];
    add_noise(&mut recorded, 1e-3, 3);
    let (_, report) = cancel(&played, &recorded);
    assert_eq!(report.verdict, Verdict::Helps, "{report:?}");
}

#[test]
fn an_echo_that_is_not_of_the_reference_does_not_pass_for_cancelled() {
    // Another programme's sound, or an echo beyond reach.
    let played = voice(1, 120.0, RATE, 10 * SECOND);
    let recorded = voice(5, 170.0, RATE, 10 * SECOND);
    let (_, report) = cancel(&played, &recorded);
    assert_eq!(report.verdict, Verdict::DoesNotHelp, "{report:?}");
}

#[test]
fn the_delay_is_followed_when_it_changes() {
    let played = voice(1, 120.0, RATE, 20 * SECOND);
    let near = Room { delay: 0.060, reverberation: 0.08, gain: 0.5, clips: false };
    let far = Room { delay: 0.180, ..near };
    let mut recorded = near.hear(&played, RATE);
    let later = far.hear(&played, RATE);
    recorded[10 * SECOND..].copy_from_slice(&later[10 * SECOND..]);
    add_noise(&mut recorded, 1e-4, 3);
    let (clean, report) = cancel(&played, &recorded);
    let erle = db(rms(&recorded[14 * SECOND..]) / rms(&clean[14 * SECOND..]));
    println!("after the move: {erle:.1} dB, {report:?}");
    assert!(erle >= 30.0, "{erle:.1} dB, {report:?}");
}
