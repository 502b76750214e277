//! How fast speech is made, and what follows from it: how much of it has to be ready before it sounds, so that it does not
//! break off.
//!
//! Arithmetic alone. A *factor* is the real-time factor: seconds of work for a second of sound, over whole cycles of text
//! and audio; above 1 the machine cannot keep up.

use std::time::Duration;

/// Sound that is ready before any begins, beyond what the making of the next piece takes: it covers what a thread may be
/// late, and what the detokenizer holds back.
const LEAST: f64 = 0.12;
/// Frames that come at a time, once a reply has begun.
const PIECE: f64 = 6.0;
/// From this factor on too little is gained in a cycle to bridge its text, which then has to be ready as well.
const BARELY: f64 = 0.95;
/// Frames by which the factor of the last reply counts in this one: a cycle, so that one that was slow by chance is
/// outweighed within a second of sound.
const PRIOR: f64 = 12.0;
/// How long a reply is expected to sound before there was one.
const FIRST_LENGTH: f64 = 6.0;
/// The shortest and longest that a reply counts as: one that is out of the ordinary may not hold up the next ones.
const LENGTHS: (f64, f64) = (1.0, 30.0);
/// The part by which a new reply changes the mean length.
const NEWEST: f64 = 0.25;
/// The part of the expected length that is still expected of a reply that is longer.
const OVERTIME: f64 = 0.25;
/// Replies that are written between two that try to be spoken.
const WRITTEN: u32 = 3;

/// The order in which a reply is made.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cycle {
    /// Text tokens in a row; none where a text is read aloud.
    pub tokens: f64,
    /// Frames in a row.
    pub frames: f64,
    /// Seconds that a frame sounds.
    pub frame: f64,
}

impl Cycle {
    /// How long a reply of `items` tokens and frames sounds at most.
    #[must_use]
    pub fn longest(&self, items: usize) -> Duration {
        let frames = items as f64 * self.frames / (self.frames + self.tokens);
        Duration::try_from_secs_f64(frames * self.frame).unwrap_or(Duration::MAX)
    }
}

/// The pace of one reply.
#[derive(Debug, Clone)]
pub struct Pace {
    cycle: Cycle,
    prior: Option<f64>,
    tokens: (f64, f64),
    frames: (f64, f64),
}

impl Pace {
    /// Of a reply that has not begun.
    #[must_use]
    pub fn new(cycle: Cycle) -> Self {
        Self { cycle, prior: None, tokens: (0.0, 0.0), frames: (0.0, 0.0) }
    }

    /// The order in which it is made.
    #[must_use]
    pub fn cycle(&self) -> Cycle {
        self.cycle
    }

    /// With the factor of the replies before.
    pub fn expect(&mut self, prior: Option<f64>) {
        self.prior = prior;
    }

    /// Notes how long a text token took, since the item before it.
    pub fn token(&mut self, took: Duration) {
        self.tokens = (self.tokens.0 + 1.0, self.tokens.1 + took.as_secs_f64());
    }

    /// Notes how long a frame took, since the item before it; turning frames into samples is part of it.
    pub fn frame(&mut self, took: Duration) {
        self.frames = (self.frames.0 + 1.0, self.frames.1 + took.as_secs_f64());
    }

    /// The factor of this reply alone; `None` before its first frame.
    #[must_use]
    pub fn measured(&self) -> Option<f64> {
        let (text, frame) = (mean(self.tokens).unwrap_or(0.0), mean(self.frames)?);
        let work = text * self.cycle.tokens + frame * self.cycle.frames;
        Some(work / (self.cycle.frames * self.cycle.frame))
    }

    /// The factor as far as it is known: the last reply's, and more and more this one's.
    #[must_use]
    pub fn factor(&self) -> Option<f64> {
        match (self.measured(), self.prior) {
            (Some(own), Some(prior)) => Some((own * self.frames.0 + prior * PRIOR) / (self.frames.0 + PRIOR)),
            (own, prior) => own.or(prior),
        }
    }

    /// Sound so far.
    #[must_use]
    pub fn sound(&self) -> Duration {
        Duration::from_secs_f64(self.frames.0 * self.cycle.frame)
    }

    /// Whether a reply that ends with what has been said by now would have to wait for longer than `patience` before it
    /// sounds: a cycle of text is ahead of its sound.
    #[must_use]
    pub fn exceeds(&self, patience: Duration) -> bool {
        let cycle = Duration::from_secs_f64(self.cycle.frames * self.cycle.frame);
        self.factor().is_some_and(|factor| shortfall(factor, self.sound() + cycle) > patience)
    }

