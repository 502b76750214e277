//! Where a value was written, and the small tree of values that carries those places.
//!
//! Owns the step from TOML text to values with a file, a line and a column on each of them. The rest
//! of the crate never sees the TOML parser.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use toml::de::{DeTable, DeValue};

use crate::error::Problem;

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// Nobody set it: the value is the one compiled in.
    BuiltIn,
    /// A configuration file.
    File {
        /// The file.
        path: Arc<PathBuf>,
        /// Line, counted from 1.
        line: usize,
        /// Column in characters, counted from 1.
        column: usize,
    },
    /// An environment variable.
    Environment(String),
    /// An override on the command line, as it was given.
    CommandLine(String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BuiltIn => f.write_str("built in"),
            Self::File { path, line, column } => write!(f, "{}:{line}:{column}", path.display()),
            Self::Environment(variable) => write!(f, "environment, {variable}"),
            Self::CommandLine(argument) => write!(f, "command line, {argument}"),
        }
    }
}

/// A value and the place where it stands.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub value: Value,
    pub place: Place,
}

/// The shapes a value in TOML can have.
#[derive(Debug, Clone)]
pub(crate) enum Value {
    Text(String),
    Integer(i64),
    Float(f64),
    Flag(bool),
    List(Vec<Node>),
    Table(Vec<Member>),
    /// A shape no setting takes (dates, integers beyond 64 bits), as it was written.
    Other(String),
}

/// One key of a table. The key has a place of its own, since that is what an unknown key is reported at.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    pub key: String,
    pub place: Place,
    pub node: Node,
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(&quoted(text)),
            Self::Integer(number) => write!(f, "{number}"),
            Self::Float(number) => f.write_str(&float(*number)),
            Self::Flag(flag) => write!(f, "{flag}"),
            Self::List(items) => {
                f.write_str("[")?;
                for (index, item) in items.iter().enumerate() {
                    write!(f, "{}{}", if index == 0 { "" } else { ", " }, item.value)?;
                }
                f.write_str("]")
            }
            Self::Table(_) => f.write_str("a table"),
            Self::Other(text) => f.write_str(text),
        }
    }
}

/// A TOML string literal. Always the basic form, so that one rule covers every content.
pub(crate) fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() => out.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// A TOML float literal: TOML wants a point or an exponent where Rust prints `1`.
pub(crate) fn float(number: f64) -> String {
    let text = format!("{number:?}");
    text.replace("NaN", "nan")
}

/// How places are made from positions in one text.
enum Origin<'a> {
    File { path: Arc<PathBuf>, text: &'a str },
    Fixed(Place),
}

impl Origin<'_> {
    fn at(&self, offset: usize) -> Place {
        match self {
            Self::Fixed(place) => place.clone(),
            Self::File { path, text } => {
                let before = text.get(..offset).unwrap_or(text);
                let start = before.rfind('\n').map_or(0, |newline| newline + 1);
                Place::File {
                    path: Arc::clone(path),
                    line: before.matches('\n').count() + 1,
                    column: before[start..].chars().count() + 1,
                }
            }
        }
    }
}

/// Reads a whole file's text. Reports every syntax error in it, not the first alone.
pub(crate) fn parse_file(path: &Path, text: &str) -> Result<Vec<Member>, Vec<Problem>> {
    let origin = Origin::File { path: Arc::new(path.to_path_buf()), text };
    let (table, mut errors) = DeTable::parse_recoverable(text);
    if errors.is_empty() {
        return Ok(members(table.get_ref(), &origin));
    }
    errors.sort_by_key(|error| error.span().map_or(0, |span| span.start));
    Err(errors
        .iter()
        .map(|error| Problem::Syntax {
            place: origin.at(error.span().map_or(0, |span| span.start)),
            message: error.message().trim().replace('\n', ", "),
        })
        .collect())
}

/// Reads one value given outside a file. Text that is no TOML value is taken as it stands, so that
/// nobody has to quote quotes in a shell.
pub(crate) fn parse_value(text: &str, place: &Place) -> Node {
    let origin = Origin::Fixed(place.clone());
    let value = match DeValue::parse(text) {
        Ok(value) => convert(value.get_ref(), &origin),
        Err(_) => Value::Text(text.to_owned()),
    };
    Node { value, place: place.clone() }
}

fn members(table: &DeTable<'_>, origin: &Origin<'_>) -> Vec<Member> {
    table
        .iter()
        .map(|(key, value)| Member {
            key: key.get_ref().to_string(),
            place: origin.at(key.span().start),
            node: Node { value: convert(value.get_ref(), origin), place: origin.at(value.span().start) },
        })
        .collect()
}

fn convert(value: &DeValue<'_>, origin: &Origin<'_>) -> Value {
    match value {
        DeValue::String(text) => Value::Text(text.to_string()),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map_or_else(|_| Value::Other(number.to_string()), Value::Integer),
        DeValue::Float(number) => {
            number.as_str().parse().map_or_else(|_| Value::Other(number.to_string()), Value::Float)
        }
        DeValue::Boolean(flag) => Value::Flag(*flag),
        DeValue::Datetime(date) => Value::Other(date.to_string()),
        DeValue::Array(items) => Value::List(
            items
                .iter()
                .map(|item| Node { value: convert(item.get_ref(), origin), place: origin.at(item.span().start) })
                .collect(),
        ),
        DeValue::Table(table) => Value::Table(members(table, origin)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoted_text_reads_back() {
        for text in ["", "plain", "a \"b\" \\ c", "tab\tnewline\nbell\u{7}", "grüße"] {
            match parse_value(&quoted(text), &Place::BuiltIn).value {
                Value::Text(read) => assert_eq!(read, text),
                other => panic!("{text:?} came back as {other}"),
            }
        }
    }

    #[test]
    fn places_count_lines_and_characters_from_one() {
        let members = parse_file(Path::new("x.toml"), "a = 1\n\"ß\" = { \"ü\" = 2 }\n").expect("valid TOML");
        let Value::Table(inner) = &members.iter().find(|m| m.key == "ß").expect("key").node.value else {
            panic!("an inline table is a table");
        };
        assert_eq!(inner[0].place.to_string(), "x.toml:2:9");
    }
}
