//! What comes back from a request: pieces while it runs, and the result at its end.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

use zbus::{OwnedObjectPath, OwnedVariant, Variant};

use crate::error::{Error, Result};
use crate::words::{FinishReason, Role};

/// The dictionaries of the bus.
type Dictionary = HashMap<String, OwnedVariant>;

/// A text as D-Bus can carry it. A model may write the character U+0000, and a message with one would have the bus end
/// the connection.
#[must_use]
pub fn without_nul(text: &str) -> Cow<'_, str> {
    match text.contains('\0') {
        true => Cow::Owned(text.replace('\0', "\u{fffd}")),
        false => Cow::Borrowed(text),
    }
}

/// Something new from a running request: `Delta` of `org.eddy.Request1`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delta {
    /// A further piece of the answer.
    Text(String),
    /// A further piece of what was heard.
    Transcript(String),
    /// How far the work is.
    Progress {
        /// Bytes or documents done.
        done: u64,
        /// All there are, 0 while unknown.
        total: u64,
    },
    /// How many requests come before this one.
    Queued(u32),
    /// A kind that this version does not know, or a value of the wrong type. Receivers pass over it.
    Other(String),
}

impl Delta {
    /// The two arguments of the signal.
    pub fn to_signal(&self) -> (&str, Variant<'_>) {
        match self {
            Self::Text(text) => ("text", Variant::from(without_nul(text))),
            Self::Transcript(text) => ("transcript", Variant::from(without_nul(text))),
            Self::Progress { done, total } => ("progress", Variant::from((*done, *total))),
            Self::Queued(before) => ("queued", Variant::from(*before)),
            Self::Other(kind) => (kind, Variant::from("")),
        }
    }

    /// From the two arguments of the signal.
    pub fn from_signal(kind: &str, value: &Variant<'_>) -> Self {
        let other = || Self::Other(kind.to_owned());
        match (kind, value) {
            ("text", Variant::Str(text)) => Self::Text(text.to_string()),
            ("transcript", Variant::Str(text)) => Self::Transcript(text.to_string()),
            ("queued", Variant::U32(before)) => Self::Queued(*before),
            ("progress", Variant::Structure(structure)) => match structure.fields() {
                [Variant::U64(done), Variant::U64(total)] => Self::Progress { done: *done, total: *total },
                _ => other(),
            },
            _ => other(),
        }
    }
}

/// How a request failed, as its result tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The name of the D-Bus error.
    pub name: String,
    /// The sentence.
    pub message: String,
}

impl From<&Error> for Failure {
    fn from(error: &Error) -> Self {
        Self { name: error.dbus_name(), message: error.to_string() }
    }
}

/// What a request came to: `Result` of `org.eddy.Request1`. What is `None` or empty, the method does
/// not have.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Outcome {
    /// The answer or the transcript.
    pub text: Option<String>,
    /// Why it ended.
    pub finish_reason: Option<FinishReason>,
    /// Tokens and audio frames generated.
    pub tokens: Option<u64>,
    /// Samples of audio written, at 24 kHz.
    pub samples: Option<u64>,
    /// Positions of the prompt.
    pub prompt_tokens: Option<u64>,
    /// How many of them had been read before and were not computed again.
    pub prompt_tokens_reused: Option<u64>,
    /// Calls of tools, as a JSON list of objects with `name` and `arguments`.
    pub tool_calls: Option<String>,
    /// Messages that were left out because the model's context is too short.
    pub dropped: Option<u32>,
    /// Documents added.
    pub added: Option<u32>,
    /// The address of the engine that the request left this daemon for.
    pub remote: Option<String>,
    /// The model that was fetched.
    pub model: Option<OwnedObjectPath>,
    /// Seconds by stage.
    pub latency: BTreeMap<String, f64>,
    /// For a request that failed.
    pub failure: Option<Failure>,
}

