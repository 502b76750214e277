//! OpenAI's chat protocol, as far as it is needed: a question as JSON, an answer as server-sent events.

use std::collections::BTreeMap;

use eddy_ipc::FinishReason;
use serde_json::{Map, Value, json};

use crate::text::Asked;

/// The longest line of an answer.
const LONGEST_LINE: usize = 1 << 20;

/// What is asked.
#[derive(Debug)]
pub enum Ask {
    /// An answer to messages.
    Text(Box<Asked>),
    /// An answer about image files.
    Images {
        /// PNG, JPEG, WebP or GIF.
        files: Vec<Vec<u8>>,
        /// The question, and how its answer is drawn.
        asked: Box<Asked>,
        /// The words of the question.
        words: String,
    },
}

impl Ask {
    /// The body of the request; `model` is what the engine calls the model.
    ///
    /// # Errors
    /// A sentence about an image that is none.
    pub fn body(&self, model: Option<&str>) -> Result<Value, String> {
        let (asked, messages) = match self {
            Self::Text(asked) => (asked, asked.messages.clone()),
            Self::Images { files, asked, words } => {
                let mut content = Vec::new();
                for (number, file) in files.iter().enumerate() {
                    let kind = kind_of(file).ok_or_else(|| {
                        format!("image {}: not a PNG, JPEG, WebP or GIF file; convert it to one", number + 1)
                    })?;
                    let url = format!("data:image/{kind};base64,{}", base64(file));
                    content.push(json!({ "type": "image_url", "image_url": { "url": url } }));
                }
                content.push(json!({ "type": "text", "text": words }));
                (asked, vec![json!({ "role": "user", "content": content })])
            }
        };
        let mut body = Map::new();
        let mut put = |key: &str, value: Option<Value>| {
            if let Some(value) = value {
                body.insert(key.to_owned(), value);
            }
        };
        let draw = &asked.draw;
        put("model", model.map(Value::from));
        put("messages", Some(messages.into()));
        put("stream", Some(true.into()));
        put("stream_options", Some(json!({ "include_usage": true })));
        put("max_tokens", Some(asked.options.max_tokens.into()));
        put("seed", Some((asked.options.seed & 0x7fff_ffff).into()));
        put("temperature", if draw.greedy { Some(0.0.into()) } else { draw.temperature.map(rounded) });
        put("top_k", draw.top_k.filter(|_| !draw.greedy).map(Value::from));
        put("top_p", draw.top_p.filter(|_| !draw.greedy).map(rounded));
        put("min_p", draw.min_p.filter(|_| !draw.greedy).map(rounded));
        // The two engines call it differently, and each passes over the other's word.
        put("repetition_penalty", draw.repetition_penalty.filter(|_| !draw.greedy).map(rounded));
        put("repeat_penalty", draw.repetition_penalty.filter(|_| !draw.greedy).map(rounded));
        put("stop", (!asked.options.stop.is_empty()).then(|| asked.options.stop.clone().into()));
        put("tools", asked.tools.as_array().map(|tools| tools.iter().map(tool).collect()));
        put("response_format", asked.schema.as_ref().map(|schema| {
            json!({ "type": "json_schema", "json_schema": { "name": "answer", "schema": schema, "strict": true } })
        }));
        Ok(Value::Object(body))
    }
}

/// A 32-bit number without the digits that it never had.
fn rounded(value: f32) -> Value {
    Value::from((f64::from(value) * 1e6).round() / 1e6)
}

/// A function in the protocol's wrapping.
fn tool(tool: &Value) -> Value {
    match tool.get("type") {
        Some(kind) if kind == "function" => tool.clone(),
        Some(_) | None => json!({ "type": "function", "function": tool }),
    }
}

/// The kind of an image file, by its first bytes.
fn kind_of(file: &[u8]) -> Option<&'static str> {
    match file {
        [0x89, b'P', b'N', b'G', ..] => Some("png"),
        [0xff, 0xd8, 0xff, ..] => Some("jpeg"),
        [b'G', b'I', b'F', b'8', ..] => Some("gif"),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Some("webp"),
        _ => None,
    }
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let bits = group.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
        for digit in 0..4 {
            match digit <= group.len() {
                true => text.push(char::from(DIGITS[(bits >> (18 - 6 * digit)) as usize & 63])),
                false => text.push('='),
            }
        }
    }
    text
}

