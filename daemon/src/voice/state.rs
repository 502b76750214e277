//! The states of the voice and the one function that moves between them.
//!
//! Promises that every pair of state and event has an answer. Whether the microphone is open between turns is a matter of
//! the mode; in `Muted` it is closed in every one.

/// What the voice is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// The capture stream is closed because someone wants it closed.
    Muted,
    /// The microphone is open and nobody has the turn.
    Idle,
    /// A person has the turn.
    Listening,
    /// The person has paused and may have finished; the answer is being prepared.
    Endpointing,
    /// The person has finished and the answer has not begun to sound.
    Thinking,
    /// The answer sounds.
    Speaking,
    /// Playback is held while it becomes clear whether the person interrupts.
    Holding,
    /// There is nothing to hear with.
    Unavailable,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Event {
    /// Someone wants the microphone closed.
    Mute,
    /// Nobody wants it closed any longer.
    Unmute,
    /// The capture device or the sound server went away.
    CaptureLost,
    /// It is back.
    CaptureBack,
    /// Push-to-talk, the wake word or a caller gives the turn to the person.
    Summoned,
    /// Speech began.
    SpeechBegan,
    /// The person has been quiet for the shortest wait.
    LikelyPause,
    /// The person went on after a likely pause.
    SpeechResumed,
    /// The person has finished.
    TurnEnded,
    /// The person had the turn and said nothing, or let go of it.
    NothingSaid,
    /// The first sample of the answer was handed to playback.
    SoundBegan,
    /// The last sample of the answer was played, or the answer had no sound.
    ReplyEnded,
    /// What sounded like an interruption is speech of the person.
    BargeInConfirmed,
    /// What sounded like an interruption was none.
    BargeInDenied,
    /// A caller, or a key, wants quiet.
    Interrupt,
}

/// What has to be done about it, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// Close the capture stream.
    CloseCapture,
    /// Open the capture stream.
    OpenCapture,
    /// Begin an utterance with what was heard just before.
    BeginUtterance,
    /// Forget the utterance.
    DropUtterance,
    /// Encode and prefill what has been said so far.
    PrepareAnswer,
    /// Take the preparation back: the person goes on.
    TakeBack,
    /// Answer the utterance.
    Answer,
    /// Stop making an answer of which nothing has been heard, and take it out of the conversation.
    CancelAnswer,
    /// Hold playback where it is.
    Hold,
    /// Go on with playback where it was held.
    Resume,
    /// End the answer; the conversation keeps what was audible of it.
    CutAnswer,
}

