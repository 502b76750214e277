//! The folder's chat template, rendered as transformers renders it.
//!
//! Templates are Jinja with Python in it: `{% generation %}` blocks, `strftime_now`, `tojson` with Python's spacing, values
//! printed as Python prints them. A folder without a template gets the built-in ChatML form.

use std::path::{Path, PathBuf};

use jiff::Zoned;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Serde, Value, ValueKind};
use minijinja::{AutoEscape, Environment, ErrorKind, UndefinedBehavior};
use serde_json::{Map, Value as Json};

use crate::error::{Error, Result};
use crate::runtime::one_line;
use crate::tokenizer::Tokenizer;

use super::{guard, python};

const BUILT_IN: &str = include_str!("builtin.jinja");
const NAME: &str = "chat";
/// Larger templates than any published one.
const MOST_BYTES: u64 = 1 << 20;
/// Steps after which rendering is given up; a conversation of a thousand turns takes some hundred thousand.
const FUEL: u64 = 20_000_000;

/// What a template is asked to render, in the form of transformers' `apply_chat_template`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Conversation {
    /// A list of `{"role", "content", …}`.
    pub messages: Json,
    /// A list of function descriptions, or null.
    pub tools: Json,
    /// Whether the assistant's turn is opened.
    pub add_generation_prompt: bool,
    /// Further variables of the template.
    pub extra: Map<String, Json>,
}

impl Conversation {
    /// Reads `{"messages": […], "tools": […], …}`; a list alone is the messages. The assistant's turn is opened unless
    /// `add_generation_prompt` says otherwise.
    ///
    /// # Errors
    /// [`Error::BadRequest`] for another form.
    pub fn read(text: &str) -> Result<Self> {
        let bad = |reason: String| Error::BadRequest(format!("the messages cannot be read: {reason}"));
        let mut fields = match serde_json::from_str(text).map_err(|error| bad(error.to_string()))? {
            Json::Object(fields) => fields,
            list @ Json::Array(_) => Map::from_iter([("messages".to_owned(), list)]),
            _ => return Err(bad("expected an object with `messages`, or a list of messages".into())),
        };
        let messages = fields.remove("messages").unwrap_or_default();
        let well_formed =
            messages.as_array().is_some_and(|list| list.iter().all(|message| message["role"].is_string()));
        if !well_formed {
            return Err(bad("`messages` has to be a list of objects with a `role`".into()));
        }
        let tools = fields.remove("tools").unwrap_or_default();
        if !tools.is_null() && !tools.is_array() {
            return Err(bad("`tools` has to be a list".into()));
        }
        let add_generation_prompt = match fields.remove("add_generation_prompt") {
            Some(value) => {
                value.as_bool().ok_or_else(|| bad("`add_generation_prompt` has to be true or false".into()))?
            }
            None => true,
        };
        Ok(Self { messages, tools, add_generation_prompt, extra: fields })
    }

    /// A single user turn.
    #[must_use]
    pub fn question(words: &str) -> Self {
        Self {
            messages: serde_json::json!([{ "role": "user", "content": words }]),
            add_generation_prompt: true,
            ..Self::default()
        }
    }
}

/// A compiled chat template.
#[derive(Debug)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    path: PathBuf,
    /// `bos_token` and its like.
    tokens: Map<String, Json>,
    writes_calls: bool,
}

impl ChatTemplate {
    /// Whether it writes the `tool_calls` of a message; LFM2's first template knows none.
    #[must_use]
    pub fn writes_calls(&self) -> bool {
        self.writes_calls
    }

    /// Compiles the template of the folder `root`: `chat_template.jinja`, or the one in `tokenizer_config.json`, or the
    /// built-in one.
    ///
    /// # Errors
    /// [`Error::Malformed`] for a template that does not compile.
    pub fn load(root: &Path) -> Result<Self> {
        let config = crate::folder::Json::read(root, "tokenizer_config.json")?;
        let mut tokens = Map::new();
        for (name, usual) in
            [("bos_token", "<|startoftext|>"), ("eos_token", "<|im_end|>"), ("pad_token", "<|pad|>"), ("unk_token", "")]
        {
            let found = config.text(&[name]).or(config.text(&[name, "content"])).unwrap_or(usual);
            tokens.insert(name.into(), found.into());
        }
        let path = root.join("chat_template.jinja");
        if path.is_file() {
            let remedy = "check that the file may be read";
            let size = std::fs::metadata(&path).map_err(Error::io(&path, remedy))?.len();
            if size > MOST_BYTES {
                return Err(malformed(&path, format!("{size} bytes are too large for a chat template")));
            }
            let source = std::fs::read_to_string(&path).map_err(Error::io(&path, remedy))?;
            return Self::compile(source, path, tokens);
        }
        match config.text(&["chat_template"]) {
            Some(source) => Self::compile(source.to_owned(), root.join("tokenizer_config.json"), tokens),
            None => Self::compile(BUILT_IN.to_owned(), PathBuf::from("the built-in chat template"), tokens),
        }
    }