/// A call of a tool.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Call {
    /// The function.
    pub name: String,
    /// Its arguments as JSON.
    pub arguments: String,
}

/// Something that an answer's stream told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// Further text.
    Text(String),
    /// The engine's error.
    Refused(String),
    /// Nothing more comes.
    End,
}

/// An answer as it comes.
#[derive(Debug, Default)]
pub struct Stream {
    line: Vec<u8>,
    /// Calls by their place.
    pub calls: BTreeMap<u64, Call>,
    /// Why it ended.
    pub reason: Option<FinishReason>,
    /// Tokens of the answer.
    pub tokens: Option<u64>,
    /// Positions of the prompt, and how many of them the engine had read before.
    pub prompt: Option<(u64, u64)>,
}

impl Stream {
    /// Takes bytes as they come and tells what they say.
    ///
    /// # Errors
    /// A sentence about what is no part of the protocol.
    pub fn take(&mut self, bytes: &[u8]) -> Result<Vec<Piece>, String> {
        let mut pieces = Vec::new();
        for byte in bytes {
            if *byte != b'\n' {
                self.line.push(*byte);
                if self.line.len() > LONGEST_LINE {
                    return Err(format!("a line of the answer is longer than {LONGEST_LINE} bytes"));
                }
                continue;
            }
            let line = std::mem::take(&mut self.line);
            let line = String::from_utf8_lossy(&line);
            // Comments keep the connection alive; other fields name events that this protocol does not have.
            let Some(data) = line.trim_end_matches('\r').strip_prefix("data:").map(str::trim) else { continue };
            match data {
                "[DONE]" => pieces.push(Piece::End),
                data => pieces.extend(self.event(data)?),
            }
        }
        Ok(pieces)
    }

    fn event(&mut self, data: &str) -> Result<Option<Piece>, String> {
        let event: Value = serde_json::from_str(data).map_err(|error| format!("an event is no JSON ({error})"))?;
        if let Some(error) = event.get("error").filter(|error| !error.is_null()) {
            return Ok(Some(Piece::Refused(told(error))));
        }
        if let Some(usage) = event.get("usage").filter(|usage| usage.is_object()) {
            let count = |value: Option<&Value>| value.and_then(Value::as_u64);
            self.tokens = count(usage.get("completion_tokens")).or(self.tokens);
            let cached = usage.get("prompt_tokens_details").and_then(|details| details.get("cached_tokens"));
            let prompt = count(usage.get("prompt_tokens")).map(|all| (all, count(cached).unwrap_or_default()));
            self.prompt = prompt.or(self.prompt);
        }
        let Some(choice) = event.get("choices").and_then(|choices| choices.get(0)) else { return Ok(None) };
        self.reason = match choice.get("finish_reason").and_then(Value::as_str) {
            Some("stop") => Some(FinishReason::Stop),
            Some("length") => Some(FinishReason::Length),
            Some("tool_calls" | "function_call") => Some(FinishReason::ToolCalls),
            Some(other) => return Err(format!("the answer ended because of {other:?}, which is not known")),
            None => self.reason,
        };
        let Some(delta) = choice.get("delta") else { return Ok(None) };
        for call in delta.get("tool_calls").and_then(Value::as_array).into_iter().flatten() {
            let place = call.get("index").and_then(Value::as_u64).unwrap_or(self.calls.len() as u64);
            let known = self.calls.entry(place).or_default();
            let text = |name: &str| call.get("function").and_then(|function| function.get(name)?.as_str());
            known.name.push_str(text("name").unwrap_or_default());
            known.arguments.push_str(text("arguments").unwrap_or_default());
        }
        let text = delta.get("content").and_then(Value::as_str).filter(|text| !text.is_empty());
        Ok(text.map(|text| Piece::Text(text.to_owned())))
    }

    /// The calls as Eddy's results have them: a JSON list of objects with `name` and `arguments`.
    ///
    /// # Errors
    /// A sentence about arguments that are no JSON.
    pub fn tool_calls(&self) -> Result<Option<String>, String> {
        let read = |call: &Call| {
            let arguments = if call.arguments.trim().is_empty() { "{}" } else { &call.arguments };
            let arguments: Value = serde_json::from_str(arguments)
                .map_err(|error| format!("the arguments of {} are no JSON ({error})", call.name))?;
            Ok(json!({ "name": call.name, "arguments": arguments }))
        };
        let calls = self.calls.values().map(read).collect::<Result<Vec<Value>, String>>()?;
        Ok((!calls.is_empty()).then(|| Value::from(calls).to_string()))
    }
}

