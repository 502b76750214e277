//! Whether the person speaks while Eddy does.
//!
//! Owns no sound: it is told, chunk by chunk, how probable speech is and how loud the microphone was before and after
//! the loudspeaker's echo was taken out. Playback is held at the first sign, because a person who interrupts wants quiet
//! at once; only speech that lasts, and that is no rest of the echo, makes it an interruption.

use std::time::Duration;

use eddy_audio::echo::{Report, Verdict as Judged};

/// What is known of the loudspeaker's echo.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Echo {
    /// Nothing yet.
    Unknown,
    /// There is none: headphones, or a loudspeaker that is off.
    Absent,
    /// It leaves by so many dB weaker than it comes.
    Weaker(f32),
}

impl From<Report> for Echo {
    fn from(report: Report) -> Self {
        match (report.erle_db, report.verdict) {
            (Some(erle), _) => Self::Weaker(erle),
            (None, Judged::Helps) => Self::Absent,
            (None, Judged::Unproven | Judged::DoesNotHelp) => Self::Unknown,
        }
    }
}

/// What counts as an interruption.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Threshold {
    /// A chunk with at least this probability holds speech.
    pub speech: f32,
    /// A chunk with less than this holds none.
    pub silence: f32,
    /// Speech of this length is an interruption.
    pub length: Duration,
    /// The length of a chunk.
    pub chunk: Duration,
}

/// One chunk as the microphone heard it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Chunk {
    /// Probability of speech after the echo was taken out.
    pub speech: f32,
    /// Mean power at the microphone.
    pub recorded: f32,
    /// Mean power of what is left without the echo.
    pub clean: f32,
    /// Mean power of what the loudspeaker was given.
    pub played: f32,
}

/// What a chunk means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing new.
    Same,
    /// Perhaps an interruption: hold playback.
    Suspected,
    /// It is one.
    Confirmed,
    /// It was none: go on.
    Denied,
}

/// What is left of an echo is weaker than it came by what the canceller takes out on the average, less what it may be worse
/// by for a moment, dB; and by no less and no more than this is relied on.
const WORSE: f32 = 15.0;
const RELIED_ON: std::ops::RangeInclusive<f32> = 10.0..=25.0;
/// Below this nobody speaks (RMS of -60 dB of full scale, as power).
const FAINT: f32 = 1e-6;
/// A canceller that takes an echo out takes some of a person who speaks at the same time too, and the detector of speech
/// does not know them again. So whoever is louder than any rest of the echo is suspected as well, whatever it sounds like:
/// once playback is held there is no echo, and it can be told. From this return loss on, at this level after the
/// cancellation (-55 dB), and at this part of what came (-20 dB).
const GOOD: f32 = 30.0;
const HEARD: f32 = 3.2e-6;
const PART: f32 = 1e-2;
/// What is left at most of what the canceller takes out.
const SWALLOWED: f32 = 0.1;
/// The same where there is no echo: that much more than the room's own noise, as power.
const ABOVE: f32 = 10.0;
/// Chunks in a row that it takes.
const IN_A_ROW: u32 = 2;
/// How fast the noise may rise, from chunk to chunk.
const RISE: f32 = 1.02;
/// Quiet after which a suspicion is dropped.
const QUIET: Duration = Duration::from_millis(128);
/// The longest that playback is held without an answer: murmurs between the thresholds must not hold it for ever.
const LONGEST: Duration = Duration::from_millis(2_000);

/// Follows one reply.
#[derive(Debug, Clone)]
pub struct BargeIn {
    threshold: Threshold,
    state: State,
    /// The room's own noise, power.
    noise: f32,
    /// Chunks in a row that were louder than what Eddy itself could be.
    above: u32,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum State {
    Unsuspecting,
    Suspecting { speech: Duration, quiet: Duration, whole: Duration },
}

impl BargeIn {
    /// Begins unsuspecting.
    #[must_use]
    pub fn new(threshold: Threshold) -> Self {
        Self { threshold, state: State::Unsuspecting, noise: FAINT, above: 0 }
    }

    /// Forgets a suspicion.
    pub fn reset(&mut self) {
        self.state = State::Unsuspecting;
        self.above = 0;
    }

    /// Whether somebody is louder than what Eddy itself could be.
    fn is_above(&mut self, heard: Chunk, echo: Echo) -> bool {
        self.noise = heard.recorded.min(self.noise * RISE).max(FAINT);
        let above = match echo {
            Echo::Unknown => false,
            Echo::Absent => heard.recorded > HEARD && heard.recorded > ABOVE * self.noise,
            Echo::Weaker(erle) => erle >= GOOD && heard.clean > HEARD && heard.clean > PART * heard.recorded,
        };
        self.above = if above && heard.played > FAINT { self.above + 1 } else { 0 };
        self.above >= IN_A_ROW
    }

