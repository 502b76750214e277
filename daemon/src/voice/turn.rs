//! Where a person's turn begins and ends, from speech probabilities and a judge of how finished it sounds.
//!
//! Owns no sound and no model: it is fed one probability for each chunk, says when the judge is to be asked, and is told the
//! answer. The wait for the end of a turn goes from the shortest, when the judge is sure, to the longest, when it is sure of
//! the opposite.

use std::time::Duration;

/// The patience of a listener.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Patience {
    /// A chunk with at least this probability holds speech.
    pub speech: f32,
    /// A chunk with less than this holds none; in between nothing changes.
    pub silence: f32,
    /// Speech of this length begins a turn; shorter is a click.
    pub shortest_speech: Duration,
    /// Quiet before the judge is asked.
    pub notice: Duration,
    /// The wait when it is sure that the turn has ended.
    pub shortest_wait: Duration,
    /// The wait when it is sure that the turn goes on.
    pub longest_wait: Duration,
    /// A turn longer than this is ended.
    pub longest_turn: Duration,
    /// The length of a chunk.
    pub chunk: Duration,
}

/// What a chunk of sound means for the turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// Nothing new.
    Same,
    /// A turn has begun, this long before the end of the chunk.
    Began(Duration),
    /// The person has paused: ask the judge, and tell [`TurnDetector::judged`].
    Paused,
    /// The person went on after a pause that was reported.
    Resumed,
    /// The turn is over.
    Ended(Why),
}

