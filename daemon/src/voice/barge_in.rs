//! Whether the person speaks while Eddy does.
//!
//! Owns no sound: it is told, chunk by chunk, how probable speech is and how loud the microphone was before and after
//! the loudspeaker's echo was taken out. Playback is held at the first sign, because a person who interrupts wants quiet
//! at once; only speech that lasts, and that is no rest of the echo, makes it an interruption.

use std::time::Duration;

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
/// Quiet after which a suspicion is dropped.
const QUIET: Duration = Duration::from_millis(192);
/// The longest that playback is held without an answer: murmurs between the thresholds must not hold it for ever.
const LONGEST: Duration = Duration::from_millis(2_000);

/// Follows one reply.
#[derive(Debug, Clone)]
pub struct BargeIn {
    threshold: Threshold,
    state: State,
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
        Self { threshold, state: State::Unsuspecting }
    }

    /// Forgets a suspicion.
    pub fn reset(&mut self) {
        self.state = State::Unsuspecting;
    }

    /// Takes the next chunk, and by how many dB echoes are weakened, once that is known.
    pub fn push(&mut self, heard: Chunk, erle: Option<f32>) -> Verdict {
        let Threshold { speech, silence, length, chunk } = self.threshold;
        let weaker = (erle.unwrap_or_default() - WORSE).clamp(*RELIED_ON.start(), *RELIED_ON.end());
        let is_rest = heard.played > FAINT && heard.clean < heard.recorded * 10f32.powf(-weaker / 10.0);
        let is_speech = heard.speech >= speech && heard.clean > FAINT;
        match self.state {
            State::Unsuspecting if is_speech && !is_rest => {
                self.state = State::Suspecting { speech: chunk, quiet: Duration::ZERO, whole: chunk };
                Verdict::Suspected
            }
            State::Unsuspecting => Verdict::Same,
            State::Suspecting { speech: so_far, quiet, whole } => {
                let whole = whole + chunk;
                // In the rest of an echo nothing can be told: it neither counts as speech nor as quiet.
                let (so_far, quiet) = match heard.speech {
                    _ if is_speech && !is_rest => (so_far + chunk, Duration::ZERO),
                    probability if probability < silence => (so_far, quiet + chunk),
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
        (1..=count).map(|n| (n, detector.push(chunk, None))).filter(|(_, verdict)| *verdict != Verdict::Same).collect()
    }

    #[test]
    fn a_person_is_suspected_at_once_and_confirmed_when_they_go_on() {
        assert_eq!(feed(&mut detector(), VOICE, 8), [(1, Verdict::Suspected), (8, Verdict::Confirmed)]);
    }

    #[test]
    fn a_cough_is_denied_soon_after_it() {
        let mut detector = detector();
        assert_eq!(feed(&mut detector, VOICE, 4), [(1, Verdict::Suspected)]);
        assert_eq!(feed(&mut detector, QUIETNESS, 10), [(6, Verdict::Denied)]);
    }

    #[test]
    fn what_is_left_of_the_echo_is_nobody() {
        let mut detector = detector();
        assert_eq!(feed(&mut detector, ECHO, 100), []);
        // Nor does it confirm what something else has begun.
        feed(&mut detector, VOICE, 1);
        assert_eq!(feed(&mut detector, ECHO, 20), []);
        assert_eq!(feed(&mut detector, QUIETNESS, 10), [(6, Verdict::Denied)]);
    }

    #[test]
    fn a_person_far_below_the_loudspeaker_is_told_from_an_echo_that_is_well_taken_out() {
        // 14 dB below what the microphone hears in all.
        let person = Chunk { speech: 0.9, recorded: 1e-1, clean: 4e-3, played: 1e-1 };
        for (erle, verdict) in [(None, Verdict::Same), (Some(20.0), Verdict::Same), (Some(42.0), Verdict::Suspected)] {
            assert_eq!(detector().push(person, erle), verdict, "{erle:?}");
        }
        // The rest of the echo itself is 30 dB below.
        assert_eq!(detector().push(ECHO, Some(42.0)), Verdict::Same);
    }

    #[test]
    fn a_murmur_does_not_hold_the_reply_for_ever() {
        let mut detector = detector();
        feed(&mut detector, VOICE, 1);
        let verdicts = feed(&mut detector, Chunk { speech: 0.4, ..VOICE }, 100);
        assert_eq!(verdicts, [(62, Verdict::Denied)]);
    }
}