    /// Takes the next chunk, with what is known of the echo in it.
    pub fn push(&mut self, heard: Chunk, echo: Echo) -> Verdict {
        let Threshold { speech, silence, length, chunk } = self.threshold;
        let erle = if let Echo::Weaker(erle) = echo { erle } else { 0.0 };
        let weaker = (erle - WORSE).clamp(*RELIED_ON.start(), *RELIED_ON.end());
        let is_rest = heard.played > FAINT && heard.clean < heard.recorded * 10f32.powf(-weaker / 10.0);
        let is_speech = heard.speech >= speech && heard.clean > FAINT;
        let is_above = self.is_above(heard, echo);
        match self.state {
            State::Unsuspecting if (is_speech && !is_rest) || is_above => {
                let so_far = if is_speech { chunk } else { Duration::ZERO };
                self.state = State::Suspecting { speech: so_far, quiet: Duration::ZERO, whole: chunk };
                Verdict::Suspected
            }
            State::Unsuspecting => Verdict::Same,
            State::Suspecting { speech: so_far, quiet, whole } => {
                let whole = whole + chunk;
                // In the rest of an echo nothing can be told, nor in what the canceller takes out with it: it neither counts
                // as speech nor as quiet.
                let is_swallowed = heard.recorded > HEARD && heard.clean < SWALLOWED * heard.recorded;
                let (so_far, quiet) = match heard.speech {
                    _ if is_speech && !is_rest => (so_far + chunk, Duration::ZERO),
                    probability if probability < silence && !is_swallowed => (so_far, quiet + chunk),
                    _ => (so_far, quiet),
                };
                self.state = State::Suspecting { speech: so_far, quiet, whole };
                if so_far >= length {
                    self.state = State::Unsuspecting;
                    Verdict::Confirmed
                } else if quiet >= QUIET || whole >= LONGEST {
                    self.state = State::Unsuspecting;
                    Verdict::Denied
                } else {
                    Verdict::Same
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHUNK: Duration = Duration::from_millis(32);

    fn detector() -> BargeIn {
        let length = Duration::from_millis(250);
        BargeIn::new(Threshold { speech: 0.5, silence: 0.35, length, chunk: CHUNK })
    }

    const VOICE: Chunk = Chunk { speech: 0.9, recorded: 1e-2, clean: 8e-3, played: 1e-2 };
    const ECHO: Chunk = Chunk { speech: 0.9, recorded: 1e-1, clean: 1e-4, played: 1e-1 };
    const QUIETNESS: Chunk = Chunk { speech: 0.02, recorded: 1e-6, clean: 1e-6, played: 0.0 };

    fn feed(detector: &mut BargeIn, chunk: Chunk, count: usize) -> Vec<(usize, Verdict)> {
        (1..=count)
            .map(|n| (n, detector.push(chunk, Echo::Unknown)))
            .filter(|(_, verdict)| *verdict != Verdict::Same)
            .collect()
    }

    #[test]
    fn a_person_is_suspected_at_once_and_confirmed_when_they_go_on() {
        assert_eq!(feed(&mut detector(), VOICE, 8), [(1, Verdict::Suspected), (8, Verdict::Confirmed)]);
    }

    #[test]
    fn a_cough_is_denied_soon_after_it() {
        let mut detector = detector();
        assert_eq!(feed(&mut detector, VOICE, 4), [(1, Verdict::Suspected)]);
        assert_eq!(feed(&mut detector, QUIETNESS, 10), [(4, Verdict::Denied)]);
    }

    #[test]
    fn what_is_left_of_the_echo_is_nobody() {
        let mut detector = detector();
        assert_eq!(feed(&mut detector, ECHO, 100), []);
        // Nor does it confirm what something else has begun.
        feed(&mut detector, VOICE, 1);
        assert_eq!(feed(&mut detector, ECHO, 20), []);
        assert_eq!(feed(&mut detector, QUIETNESS, 10), [(4, Verdict::Denied)]);
    }

    #[test]
    fn a_person_far_below_the_loudspeaker_is_told_from_an_echo_that_is_well_taken_out() {
        // 14 dB below what the microphone hears in all.
        let person = Chunk { speech: 0.9, recorded: 1e-1, clean: 4e-3, played: 1e-1 };
        let known = [Echo::Unknown, Echo::Weaker(20.0), Echo::Weaker(42.0)];
        for (echo, verdict) in known.into_iter().zip([Verdict::Same, Verdict::Same, Verdict::Suspected]) {
            assert_eq!(detector().push(person, echo), verdict, "{echo:?}");
        }
        // The rest of the echo itself is 30 dB below.
        assert_eq!(detector().push(ECHO, Echo::Weaker(42.0)), Verdict::Same);
    }

    #[test]
    fn a_person_whom_the_canceller_takes_for_an_echo_is_suspected_by_their_level() {
        let swallowed = Chunk { speech: 0.02, recorded: 1e-1, clean: 2e-3, played: 1e-1 };
        let mut one = detector();
        assert_eq!(one.push(swallowed, Echo::Weaker(42.0)), Verdict::Same);
        assert_eq!(one.push(swallowed, Echo::Weaker(42.0)), Verdict::Suspected);
        // What is swallowed is not quiet, and as speech it counts only when it can be heard.
        assert_eq!((0..10).map(|_| one.push(swallowed, Echo::Weaker(42.0))).last(), Some(Verdict::Same));
        assert_eq!((0..8).map(|_| one.push(VOICE, Echo::Weaker(42.0))).last(), Some(Verdict::Confirmed));
        // With headphones nothing that is loud is an echo.
        let mut other = detector();
        let wearing = Chunk { clean: 1e-4, recorded: 1e-2, ..swallowed };
        assert_eq!(other.push(wearing, Echo::Absent), Verdict::Same);
        assert_eq!(other.push(wearing, Echo::Absent), Verdict::Suspected);
        // An echo that is badly taken out suspects nobody.
        let mut third = detector();
        assert!((0..50).all(|_| third.push(swallowed, Echo::Weaker(18.0)) == Verdict::Same));
    }

    #[test]
    fn a_murmur_does_not_hold_the_reply_for_ever() {
        let mut detector = detector();
        feed(&mut detector, VOICE, 1);
        let verdicts = feed(&mut detector, Chunk { speech: 0.4, ..VOICE }, 100);
        assert_eq!(verdicts, [(62, Verdict::Denied)]);
    }
}