impl Outcome {
    /// As it is sent.
    pub fn to_dictionary(&self) -> HashMap<&'static str, Variant<'_>> {
        let Self {
            prompt_tokens,
            prompt_tokens_reused,
            text,
            finish_reason,
            tokens,
            samples,
            tool_calls,
            dropped,
            added,
            remote,
            model,
            latency,
            failure,
        } = self;
        let mut out = HashMap::new();
        if let Some(text) = text {
            out.insert("text", Variant::from(without_nul(text)));
        }
        if let Some(reason) = finish_reason {
            out.insert("finish_reason", Variant::from(reason.as_str()));
        }
        if let Some(tokens) = tokens {
            out.insert("tokens", Variant::from(*tokens));
        }
        if let Some(samples) = samples {
            out.insert("samples", Variant::from(*samples));
        }
        if let Some(positions) = prompt_tokens {
            out.insert("prompt_tokens", Variant::from(*positions));
        }
        if let Some(positions) = prompt_tokens_reused {
            out.insert("prompt_tokens_reused", Variant::from(*positions));
        }
        if let Some(calls) = tool_calls {
            out.insert("tool_calls", Variant::from(without_nul(calls)));
        }
        if let Some(dropped) = dropped {
            out.insert("dropped", Variant::from(*dropped));
        }
        if let Some(added) = added {
            out.insert("added", Variant::from(*added));
        }
        if let Some(remote) = remote {
            out.insert("remote", Variant::from(without_nul(remote)));
        }
        if let Some(model) = model {
            out.insert("model", Variant::ObjectPath(model.as_ref()));
        }
        if !latency.is_empty() {
            out.insert("latency", Variant::from(latency.clone()));
        }
        if let Some(failure) = failure {
            out.insert("error", Variant::from(failure.name.as_str()));
            out.insert("message", Variant::from(without_nul(&failure.message)));
        }
        out
    }

    /// As it is received. Unknown keys are passed over, since a later daemon may send more; known keys of
    /// the wrong type are errors.
    pub fn from_dictionary(mut given: Dictionary) -> Result<Self> {
        let failure = match (take(&mut given, "error")?, take(&mut given, "message")?) {
            (Some(name), message) => Some(Failure { name, message: message.unwrap_or_default() }),
            (None, _) => None,
        };
        Ok(Self {
            text: take(&mut given, "text")?,
            finish_reason: take::<String>(&mut given, "finish_reason")?.as_deref().and_then(FinishReason::from_word),
            tokens: take(&mut given, "tokens")?,
            samples: take(&mut given, "samples")?,
            prompt_tokens: take(&mut given, "prompt_tokens")?,
            prompt_tokens_reused: take(&mut given, "prompt_tokens_reused")?,
            tool_calls: take(&mut given, "tool_calls")?,
            dropped: take(&mut given, "dropped")?,
            added: take(&mut given, "added")?,
            remote: take(&mut given, "remote")?,
            model: take(&mut given, "model")?,
            latency: take::<HashMap<String, f64>>(&mut given, "latency")?.unwrap_or_default().into_iter().collect(),
            failure,
        })
    }
}

/// One turn of a conversation: an element of `History` of `org.eddy.Conversation1`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn {
    /// Who spoke: the person or the model.
    pub role: Role,
    /// What was said; what was heard of it, if it was interrupted.
    pub text: String,
    /// Whether it was interrupted.
    pub interrupted: bool,
}

impl Turn {
    /// As it is sent.
    pub fn to_dictionary(&self) -> HashMap<&'static str, Variant<'_>> {
        HashMap::from([
            ("role", Variant::from(self.role.as_str())),
            ("text", Variant::from(without_nul(&self.text))),
            ("interrupted", Variant::from(self.interrupted)),
        ])
    }

