//! The options that methods take as `a{sv}`: read into a struct, with an error for everything that
//! does not fit, and written from one.

use std::collections::HashMap;
use std::os::fd::OwnedFd;

use serde::ser::{Serialize, SerializeMap, Serializer};
use zbus::wire::{Signature, Type};
use zbus::{Fd, OwnedVariant, Variant};

use crate::error::{Error, Result};
use crate::nearest::nearest;
use crate::words::{Priority, SpeakerVoice, words};

words! {
    /// An option.
    pub enum Key {
        /// The last element of the object's path.
        HandleToken = "handle_token",
        /// The model folder, by name.
        Model = "model",
        /// Where chance starts.
        Seed = "seed",
        /// Always the likeliest token.
        Greedy = "greedy",
        /// The longest answer.
        MaxTokens = "max_tokens",
        /// How freely to draw.
        Temperature = "temperature",
        /// How many of the likeliest tokens to draw from.
        TopK = "top_k",
        /// How urgent it is.
        Priority = "priority",
        /// The write end of a pipe for the text.
        Stream = "stream",
        /// What the model is told first.
        Instructions = "instructions",
        /// Who speaks.
        Voice = "voice",
        /// Texts that end the answer.
        Stop = "stop",
        /// Functions that the model may call, as a JSON list.
        Tools = "tools",
        /// A JSON schema that the answer has to fit.
        Schema = "schema",
        /// Leave out the oldest turns of a conversation that is too long.
        DropOldest = "drop_oldest",
        /// Tokens of a whole image at most.
        MaxImageTokens = "max_image_tokens",
        /// Tiles of an image at most.
        Tiles = "tiles",
        /// Whether a small whole image follows the tiles.
        Thumbnail = "thumbnail",
        /// The precision of the weights.
        Precision = "precision",
        /// Whether the licence is accepted, whatever it is.
        AcceptLicense = "accept_license",
        /// Whether a connection may be used that costs money by the byte.
        Metered = "metered",
    }
}

/// A token for an object's path: 1 to 64 ASCII letters, digits and underscores.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Token(String);

impl Token {
    /// The longest one.
    const LONGEST: usize = 64;

    /// Checks a token that a caller chose.
    pub fn new(text: &str) -> Result<Self> {
        let fits = (1..=Self::LONGEST).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if fits {
            Ok(Self(text.to_owned()))
        } else {
            Err(invalid(Key::HandleToken, "1 to 64 letters, digits and underscores"))
        }
    }

