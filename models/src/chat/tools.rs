//! Tool calls: from what a model writes to typed calls, and back.
//!
//! A model writes a Python list of calls between two markers, `[f(a="x", n=1), g()]`; a JSON form is read too. The text comes
//! from a model and is hostile: depth and length are bounded, and what is malformed is an error with the place.

use serde_json::{Map, Number, Value};

use crate::error::{Error, Result};

/// The markers around calls.
pub const CALLS_START: &str = "<|tool_call_start|>";
/// See [`CALLS_START`].
pub const CALLS_END: &str = "<|tool_call_end|>";
/// Lists and dictionaries inside each other; deeper is no sensible argument.
const DEEPEST: usize = 32;
/// Longer than any sensible set of calls.
const LONGEST: usize = 1 << 20;

/// A call of a tool.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct ToolCall {
    /// The tool.
    pub name: String,
    /// Its arguments by name, in the order in which they were written.
    pub arguments: Map<String, Value>,
}

/// A reply cut at its tool calls.
#[derive(Debug, Clone, PartialEq)]
pub struct Reply {
    /// Text outside of the markers.
    pub text: String,
    /// The calls between them.
    pub calls: Vec<ToolCall>,
}

/// Cuts the calls out of a reply whose special tokens were kept.
///
/// # Errors
/// [`Error::BadRequest`] for calls that cannot be read, or whose end marker is missing.
pub fn read_reply(reply: &str) -> Result<Reply> {
    let (mut text, mut calls) = (String::new(), Vec::new());
    let mut rest = reply;
    while let Some((before, after)) = rest.split_once(CALLS_START) {
        text.push_str(before);
        let (inside, after) = after
            .split_once(CALLS_END)
            .ok_or_else(|| Error::BadRequest(format!("a tool call has no {CALLS_END}; allow more tokens")))?;
        calls.extend(read_calls(inside)?);
        rest = after;
    }
    text.push_str(rest);
    Ok(Reply { text, calls })
}

/// Cuts the calls out of a reply that was cut off: those that are whole. From the first one that is not, all is text.
#[must_use]
pub fn read_cut_reply(reply: &str) -> Reply {
    let (mut text, mut calls) = (String::new(), Vec::new());
    let mut rest = reply;
    while let Some((before, after)) = rest.split_once(CALLS_START) {
        let Some((inside, after)) = after.split_once(CALLS_END) else { break };
        let Ok(read) = read_calls(inside) else { break };
        text.push_str(before);
        calls.extend(read);
        rest = after;
    }
    text.push_str(rest);
    Reply { text, calls }
}

/// Reads calls in the Python or the JSON form.
///
/// # Errors
/// [`Error::BadRequest`] with the place where the text stops making sense.
pub fn read_calls(text: &str) -> Result<Vec<ToolCall>> {
    if text.len() > LONGEST {
        return Err(Error::BadRequest(format!("tool calls of {} bytes are too long to be meant", text.len())));
    }
    if let Ok(json) = serde_json::from_str(text) {
        return from_json(json);
    }
    let mut reader = Reader { text, at: 0 };
    let calls = reader.calls()?;
    reader.blank();
    if reader.at < text.len() {
        return Err(reader.error("the end of the calls"));
    }
    Ok(calls)
}

/// Writes calls in the Python form; in the JSON form when there is a name that the other cannot hold.
#[must_use]
pub fn write_calls(calls: &[ToolCall]) -> String {
    let holds = |name: &str, belongs: fn(char) -> bool| !name.is_empty() && name.chars().all(belongs);
    let plain = calls.iter().all(|call| {
        holds(&call.name, is_of_name) && call.arguments.keys().all(|argument| holds(argument, is_of_argument))
    });
    if !plain {
        return serde_json::json!(calls).to_string();
    }
    let calls: Vec<String> = calls
        .iter()
        .map(|call| {
            let arguments: Vec<String> =
                call.arguments.iter().map(|(name, value)| format!("{name}={}", literal(value))).collect();
            format!("{}({})", call.name, arguments.join(", "))
        })
        .collect();
    format!("[{}]", calls.join(", "))
}