    /// Sound that has to be ready so that nothing breaks off, if the reply goes on for `rest`: what covers the making of
    /// the next piece, and at a factor r above 1 also (r - 1) times the rest. A second before anything is known.
    #[must_use]
    pub fn lead(&self, rest: Duration) -> Duration {
        let Some(factor) = self.factor() else { return Duration::from_secs(1) };
        let frame = mean(self.frames).unwrap_or(factor * self.cycle.frame);
        let piece = if factor > BARELY {
            mean(self.tokens).unwrap_or(0.0) * self.cycle.tokens + frame * PIECE
        } else {
            (frame * PIECE).min(1.0 - LEAST)
        };
        Duration::from_secs_f64(LEAST + piece) + shortfall(factor, rest)
    }
}

fn mean((count, sum): (f64, f64)) -> Option<f64> {
    (count > 0.0).then(|| sum / count)
}

/// How far the making of so much sound falls behind it.
fn shortfall(factor: f64, sound: Duration) -> Duration {
    sound.mul_f64((factor - 1.0).max(0.0))
}

/// What the last replies were like: what the next one is expected to be.
#[derive(Debug, Clone, Default)]
pub struct Paces {
    factor: Option<f64>,
    length: Option<f64>,
    /// Replies that were only written since the last spoken one.
    written: u32,
}

impl Paces {
    /// The factor of the last spoken reply.
    #[must_use]
    pub fn factor(&self) -> Option<f64> {
        self.factor
    }

    /// Whether speech was slower than its sound.
    #[must_use]
    pub fn is_slow(&self) -> bool {
        self.factor.is_some_and(|factor| factor > 1.0)
    }

    /// Whether the next reply, if speech that is too slow is to be text, is text. Now and then speech is tried again.
    #[must_use]
    pub fn is_for_text(&self) -> bool {
        self.is_slow() && self.written < WRITTEN
    }

    /// What is to come of a reply that has sounded for `made` and can become no longer than `longest`.
    #[must_use]
    pub fn rest(&self, made: Duration, longest: Duration) -> Duration {
        let expected = Duration::from_secs_f64(self.length.unwrap_or(FIRST_LENGTH)).min(longest);
        expected.saturating_sub(made).max(expected.mul_f64(OVERTIME)).min(longest.saturating_sub(made))
    }

    /// Notes a spoken reply. One that was cut says nothing of how long replies are.
    pub fn spoke(&mut self, pace: &Pace, whole: bool) {
        if pace.measured().is_none() {
            return;
        }
        (self.factor, self.written) = (pace.factor(), 0);
        if whole {
            let length = pace.sound().as_secs_f64().clamp(LENGTHS.0, LENGTHS.1);
            self.length = Some(self.length.map_or(length, |before| before + NEWEST * (length - before)));
        }
    }