    /// As it is received.
    pub fn from_dictionary(mut given: Dictionary) -> Result<Self> {
        let role = take::<String>(&mut given, "role")?.as_deref().and_then(Role::from_word);
        Ok(Self {
            role: role.ok_or_else(|| Error::Internal("a turn of the history has no known role".into()))?,
            text: take(&mut given, "text")?.unwrap_or_default(),
            interrupted: take(&mut given, "interrupted")?.unwrap_or_default(),
        })
    }
}

fn take<T: TryFrom<OwnedVariant>>(given: &mut Dictionary, key: &str) -> Result<Option<T>> {
    let Some(value) = given.remove(key) else {
        return Ok(None);
    };
    let signature = value.value_signature().to_string();
    T::try_from(value)
        .map(Some)
        .map_err(|_| Error::Internal(format!("the daemon sent \"{key}\" with the unexpected D-Bus type {signature}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(dictionary: HashMap<&'static str, Variant<'_>>) -> Dictionary {
        dictionary
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value.try_to_owned().expect("no descriptor inside")))
            .collect()
    }

    #[test]
    fn outcomes_come_back_as_they_were_sent() {
        let full = Outcome {
            text: Some("grüße".into()),
            finish_reason: Some(FinishReason::Length),
            tokens: Some(3),
            samples: Some(1_920),
            prompt_tokens: Some(9),
            prompt_tokens_reused: Some(7),
            tool_calls: Some("[]".into()),
            dropped: Some(4),
            added: Some(2),
            remote: Some("http://localhost/v1".into()),
            model: Some(OwnedObjectPath::try_from("/org/eddy/Admin1/model/x").expect("valid")),
            latency: BTreeMap::from([("first_audio".into(), 0.25)]),
            failure: Some(Failure::from(&Error::muted())),
        };
        assert_eq!(Outcome::from_dictionary(sent(full.to_dictionary())).expect("typed"), full);
        let empty = Outcome::default();
        assert!(empty.to_dictionary().is_empty());
        let mut later = sent(empty.to_dictionary());
        later.insert("new_in_1_7".into(), 5u32.into());
        assert_eq!(Outcome::from_dictionary(later).expect("typed"), empty);
        let wrong = HashMap::from([("tokens".to_owned(), OwnedVariant::from(true))]);
        assert!(Outcome::from_dictionary(wrong).expect_err("a flag is no count").to_string().contains("\"tokens\""));
    }

    #[test]
    fn deltas_come_back_as_they_were_sent_and_unknown_ones_are_kept_apart() {
        for delta in [
            Delta::Text("a".into()),
            Delta::Transcript("b".into()),
            Delta::Progress { done: 1, total: 0 },
            Delta::Queued(4),
        ] {
            let (kind, value) = delta.to_signal();
            assert_eq!(Delta::from_signal(kind, &value), delta);
        }
        assert_eq!(Delta::from_signal("mood", &Variant::from(1u32)), Delta::Other("mood".into()));
        assert_eq!(Delta::from_signal("text", &Variant::from(1u32)), Delta::Other("text".into()));
    }

    #[test]
    fn a_text_that_the_bus_cannot_carry_is_mended() {
        let delta = Delta::Text("a\0b".into());
        assert_eq!(delta.to_signal().1, Variant::from("a\u{fffd}b"));
        let outcome = Outcome { text: Some("\0".into()), ..Outcome::default() };
        assert_eq!(outcome.to_dictionary()["text"], Variant::from("\u{fffd}"));
        let turn = Turn { role: Role::User, text: "\0".into(), interrupted: false };
        assert_eq!(turn.to_dictionary()["text"], Variant::from("\u{fffd}"));
    }

    #[test]
    fn turns_come_back_as_they_were_sent() {
        let turn = Turn { role: Role::Assistant, text: "so far".into(), interrupted: true };
        assert_eq!(Turn::from_dictionary(sent(turn.to_dictionary())).expect("typed"), turn);
        assert!(Turn::from_dictionary(HashMap::new()).is_err());
    }
}