    /// A token for a caller that chose none. The prefix keeps made tokens apart from most chosen ones;
    /// the daemon still looks whether the path is free.
    pub fn numbered(number: u64) -> Self {
        Self(format!("eddy{number}"))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The options of a call. What is `None` was not given.
#[derive(Debug, Default)]
pub struct Options {
    /// The last element of the path of the object that the call makes.
    pub handle_token: Option<Token>,
    /// The model folder, by name.
    pub model: Option<String>,
    /// Where chance starts.
    pub seed: Option<u64>,
    /// Always the likeliest token.
    pub greedy: Option<bool>,
    /// The longest answer in tokens, at least 1.
    pub max_tokens: Option<u32>,
    /// How freely to draw, 0 to 2.
    pub temperature: Option<f64>,
    /// How many of the likeliest tokens to draw from, 0 for all.
    pub top_k: Option<u32>,
    /// How urgent it is.
    pub priority: Option<Priority>,
    /// The write end of a pipe that receives the text as UTF-8.
    pub stream: Option<OwnedFd>,
    /// What the model is told first.
    pub instructions: Option<String>,
    /// Who speaks.
    pub voice: Option<SpeakerVoice>,
    /// Texts that end the answer and are no part of it.
    pub stop: Option<Vec<String>>,
    /// Functions that the model may call, as a JSON list.
    pub tools: Option<String>,
    /// A JSON schema that the answer has to fit.
    pub schema: Option<String>,
    /// Leave out the oldest turns of a conversation that is too long.
    pub drop_oldest: Option<bool>,
    /// Tokens of a whole image at most, at least 1.
    pub max_image_tokens: Option<u32>,
    /// Tiles of an image at most, at least 1.
    pub tiles: Option<u32>,
    /// Whether a small whole image follows the tiles.
    pub thumbnail: Option<bool>,
    /// The precision of the weights.
    pub precision: Option<String>,
    /// Whether the licence is accepted, whatever it is.
    pub accept_license: Option<bool>,
    /// Whether a connection may be used that costs money by the byte.
    pub metered: Option<bool>,
}

impl Options {
    /// Reads the options of a method that takes the keys in `accepted`.
    ///
    /// A key that is unknown or that the method has no use for is an error, not passed over: a caller
    /// that asked for something would otherwise get something else and never know.
    pub fn read(given: HashMap<String, OwnedVariant>, accepted: &[Key]) -> Result<Self> {
        let mut options = Self::default();
        for (name, value) in given {
            let key = Key::from_word(&name).ok_or_else(|| unknown(&name, accepted))?;
            if !accepted.contains(&key) {
                return Err(Error::InvalidOption(format!(
                    "the option \"{key}\" has no meaning for this method; {}",
                    list(accepted)
                )));
            }
            options.set(key, value.into())?;
        }
        Ok(options)
    }

    fn set(&mut self, key: Key, value: Variant<'static>) -> Result<()> {
        match (key, value) {
            (Key::HandleToken, Variant::Str(text)) => self.handle_token = Some(Token::new(&text)?),
            (Key::Model, Variant::Str(text)) => {
                if text.is_empty() {
                    return Err(invalid(key, "the name of a model folder"));
                }
                self.model = Some(text.to_string());
            }
            (Key::Seed, Variant::U64(seed)) => self.seed = Some(seed),
            (Key::Greedy, Variant::Bool(greedy)) => self.greedy = Some(greedy),
            (Key::MaxTokens | Key::MaxImageTokens | Key::Tiles, Variant::U32(0)) => {
                return Err(invalid(key, "at least 1"));
            }
            (Key::MaxTokens, Variant::U32(count)) => self.max_tokens = Some(count),
            (Key::MaxImageTokens, Variant::U32(count)) => self.max_image_tokens = Some(count),
            (Key::Tiles, Variant::U32(count)) => self.tiles = Some(count),
            (Key::Thumbnail, Variant::Bool(thumbnail)) => self.thumbnail = Some(thumbnail),
            (Key::Precision, Variant::Str(word)) => self.precision = Some(word.to_string()),
            (Key::AcceptLicense, Variant::Bool(accept)) => self.accept_license = Some(accept),
            (Key::Metered, Variant::Bool(metered)) => self.metered = Some(metered),
            (Key::Temperature, Variant::F64(temperature)) => {
                // Not written as two comparisons: what is not a number is outside every range.
                if !(0.0..=2.0).contains(&temperature) {
                    return Err(invalid(key, "a number from 0 to 2"));
                }
                self.temperature = Some(temperature);
            }
            (Key::TopK, Variant::U32(count)) => self.top_k = Some(count),
            (Key::Priority, Variant::Str(word)) => {
                self.priority = Some(Priority::from_word(&word).ok_or_else(|| {
                    invalid(key, format!("one of {}", words_of(Priority::ALL.iter().map(|word| word.as_str()))))
                })?);
            }
            (Key::Voice, Variant::Str(word)) => {
                self.voice = Some(SpeakerVoice::from_word(&word).ok_or_else(|| {
                    invalid(key, format!("one of {}", words_of(SpeakerVoice::ALL.iter().map(|word| word.as_str()))))
                })?);
            }
            (Key::Stream, Variant::Fd(fd)) => self.stream = Some(OwnedFd::try_from(fd)?),
            (Key::Instructions, Variant::Str(text)) => self.instructions = Some(text.to_string()),
            (Key::Tools, Variant::Str(text)) => self.tools = Some(text.to_string()),
            (Key::Schema, Variant::Str(text)) => self.schema = Some(text.to_string()),
            (Key::DropOldest, Variant::Bool(drop)) => self.drop_oldest = Some(drop),
            (Key::Stop, Variant::Array(texts)) if *texts.element_signature() == Signature::Str => {
                self.stop = Some(Vec::try_from(Variant::Array(texts))?);
            }
            (key, other) => {
                return Err(Error::InvalidOption(format!(
                    "the option \"{key}\" has the D-Bus type {}, expected {}",
                    other.value_signature(),
                    key.signature()
                )));
            }
        }
        Ok(())
    }

    /// The options that were given, as they are sent.
    fn entries(&self) -> Vec<(Key, Variant<'_>)> {
        let Self {
            handle_token,
            model,
            seed,
            greedy,
            max_tokens,
            temperature,
            top_k,
            priority,
            stream,
            instructions,
            voice,
            stop,
            tools,
            schema,
            drop_oldest,
            max_image_tokens,
            tiles,
            thumbnail,
            precision,
            accept_license,
            metered,
        } = self;
        let entries = [
            (Key::HandleToken, handle_token.as_ref().map(|token| Variant::from(token.as_str()))),
            (Key::Model, model.as_deref().map(Variant::from)),
            (Key::Seed, seed.map(Variant::from)),
            (Key::Greedy, greedy.map(Variant::from)),
            (Key::MaxTokens, max_tokens.map(Variant::from)),
            (Key::Temperature, temperature.map(Variant::from)),
            (Key::TopK, top_k.map(Variant::from)),
            (Key::Priority, priority.map(|priority| Variant::from(priority.as_str()))),
            (Key::Stream, stream.as_ref().map(|stream| Variant::Fd(Fd::from(stream)))),
            (Key::Instructions, instructions.as_deref().map(Variant::from)),
            (Key::Voice, voice.map(|voice| Variant::from(voice.as_str()))),
            (Key::Stop, stop.clone().map(Variant::from)),
            (Key::Tools, tools.as_deref().map(Variant::from)),
            (Key::Schema, schema.as_deref().map(Variant::from)),
            (Key::DropOldest, drop_oldest.map(Variant::from)),
            (Key::MaxImageTokens, max_image_tokens.map(Variant::from)),
            (Key::Tiles, tiles.map(Variant::from)),
            (Key::Thumbnail, thumbnail.map(Variant::from)),
            (Key::Precision, precision.as_deref().map(Variant::from)),
            (Key::AcceptLicense, accept_license.map(Variant::from)),
            (Key::Metered, metered.map(Variant::from)),
        ];
        entries.into_iter().filter_map(|(key, value)| Some((key, value?))).collect()
    }
}

impl Key {
    /// The D-Bus type of the option's value.
    pub const fn signature(self) -> &'static str {
        match self {
            Self::HandleToken | Self::Model | Self::Priority | Self::Instructions | Self::Voice => "s",
            Self::Tools | Self::Schema | Self::Precision => "s",
            Self::Stop => "as",
            Self::Seed => "t",
            Self::Greedy | Self::DropOldest | Self::Thumbnail | Self::AcceptLicense | Self::Metered => "b",
            Self::MaxTokens | Self::TopK | Self::MaxImageTokens | Self::Tiles => "u",
            Self::Temperature => "d",
            Self::Stream => "h",
        }
    }
}

impl Type for Options {
    const SIGNATURE: &'static Signature = <HashMap<&str, Variant<'_>> as Type>::SIGNATURE;
}

impl Serialize for Options {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let entries = self.entries();
        let mut map = serializer.serialize_map(Some(entries.len()))?;
        for (key, value) in &entries {
            map.serialize_entry(key.as_str(), value)?;
        }
        map.end()
    }
}

