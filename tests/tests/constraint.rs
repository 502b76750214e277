//! Replies that can have no other form, from a model that knows nothing.

#![allow(clippy::unwrap_used)]

use eddy_models::Stop;
use eddy_models::chat::tools::read_reply;
use eddy_models::chat::{Constrainer, Constraint};
use eddy_models::sampler::Sampling;
use eddy_models::text::{Event, Finish, Generation, GenerationOptions, TextModel};
use eddy_models::tokenizer::Special;
use eddy_tests::fixtures::{fixture, runtime};
use serde_json::json;

fn model() -> TextModel {
    let runtime = runtime();
    let stop = Stop::new(&runtime).unwrap();
    TextModel::load(&runtime, &fixture("text-a"), "fp32".parse().unwrap(), &stop).unwrap()
}

fn constrainer(model: &mut TextModel) -> Constrainer {
    let end = model.tokenizer().id("<|im_end|>").unwrap();
    let rows = model.backbone().vocabulary();
    Constrainer::new(model.tokenizer(), rows, end).unwrap()
}

/// A reply of the random model, every choice as random as it gets; `None` when it did not end in time.
fn reply(model: &mut TextModel, mut constraint: Constraint, seed: u64) -> Option<String> {
    let prompt =
        model.tokenizer().encode("<|startoftext|><|im_start|>user\nx<|im_end|>\n<|im_start|>assistant\n").unwrap();
    let options = GenerationOptions {
        max_tokens: 300,
        sampling: Sampling { temperature: 1.5, ..Sampling::GREEDY },
        seed,
        special: Special::Keep,
        ..GenerationOptions::default()
    };
    let mut cache = model.new_cache().unwrap();
    let mut generation = Generation::new(model, &cache, prompt, options).unwrap();
    let mut said = String::new();
    loop {
        match generation.step(model, &mut cache, |id| constraint.allows(id)).unwrap() {
            Event::Prefilled { .. } => {}
            Event::Token { id, text } => {
                said.push_str(&text);
                if !model.ends_with(id) {
                    constraint.take(id).unwrap();
                }
            }
            Event::Finished(Finish::Stop) => return Some(said.replace("<|im_end|>", "")),
            Event::Finished(Finish::Length) => return None,
        }
    }
}

#[test]
fn only_declared_calls_can_be_written() {
    let tools = json!([
        { "type": "function", "function": { "name": "set_light", "parameters": {
            "type": "object",
            "properties": { "room": { "type": "string", "enum": ["hall", "Küche \"A\""] }, "on": { "type": "boolean" },
                            "level": { "type": "integer" } },
            "required": ["room", "on"] } } },
        { "name": "start_timer", "parameters": {
            "properties": { "minutes": { "type": "number" }, "tags": { "type": "array", "items": { "enum": [1, 2.5, null] } },
                            "where": { "type": "object", "properties": { "x": { "type": "integer" } } } } } },
        { "name": "ping" },
    ]);
    let mut model = model();
    let constrainer = constrainer(&mut model);
    let mut seen = std::collections::BTreeSet::new();
    let mut ended = 0;
    for seed in 0..60 {
        let Some(said) = reply(&mut model, constrainer.calls(&tools).unwrap(), seed) else { continue };
        ended += 1;
        let reply = read_reply(&said).unwrap_or_else(|error| panic!("{said:?}: {error}"));
        assert_eq!(reply.text, "", "{said:?}");
        assert!(!reply.calls.is_empty());
        for call in reply.calls {
            let arguments = &call.arguments;
            match call.name.as_str() {
                "set_light" => {
                    assert!(["hall", "Küche \"A\""].contains(&arguments["room"].as_str().unwrap()), "{said:?}");
                    assert!(arguments["on"].is_boolean(), "{said:?}");
                    assert!(arguments.get("level").is_none_or(|level| level.is_i64()), "{said:?}");
                }
                "start_timer" => {
                    assert!(arguments.get("minutes").is_none_or(|minutes| minutes.is_number()), "{said:?}");
                    assert!(arguments.get("where").is_none_or(|place| place["x"].is_i64()), "{said:?}");
                }
                "ping" => assert!(arguments.is_empty()),
                other => panic!("{other} was never declared: {said:?}"),
            }
            seen.insert(call.name);
        }
    }
    assert!(ended >= 30, "only {ended} of 60 replies ended in time");
    assert_eq!(seen.len(), 3, "every tool is called some time: {seen:?}");
}

#[test]
fn only_json_of_the_schema_can_be_written() {
    let schema = json!({
        "type": "object",
        "properties": { "city": { "enum": ["Oslo", "Łódź"] }, "warm": { "type": "boolean" } },
        "required": ["city", "warm"],
        "additionalProperties": false,
    });
    let mut model = model();
    let constrainer = constrainer(&mut model);
    let mut ended = 0;
    for seed in 0..20 {
        let Some(said) = reply(&mut model, constrainer.json(&schema).unwrap(), seed) else { continue };
        ended += 1;
        let value: serde_json::Value = serde_json::from_str(&said).unwrap_or_else(|error| panic!("{said:?}: {error}"));
        assert!(["Oslo", "Łódź"].contains(&value["city"].as_str().unwrap()) && value["warm"].is_boolean(), "{said:?}");
    }
    assert!(ended >= 10, "only {ended} of 20 replies ended in time");
}

