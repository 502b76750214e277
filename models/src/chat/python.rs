//! Values as Python writes them, which is what chat templates are written for.

use minijinja::value::{Value, ValueKind};

/// `json.dumps(value, ensure_ascii=False, indent=indent)`.
pub(super) fn json(value: &Value, indent: Option<usize>) -> String {
    let mut out = String::new();
    write_json(value, indent, 0, &mut out);
    out
}

fn write_json(value: &Value, indent: Option<usize>, depth: usize, out: &mut String) {
    match value.kind() {
        ValueKind::Undefined | ValueKind::None => out.push_str("null"),
        ValueKind::Bool => out.push_str(if value.is_true() { "true" } else { "false" }),
        ValueKind::Number => out.push_str(&number(value)),
        ValueKind::Seq | ValueKind::Iterable => {
            let items: Vec<Value> = value.try_iter().map(Iterator::collect).unwrap_or_default();
            list(['[', ']'], items, indent, depth, out, |item, out| write_json(&item, indent, depth + 1, out));
        }
        ValueKind::Map => {
            let keys: Vec<Value> = value.try_iter().map(Iterator::collect).unwrap_or_default();
            list(['{', '}'], keys, indent, depth, out, |key, out| {
                quote(&key.to_string(), out);
                out.push_str(": ");
                write_json(&value.get_item(&key).unwrap_or_default(), indent, depth + 1, out);
            });
        }
        _ => quote(&value.to_string(), out),
    }
}

/// Writes items between brackets: on one line with `, `, or on lines of their own.
fn list<T>(
    [open, close]: [char; 2],
    items: Vec<T>,
    indent: Option<usize>,
    depth: usize,
    out: &mut String,
    mut write: impl FnMut(T, &mut String),
) {
    out.push(open);
    let empty = items.is_empty();
    for (index, item) in items.into_iter().enumerate() {
        match (index, indent) {
            (0, None) => {}
            (_, None) => out.push_str(", "),
            (_, Some(width)) => {
                out.push_str(if index == 0 { "\n" } else { ",\n" });
                out.extend(std::iter::repeat_n(' ', width * (depth + 1)));
            }
        }
        write(item, out);
    }
    if let (Some(width), false) = (indent, empty) {
        out.push('\n');
        out.extend(std::iter::repeat_n(' ', width * depth));
    }
    out.push(close);
}

fn quote(text: &str, out: &mut String) {
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            control if control < ' ' => out.push_str(&format!("\\u{:04x}", control as u32)),
            other => out.push(other),
        }
    }
    out.push('"');
}

/// `str(value)`.
pub(super) fn text(value: &Value) -> String {
    match value.kind() {
        ValueKind::Undefined => String::new(),
        ValueKind::String => value.as_str().unwrap_or_default().to_owned(),
        _ => representation(value),
    }
}

/// `repr(value)`.
fn representation(value: &Value) -> String {
    match value.kind() {
        ValueKind::Undefined => "Undefined".into(),
        ValueKind::None => "None".into(),
        ValueKind::Bool => if value.is_true() { "True" } else { "False" }.into(),
        ValueKind::Number => number(value),
        ValueKind::String => quoted_as_python(value.as_str().unwrap_or_default()),
        ValueKind::Seq | ValueKind::Iterable => {
            let items: Vec<String> =
                value.try_iter().map(|items| items.map(|item| representation(&item)).collect()).unwrap_or_default();
            format!("[{}]", items.join(", "))
        }
        ValueKind::Map => {
            let keys: Vec<Value> = value.try_iter().map(Iterator::collect).unwrap_or_default();
            let items: Vec<String> = keys
                .iter()
                .map(|key| {
                    let item = value.get_item(key).unwrap_or_default();
                    format!("{}: {}", representation(key), representation(&item))
                })
                .collect();
            format!("{{{}}}", items.join(", "))
        }
        _ => value.to_string(),
    }
}

/// A string in single quotes, or in double ones where it holds single ones alone.
fn quoted_as_python(text: &str) -> String {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    let mut out = String::from(quote);
    for character in text.chars() {
        match character {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            same if same == quote => {
                out.push('\\');
                out.push(same);
            }
            control if control < ' ' || control == '\u{7f}' => out.push_str(&format!("\\x{:02x}", control as u32)),
            other => out.push(other),
        }
    }
    out.push(quote);
    out
}

/// A number; floats keep a point or an exponent, and the exponent begins where Python's does.
fn number(value: &Value) -> String {
    if value.is_integer() {
        return value.to_string();
    }
    let Ok(float) = f64::try_from(value.clone()) else { return value.to_string() };
    if !float.is_finite() {
        return if float.is_nan() {
            "NaN".into()
        } else if float > 0.0 {
            "Infinity".into()
        } else {
            "-Infinity".into()
        };
    }
    let scientific = format!("{float:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or_default();
    if (-4..16).contains(&exponent) {
        let plain = float.to_string();
        return if plain.contains('.') { plain } else { format!("{plain}.0") };
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.abs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use minijinja::value::Serde;

    #[test]
    fn values_look_as_in_python() {
        let value: serde_json::Value =
            serde_json::from_str(r#"{"a": [1, 1.0, 1e16, 1e-5, 0.0001, -7, 1e20], "é": {"<": null, "'": true}}"#)
                .expect("valid JSON");
        let value = Value::from(Serde(value));
        assert_eq!(
            json(&value, None),
            r#"{"a": [1, 1.0, 1e+16, 1e-05, 0.0001, -7, 1e+20], "é": {"<": null, "'": true}}"#
        );
        assert_eq!(text(&value), r#"{'a': [1, 1.0, 1e+16, 1e-05, 0.0001, -7, 1e+20], 'é': {'<': None, "'": True}}"#);
        let nested: serde_json::Value = serde_json::from_str(r#"{"a": [1, {}], "b": []}"#).expect("valid JSON");
        assert_eq!(json(&Value::from(Serde(nested)), Some(2)), "{\n  \"a\": [\n    1,\n    {}\n  ],\n  \"b\": []\n}");
    }
}
