//! Conversations through every form of chat template, and their ids with and without the guard.

use eddy_models::chat::{ChatTemplate, Conversation};
use eddy_models::folder::ModelFolder;
use eddy_models::tokenizer::Tokenizer;
use serde_json::Value;

use super::{Target, fixture, words};

const FORMS: [&str; 5] = ["lfm2", "lfm25", "lfm25_vl", "plain", "builtin"];

/// See the module.
pub struct Template {
    templates: Vec<ChatTemplate>,
    tokenizer: Tokenizer,
    now: jiff::Zoned,
    /// The turn markers that the templates themselves write.
    turn_start: u32,
}

impl Template {
    /// Compiles the templates of the fixtures.
    pub fn open() -> anyhow::Result<Self> {
        let folder = ModelFolder::open(&fixture("text-a"))?;
        let tokenizer = Tokenizer::load(&folder, 1024)?;
        let mut templates = Vec::new();
        for form in FORMS {
            let folder = tempfile::tempdir()?;
            if form != "builtin" {
                let to = folder.path().join("chat_template.jinja");
                std::fs::copy(fixture(&format!("chat-reference/{form}.jinja")), to)?;
            }
            templates.push(ChatTemplate::load(folder.path())?);
        }
        let turn_start = tokenizer.id("<|im_start|>")?;
        let now = jiff::civil::date(2026, 3, 7).at(8, 5, 9, 0).to_zoned(jiff::tz::TimeZone::UTC)?;
        Ok(Self { templates, tokenizer, now, turn_start })
    }
}

impl Target for Template {
    fn run(&mut self, input: &[u8]) -> String {
        let conversation = match Conversation::read(&String::from_utf8_lossy(input)) {
            Ok(conversation) => conversation,
            Err(error) => return error.to_string(),
        };
        let messages = conversation.messages.as_array().map_or(0, Vec::len);
        let mut answer = String::new();
        for template in &self.templates {
            let ids = template.ids(&conversation, &self.now, &self.tokenizer);
            let guarded = template.guarded_ids(&conversation, &self.now, &mut self.tokenizer);
            answer.push_str(&match (&ids, &guarded) {
                (Ok(_), Ok(guarded)) => {
                    // The system prompt, one turn for each message, and the opened one: whatever the words say.
                    let turns = guarded.iter().filter(|id| **id == self.turn_start).count();
                    assert!(turns <= messages + 2, "{turns} turns from {messages} messages");
                    "rendered; ".to_owned()
                }
                (Err(error), _) | (_, Err(error)) => format!("{error}; "),
            });
        }
        answer
    }

    fn seeds(&self) -> anyhow::Result<Vec<Vec<u8>>> {
        let text = std::fs::read(fixture("chat-reference/conversations.json"))?;
        let cases: Vec<Value> = serde_json::from_slice(&text)?;
        let seeds = cases.into_iter().map(|mut case| {
            case["messages"] = case["conversation"].take();
            case.to_string().into_bytes()
        });
        Ok(seeds.collect())
    }

    fn dictionary(&self) -> Vec<Vec<u8>> {
        words(&[
            "{\"role\": \"user\", \"content\": \"x\"},",
            "\"role\"",
            "\"content\"",
            "\"tool_calls\"",
            "\"function\"",
            "\"arguments\"",
            "\"name\"",
            "\"type\": \"image\"",
            "\"text\"",
            "\"tools\": [{}]",
            "null",
            "true",
            "[]",
            "{}",
            "<|im_start|>",
            "<|im_end|>",
            "<|tool_call_start|>",
            "<image>",
            "</think>",
            "\\u0000",
            "\\ud800",
            "\\uf8e0",
            "\u{f8e0}",
            "\u{f8e1}",
            "{{",
            "}}",
            "{%",
            "%}",
            "1e400",
            "\"assistant\"",
            "\"system\"",
            "\"tool\"",
            "\"keep_past_thinking\": true,",
            "\"bos_token\": 3,",
            "\"add_generation_prompt\": false,",
        ])
    }

    fn most_memory(&self) -> usize {
        128 << 20
    }
}
