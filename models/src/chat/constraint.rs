//! Replies that can have no other form: JSON of a schema, or calls of the declared tools.
//!
//! A grammar says which tokens may come next; the sampler chooses among these. A small model cannot write an invalid call
//! then, because no token of one is ever allowed.

use std::sync::Arc;

use llguidance::api::TopLevelGrammar;
use llguidance::toktrie::{ApproximateTokEnv, SimpleVob, TokEnv, TokRxInfo, TokTrie};
use llguidance::{Matcher, ParserFactory, token_bytes_from_tokenizer_json};
use serde_json::{Map, Value, json};

use crate::error::{Error, Result};
use crate::runtime::one_line;
use crate::tokenizer::Tokenizer;

use super::tools::{CALLS_END, CALLS_START, is_of_argument, is_of_name};

/// Longest string and longest list in a call; a model that repeats itself has to stop some time.
const LONGEST_STRING: usize = 2000;
const LONGEST_LIST: usize = 64;
/// Numbers go this far where their schema sets no bounds, as far as [`BASICS`] goes.
const LARGEST: i64 = 999_999_999_999_999;

/// Makes constraints for one tokenizer.
pub struct Constrainer {
    factory: ParserFactory,
}

impl std::fmt::Debug for Constrainer {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Constrainer").finish_non_exhaustive()
    }
}

impl Constrainer {
    /// Reads the bytes of every token; `rows` is the size of the vocabulary and `end` the token that ends a reply.
    ///
    /// # Errors
    /// [`Error::Malformed`] when the tokenizer's file is of a kind whose bytes are not known.
    pub fn new(tokenizer: &Tokenizer, rows: usize, end: u32) -> Result<Self> {
        let malformed = |reason: String| Error::Malformed {
            path: tokenizer.path().to_path_buf(),
            reason: one_line(&reason),
            remedy: "replies of this model cannot be constrained",
        };
        let remedy = "check that the file may be read";
        let text = std::fs::read(tokenizer.path()).map_err(Error::io(tokenizer.path(), remedy))?;
        let file: Value = serde_json::from_slice(&text).map_err(|error| malformed(error.to_string()))?;
        let mut bytes = token_bytes_from_tokenizer_json(&file).map_err(|error| malformed(error.to_string()))?;
        bytes.resize(rows, Vec::new());
        let size = u32::try_from(rows).map_err(|error| malformed(error.to_string()))?;
        let environment: TokEnv = Arc::new(ApproximateTokEnv::new(TokTrie::from(&TokRxInfo::new(size, end), &bytes)));
        let factory = ParserFactory::new_simple(&environment).map_err(|error| malformed(error.to_string()))?;
        Ok(Self { factory })
    }

    /// Replies that are JSON of `schema`.
    ///
    /// # Errors
    /// [`Error::BadRequest`] for a schema that cannot be followed.
    pub fn json(&self, schema: &Value) -> Result<Constraint> {
        // Room for white space anywhere is room for a small model to write nothing else.
        let compact = json!({ "whitespace_flexible": false, "item_separator": ", ", "key_separator": ": " });
        let mut schema = schema.clone();
        if let Some(keys) = schema.as_object_mut() {
            keys.entry("x-guidance").or_insert(compact);
        }
        self.constraint(TopLevelGrammar::from_json_schema(schema))
    }

    /// Replies that are one or more calls of `tools`, function descriptions in the form that chat templates take.
    ///
    /// # Errors
    /// [`Error::BadRequest`] for descriptions that cannot be followed.
    pub fn calls(&self, tools: &Value) -> Result<Constraint> {
        self.constraint(TopLevelGrammar::from_lark(calls_grammar(tools)?))
    }

    fn constraint(&self, grammar: TopLevelGrammar) -> Result<Constraint> {
        let mut matcher = Matcher::new(self.factory.create_parser(grammar));
        if let Some(error) = matcher.get_error() {
            return Err(Error::BadRequest(format!("replies cannot be constrained so: {}", one_line(&error))));
        }
        let mask = next_mask(&mut matcher)?;
        Ok(Constraint { matcher, mask })
    }
}

/// What one reply may still become.
pub struct Constraint {
    matcher: Matcher,
    mask: SimpleVob,
}

impl std::fmt::Debug for Constraint {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Constraint").finish_non_exhaustive()
    }
}

impl Constraint {
    /// Whether token `id` may come next.
    #[must_use]
    pub fn allows(&self, id: u32) -> bool {
        (id as usize) < self.mask.len() && self.mask.is_allowed(id)
    }