/// The state after `event`, and what is to be done.
#[must_use]
pub fn transition(state: State, event: Event) -> (State, &'static [Action]) {
    use Action as A;
    use Event as E;
    use State as S;

    match (event, state) {
        // Closing the microphone never cuts an answer off: whoever wants quiet too says `Interrupt`.
        (E::Mute, S::Muted) => (S::Muted, &[]),
        (E::Mute, S::Unavailable) => (S::Muted, &[]),
        (E::Mute, S::Listening) => (S::Muted, &[A::DropUtterance, A::CloseCapture]),
        (E::Mute, S::Endpointing) => (S::Muted, &[A::TakeBack, A::DropUtterance, A::CloseCapture]),
        (E::Mute, S::Holding) => (S::Muted, &[A::Resume, A::CloseCapture]),
        (E::Mute, S::Idle | S::Thinking | S::Speaking) => (S::Muted, &[A::CloseCapture]),

        (E::Unmute, S::Muted) => (S::Idle, &[A::OpenCapture]),

        (E::CaptureLost, S::Listening) => (S::Unavailable, &[A::DropUtterance]),
        (E::CaptureLost, S::Endpointing) => (S::Unavailable, &[A::TakeBack, A::DropUtterance]),
        (E::CaptureLost, S::Holding) => (S::Unavailable, &[A::Resume]),
        (E::CaptureLost, S::Idle | S::Thinking | S::Speaking) => (S::Unavailable, &[]),
        (E::CaptureBack, S::Unavailable) => (S::Idle, &[]),

        (E::Summoned | E::SpeechBegan, S::Idle) => (S::Listening, &[A::BeginUtterance]),
        (E::Summoned | E::SpeechBegan, S::Thinking) => (S::Listening, &[A::CancelAnswer, A::BeginUtterance]),
        (E::Summoned, S::Speaking | S::Holding) => (S::Listening, &[A::CutAnswer, A::BeginUtterance]),
        (E::SpeechBegan, S::Speaking) => (S::Holding, &[A::Hold]),

        (E::LikelyPause, S::Listening) => (S::Endpointing, &[A::PrepareAnswer]),
        (E::SpeechResumed, S::Endpointing) => (S::Listening, &[A::TakeBack]),
        (E::TurnEnded, S::Listening | S::Endpointing) => (S::Thinking, &[A::Answer]),
        (E::NothingSaid, S::Listening) => (S::Idle, &[A::DropUtterance]),
        (E::NothingSaid, S::Endpointing) => (S::Idle, &[A::TakeBack, A::DropUtterance]),

        // In `Idle` it is a text that a caller wants said, or an answer that went on while nothing could be heard.
        (E::SoundBegan, S::Idle | S::Thinking) => (S::Speaking, &[]),
        (E::ReplyEnded, S::Thinking | S::Speaking | S::Holding) => (S::Idle, &[]),

        (E::BargeInConfirmed, S::Holding) => (S::Listening, &[A::CutAnswer, A::BeginUtterance]),
        (E::BargeInDenied, S::Holding) => (S::Speaking, &[A::Resume]),

        (E::Interrupt, S::Listening) => (S::Idle, &[A::DropUtterance]),
        (E::Interrupt, S::Endpointing) => (S::Idle, &[A::TakeBack, A::DropUtterance]),
        (E::Interrupt, S::Thinking) => (S::Idle, &[A::CancelAnswer]),
        (E::Interrupt, S::Speaking | S::Holding) => (S::Idle, &[A::CutAnswer]),
        // An answer may still sound while nothing can be heard.
        (E::Interrupt, S::Muted | S::Unavailable) => (state, &[A::CutAnswer]),

        // What comes too late, or says what is the case already, changes nothing.
        (
            E::Unmute
            | E::CaptureLost
            | E::CaptureBack
            | E::Summoned
            | E::SpeechBegan
            | E::LikelyPause
            | E::SpeechResumed
            | E::TurnEnded
            | E::NothingSaid
            | E::SoundBegan
            | E::ReplyEnded
            | E::BargeInConfirmed
            | E::BargeInDenied
            | E::Interrupt,
            _,
        ) => (state, &[]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATES: [State; 8] = [
        State::Muted,
        State::Idle,
        State::Listening,
        State::Endpointing,
        State::Thinking,
        State::Speaking,
        State::Holding,
        State::Unavailable,
    ];
    const EVENTS: [Event; 15] = [
        Event::Mute,
        Event::Unmute,
        Event::CaptureLost,
        Event::CaptureBack,
        Event::Summoned,
        Event::SpeechBegan,
        Event::LikelyPause,
        Event::SpeechResumed,
        Event::TurnEnded,
        Event::NothingSaid,
        Event::SoundBegan,
        Event::ReplyEnded,
        Event::BargeInConfirmed,
        Event::BargeInDenied,
        Event::Interrupt,
    ];

    /// The next state of every pair, by initials; a dot stays.
    const TABLE: [(&str, &str); 15] = [
        //                  M I L E T S H U
        ("Mute", ".MMMMMMM"),
        ("Unmute", "I......."),
        ("CaptureLost", ".UUUUUU."),
        ("CaptureBack", ".......I"),
        ("Summoned", ".L..LLL."),
        ("SpeechBegan", ".L..LH.."),
        ("LikelyPause", "..E....."),
        ("SpeechResumed", "...L...."),
        ("TurnEnded", "..TT...."),
        ("NothingSaid", "..II...."),
        ("SoundBegan", ".S..S..."),
        ("ReplyEnded", "....III."),
        ("BargeInConfirmed", "......L."),
        ("BargeInDenied", "......S."),
        ("Interrupt", "..IIIII."),
    ];

    fn initial(state: State) -> char {
        format!("{state:?}").chars().next().unwrap_or('?')
    }

    #[test]
    fn every_pair_goes_where_the_table_says() {
        for (event, (name, row)) in EVENTS.into_iter().zip(TABLE) {
            assert_eq!(format!("{event:?}"), name);
            for (state, expected) in STATES.into_iter().zip(row.chars()) {
                let (next, _) = transition(state, event);
                let found = if next == state { '.' } else { initial(next) };
                assert_eq!(found, expected, "{event:?} in {state:?}");
            }
        }
    }

    fn has_utterance(state: State) -> bool {
        matches!(state, State::Listening | State::Endpointing)
    }

    /// What is begun is ended, on every way through the table.
    #[test]
    fn actions_keep_the_books() {
        for event in EVENTS {
            for state in STATES {
                let (next, actions) = transition(state, event);
                let count = |action| actions.iter().filter(|done| **done == action).count();
                let pair = format!("{event:?} in {state:?}");

                let begun = count(Action::BeginUtterance);
                let ended = count(Action::DropUtterance) + count(Action::Answer);
                assert_eq!(
                    usize::from(has_utterance(state)) + begun,
                    usize::from(has_utterance(next)) + ended,
                    "{pair}"
                );

                let prepared = |state| usize::from(state == State::Endpointing);
                let settled = count(Action::TakeBack) + count(Action::Answer) * prepared(state);
                assert_eq!(prepared(state) + count(Action::PrepareAnswer), prepared(next) + settled, "{pair}");

                let held = |state| usize::from(state == State::Holding);
                let released = count(Action::Resume) + count(Action::CutAnswer) * held(state);
                // An answer that ended while it was held has nothing left to release.
                let ended = usize::from(event == Event::ReplyEnded) * held(state);
                assert_eq!(held(state) + count(Action::Hold), held(next) + released + ended, "{pair}");

                let closed = |state| matches!(state, State::Muted);
                assert_eq!(count(Action::OpenCapture) > 0, closed(state) && !closed(next), "{pair}");
            }
        }
    }

    #[test]
    fn a_conversation_with_an_interruption() {
        let mut state = State::Idle;
        let mut done = Vec::new();
        for event in [
            Event::SpeechBegan,
            Event::LikelyPause,
            Event::SpeechResumed,
            Event::LikelyPause,
            Event::TurnEnded,
            Event::SoundBegan,
            Event::SpeechBegan,
            Event::BargeInDenied,
            Event::SpeechBegan,
            Event::BargeInConfirmed,
            Event::TurnEnded,
        ] {
            let (next, actions) = transition(state, event);
            state = next;
            done.extend_from_slice(actions);
        }
        assert_eq!(state, State::Thinking);
        assert_eq!(
            done,
            [
                Action::BeginUtterance,
                Action::PrepareAnswer,
                Action::TakeBack,
                Action::PrepareAnswer,
                Action::Answer,
                Action::Hold,
                Action::Resume,
                Action::Hold,
                Action::CutAnswer,
                Action::BeginUtterance,
                Action::Answer,
            ]
        );
    }
}