/// Why a turn ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// The person was quiet for long enough.
    Silence,
    /// The turn was as long as a turn may be.
    TooLong,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum State {
    Quiet,
    /// Perhaps speech, for this long.
    Rising(Duration),
    Speaking {
        turn: Duration,
    },
    /// Quiet inside a turn for `silence`.
    Pausing {
        turn: Duration,
        silence: Duration,
        wait: Wait,
    },
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Wait {
    /// The pause is too short to be reported.
    Unreported,
    /// The judge has been asked and has not answered: as long as it may take.
    Asked,
    /// Until the pause is this long.
    Until(Duration),
}

/// Follows one stream of speech probabilities.
#[derive(Debug, Clone)]
pub struct TurnDetector {
    patience: Patience,
    state: State,
}

impl TurnDetector {
    /// Starts in silence.
    #[must_use]
    pub fn new(patience: Patience) -> Self {
        Self { patience, state: State::Quiet }
    }

    /// Whether a turn is going on.
    #[cfg(test)]
    #[must_use]
    pub fn in_turn(&self) -> bool {
        matches!(self.state, State::Speaking { .. } | State::Pausing { .. })
    }

    /// Gives the turn to the person before they speak, as push-to-talk does.
    pub fn begin(&mut self) {
        self.state = State::Speaking { turn: Duration::ZERO };
    }

    /// Forgets what was heard.
    pub fn reset(&mut self) {
        self.state = State::Quiet;
    }

    /// Takes the speech probability of the next chunk.
    pub fn push(&mut self, probability: f32) -> Heard {
        let Patience { chunk, shortest_speech, longest_turn, .. } = self.patience;
        let speech = probability >= self.patience.speech;
        let silence = probability < self.patience.silence;
        let (next, heard) = match self.state {
            State::Quiet | State::Rising(_) if !speech => match (self.state, silence) {
                // Between the two thresholds a rise is neither confirmed nor given up.
                (State::Rising(so_far), false) => (State::Rising(so_far), Heard::Same),
                _ => (State::Quiet, Heard::Same),
            },
            State::Quiet => self.rise(Duration::ZERO, chunk, shortest_speech),
            State::Rising(so_far) => self.rise(so_far, chunk, shortest_speech),
            State::Speaking { turn } | State::Pausing { turn, .. } if turn + chunk > longest_turn => {
                (State::Quiet, Heard::Ended(Why::TooLong))
            }
            State::Speaking { turn } => match silence {
                false => (State::Speaking { turn: turn + chunk }, Heard::Same),
                true => self.pause(turn + chunk, Duration::ZERO, Wait::Unreported),
            },
            State::Pausing { turn, wait, .. } if speech => {
                let heard = if wait == Wait::Unreported { Heard::Same } else { Heard::Resumed };
                (State::Speaking { turn: turn + chunk }, heard)
            }
            State::Pausing { turn, silence, wait } => self.pause(turn + chunk, silence, wait),
        };
        self.state = next;
        heard
    }

    /// Takes the judge's probability that the turn has ended, for the pause that was reported last.
    pub fn judged(&mut self, ended: f32) {
        if let State::Pausing { turn, silence, wait: Wait::Asked } = self.state {
            self.state = State::Pausing { turn, silence, wait: Wait::Until(self.wait_for(ended)) };
        }
    }

    /// Above one half the shortest wait; below, the less finished it sounds the longer: most for a clear no, little for a
    /// judge who cannot tell.
    fn wait_for(&self, ended: f32) -> Duration {
        let doubt = (1.0 - 2.0 * ended.clamp(0.0, 0.5)).clamp(0.0, 1.0);
        let extra = self.patience.longest_wait.saturating_sub(self.patience.shortest_wait);
        self.patience.shortest_wait + extra.mul_f32(doubt * doubt)
    }

    fn rise(&self, so_far: Duration, chunk: Duration, shortest_speech: Duration) -> (State, Heard) {
        let length = so_far + chunk;
        match length >= shortest_speech {
            true => (State::Speaking { turn: length }, Heard::Began(length)),
            false => (State::Rising(length), Heard::Same),
        }
    }

    fn pause(&self, turn: Duration, silence: Duration, wait: Wait) -> (State, Heard) {
        let silence = silence + self.patience.chunk;
        match wait {
            Wait::Unreported if silence >= self.patience.notice => {
                (State::Pausing { turn, silence, wait: Wait::Asked }, Heard::Paused)
            }
            // A judge that never answers must not keep the person waiting for ever.
            Wait::Asked if silence >= self.patience.longest_wait => (State::Quiet, Heard::Ended(Why::Silence)),
            Wait::Until(end) if silence >= end => (State::Quiet, Heard::Ended(Why::Silence)),
            Wait::Unreported | Wait::Asked | Wait::Until(_) => (State::Pausing { turn, silence, wait }, Heard::Same),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHUNK: Duration = Duration::from_millis(32);

    fn detector() -> TurnDetector {
        TurnDetector::new(Patience {
            speech: 0.5,
            silence: 0.35,
            shortest_speech: Duration::from_millis(96),
            notice: Duration::from_millis(192),
            shortest_wait: Duration::from_millis(192),
            longest_wait: Duration::from_millis(1600),
            longest_turn: Duration::from_secs(30),
            chunk: CHUNK,
        })
    }

    /// Feeds `chunks` of one probability and returns what was new, with the number of the chunk.
    fn feed(detector: &mut TurnDetector, probability: f32, chunks: usize) -> Vec<(usize, Heard)> {
        (1..=chunks)
            .map(|chunk| (chunk, detector.push(probability)))
            .filter(|(_, heard)| *heard != Heard::Same)
            .collect()
    }

    #[test]
    fn a_click_is_no_turn_and_speech_is() {
        let mut detector = detector();
        assert_eq!(feed(&mut detector, 0.9, 2), []);
        assert_eq!(feed(&mut detector, 0.1, 5), []);
        assert_eq!(feed(&mut detector, 0.9, 5), [(3, Heard::Began(3 * CHUNK))]);
        assert!(detector.in_turn());
    }

    #[test]
    fn a_sure_judge_shortens_the_wait_and_a_doubtful_one_stretches_it() {
        for (judged, chunks) in [(Some(0.9), 1), (Some(0.5), 1), (Some(0.25), 11), (Some(0.0), 44), (None, 44)] {
            let mut detector = detector();
            feed(&mut detector, 0.9, 10);
            assert_eq!(feed(&mut detector, 0.1, 6), [(6, Heard::Paused)]);
            if let Some(judged) = judged {
                detector.judged(judged);
            }
            let ended = feed(&mut detector, 0.1, 60);
            let [(after, Heard::Ended(Why::Silence))] = ended.as_slice() else { panic!("{judged:?}: {ended:?}") };
            assert_eq!(*after, chunks, "{judged:?}");
            assert!(!detector.in_turn());
        }
    }

    #[test]
    fn a_pause_inside_a_sentence_is_taken_back() {
        let mut detector = detector();
        feed(&mut detector, 0.9, 10);
        assert_eq!(feed(&mut detector, 0.1, 3), []);
        assert_eq!(feed(&mut detector, 0.9, 3), []);
        feed(&mut detector, 0.1, 6);
        detector.judged(0.1);
        assert_eq!(feed(&mut detector, 0.9, 2), [(1, Heard::Resumed)]);
        // A late answer about a pause that is over changes nothing.
        detector.judged(1.0);
        assert_eq!(feed(&mut detector, 0.1, 6), [(6, Heard::Paused)]);
    }

    #[test]
    fn murmurs_between_the_thresholds_change_nothing() {
        let mut detector = detector();
        feed(&mut detector, 0.9, 10);
        assert_eq!(feed(&mut detector, 0.4, 100), []);
        assert!(detector.in_turn());
    }

    #[test]
    fn a_turn_has_an_end() {
        let mut detector = detector();
        let heard = feed(&mut detector, 0.9, 1000);
        assert_eq!(heard[1].1, Heard::Ended(Why::TooLong));
        assert!(heard[1].0 as f32 * 0.032 <= 30.1);
    }

    #[test]
    fn the_turn_can_be_given() {
        let mut detector = detector();
        detector.begin();
        assert!(detector.in_turn());
        assert_eq!(feed(&mut detector, 0.1, 6), [(6, Heard::Paused)]);
        detector.reset();
        assert!(!detector.in_turn());
    }
}
