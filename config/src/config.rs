//! The whole configuration: its sections, and the checks that span more than one key.

use crate::error::Problem;
use crate::nearest::nearest;
use crate::place::{Member, Node, Place, Value};
use crate::schema::{Absorbed, Field, Section};
use crate::sections::{
    access::Access, audio::Audio, generation::Generation, limits::Limits, log::Log, metrics::Metrics, models::Models,
    runtime::Runtime, voice::Voice,
};

/// One value in effect, for `eddy config show`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The key with its section; for a rule, with application and capability too.
    pub key: String,
    /// The value as a TOML literal.
    pub value: String,
    /// Who set it.
    pub place: Place,
}

/// A section's name, documentation and keys.
pub(crate) struct SectionSchema {
    pub name: &'static str,
    pub docs: &'static [&'static str],
    pub fields: Vec<Field>,
}

macro_rules! sections {
    ($( $(#[doc = $doc:expr])* $field:ident: $section:ident, )*) => {
        /// Every setting, with the value in effect.
        #[derive(Debug, Clone, Default, PartialEq)]
        pub struct Config {
            $( $(#[doc = $doc])* pub $field: $section, )*
        }

        impl Config {
            pub(crate) fn schema() -> Vec<SectionSchema> {
                vec![$( SectionSchema {
                    name: <$section as Section>::NAME,
                    docs: <$section as Section>::DOCS,
                    fields: <$section as Section>::fields(),
                }, )*]
            }

            fn set_in(&mut self, section: &str, name: &str, node: &Node) -> Option<Absorbed> {
                $( if section == <$section as Section>::NAME { return self.$field.set(name, node); } )*
                None
            }

            fn entries_in(&self, section: &str, name: &str) -> Vec<(String, String)> {
                $( if section == <$section as Section>::NAME { return self.$field.entries(name); } )*
                Vec::new()
            }
        }
    };
}

sections! {
    /// The library that runs the graphs.
    runtime: Runtime,
    /// Model folders and memory.
    models: Models,
    /// Microphone and speaker.
    audio: Audio,
    /// Listening, turns, interruptions.
    voice: Voice,
    /// How answers are drawn.
    generation: Generation,
    /// Which application may do what.
    access: Access,
    /// What callers may take.
    limits: Limits,
    /// Numbers about the daemon.
    metrics: Metrics,
    /// The log.
    log: Log,
}

impl Config {
    /// Every key there is, in the order of the example file.
    pub fn fields() -> Vec<Field> {
        Self::schema().into_iter().flat_map(|section| section.fields).collect()
    }

    /// Every value as a TOML literal, rules one by one, in the order of the example file.
    pub fn entries(&self) -> Vec<(String, String)> {
        Self::fields().iter().flat_map(|field| self.entries_in(field.section, field.name)).collect()
    }

    /// Applies one file's worth of sections. Collects every problem and sets what is right, so that one
    /// run reports all there is to mend.
    pub(crate) fn absorb(&mut self, sections: &[Member], set: &mut Vec<(String, Place)>) -> Vec<Problem> {
        let schema = Self::schema();
        let mut problems = Vec::new();
        for section in sections {
            match (&section.node.value, schema.iter().find(|known| known.name == section.key)) {
                (Value::Table(members), Some(_)) => {
                    for member in members {
                        problems.extend(self.set(&section.key, &member.key, &member.place, &member.node, set));
                    }
                }
                (_, Some(known)) => problems.push(Problem::WrongValue {
                    place: section.node.place.clone(),
                    key: known.name.to_owned(),
                    found: section.node.value.to_string(),
                    expected: format!("a table that begins with [{}]", known.name),
                }),
                (_, None) => problems.push(unknown(&section.place, None, &section.key)),
            }
        }
        problems
    }

    /// Applies one value.
    pub(crate) fn set(
        &mut self,
        section: &str,
        name: &str,
        key_place: &Place,
        node: &Node,
        set: &mut Vec<(String, Place)>,
    ) -> Vec<Problem> {
        match self.set_in(section, name, node) {
            Some(Ok(keys)) => {
                set.extend(keys);
                Vec::new()
            }
            Some(Err(problems)) => problems,
            None => vec![unknown(key_place, Some(section), name)],
        }
    }

    /// Values that are each in range but do not go together: the key to blame and why.
    pub(crate) fn conflicts(&self) -> Vec<(&'static str, String)> {
        let mut found = Vec::new();
        let voice = &self.voice;
        if voice.silence_threshold >= voice.speech_threshold {
            found.push((
                "voice.silence_threshold",
                format!(
                    "({}) has to be lower than voice.speech_threshold ({})",
                    voice.silence_threshold, voice.speech_threshold
                ),
            ));
        }
        if voice.endpoint_min_wait > voice.endpoint_max_wait {
            found.push((
                "voice.endpoint_min_wait",
                format!(
                    "({:?}) must not be longer than voice.endpoint_max_wait ({:?})",
                    voice.endpoint_min_wait, voice.endpoint_max_wait
                ),
            ));
        }
        if self.limits.wav_bytes > self.limits.bytes_per_caller {
            found.push((
                "limits.wav_bytes",
                format!(
                    "({}) must not be more than limits.bytes_per_caller ({})",
                    self.limits.wav_bytes, self.limits.bytes_per_caller
                ),
            ));
        }
        if self.limits.image_bytes > self.limits.bytes_per_caller {
            found.push((
                "limits.image_bytes",
                format!(
                    "({}) must not be more than limits.bytes_per_caller ({})",
                    self.limits.image_bytes, self.limits.bytes_per_caller
                ),
            ));
        }
        found
    }
}

/// The problem for a name that does not exist, with the nearest one that does. Looks inside the section
/// first; then among all keys, for those written in the wrong section.
pub(crate) fn unknown(place: &Place, section: Option<&str>, name: &str) -> Problem {
    let schema = Config::schema();
    let suggestion = match section {
        None => nearest(name, schema.iter().map(|section| section.name)).map(str::to_owned).or_else(|| {
            schema.iter().flat_map(|section| &section.fields).find(|field| field.name == name).map(Field::key)
        }),
        Some(section) => match schema.iter().find(|known| known.name == section) {
            Some(known) => nearest(name, known.fields.iter().map(|field| field.name))
                .map(|near| format!("{section}.{near}"))
                .or_else(|| {
                    schema.iter().flat_map(|other| &other.fields).find(|field| field.name == name).map(Field::key)
                }),
            None => nearest(section, schema.iter().map(|known| known.name)).map(|near| format!("{near}.{name}")),
        },
    };
    let key = section.map_or_else(|| name.to_owned(), |section| format!("{section}.{name}"));
    Problem::UnknownKey { place: place.clone(), key, suggestion }
}