    /// Goes on behind token `id`.
    ///
    /// # Errors
    /// [`Error::BadRequest`] for a token that was not allowed.
    pub fn take(&mut self, id: u32) -> Result<()> {
        self.matcher
            .consume_token(id)
            .map_err(|error| Error::BadRequest(format!("token {id} does not fit: {}", one_line(&error.to_string()))))?;
        self.mask = next_mask(&mut self.matcher)?;
        Ok(())
    }
}

fn next_mask(matcher: &mut Matcher) -> Result<SimpleVob> {
    matcher
        .compute_mask_or_eos()
        .map_err(|error| Error::BadRequest(format!("the constraint cannot go on: {}", one_line(&error.to_string()))))
}

/// A grammar of calls in the Python form: declared tools, declared arguments in their order, required ones always.
fn calls_grammar(tools: &Value) -> Result<String> {
    let bad = |reason: String| Error::BadRequest(format!("the tools cannot be followed: {reason}"));
    let list = tools.as_array().filter(|list| !list.is_empty()).ok_or_else(|| bad("no tool is declared".into()))?;
    let mut grammar = Grammar { rules: String::new(), values: 0, has_string: false, root: &Value::Null };
    let mut names = Vec::new();
    for (number, tool) in list.iter().enumerate() {
        let function = tool.get("function").unwrap_or(tool);
        let name = function["name"].as_str().unwrap_or_default();
        if name.is_empty() || !name.chars().all(is_of_name) {
            return Err(bad(format!("{name:?} is no name of a tool")));
        }
        names.push(grammar.tool(number, name, &function["parameters"]).map_err(bad)?);
    }
    Ok(format!(
        "start: {CALLS_START} \"[\" call (\", \" call)* \"]\" {CALLS_END}\ncall: {}\n{}{BASICS}",
        names.join(" | "),
        grammar.rules
    ))
}

/// Values as the reader of calls takes them.
const BASICS: &str = r#"
boolean: "True" | "False"
none: "None"
integer: INTEGER
number: NUMBER
string: STRING
INTEGER: /-?(0|[1-9][0-9]{0,14})/
NUMBER: /-?(0|[1-9][0-9]{0,14})(\.[0-9]{1,9})?/
"#;

struct Grammar<'t> {
    rules: String,
    values: usize,
    has_string: bool,
    /// The schema of the tool's arguments, in which references are looked up.
    root: &'t Value,
}

/// Keywords of a schema that ask for nothing.
const REMARKS: [&str; 8] =
    ["title", "description", "default", "examples", "deprecated", "$schema", "$defs", "definitions"];
/// Each says alone what a value is; nothing that narrows it may stand beside it.
const DECIDING: [&str; 6] = ["$ref", "allOf", "enum", "const", "anyOf", "oneOf"];
/// What is followed for a value of a type, beside what narrows texts and numbers.
const OF_TYPES: [&str; 7] = ["type", "items", "minItems", "maxItems", "properties", "required", "additionalProperties"];
/// Formats of texts that the grammar knows.
const FORMATS: [&str; 10] =
    ["date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri"];
/// Keywords that narrow a text or a number. A call may write both as JSON does, so JSON's grammar follows them.
const NARROWING: [&str; 9] = [
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "multipleOf",
    "minLength",
    "maxLength",
    "pattern",
    "format",
];
/// Rules of one grammar: references let a short schema ask for any number.
const MOST_VALUES: usize = 2000;

impl<'t> Grammar<'t> {
    /// Adds the rules of one tool and returns the name of the first.
    fn tool(&mut self, number: usize, name: &str, parameters: &'t Value) -> Result<String, String> {
        self.strings();
        self.root = parameters;
        check_parameters(parameters)?;
        let no_properties = serde_json::Map::new();
        let properties = parameters["properties"].as_object().unwrap_or(&no_properties);
        let required = |argument: &str| {
            parameters["required"].as_array().is_some_and(|list| list.iter().any(|name| name == argument))
        };
        let rule = format!("tool{number}");
        self.rules += &format!("{rule}: \"{name}(\" {rule}_0_first \")\"\n");
        for (index, (argument, schema)) in properties.iter().enumerate() {
            if argument.is_empty() || !argument.chars().all(is_of_argument) {
                return Err(format!("{argument:?} is no name of an argument"));
            }
            let value = self.value(schema, 0)?;
            let next = index + 1;
            // Before the first argument there is no comma; a chain of rules for each case keeps it so.
            for (case, comma) in [("first", ""), ("rest", ", ")] {
                let given = format!("\"{comma}{argument}=\" {value} {rule}_{next}_rest");
                let skipped = if required(argument) { String::new() } else { format!(" | {rule}_{next}_{case}") };
                self.rules += &format!("{rule}_{index}_{case}: {given}{skipped}\n");
            }
        }
        let end = properties.len();
        self.rules += &format!("{rule}_{end}_first: \"\"\n{rule}_{end}_rest: \"\"\n");
        Ok(rule)
    }