    fn compile(source: String, path: PathBuf, tokens: Map<String, Json>) -> Result<Self> {
        let mut environment = Environment::new();
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        environment.set_syntax(syntax.map_err(|error| malformed(&path, error.to_string()))?);
        environment.set_undefined_behavior(UndefinedBehavior::Lenient);
        environment.set_auto_escape_callback(|_| AutoEscape::None);
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.set_fuel(Some(FUEL));
        environment.set_formatter(|out, _, value| Ok(out.write_str(&python::text(value))?));
        environment.add_filter("tojson", |value: &Value, options: Kwargs| {
            let indent: Option<usize> = options.get("indent")?;
            // Others of Python's options change nothing that a prompt is written with.
            let _ = (options.get::<Option<Value>>("ensure_ascii")?, options.get::<Option<Value>>("separators")?);
            match value.is_undefined() {
                true => Err(minijinja::Error::new(ErrorKind::InvalidOperation, "an undefined value is no JSON")),
                false => Ok(python::json(value, indent)),
            }
        });
        environment.add_filter("string", |value: &Value| python::text(value));
        environment.add_test("boolean", |value: &Value| value.kind() == ValueKind::Bool);
        // Here `none` can be iterated over as if it were empty; in Python it cannot.
        environment.add_test("iterable", |value: &Value| !value.is_none() && value.try_iter().is_ok());
        environment.add_function("raise_exception", |message: String| -> Result<Value, minijinja::Error> {
            Err(minijinja::Error::new(ErrorKind::InvalidOperation, message))
        });
        environment
            .add_template_owned(NAME, without_generation_blocks(&source))
            .map_err(|error| malformed(&path, error.to_string()))?;
        Ok(Self { environment, path, tokens, writes_calls: source.contains("tool_calls") })
    }

    /// Where the template came from.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The prompt's text.
    ///
    /// # Errors
    /// [`Error::BadRequest`] with the template's own words when it refuses the conversation.
    pub fn render(&self, conversation: &Conversation, now: &Zoned) -> Result<String> {
        let mut variables = self.tokens.clone();
        variables.extend(conversation.extra.clone());
        variables.insert("messages".into(), prepared(&conversation.messages));
        variables.insert("tools".into(), conversation.tools.clone());
        variables.insert("documents".into(), Json::Null);
        variables.insert("add_generation_prompt".into(), conversation.add_generation_prompt.into());
        let refused = |error: minijinja::Error| {
            Error::BadRequest(format!("{}: {}", self.path.display(), one_line(&error.to_string())))
        };
        let now = now.clone();
        let clock = Value::from_function(move |format: &str| {
            jiff::fmt::strtime::format(format, &now)
                .map_err(|error| minijinja::Error::new(ErrorKind::InvalidOperation, error.to_string()))
        });
        let context = minijinja::context! { strftime_now => clock, ..Value::from(Serde(Json::Object(variables))) };
        self.environment.get_template(NAME).and_then(|template| template.render(context)).map_err(refused)
    }

    /// The prompt's ids, in which the conversation's control tokens act as the reference lets them.
    ///
    /// # Errors
    /// Those of [`Self::render`] and of the tokenizer.
    pub fn ids(&self, conversation: &Conversation, now: &Zoned, tokenizer: &Tokenizer) -> Result<Vec<u32>> {
        tokenizer.encode(&self.render(conversation, now)?)
    }

    /// The prompt's ids, in which control tokens of the conversation are plain text: for callers that are not trusted.
    ///
    /// # Errors
    /// Those of [`Self::render`] and of the tokenizer.
    pub fn guarded_ids(&self, conversation: &Conversation, now: &Zoned, tokenizer: &mut Tokenizer) -> Result<Vec<u32>> {
        let guarded = Conversation {
            messages: guard::wrap(&conversation.messages, tokenizer),
            tools: guard::wrap(&conversation.tools, tokenizer),
            extra: match guard::wrap(&Json::Object(conversation.extra.clone()), tokenizer) {
                Json::Object(extra) => extra,
                _ => Map::new(),
            },
            add_generation_prompt: conversation.add_generation_prompt,
        };
        guard::encode(&self.render(&guarded, now)?, tokenizer)
    }
}

/// The names under which a message's reasoning may be given; the first is the one that templates read.
const REASONING: [&str; 3] = ["reasoning_content", "thinking", "reasoning"];

/// The messages as transformers hands them to a template: fields that are null are left out, and reasoning is found under
/// each of the names that templates look for.
fn prepared(messages: &Json) -> Json {
    let Some(list) = messages.as_array() else { return messages.clone() };
    list.iter()
        .map(|message| {
            let Json::Object(fields) = message else { return message.clone() };
            let mut fields = fields.clone();
            fields.retain(|_, value| !value.is_null());
            if let Some(reasoning) = REASONING.iter().find_map(|name| fields.get(*name).cloned()) {
                fields.entry("thinking").or_insert_with(|| reasoning.clone());
                fields.insert(REASONING[0].into(), reasoning);
            }
            Json::Object(fields)
        })
        .collect()
}

fn malformed(path: &Path, reason: String) -> Error {
    Error::Malformed {
        path: path.to_path_buf(),
        reason: one_line(&reason),
        remedy: "use the chat template that belongs to this model",
    }
}

/// `{% generation %}` marks what a trainer looks at and prints nothing itself. As a condition that always holds it keeps its
/// place, and with it what it does to the white space around it.
fn without_generation_blocks(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(at) = rest.find("{%") {
        let (before, tag) = rest.split_at(at);
        out.push_str(before);
        let end = tag.find("%}").map_or(tag.len(), |end| end + 2);
        let (tag, after) = tag.split_at(end);
        let inside = tag.trim_start_matches("{%").trim_end_matches("%}");
        match inside.trim_matches(['-', '+']).trim() {
            "generation" => out.push_str(&tag.replace("generation", "if true")),
            "endgeneration" => out.push_str(&tag.replace("endgeneration", "endif")),
            _ => out.push_str(tag),
        }
        rest = after;
    }
    out.push_str(rest);
    out
}