fn literal(value: &Value) -> String {
    match value {
        Value::Null => "None".into(),
        Value::Bool(true) => "True".into(),
        Value::Bool(false) => "False".into(),
        Value::Number(number) => number.to_string(),
        // A JSON string is a Python string too.
        Value::String(_) => value.to_string(),
        Value::Array(items) => format!("[{}]", items.iter().map(literal).collect::<Vec<_>>().join(", ")),
        Value::Object(fields) => {
            let fields: Vec<String> = fields
                .iter()
                .map(|(key, value)| format!("{}: {}", Value::String(key.clone()), literal(value)))
                .collect();
            format!("{{{}}}", fields.join(", "))
        }
    }
}

/// Calls as `{"name", "arguments"}` (or `parameters`), alone, in a list, or under `function`.
fn from_json(json: Value) -> Result<Vec<ToolCall>> {
    let entries = match json {
        Value::Array(entries) => entries,
        single => vec![single],
    };
    entries
        .into_iter()
        .map(|entry| {
            let Value::Object(mut fields) = entry else {
                return Err(Error::BadRequest(format!("the tool call {entry} is no object")));
            };
            if let Some(Value::Object(function)) = fields.remove("function") {
                fields = function;
            }
            let Some(Value::String(name)) = fields.remove("name") else {
                return Err(Error::BadRequest("a tool call has no name".into()));
            };
            if name.is_empty() || !name.chars().all(is_of_name) {
                return Err(Error::BadRequest(format!("{name:?} is no name of a tool")));
            }
            let arguments = match fields.remove("arguments").or_else(|| fields.remove("parameters")) {
                None | Some(Value::Null) => Map::new(),
                Some(Value::Object(arguments)) => arguments,
                Some(Value::String(text)) => serde_json::from_str(&text)
                    .map_err(|error| Error::BadRequest(format!("the arguments of {name} are no object: {error}")))?,
                Some(other) => {
                    return Err(Error::BadRequest(format!("the arguments of {name} are {other}, no object")));
                }
            };
            Ok(ToolCall { name, arguments })
        })
        .collect()
}

/// Whether a character may stand in the name of a tool.
pub(super) fn is_of_name(character: char) -> bool {
    is_of_argument(character) || matches!(character, '.' | '-')
}

