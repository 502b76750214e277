//! `[voice]`: when Eddy listens, when a turn is over, and what an interruption is.

use std::path::PathBuf;
use std::time::Duration;

use crate::schema::{choice, settings};

choice! {
    /// When the microphone is open.
    pub enum MicrophoneMode {
        /// Never by itself; only `Listen` opens it, for one turn.
        PushToTalk = "push-to-talk",
        /// All the time, unless muted.
        Open = "open",
        /// All the time, and speech begins a turn when it begins with the enrolled phrase.
        WakeWord = "wake-word",
        /// Never, not even when asked: the capture stream is not opened at all.
        Off = "off",
    }
}

choice! {
    /// What is done when the machine makes speech more slowly than it sounds.
    pub enum WhenSlow {
        /// The answer waits before it sounds, so that it does not break off.
        Hold = "hold",
        /// It waits too, and answers are kept short.
        Shorten = "shorten",
        /// Answers are written instead of spoken.
        Text = "text",
    }
}

settings! {
    /// When Eddy listens, when a turn is over, and what counts as an interruption.
    pub struct Voice("voice") {
        /// When the microphone is open: "push-to-talk" for one turn at a time, when an application or
        /// `eddy talk` asks; "open" all the time unless muted; "wake-word" too, but a turn begins with the phrase that
        /// `eddy wake enroll` has learnt; "off" never.
        mode: MicrophoneMode = MicrophoneMode::PushToTalk, live;
        /// Probability of speech (0 to 1) at which somebody counts as having begun to speak.
        speech_threshold: f64 = 0.5, live, (0.05, 0.99);
        /// Probability below which they count as having stopped. Lower than speech_threshold, so that
        /// a voice on the edge does not flicker.
        silence_threshold: f64 = 0.35, live, (0.01, 0.95);
        /// Shorter sounds are no speech: a cough, a door.
        min_speech: Duration = Duration::from_millis(120), live,
            (Duration::ZERO, Duration::from_secs(2));
        /// Sound kept from before the first speech was noticed, so that no first syllable is lost.
        lead_in: Duration = Duration::from_millis(300), live, (Duration::ZERO, Duration::from_secs(2));
        /// Silence after which a turn is over when it sounds finished. Shorter answers sooner, and cuts off
        /// whoever pauses in the middle of a sentence.
        endpoint_min_wait: Duration = Duration::from_millis(500), live,
            (Duration::from_millis(50), Duration::from_secs(5));
        /// Silence after which a turn is over in any case.
        endpoint_max_wait: Duration = Duration::from_millis(1_200), live,
            (Duration::from_millis(100), Duration::from_secs(15));
        /// The longest turn. What is said after it belongs to the next.
        max_turn: Duration = Duration::from_secs(30), live,
            (Duration::from_secs(1), Duration::from_secs(300));
        /// How long to wait for somebody to begin after being asked to listen.
        listen_timeout: Duration = Duration::from_secs(8), live,
            (Duration::from_secs(1), Duration::from_secs(300));
        /// How alike what is heard must be to the enrolled phrase: 0 as the most similar of other speech, 1 as
        /// the enrolled recordings among themselves. Higher calls Eddy less often by mistake, and misses more.
        wake_word_threshold: f64 = 0.5, live, (0.05, 1.5);
        /// How long after a reply speech needs no wake word.
        wake_word_follow_up: Duration = Duration::ZERO, live, (Duration::ZERO, Duration::from_secs(60));
        /// The file with what was learnt of the phrase; empty for the one in the folder of states.
        wake_word_file: PathBuf = PathBuf::new(), live;
        /// Whether speaking over a reply interrupts it.
        barge_in: bool = true, live;
        /// Speech needed to interrupt. The reply is held at the first sound, and goes on if it stays
        /// shorter than this.
        barge_in_speech: Duration = Duration::from_millis(250), live,
            (Duration::from_millis(50), Duration::from_secs(3));
        /// What is done when this machine makes speech more slowly than it sounds: "hold" lets an answer
        /// wait before it sounds, as long as is needed so that it does not break off; "shorten" does so
        /// too, asks for one short sentence, and ends an answer with its sentence when it would have to
        /// wait longer than longest_hold; "text" writes the answers, and tries to speak every fourth.
        when_slow: WhenSlow = WhenSlow::Hold, live;
        /// The longest that an answer waits before it sounds because the machine is slow. One that would
        /// need more pauses in the middle.
        longest_hold: Duration = Duration::from_secs(4), live, (Duration::ZERO, Duration::from_secs(30));
    }
}
