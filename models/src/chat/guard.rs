//! Keeping a caller's words from acting as the prompt's own markers.
//!
//! Control tokens in the words are wrapped in private-use characters before the template is rendered; afterwards what is
//! wrapped is tokenised as plain text. A template that compares or cuts the words still sees them in place.

use serde_json::Value;

use crate::error::Result;
use crate::tokenizer::Tokenizer;

/// Brackets from the private use area; words that hold them lose them.
const OPEN: char = '\u{f8e0}';
const CLOSE: char = '\u{f8e1}';

/// Wraps every control token of `tokenizer` in the strings of `value`, and in its keys.
pub(super) fn wrap(value: &Value, tokenizer: &Tokenizer) -> Value {
    match value {
        Value::String(text) => Value::String(wrap_text(text, tokenizer)),
        Value::Array(items) => items.iter().map(|item| wrap(item, tokenizer)).collect(),
        Value::Object(fields) => {
            // Keys too: templates write tools as JSON.
            Value::Object(
                fields.iter().map(|(key, field)| (wrap_text(key, tokenizer), wrap(field, tokenizer))).collect(),
            )
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
    }
}

fn wrap_text(text: &str, tokenizer: &Tokenizer) -> String {
    let text = text.replace([OPEN, CLOSE], "");
    let mut out = String::with_capacity(text.len());
    let mut rest = text.as_str();
    while let Some((before, token, after)) = tokenizer.first_control_token(rest) {
        out.push_str(before);
        out.push(OPEN);
        out.push_str(token);
        out.push(CLOSE);
        rest = after;
    }
    out.push_str(rest);
    out
}

/// The ids of a rendered prompt whose wrapped parts are plain text.
pub(super) fn encode(rendered: &str, tokenizer: &mut Tokenizer) -> Result<Vec<u32>> {
    let mut ids = Vec::new();
    let mut rest = rendered;
    // Text that touches a wrapped token is tokenised with it, as one run of words.
    while let Some(at) = rest.find(OPEN) {
        let start = tokenizer.end_of_last_control_token(&rest[..at]);
        ids.extend(tokenizer.encode(&rest[..start])?);
        let run = &rest[start..];
        let end = end_of_words(run, tokenizer);
        ids.extend(tokenizer.encode_plain(&run[..end].replace([OPEN, CLOSE], ""))?);
        rest = &run[end..];
    }
    ids.extend(tokenizer.encode(rest)?);
    Ok(ids)
}

/// Where the first control token that is not wrapped begins.
fn end_of_words(run: &str, tokenizer: &Tokenizer) -> usize {
    let mut at = 0;
    loop {
        let rest = &run[at..];
        let (wrapped, control) =
            (rest.find(OPEN), tokenizer.first_control_token(rest).map(|(before, ..)| before.len()));
        match (wrapped, control) {
            (Some(open), Some(control)) if control < open => return at + control,
            (Some(open), _) => match rest[open..].find(CLOSE) {
                Some(close) => at += open + close + CLOSE.len_utf8(),
                None => return run.len(),
            },
            (None, Some(control)) => return at + control,
            (None, None) => return run.len(),
        }
    }
}
