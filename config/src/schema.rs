//! How a section of the configuration is written down: once, with everything known about each key.
//!
//! `settings!` turns a list of documented, defaulted, ranged fields into the struct that the daemon
//! reads and into the table that the loader, the example file and the reload report are made from.
//! A derive macro would have needed a crate of its own for the same effect.

use crate::error::Problem;
use crate::place::{Node, Place};
use crate::reload::Applies;

/// Everything known about one key.
#[derive(Debug, Clone)]
pub struct Field {
    /// The section, `voice`.
    pub section: &'static str,
    /// The name inside the section, `barge_in`.
    pub name: &'static str,
    /// The documentation, one element a line.
    pub docs: &'static [&'static str],
    /// The built-in value as a TOML literal.
    pub default: String,
    /// What values fit, in words.
    pub accepts: String,
    /// When a changed value takes effect.
    pub applies: Applies,
}

impl Field {
    /// The name with its section, `voice.barge_in`.
    pub fn key(&self) -> String {
        format!("{}.{}", self.section, self.name)
    }
}

/// What setting a key did: the keys that now have a value of this layer, each with its place.
pub(crate) type Absorbed = Result<Vec<(String, Place)>, Vec<Problem>>;

/// A section as the loader sees it.
pub(crate) trait Section: Default + Clone + PartialEq {
    /// The name in brackets.
    const NAME: &'static str;
    /// The documentation, one element a line.
    const DOCS: &'static [&'static str];

    /// The keys in the order of the example file.
    fn fields() -> Vec<Field>;

    /// Sets a key, or `None` if there is no such key.
    fn set(&mut self, name: &str, node: &Node) -> Option<Absorbed>;

    /// The entries under a key as pairs of full key and TOML literal. One pair for plain settings.
    fn entries(&self, name: &str) -> Vec<(String, String)>;
}

/// Declares a section. Each field reads
/// `name: Type = default, live|restart [, (lowest, highest)];` under its documentation.
macro_rules! settings {
    (
        $(#[doc = $section_doc:expr])*
        pub struct $section:ident($name:literal) {
            $(
                $(#[doc = $doc:expr])*
                $field:ident: $type:ty = $default:expr, $applies:ident $(, ($low:expr, $high:expr))?;
            )*
        }
    ) => {
        $(#[doc = $section_doc])*
        #[derive(Debug, Clone, PartialEq)]
        pub struct $section {
            $( $(#[doc = $doc])* pub $field: $type, )*
        }

        impl Default for $section {
            fn default() -> Self {
                Self { $( $field: $default, )* }
            }
        }

        impl $crate::schema::Section for $section {
            const NAME: &'static str = $name;
            const DOCS: &'static [&'static str] = &[$($section_doc),*];

            fn fields() -> Vec<$crate::schema::Field> {
                use $crate::setting::Setting as _;
                let defaults = Self::default();
                vec![$(
                    $crate::schema::Field {
                        section: $name,
                        name: stringify!($field),
                        docs: &[$($doc),*],
                        default: defaults.$field.write(),
                        accepts: {
                            #[allow(unused_mut)]
                            let mut words = <$type as $crate::setting::Setting>::accepts();
                            $(
                                words.push(' ');
                                words.push_str(&$crate::setting::span::<$type>(&$low, &$high));
                            )?
                            words
                        },
                        applies: settings!(@applies $applies),
                    },
                )*]
            }

            fn set(&mut self, name: &str, node: &$crate::place::Node) -> Option<$crate::schema::Absorbed> {
                use $crate::setting::Setting as _;
                $(
                    if name == stringify!($field) {
                        let key = concat!($name, ".", stringify!($field));
                        let mut value = self.$field.clone();
                        let absorbed = match value.absorb(key, node) {
                            Ok(absorbed) => absorbed,
                            Err(problems) => return Some(Err(problems)),
                        };
                        $(
                            if let Err(expected) = $crate::setting::within(&value, &$low, &$high) {
                                return Some(Err(vec![$crate::Problem::WrongValue {
                                    place: node.place.clone(),
                                    key: key.to_owned(),
                                    found: node.value.to_string(),
                                    expected,
                                }]));
                            }
                        )?
                        self.$field = value;
                        return Some(Ok(absorbed));
                    }
                )*
                None
            }

            fn entries(&self, name: &str) -> Vec<(String, String)> {
                use $crate::setting::Setting as _;
                $(
                    if name == stringify!($field) {
                        return self.$field.entries(concat!($name, ".", stringify!($field)));
                    }
                )*
                Vec::new()
            }
        }
    };
    (@applies live) => { $crate::reload::Applies::AtOnce };
    (@applies restart) => { $crate::reload::Applies::AfterRestart };
}
pub(crate) use settings;

/// Declares a setting that is one of a few words.
macro_rules! choice {
    (
        $(#[$attribute:meta])*
        pub enum $choice:ident {
            $( $(#[doc = $doc:expr])* $variant:ident = $word:literal, )*
        }
    ) => {
        $(#[$attribute])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $choice {
            $( $(#[doc = $doc])* $variant, )*
        }

        impl $choice {
            /// Every choice, in the order of the documentation.
            pub const ALL: &'static [Self] = &[$( Self::$variant ),*];

            /// The word for it in the configuration.
            pub const fn as_str(self) -> &'static str {
                match self { $( Self::$variant => $word, )* }
            }

            /// The choice that a word stands for.
            pub fn from_word(word: &str) -> Option<Self> {
                match word { $( $word => Some(Self::$variant), )* _ => None }
            }
        }

        impl std::fmt::Display for $choice {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl $crate::setting::Setting for $choice {
            type Bound = Self;
            fn read(value: &$crate::place::Value) -> Result<Self, String> {
                match value {
                    $crate::place::Value::Text(word) => Self::from_word(word).ok_or_else(|| {
                        $crate::nearest::nearest(word, Self::ALL.iter().map(|choice| choice.as_str()))
                            .map_or_else(Self::accepts, |near| {
                                format!("{}; did you mean \"{near}\"?", Self::accepts())
                            })
                    }),
                    _ => Err(Self::accepts()),
                }
            }
            fn write(&self) -> String {
                $crate::place::quoted(self.as_str())
            }
            fn accepts() -> String {
                let words: Vec<String> = Self::ALL.iter().map(|choice| choice.write()).collect();
                format!("one of {}", words.join(", "))
            }
        }
    };
}
pub(crate) use choice;