fn invalid(key: Key, expected: impl std::fmt::Display) -> Error {
    Error::InvalidOption(format!("the option \"{key}\": expected {expected}"))
}

fn unknown(name: &str, accepted: &[Key]) -> Error {
    let hint = nearest(name, accepted.iter().map(|key| key.as_str()))
        .map_or_else(|| list(accepted), |near| format!("did you mean \"{near}\"?"));
    Error::InvalidOption(format!("there is no option \"{name}\"; {hint}"))
}

fn list(accepted: &[Key]) -> String {
    if accepted.is_empty() {
        return "it takes none".to_owned();
    }
    format!("it takes {}", words_of(accepted.iter().map(|key| key.as_str())))
}

fn words_of<'a>(words: impl Iterator<Item = &'a str>) -> String {
    words.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(entries: Vec<(&str, Variant<'static>)>, accepted: &[Key]) -> Result<Options> {
        let given = entries
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value.try_into_owned().expect("no descriptor inside")))
            .collect();
        Options::read(given, accepted)
    }

    #[test]
    fn options_that_fit_are_read() {
        let options = read(
            vec![
                ("handle_token", "q_1".into()),
                ("seed", 7u64.into()),
                ("greedy", true.into()),
                ("max_tokens", 5u32.into()),
                ("temperature", 0.5f64.into()),
                ("priority", "batch".into()),
                ("voice", "uk-male".into()),
                ("stop", vec!["END"].into()),
            ],
            Key::ALL,
        )
        .expect("all fit");
        assert_eq!(options.handle_token.expect("given").as_str(), "q_1");
        assert_eq!((options.seed, options.greedy, options.max_tokens), (Some(7), Some(true), Some(5)));
        assert_eq!((options.temperature, options.priority), (Some(0.5), Some(Priority::Batch)));
        assert_eq!(options.voice, Some(SpeakerVoice::UkMale));
        assert_eq!(options.stop, Some(vec!["END".to_owned()]));
        assert!(options.model.is_none() && options.stream.is_none());
    }

    #[test]
    fn options_that_do_not_fit_are_named() {
        let long = "x".repeat(65);
        let cases: Vec<(&str, Variant<'static>, &[Key], &str)> = vec![
            ("max_token", 5u32.into(), Key::ALL, "there is no option \"max_token\"; did you mean \"max_tokens\"?"),
            ("colour", 5u32.into(), &[Key::Model, Key::Seed], "there is no option \"colour\"; it takes model, seed"),
            ("colour", 5u32.into(), &[], "there is no option \"colour\"; it takes none"),
            (
                "voice",
                "us-male".into(),
                &[Key::Seed],
                "the option \"voice\" has no meaning for this method; it takes seed",
            ),
            ("seed", 5u32.into(), Key::ALL, "the option \"seed\" has the D-Bus type u, expected t"),
            ("stream", "x".into(), Key::ALL, "the option \"stream\" has the D-Bus type s, expected h"),
            ("max_tokens", 0u32.into(), Key::ALL, "the option \"max_tokens\": expected at least 1"),
            ("temperature", f64::NAN.into(), Key::ALL, "the option \"temperature\": expected a number from 0 to 2"),
            ("temperature", 2.1f64.into(), Key::ALL, "the option \"temperature\": expected a number from 0 to 2"),
            ("priority", "voice".into(), Key::ALL, "the option \"priority\": expected one of interactive, batch"),
            ("model", "".into(), Key::ALL, "the option \"model\": expected the name of a model folder"),
            (
                "handle_token",
                "a/b".into(),
                Key::ALL,
                "the option \"handle_token\": expected 1 to 64 letters, digits and underscores",
            ),
            (
                "handle_token",
                long.into(),
                Key::ALL,
                "the option \"handle_token\": expected 1 to 64 letters, digits and underscores",
            ),
        ];
        for (name, value, accepted, sentence) in cases {
            match read(vec![(name, value)], accepted) {
                Err(error @ Error::InvalidOption(_)) => assert_eq!(error.to_string(), sentence),
                other => panic!("{name}: {other:?}"),
            }
        }
    }
}