/// The sentence of an engine's error, cut where it becomes a page.
pub fn told(error: &Value) -> String {
    let sentence = error.get("message").and_then(Value::as_str).or(error.as_str());
    let sentence = sentence.map_or_else(|| error.to_string(), str::to_owned);
    sentence.chars().filter(|c| !c.is_control()).take(300).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_its_definition() {
        for (plain, coded) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")] {
            assert_eq!(base64(plain.as_bytes()), coded);
        }
    }

    #[test]
    fn an_answer_is_read_however_it_is_cut() {
        let text = concat!(
            ": ping\r\n\r\n",
            "data: {\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":null}}]}\r\n\r\n",
            "data: {\"choices\":[{\"delta\":{\"content\":\"grü\"}}]}\n\n",
            "data: {\"choices\":[{\"delta\":{\"tool_calls\":[{\"index\":0,\"function\":{\"name\":\"f\",\"arguments\":\"{\\\"a\"}}]}}]}\n\n",
            "data: {\"choices\":[{\"delta\":{\"tool_calls\":[{\"index\":0,\"function\":{\"arguments\":\"\\\":1}\"}}]}}]}\n\n",
            "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"tool_calls\"}]}\n\n",
            "data: {\"choices\":[],\"usage\":{\"completion_tokens\":3,\"prompt_tokens\":9,\"prompt_tokens_details\":{\"cached_tokens\":4}}}\n\n",
            "data: [DONE]\n\n",
        );
        for size in [1, 7, text.len()] {
            let mut stream = Stream::default();
            let cut = text.as_bytes().chunks(size);
            let pieces: Vec<Piece> = cut.flat_map(|bytes| stream.take(bytes).expect("in the protocol")).collect();
            assert_eq!(pieces, [Piece::Text("grü".into()), Piece::End]);
            assert_eq!((stream.reason, stream.tokens), (Some(FinishReason::ToolCalls), Some(3)));
            assert_eq!(stream.prompt, Some((9, 4)));
            let calls = stream.tool_calls().expect("JSON");
            assert_eq!(calls.as_deref(), Some("[{\"name\":\"f\",\"arguments\":{\"a\":1}}]"));
        }
    }

    #[test]
    fn what_is_no_answer_is_named() {
        let mut stream = Stream::default();
        assert!(stream.take(b"data: <html>\n").is_err());
        let refused = stream.take(b"data: {\"error\":{\"message\":\"too\\nlong\"}}\n").expect("an event");
        assert_eq!(refused, [Piece::Refused("toolong".into())]);
        assert!(stream.take(&vec![b'x'; LONGEST_LINE + 1]).is_err());
    }

    #[test]
    fn questions_are_written_with_what_was_asked() {
        let mut asked = Asked { messages: vec![json!({ "role": "user", "content": "hi" })], ..Asked::default() };
        asked.tools = json!([{ "name": "f" }]);
        asked.schema = Some(json!({ "type": "object" }));
        asked.draw.temperature = Some(0.3);
        asked.draw.repetition_penalty = Some(1.05);
        let body = Ask::Text(Box::new(asked.clone())).body(Some("m")).expect("text");
        assert_eq!((&body["model"], &body["temperature"]), (&json!("m"), &json!(0.3)));
        assert_eq!((&body["repetition_penalty"], &body["repeat_penalty"]), (&json!(1.05), &json!(1.05)));
        assert_eq!(body["tools"][0], json!({ "type": "function", "function": { "name": "f" } }));
        assert_eq!(body["response_format"]["json_schema"]["schema"], json!({ "type": "object" }));
        asked.draw.greedy = true;
        let body = Ask::Text(Box::new(asked.clone())).body(None).expect("text");
        assert_eq!((&body["temperature"], body.get("model"), body.get("top_k")), (&json!(0.0), None, None));
        let images = |file: &[u8]| {
            let asked = Box::new(asked.clone());
            Ask::Images { files: vec![file.to_vec()], asked, words: "what?".into() }.body(None)
        };
        let body = images(b"\x89PNG\r\n").expect("an image");
        let content = &body["messages"][0]["content"];
        assert_eq!(content[0]["image_url"]["url"], "data:image/png;base64,iVBORw0K");
        assert_eq!(content[1]["text"], "what?");
        assert!(images(b"BM").expect_err("no image").contains("image 1"));
    }
}