/// Whether a character may stand in the name of an argument.
pub(super) fn is_of_argument(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl Reader<'_> {
    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    fn blank(&mut self) {
        self.at += self.rest().len() - self.rest().trim_start().len();
    }

    fn peek(&mut self) -> Option<char> {
        self.blank();
        self.rest().chars().next()
    }

    fn take(&mut self, expected: char) -> bool {
        let found = self.peek() == Some(expected);
        if found {
            self.at += expected.len_utf8();
        }
        found
    }

    fn want(&mut self, expected: char) -> Result<()> {
        if self.take(expected) { Ok(()) } else { Err(self.error(&format!("{expected:?}"))) }
    }

    fn error(&self, expected: &str) -> Error {
        let found: String = self.rest().chars().take(20).collect();
        let found = if found.is_empty() { "the end".to_owned() } else { format!("{found:?}") };
        Error::BadRequest(format!("malformed tool call at byte {}: expected {expected}, found {found}", self.at))
    }

    fn calls(&mut self) -> Result<Vec<ToolCall>> {
        if !self.take('[') {
            return Ok(vec![self.call()?]);
        }
        self.items(']', Self::call)
    }

    /// Items up to `close`, separated by commas, one of which may trail.
    fn items<T>(&mut self, close: char, mut item: impl FnMut(&mut Self) -> Result<T>) -> Result<Vec<T>> {
        let mut items = Vec::new();
        while !self.take(close) {
            items.push(item(self)?);
            if !self.take(',') {
                self.want(close)?;
                break;
            }
        }
        Ok(items)
    }

    fn call(&mut self) -> Result<ToolCall> {
        let name = self.name(is_of_name)?;
        self.want('(')?;
        let mut arguments = Map::new();
        let pairs = self.items(')', |reader| {
            let name = reader.name(is_of_argument)?;
            reader.want('=')?;
            Ok((name, reader.value(0)?))
        })?;
        for (argument, value) in pairs {
            if arguments.contains_key(&argument) {
                return Err(Error::BadRequest(format!("the tool call {name} has the argument {argument} twice")));
            }
            arguments.insert(argument, value);
        }
        Ok(ToolCall { name, arguments })
    }

    fn name(&mut self, belongs: impl Fn(char) -> bool) -> Result<String> {
        self.blank();
        let length = self.rest().find(|character| !belongs(character)).unwrap_or(self.rest().len());
        if length == 0 {
            return Err(self.error("a name"));
        }
        let name = self.rest()[..length].to_owned();
        self.at += length;
        Ok(name)
    }

    fn value(&mut self, depth: usize) -> Result<Value> {
        if depth > DEEPEST {
            return Err(self.error("something less deeply nested"));
        }
        match self.peek() {
            Some('[') => {
                self.at += 1;
                self.items(']', |reader| reader.value(depth + 1)).map(Value::Array)
            }
            // A tuple is a list to a tool.
            Some('(') => {
                self.at += 1;
                self.items(')', |reader| reader.value(depth + 1)).map(Value::Array)
            }
            Some('{') => {
                self.at += 1;
                let pairs = self.items('}', |reader| {
                    let key = match reader.value(depth + 1)? {
                        Value::String(key) => key,
                        other => other.to_string(),
                    };
                    reader.want(':')?;
                    Ok((key, reader.value(depth + 1)?))
                })?;
                Ok(Value::Object(pairs.into_iter().collect()))
            }
            Some(quote @ ('"' | '\'')) => self.string(quote).map(Value::String),
            _ => self.word(),
        }
    }

    /// A number or a constant.
    fn word(&mut self) -> Result<Value> {
        let belongs = |character: char| character.is_alphanumeric() || matches!(character, '+' | '-' | '.' | '_');
        let length = self.rest().find(|character| !belongs(character)).unwrap_or(self.rest().len());
        let word = &self.rest()[..length];
        let value = match word {
            "True" | "true" => Some(Value::Bool(true)),
            "False" | "false" => Some(Value::Bool(false)),
            "None" | "null" => Some(Value::Null),
            number => {
                let digits = number.replace('_', "");
                let whole =
                    digits.parse::<i64>().map(Number::from).or_else(|_| digits.parse::<u64>().map(Number::from));
                whole.ok().or_else(|| Number::from_f64(digits.parse().ok()?)).map(Value::Number)
            }
        };
        let value = value.ok_or_else(|| self.error("a value"))?;
        self.at += length;
        Ok(value)
    }

    fn string(&mut self, quote: char) -> Result<String> {
        let opening = self.at;
        self.at += quote.len_utf8();
        let mut out = String::new();
        loop {
            let Some(character) = self.rest().chars().next() else {
                self.at = opening;
                return Err(self.error("a string with an end"));
            };
            self.at += character.len_utf8();
            match character {
                same if same == quote => return Ok(out),
                '\\' => self.escape(&mut out)?,
                other => out.push(other),
            }
        }
    }

    fn escape(&mut self, out: &mut String) -> Result<()> {
        let Some(kind) = self.rest().chars().next() else { return Err(self.error("an escaped character")) };
        self.at += kind.len_utf8();
        match kind {
            'n' => out.push('\n'),
            't' => out.push('\t'),
            'r' => out.push('\r'),
            'b' => out.push('\u{8}'),
            'f' => out.push('\u{c}'),
            '0' => out.push('\0'),
            '\n' => {}
            '\\' | '\'' | '"' | '/' => out.push(kind),
            'x' => out.push(self.code_point(2)?),
            'u' => {
                let first = self.unit(4)?;
                // JSON writes characters beyond the first plane as two halves.
                let character = match first {
                    0xd800..0xdc00 if self.rest().starts_with("\\u") => {
                        self.at += 2;
                        let second = self.unit(4)?;
                        char::decode_utf16([first as u16, second as u16]).next().and_then(Result::ok)
                    }
                    single => char::from_u32(single),
                };
                out.push(character.ok_or_else(|| self.error("a character that exists"))?);
            }
            'U' => out.push(self.code_point(8)?),
            // Python keeps the backslash of an escape that it does not know.
            other => out.extend(['\\', other]),
        }
        Ok(())
    }

    fn code_point(&mut self, digits: usize) -> Result<char> {
        let unit = self.unit(digits)?;
        char::from_u32(unit).ok_or_else(|| self.error("a character that exists"))
    }

    fn unit(&mut self, digits: usize) -> Result<u32> {
        let unit = self.rest().get(..digits).and_then(|hex| u32::from_str_radix(hex, 16).ok());
        let unit = unit.ok_or_else(|| self.error("hexadecimal digits"))?;
        self.at += digits;
        Ok(unit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn one(text: &str) -> (String, Value) {
        let calls = read_calls(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(calls.len(), 1, "{text}");
        (calls[0].name.clone(), Value::Object(calls[0].arguments.clone()))
    }

    #[test]
    fn python_calls_are_read() {
        for (text, name, arguments) in [
            ("[ping()]", "ping", json!({})),
            ("ping()", "ping", json!({})),
            ("[set_light(room=\"hall\", on=True)]", "set_light", json!({ "room": "hall", "on": true })),
            ("[ f ( a = 'it''s' , ) ]", "", json!(null)),
            (
                "[f(a='x\"y', b=\"it's\", c='\\'\\\\\\n\\x41\\u00e9')]",
                "f",
                json!({ "a": "x\"y", "b": "it's", "c": "'\\\nAé" }),
            ),
            (
                "[f(n=-7, x=2.5, big=1e16, u=1_000, none=None)]",
                "f",
                json!({ "n": -7, "x": 2.5, "big": 1e16, "u": 1000, "none": null }),
            ),
            (
                "[f(l=[1, 'é', None, [True]], m={'k': [0.5, {\"d\": ()}], 2: 3},)]",
                "f",
                json!({ "l": [1, "é", null, [true]], "m": { "k": [0.5, { "d": [] }], "2": 3 } }),
            ),
            ("[a.b-c(s='Küche – 台所 \\ud83d\\ude00')]", "a.b-c", json!({ "s": "Küche – 台所 😀" })),
        ] {
            if name.is_empty() {
                assert!(read_calls(text).is_err(), "{text}");
            } else {
                assert_eq!(one(text), (name.to_owned(), arguments), "{text}");
            }
        }
        assert_eq!(read_calls("[a(), b(x=1), c()]").map(|calls| calls.len()).ok(), Some(3));
        assert_eq!(read_calls("[]").ok(), Some(Vec::new()));
    }

    #[test]
    fn json_calls_are_read() {
        for text in [
            r#"[{"name": "f", "arguments": {"a": 1}}]"#,
            r#"{"name": "f", "parameters": {"a": 1}}"#,
            r#"[{"type": "function", "function": {"name": "f", "arguments": "{\"a\": 1}"}}]"#,
        ] {
            assert_eq!(one(text), ("f".to_owned(), json!({ "a": 1 })), "{text}");
        }
        for text in ["[1]", r#"[{"arguments": {}}]"#, r#"[{"name": "f", "arguments": 3}]"#, "\"f()\""] {
            assert!(read_calls(text).is_err(), "{text}");
        }
    }

    #[test]
    fn malformed_calls_are_errors_with_a_place() {
        for (text, expected) in [
            ("", "expected a name, found the end"),
            ("[f(", "expected a name, found the end"),
            ("[f(a=)]", "expected a value"),
            ("[f(a=1]", "expected ')'"),
            ("[f(a=1) g()]", "expected ']'"),
            ("[f(a=\"x)]", "expected a string with an end"),
            ("[f(1)]", "expected '='"),
            ("[f(a=1, a=2)]", "twice"),
            ("[f(a=1)] and more", "expected the end of the calls"),
            ("[f(a=__import__('os'))]", "expected a value"),
            ("[f(a='\\ud800')]", "a character that exists"),
        ] {
            let error = read_calls(text).expect_err(text).to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
        let deep = format!("[f(a={}{})]", "[".repeat(100_000), "]".repeat(100_000));
        assert!(read_calls(&deep).expect_err("too deep").to_string().contains("nested"));
    }

    #[test]
    fn what_is_written_is_read_back() {
        let calls = vec![
            ToolCall { name: "f".into(), arguments: Map::new() },
            ToolCall {
                name: "g".into(),
                arguments: json!({ "s": "a\"b'c\\d\n é 😀", "l": [1, -2.5, true, null], "m": { "k": {} } })
                    .as_object()
                    .cloned()
                    .unwrap_or_default(),
            },
        ];
        assert_eq!(read_calls(&write_calls(&calls)).ok(), Some(calls));
    }

    #[test]
    fn a_reply_is_cut_at_its_calls() {
        let reply = read_reply("One moment.<|tool_call_start|>[f(a=1)]<|tool_call_end|> Done.").expect("well formed");
        assert_eq!((reply.text.as_str(), reply.calls.len()), ("One moment. Done.", 1));
        assert!(read_reply("x<|tool_call_start|>[f(a=1)]").is_err());
        assert_eq!(read_reply("plain").map(|reply| reply.text).ok(), Some("plain".into()));
        let begun = "x<|tool_call_start|>[f(a=1)]<|tool_call_end|><|tool_call_start|>[g(";
        let reply = read_cut_reply(begun);
        assert_eq!((reply.text.as_str(), reply.calls.len()), ("x<|tool_call_start|>[g(", 1));
    }

    /// Random damage is an error or calls, never a panic; a fixed number of rounds keeps the test short.
    #[test]
    fn damage_never_panics() {
        let seeds = [
            "[set_light(room=\"hall\", on=True), f(l=[1, 'é', None], m={'k': [0.5, {\"d\": ()}]})]",
            r#"[{"name": "f", "arguments": {"a": [1, 2.5e3, "\u00e9"]}}]"#,
        ];
        let alphabet: Vec<char> = "[](){}'\"\\,:=.-_ux0189eEé😀 \n".chars().collect();
        let mut random = fastrand::Rng::with_seed(11);
        for round in 0..20_000 {
            let mut text: Vec<char> = seeds[round % seeds.len()].chars().collect();
            for _ in 0..random.usize(1..6) {
                let at = random.usize(0..text.len());
                match random.u8(0..3) {
                    0 => text[at] = alphabet[random.usize(0..alphabet.len())],
                    1 => text.insert(at, alphabet[random.usize(0..alphabet.len())]),
                    _ => {
                        text.remove(at);
                    }
                }
            }
            let text: String = text.into_iter().collect();
            let Ok(calls) = read_calls(&text) else { continue };
            let mut names = calls.iter().flat_map(|call| call.arguments.keys());
            // JSON has argument names that the Python form cannot write.
            if names.all(|name| !name.is_empty() && name.chars().all(is_of_argument)) {
                assert_eq!(read_calls(&write_calls(&calls)).map(|again| again.len()).ok(), Some(calls.len()), "{text}");
            }
        }
    }
}