    fn strings(&mut self) {
        if !std::mem::replace(&mut self.has_string, true) {
            self.rules += &format!("STRING: /\"([^\"\\\\\\x00-\\x1f]|\\\\[\"\\\\nrt]){{0,{LONGEST_STRING}}}\"/\n");
        }
    }

    /// The rule for a value of `schema`.
    fn value(&mut self, schema: &Value, depth: usize) -> Result<String, String> {
        if depth > 8 {
            return Err("arguments are nested too deeply".into());
        }
        check_keywords(schema)?;
        if let Some(reference) = schema.get("$ref") {
            let place = reference.as_str().and_then(|reference| reference.strip_prefix('#'));
            let target = place.and_then(|place| self.root.pointer(place));
            return self.value(target.ok_or_else(|| format!("the schema has nothing at {reference}"))?, depth + 1);
        }
        match schema["allOf"].as_array().map(Vec::as_slice) {
            Some([only]) => return self.value(only, depth + 1),
            Some(_) => return Err("an \"allOf\" of several schemas cannot be followed; write them as one".into()),
            None => {}
        }
        if ["enum", "anyOf", "oneOf"].iter().any(|list| schema[*list].as_array().is_some_and(Vec::is_empty)) {
            return Err("a list of choices is empty".into());
        }
        if let Some(choices) = schema["enum"].as_array() {
            let choices: Vec<String> = choices.iter().map(literal).collect::<Result<_, _>>()?;
            return self.named(&choices.join(" | "));
        }
        if let Some(constant) = schema.get("const") {
            return self.named(&literal(constant)?);
        }
        if let Some(any) = schema["anyOf"].as_array().or(schema["oneOf"].as_array()) {
            let any: Vec<String> = any.iter().map(|one| self.value(one, depth + 1)).collect::<Result<_, _>>()?;
            return self.named(&any.join(" | "));
        }
        if let Some(types) = schema["type"].as_array() {
            let of_type = |kind: &Value| {
                let mut schema = schema.clone();
                schema["type"] = kind.clone();
                schema
            };
            let any: Vec<String> =
                types.iter().map(|kind| self.value(&of_type(kind), depth + 1)).collect::<Result<_, _>>()?;
            return self.named(&any.join(" | "));
        }
        match schema["type"].as_str() {
            Some(kind @ ("string" | "integer" | "number")) => self.narrowed(kind, schema),
            Some("boolean") => Ok("boolean".into()),
            Some("null") => Ok("none".into()),
            Some("array") => {
                if schema["items"].is_array() {
                    return Err("lists whose places have schemas of their own cannot be followed".into());
                }
                let item = self.value(&schema["items"], depth + 1)?;
                let bound = |keyword: &str, usual: usize| match schema.get(keyword).map(Value::as_u64) {
                    None => Ok(usual),
                    Some(Some(bound)) => Ok(usize::try_from(bound).unwrap_or(usize::MAX)),
                    Some(None) => Err(format!("{keyword} has to be a whole number")),
                };
                let (least, most) = (bound("minItems", 0)?, bound("maxItems", LONGEST_LIST)?);
                if most < least || least > LONGEST_LIST {
                    return Err(format!("a list of {least} to {most} items cannot be written"));
                }
                let most = most.min(LONGEST_LIST);
                if most == 0 {
                    return self.named("\"[]\"");
                }
                let further = format!("{{{},{}}}", least.saturating_sub(1), most - 1);
                let optional = if least == 0 { "?" } else { "" };
                self.named(&format!("\"[\" ({item} (\", \" {item}){further}){optional} \"]\""))
            }
            Some("object") => self.object(schema, depth),
            Some(other) => Err(format!("arguments of type {other:?} are not known")),
            None => self.named("string | number | boolean | none"),
        }
    }

