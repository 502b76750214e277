//! Chat templates against transformers' `apply_chat_template`: every form with every conversation.

#![allow(clippy::unwrap_used)]

use eddy_models::Stop;
use eddy_models::chat::{ChatTemplate, Conversation};
use eddy_models::text::TextModel;
use eddy_models::tokenizer::Tokenizer;
use eddy_tests::fixtures::{fixture, runtime};
use serde_json::Value;

const FORMS: [&str; 5] = ["lfm2", "lfm25", "lfm25_vl", "plain", "builtin"];

fn read(name: &str) -> Vec<Value> {
    serde_json::from_slice(&std::fs::read(fixture(&format!("chat-reference/{name}"))).unwrap()).unwrap()
}

/// A folder with the template of `form` and nothing else of importance.
fn template(form: &str) -> ChatTemplate {
    let folder = tempfile::tempdir().unwrap();
    let tokens = r#"{"bos_token": "<|startoftext|>", "eos_token": "<|im_end|>", "pad_token": "<|pad|>"}"#;
    std::fs::write(folder.path().join("tokenizer_config.json"), tokens).unwrap();
    if form != "builtin" {
        let source = fixture(&format!("chat-reference/{form}.jinja"));
        std::fs::copy(source, folder.path().join("chat_template.jinja")).unwrap();
    }
    ChatTemplate::load(folder.path()).unwrap_or_else(|error| panic!("{form}: {error}"))
}

fn tokenizer() -> Tokenizer {
    let runtime = runtime();
    let stop = Stop::new(&runtime).unwrap();
    TextModel::load(&runtime, &fixture("text-a"), "fp32".parse().unwrap(), &stop).unwrap().tokenizer().clone()
}

fn conversation(case: &Value) -> Conversation {
    let mut fields = case.as_object().unwrap().clone();
    let messages = fields.remove("conversation").unwrap();
    fields.insert("messages".into(), messages);
    Conversation::read(&Value::Object(fields).to_string()).unwrap()
}

/// The moment at which the reference was recorded.
fn then() -> jiff::Zoned {
    jiff::civil::date(2026, 3, 7).at(8, 5, 9, 0).to_zoned(jiff::tz::TimeZone::UTC).unwrap()
}

#[test]
fn text_and_ids_equal_the_reference() {
    let mut tokenizer = tokenizer();
    let conversations = read("conversations.json");
    assert!(conversations.len() >= 40, "only {} conversations", conversations.len());
    let mut guarded = 0;
    for form in FORMS {
        let template = template(form);
        for (index, (case, expected)) in conversations.iter().zip(read(&format!("{form}.json"))).enumerate() {
            let conversation = conversation(case);
            if let Some(error) = expected.get("error") {
                assert!(template.render(&conversation, &then()).is_err(), "{form} {index}: {error}");
                continue;
            }
            let text =
                template.render(&conversation, &then()).unwrap_or_else(|error| panic!("{form} {index}: {error}"));
            assert_eq!(text, expected["text"].as_str().unwrap(), "{form} {index}");
            let ids = template.ids(&conversation, &then(), &tokenizer).unwrap();
            assert_eq!(serde_json::json!(ids), expected["ids"], "{form} {index}");
            let safe = template.guarded_ids(&conversation, &then(), &mut tokenizer).unwrap();
            match expected.get("guarded") {
                Some(expected) => {
                    assert_eq!(&serde_json::json!(safe), expected, "{form} {index}, guarded");
                    guarded += 1;
                }
                None => assert_eq!(safe, ids, "{form} {index}, nothing to guard"),
            }
        }
    }
    assert!(guarded >= 5, "only {guarded} conversations held control tokens");
}

#[test]
fn words_that_are_nothing_but_control_tokens_take_one_pass() {
    let mut tokenizer = tokenizer();
    // With a search of the rest for each of them this would not end today.
    let words = "<|im_start|>".repeat(20_000);
    let case = serde_json::json!({ "messages": [{ "role": "user", "content": words }] });
    let ids = template("builtin")
        .guarded_ids(&Conversation::read(&case.to_string()).unwrap(), &then(), &mut tokenizer)
        .unwrap();
    let start = tokenizer.id("<|im_start|>").unwrap();
    assert_eq!(ids.iter().filter(|id| **id == start).count(), 2, "the turns' own");
    assert!(ids.len() > 100_000);
}

#[test]
fn templates_that_cannot_be_used_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("chat_template.jinja");
    std::fs::write(&path, "{% for message in messages %}").unwrap();
    let error = ChatTemplate::load(folder.path()).unwrap_err().to_string();
    assert!(error.contains("chat_template.jinja") && error.lines().count() == 1, "{error}");

    let refusal = "{{ raise_exception('only one turn, please') }}";
    for (source, expected) in [
        (refusal, "only one turn, please"),
        ("{% for a in range(9999) %}{% for b in range(9999) %}x{% endfor %}{% endfor %}", "fuel"),
        ("{{ messages[0].nothing.more }}", "undefined"),
    ] {
        std::fs::write(&path, source).unwrap();
        let template = ChatTemplate::load(folder.path()).unwrap();
        let error = template.render(&Conversation::question("hello"), &then()).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn messages_of_another_form_are_refused() {
    for text in ["", "7", "{}", r#"{"messages": "hello"}"#, r#"[{"content": "x"}]"#, r#"{"messages": [], "tools": 3}"#]
    {
        assert!(Conversation::read(text).is_err(), "{text}");
    }
    assert!(Conversation::read(r#"[{"role": "user", "content": "x"}]"#).unwrap().add_generation_prompt);
}