#[test]
fn what_cannot_be_followed_is_refused() {
    let mut model = model();
    let constrainer = constrainer(&mut model);
    for tools in [
        json!([]),
        json!(null),
        json!([{ "name": "f(x)\"" }]),
        json!([{ "name": "f", "parameters": { "properties": { "a b": { "type": "string" } } } }]),
        json!([{ "name": "f", "parameters": { "properties": { "a": { "type": "date" } } } }]),
        json!([{ "name": "f", "parameters": { "properties": { "a": { "enum": [[1]] } } } }]),
        json!([{ "name": "f", "parameters": { "properties": { "a": { "type": "string", "pattern": "(" } } } }]),
        json!([{ "name": "f", "parameters": { "properties": { "a": { "$ref": "#/$defs/a" } } } }]),
        json!([{ "name": "f", "parameters": { "properties": { "a": { "$ref": "elsewhere.json" } } } }]),
        json!([{ "name": "f", "parameters": { "properties": { "a": { "$ref": "#/properties/a" } } } }]),
        json!([{ "name": "f", "parameters": { "properties": { "a": { "type": "integer", "minimum": 3, "maximum": 1 } } } }]),
        json!([{ "name": "f", "parameters": { "properties": { "a": { "type": "array", "minItems": 3, "maxItems": 1 } } } }]),
        json!([{ "name": "f", "parameters": { "properties": { "a": { "type": "string", "contentEncoding": "base64" } } } }]),
        json!([{ "name": "f", "parameters": { "properties": { "a": { "minimum": 1000, "maximum": 1001 } } } }]),
        json!([{ "name": "f", "parameters": { "properties": { "a": { "properties": { "x": {} }, "required": ["x"] } } } }]),
        json!([{ "name": "f", "parameters": { "properties": { "a": { "$ref": "#/$defs/a", "maximum": 5 } }, "$defs": { "a": { "type": "integer" } } } }]),
        json!([{ "name": "f", "parameters": { "properties": { "a": { "type": "string", "anyOf": [{ "type": "string" }], "minLength": 1 } } } }]),
        json!([{ "name": "f", "parameters": { "properties": { "a": { "enum": [] } } } }]),
        json!([{ "name": "f", "parameters": { "properties": { "a": { "anyOf": [] } } } }]),
        json!([{ "name": "f", "parameters": { "properties": {}, "required": ["x"] } }]),
        json!([{ "name": "f", "parameters": { "properties": { "a": { "type": "object", "required": ["x"] } } } }]),
        json!([{ "name": "f", "parameters": { "oneOf": [{ "required": ["b"] }], "properties": { "b": { "type": "string" } } } }]),
        json!([{ "name": "f", "parameters": { "properties": { "a": { "type": "array", "items": [{ "type": "string" }] } } } }]),
        json!([{ "name": "f", "parameters": { "properties": { "a": { "type": "array", "minItems": 2.5 } } } }]),
        json!([{ "name": "f", "parameters": { "properties": { "a": { "type": "string", "format": "password" } } } }]),
        json!([{ "name": "f", "parameters": { "properties": { "a": { "allOf": [{ "type": "string" }, { "minLength": 1 }] } } } }]),
    ] {
        assert!(constrainer.calls(&tools).is_err(), "{tools}");
    }
    assert!(constrainer.json(&json!({ "type": "nonsense" })).is_err());
    let mut constraint = constrainer.json(&json!({ "type": "boolean" })).unwrap();
    assert!(!constraint.allows(5000));
    assert!(constraint.take(model.tokenizer().encode("x").unwrap()[0]).is_err());
}

#[test]
fn bounds_constants_and_alternatives_are_kept_to() {
    let mut model = model();
    let constrainer = constrainer(&mut model);
    for (schema, fitting, wrong) in [
        (json!({ "type": "integer", "minimum": 1, "maximum": 12 }), "12", "13"),
        (json!({ "type": "integer", "minimum": 1 }), "700", "0"),
        (json!({ "type": "number", "exclusiveMaximum": 0.5 }), "0.25", "0.75"),
        (json!({ "type": "integer", "format": "int32" }), "12", "1000000000000000"),
        (json!({ "type": "string", "enum": ["on", "off"] }), "\"on\"", "\"of\""),
        (json!({ "type": "string", "maxLength": 3 }), "\"abc\"", "\"abcd\""),
        (json!({ "type": "string", "pattern": "^[a-z]+-[0-9]$" }), "\"ab-1\"", "\"ab-x\""),
        (json!({ "type": "string", "format": "date" }), "\"2026-01-31\"", "\"January\""),
        (json!({ "type": "array", "items": { "type": "integer" }, "minItems": 2, "maxItems": 3 }), "[1, 2]", "[1]"),
        (
            json!({ "type": "array", "items": { "type": "integer" }, "minItems": 2, "maxItems": 3 }),
            "[1, 2, 3]",
            "[1, 2, 3, 4]",
        ),
        (json!({ "$ref": "#/$defs/colour", "description": "of the light" }), "\"red\"", "\"mauve\""),
        (json!({ "allOf": [{ "$ref": "#/$defs/colour" }], "default": "red" }), "\"red\"", "\"mauve\""),
        (json!({ "const": "on" }), "\"on\"", "\"off\""),
        (json!({ "anyOf": [{ "type": "boolean" }, { "type": "null" }] }), "None", "1"),
        (json!({ "type": ["boolean", "integer"] }), "7", "\"7\""),
    ] {
        let tools = json!([{ "name": "f", "parameters": {
            "properties": { "a": schema },
            "required": ["a"],
            "$defs": { "colour": { "enum": ["red", "blue"] } },
        } }]);
        for (value, fits) in [(fitting, true), (wrong, false)] {
            let mut constraint = constrainer.calls(&tools).unwrap();
            let call = format!("<|tool_call_start|>[f(a={value})]<|tool_call_end|>");
            let taken = model.tokenizer().encode(&call).unwrap().into_iter().all(|id| constraint.take(id).is_ok());
            assert_eq!(taken, fits, "{schema}: {value}");
        }
    }
}