    /// Notes a reply that was only written.
    pub fn wrote(&mut self) {
        self.written += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As published: six tokens, twelve frames of 80 ms.
    const PUBLISHED: Cycle = Cycle { tokens: 6.0, frames: 12.0, frame: 0.08 };
    const ALOUD: Cycle = Cycle { tokens: 0.0, ..PUBLISHED };
    /// Frames in the first groups that become sound together.
    const GROUPS: [usize; 4] = [1, 2, 3, 6];

    #[derive(Debug, Default)]
    struct Played {
        /// Seconds from the first sound to when it was begun with.
        held: f64,
        /// How often there was nothing to play.
        dry: u32,
    }

    /// Plays a reply of `frames` frames that is made with `factor`: a token takes `share` of what a frame does.
    fn play(cycle: Cycle, factor: f64, share: f64, frames: usize, paces: &mut Paces, patience: f64) -> Played {
        let frame = factor * cycle.frame * cycle.frames / (cycle.frames + cycle.tokens * share);
        let mut pace = Pace::new(cycle);
        pace.expect(paces.factor());
        let (mut now, mut ready, mut waiting, mut groups) = (0.0, 0.0, 0, 0);
        let (mut first, mut begun): (Option<f64>, Option<f64>) = (None, None);
        let mut played = Played::default();
        // Until when there is sound.
        let mut until = f64::INFINITY;
        for number in 0..frames {
            if (number as f64 % cycle.frames) == 0.0 {
                for _ in 0..cycle.tokens as usize {
                    now += frame * share;
                    pace.token(Duration::from_secs_f64(frame * share));
                }
            }
            now += frame;
            pace.frame(Duration::from_secs_f64(frame));
            waiting += 1;
            if waiting < GROUPS[groups.min(3)] && number + 1 < frames {
                continue;
            }
            (ready, groups) = (ready + waiting as f64 * cycle.frame, groups + 1);
            waiting = 0;
            if begun.is_some() && now > until {
                played.dry += 1;
                until = now;
            }
            until += if begun.is_some() { GROUPS[(groups - 1).min(3)] as f64 * cycle.frame } else { 0.0 };
            let first = *first.get_or_insert(now);
            let longest = Duration::from_secs_f64(1024.0 * cycle.frame);
            let lead = pace.lead(paces.rest(pace.sound(), longest)).as_secs_f64();
            if begun.is_none() && (ready >= lead || now - first >= patience || number + 1 == frames) {
                (begun, until, played.held) = (Some(now), now + ready, now - first);
            }
        }
        paces.spoke(&pace, true);
        played
    }

    fn of_length(frames: usize, factor: Option<f64>) -> Paces {
        Paces { factor, length: Some(frames as f64 * 0.08), written: 0 }
    }

    #[test]
    fn a_reply_as_long_as_those_before_never_breaks_off_and_waits_no_longer_than_it_must() {
        for cycle in [PUBLISHED, ALOUD] {
            for share in [0.3, 1.0] {
                for frames in [24, 50, 100, 240] {
                    for step in 0..=30 {
                        let factor = 1.0 + f64::from(step) * 0.05;
                        for prior in [None, Some(factor)] {
                            let played = play(cycle, factor, share, frames, &mut of_length(frames, prior), f64::MAX);
                            let what = format!("{cycle:?} {share} {frames} {factor} {prior:?}: {played:?}");
                            assert_eq!(played.dry, 0, "{what}");
                            // A cycle and a half: text that comes in runs, a margin, and sound that comes in pieces.
                            let due = (factor - 1.0) * frames as f64 * 0.08 + 1.5 * 0.96 * factor;
                            assert!(played.held <= due, "more than {due}: {what}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn a_machine_that_keeps_up_is_not_held_back() {
        for (factor, share) in [0.1, 0.3, 0.5, 0.65, 0.8, 0.9, 0.94].into_iter().flat_map(|f| [(f, 0.3), (f, 1.0)]) {
            let played = play(PUBLISHED, factor, share, 100, &mut of_length(200, Some(factor)), 4.0);
            assert_eq!(played.dry, 0, "{factor} {share}: {played:?}");
            // From the first frame to the sixth, or where the next piece takes about as long as it sounds, the twelfth.
            assert!(played.held <= 11.0 * 0.08 * factor + 1e-9, "{factor} {share}: {played:?}");
            let mut pace = Pace::new(PUBLISHED);
            pace.frame(Duration::from_secs_f64(0.08 * factor));
            assert_eq!(
                pace.lead(Duration::ZERO),
                pace.lead(Duration::from_secs(1_000)),
                "the rest makes no difference"
            );
        }
    }

    #[test]
    fn nobody_waits_for_ever_and_a_longer_reply_is_noticed() {
        let mut paces = of_length(240, Some(2.5));
        let played = play(PUBLISHED, 2.5, 0.3, 240, &mut paces, 4.0);
        assert!(played.held >= 4.0 && played.held < 4.0 + 2.5 * 0.96 && played.dry > 0, "{played:?}");
        let played = play(PUBLISHED, 1.5, 0.3, 200, &mut of_length(50, Some(1.5)), f64::MAX);
        assert!(played.dry > 0, "four times as long as expected: {played:?}");
        let rest = of_length(50, None).rest(Duration::from_secs(10), Duration::from_secs(60));
        assert_eq!(rest, Duration::from_secs(1), "it goes on for a while");
        let rest = of_length(50, None).rest(Duration::from_secs(10), Duration::from_millis(10_500));
        assert_eq!(rest, Duration::from_millis(500), "but not beyond what is allowed");
    }

    #[test]
    fn a_reply_is_measured_over_whole_cycles_and_outweighs_the_one_before() {
        let mut pace = Pace::new(PUBLISHED);
        assert_eq!((pace.factor(), pace.measured()), (None, None));
        pace.expect(Some(2.0));
        assert_eq!((pace.factor(), pace.measured()), (Some(2.0), None));
        for _ in 0..6 {
            pace.token(Duration::from_millis(32));
        }
        // The text of a whole cycle is not laid upon its first frame.
        pace.frame(Duration::from_millis(24));
        let near = |value: Option<f64>, wanted: f64| value.is_some_and(|value| (value - wanted).abs() < 1e-9);
        assert!(near(pace.measured(), 0.5), "{:?}", pace.measured());
        for _ in 0..11 {
            pace.frame(Duration::from_millis(24));
        }
        assert!(near(pace.factor(), 1.25), "{:?}", pace.factor());
    }

    #[test]
    fn speech_is_tried_again_now_and_then() {
        let mut slow = Pace::new(ALOUD);
        slow.frame(Duration::from_millis(120));
        let mut paces = Paces::default();
        assert!(!paces.is_for_text());
        paces.spoke(&slow, true);
        let mut turns = Vec::new();
        for _ in 0..8 {
            turns.push(paces.is_for_text());
            if paces.is_for_text() { paces.wrote() } else { paces.spoke(&slow, true) }
        }
        assert_eq!(turns, [true, true, true, false, true, true, true, false]);
        let mut fast = Pace::new(ALOUD);
        (0..50).for_each(|_| fast.frame(Duration::from_millis(40)));
        fast.expect(paces.factor());
        paces.spoke(&fast, true);
        assert!(!paces.is_for_text(), "{paces:?}");
    }
}