    fn narrowed(&mut self, kind: &str, schema: &Value) -> Result<String, String> {
        let asked = schema.as_object().into_iter().flatten().filter(|(key, _)| NARROWING.contains(&key.as_str()));
        let mut asked: Map<String, Value> = asked.map(|(key, value)| (key.clone(), value.clone())).collect();
        if asked.is_empty() {
            return Ok(kind.into());
        }
        if kind == "string" && !["maxLength", "pattern", "format"].iter().any(|key| asked.contains_key(*key)) {
            asked.insert("maxLength".into(), LONGEST_STRING.into());
        }
        if let Some(format) = asked.get("format").filter(|_| kind == "string")
            && !format.as_str().is_some_and(|format| FORMATS.contains(&format))
        {
            return Err(format!("the format {format} is not known; there are {}", FORMATS.join(", ")));
        }
        if kind != "string" {
            // Formats of numbers say how they are stored. Without bounds a number may go on for ever.
            asked.remove("format");
            for (bounds, limit) in
                [(["minimum", "exclusiveMinimum"], -LARGEST), (["maximum", "exclusiveMaximum"], LARGEST)]
            {
                if !bounds.iter().any(|bound| asked.contains_key(*bound)) {
                    asked.insert(bounds[0].into(), limit.into());
                }
            }
        }
        asked.insert("type".into(), kind.into());
        self.named(&format!("%json {}", Value::Object(asked)))
    }

    /// A dictionary with all declared keys, in their order.
    fn object(&mut self, schema: &Value, depth: usize) -> Result<String, String> {
        check_required(schema)?;
        let mut fields = Vec::new();
        for (key, schema) in schema["properties"].as_object().into_iter().flatten() {
            let value = self.value(schema, depth + 1)?;
            fields.push(format!("{} {value}", quoted(&format!("{}: ", Value::String(key.clone())))));
        }
        self.named(&format!("\"{{\" {} \"}}\"", fields.join(" \", \" ")))
    }

    fn named(&mut self, body: &str) -> Result<String, String> {
        if self.values == MOST_VALUES {
            return Err("the schema comes to too many values".into());
        }
        let name = format!("value{}", self.values);
        self.values += 1;
        self.rules += &format!("{name}: {body}\n");
        Ok(name)
    }
}

/// Refuses what is not followed: a call that breaks its schema must not look like one that was held to it.
fn check_keywords(schema: &Value) -> Result<(), String> {
    let keys = || schema.as_object().into_iter().flat_map(|schema| schema.keys().map(String::as_str));
    let decided = keys().filter(|key| DECIDING.contains(key)).count();
    let refused = match decided {
        0 => keys().find(|key| !REMARKS.contains(key) && !NARROWING.contains(key) && !OF_TYPES.contains(key)),
        // A type beside choices says nothing that these do not.
        1 => keys().find(|key| !REMARKS.contains(key) && !DECIDING.contains(key) && *key != "type"),
        _ => keys().find(|key| DECIDING.contains(key)),
    };
    if let Some(keyword) = refused {
        let beside = if decided > 0 { " beside what decides the value" } else { "" };
        return Err(format!("the schema's keyword {keyword:?} cannot be followed{beside}; leave it out"));
    }
    let typed = decided > 0 || schema.get("type").is_some();
    if let Some(keyword) = keys().find(|key| !typed && !REMARKS.contains(key)) {
        return Err(format!("a schema with {keyword:?} has to say its \"type\""));
    }
    Ok(())
}

/// The same for the schema of all arguments, of which the properties are followed.
fn check_parameters(parameters: &Value) -> Result<(), String> {
    let followed = ["type", "properties", "required", "additionalProperties"];
    let mut keys = parameters.as_object().into_iter().flat_map(|schema| schema.keys().map(String::as_str));
    if let Some(keyword) = keys.find(|key| !REMARKS.contains(key) && !followed.contains(key)) {
        return Err(format!("the arguments' keyword {keyword:?} cannot be followed; leave it out"));
    }
    check_required(parameters)
}

fn check_required(schema: &Value) -> Result<(), String> {
    let missing = |name: &&Value| name.as_str().is_none_or(|name| schema["properties"].get(name).is_none());
    match schema["required"].as_array().into_iter().flatten().find(missing) {
        Some(name) => Err(format!("{name} is required and no property")),
        None => Ok(()),
    }
}

/// A constant as it is written in a call, quoted for the grammar.
fn literal(value: &Value) -> Result<String, String> {
    match value {
        Value::Null => Ok("\"None\"".into()),
        Value::Bool(true) => Ok("\"True\"".into()),
        Value::Bool(false) => Ok("\"False\"".into()),
        Value::Number(_) | Value::String(_) => Ok(quoted(&value.to_string())),
        Value::Array(_) | Value::Object(_) => Err("choices have to be texts, numbers or constants".into()),
    }
}

/// A text in the grammar's quotes, whose escapes are those of JSON.
fn quoted(text: &str) -> String {
    Value::String(text.to_owned()).to_string()
}
