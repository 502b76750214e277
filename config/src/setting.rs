//! What a type must do to be the type of a setting, and the plain types that do.
//!
//! A setting reads itself from a value, writes itself as the TOML literal that reads back equal, and
//! says in words what it accepts. The words end up in error messages and in the example file.

use std::path::PathBuf;

use crate::error::Problem;
use crate::place::{Node, Value, float, quoted};

/// The type of one key.
pub(crate) trait Setting: Clone + PartialEq {
    /// What the limits of a range are counted in.
    type Bound: PartialOrd + Setting;

    /// The value, or what was expected instead.
    fn read(value: &Value) -> Result<Self, String>;

    /// The TOML literal of this value.
    fn write(&self) -> String;

    /// What fits, for people: `true or false`, `a duration such as "300ms"`.
    fn accepts() -> String;

    /// The part of this value that a range limits, if there is one.
    fn bounded(&self) -> Option<Self::Bound> {
        None
    }

    /// The keys and literals that this setting is shown as. One pair, except for a table of entries.
    fn entries(&self, key: &str) -> Vec<(String, String)> {
        vec![(key.to_owned(), self.write())]
    }

    /// Takes a value from a layer over what earlier layers gave, and tells which keys it set. Plain
    /// settings are replaced; only a table of entries adds to what is there.
    fn absorb(&mut self, key: &str, node: &Node) -> Result<Vec<(String, crate::Place)>, Vec<Problem>> {
        match Self::read(&node.value) {
            Ok(value) => {
                *self = value;
                Ok(vec![(key.to_owned(), node.place.clone())])
            }
            Err(expected) => Err(vec![Problem::WrongValue {
                place: node.place.clone(),
                key: key.to_owned(),
                found: node.value.to_string(),
                expected,
            }]),
        }
    }
}

/// Refuses a value outside the range of its field.
pub(crate) fn within<T: Setting>(value: &T, low: &T::Bound, high: &T::Bound) -> Result<(), String> {
    match value.bounded() {
        // Written so that a value which compares with nothing (not a number) is refused too.
        Some(bound) if !(bound >= *low && bound <= *high) => Err(format!("{} {}", T::accepts(), span::<T>(low, high))),
        _ => Ok(()),
    }
}

/// A range in words.
pub(crate) fn span<T: Setting>(low: &T::Bound, high: &T::Bound) -> String {
    format!("from {} to {}", low.write(), high.write())
}

impl Setting for bool {
    type Bound = Self;
    fn read(value: &Value) -> Result<Self, String> {
        match value {
            Value::Flag(flag) => Ok(*flag),
            _ => Err(Self::accepts()),
        }
    }
    fn write(&self) -> String {
        self.to_string()
    }
    fn accepts() -> String {
        "true or false".into()
    }
}

impl Setting for u32 {
    type Bound = Self;
    fn read(value: &Value) -> Result<Self, String> {
        match value {
            Value::Integer(number) => Self::try_from(*number).map_err(|_| Self::accepts()),
            _ => Err(Self::accepts()),
        }
    }
    fn write(&self) -> String {
        self.to_string()
    }
    fn accepts() -> String {
        "a whole number".into()
    }
    fn bounded(&self) -> Option<Self> {
        Some(*self)
    }
}

impl Setting for u64 {
    type Bound = Self;
    fn read(value: &Value) -> Result<Self, String> {
        match value {
            Value::Integer(number) => Self::try_from(*number).map_err(|_| Self::accepts()),
            _ => Err(Self::accepts()),
        }
    }
    fn write(&self) -> String {
        self.to_string()
    }
    fn accepts() -> String {
        "a whole number".into()
    }
    fn bounded(&self) -> Option<Self> {
        Some(*self)
    }
}

impl Setting for f64 {
    type Bound = Self;
    fn read(value: &Value) -> Result<Self, String> {
        match value {
            Value::Float(number) if number.is_finite() => Ok(*number),
            // Settings are thresholds and temperatures, far inside the exact range of a float.
            #[allow(clippy::cast_precision_loss)]
            Value::Integer(number) => Ok(*number as Self),
            _ => Err(Self::accepts()),
        }
    }
    fn write(&self) -> String {
        float(*self)
    }
    fn accepts() -> String {
        "a number".into()
    }
    fn bounded(&self) -> Option<Self> {
        Some(*self)
    }
}

impl Setting for String {
    type Bound = Self;
    fn read(value: &Value) -> Result<Self, String> {
        match value {
            Value::Text(text) => Ok(text.clone()),
            _ => Err(Self::accepts()),
        }
    }
    fn write(&self) -> String {
        quoted(self)
    }
    fn accepts() -> String {
        "a text in quotes".into()
    }
}

/// Empty, absolute, or under the home folder. A relative path is refused: a daemon has no working
/// folder that anybody would expect.
impl Setting for PathBuf {
    type Bound = Self;
    fn read(value: &Value) -> Result<Self, String> {
        match value {
            Value::Text(text) if text.is_empty() || text.starts_with('/') || text.starts_with("~/") => {
                Ok(Self::from(text))
            }
            _ => Err(Self::accepts()),
        }
    }
    fn write(&self) -> String {
        quoted(&self.to_string_lossy())
    }
    fn accepts() -> String {
        "a path that begins with / or ~/, or nothing".into()
    }
}

impl<T: Setting> Setting for Vec<T> {
    type Bound = T::Bound;
    fn read(value: &Value) -> Result<Self, String> {
        match value {
            Value::List(items) => items.iter().map(|item| T::read(&item.value).map_err(|_| Self::accepts())).collect(),
            _ => Err(Self::accepts()),
        }
    }
    fn write(&self) -> String {
        format!("[{}]", self.iter().map(Setting::write).collect::<Vec<_>>().join(", "))
    }
    fn accepts() -> String {
        format!("a list, each {}", T::accepts())
    }
}
