//! `eddy chat`: a typed conversation.

use std::io::{BufRead, IsTerminal, Write};

use eddy_models::chat::{ChatTemplate, Conversation};
use eddy_models::sampler::Sampling;
use eddy_models::text::{Event, Finish, GenerationOptions, TextModel, TextSession};
use eddy_models::{Error, tokenizer::Special};
use serde_json::{Map, Value, json};

use super::Outcome;
use super::interrupt::Interrupt;
use super::model::{ModelArguments, warn_of_stand_in};
use super::output::{Output, seconds};

/// Arguments of the verb.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// What to say; without it, lines are read from standard input, one turn each.
    prompt: Option<String>,
    /// Instructions to the model.
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
    /// End a reply at this text; may be given several times.
    #[arg(long, value_name = "TEXT")]
    stop: Vec<String>,
    #[command(flatten)]
    model: ModelArguments,
}

struct Chat<'a> {
    arguments: &'a Arguments,
    model: TextModel,
    template: ChatTemplate,
    session: TextSession,
    messages: Vec<Value>,
    interrupt: Interrupt,
}

/// Runs the verb.
///
/// # Errors
/// One line about what went wrong.
pub fn run(arguments: Arguments) -> anyhow::Result<Outcome> {
    let wanted = arguments.model.load.wanted()?;
    let engine = arguments.model.load.engine()?;
    let folder = &arguments.model.model;
    let model = TextModel::load(&engine.runtime, folder, wanted, engine.interrupt.stop())?;
    warn_of_stand_in(folder, wanted, model.identity().precision);
    let system = arguments.system.iter().map(|words| json!({ "role": "system", "content": words }));
    let mut chat = Chat {
        template: ChatTemplate::load(folder)?,
        session: TextSession::new(&model)?,
        messages: system.collect(),
        interrupt: engine.interrupt,
        model,
        arguments: &arguments,
    };
    if let Some(prompt) = &arguments.prompt {
        return chat.turn(prompt);
    }
    let inviting = std::io::stdin().is_terminal() && !arguments.model.json;
    let mut lines = std::io::stdin().lock().lines();
    loop {
        if inviting {
            print!("> ");
            std::io::stdout().flush()?;
        }
        let Some(line) = lines.next().transpose()? else { return Ok(Outcome::Done) };
        if line.trim().is_empty() {
            continue;
        }
        if chat.turn(&line)? == Outcome::Interrupted {
            return Ok(Outcome::Interrupted);
        }
    }
}

impl Chat<'_> {
    /// Says `words` and prints the reply as it comes.
    fn turn(&mut self, words: &str) -> anyhow::Result<Outcome> {
        self.messages.push(json!({ "role": "user", "content": words }));
        let conversation = Conversation {
            messages: Value::Array(self.messages.clone()),
            add_generation_prompt: true,
            ..Conversation::default()
        };
        let now = jiff::Zoned::now();
        let prompt = self.template.guarded_ids(&conversation, &now, self.model.tokenizer_mut())?;
        let options = GenerationOptions {
            max_tokens: self.arguments.model.max_items,
            sampling: if self.arguments.model.greedy { Sampling::GREEDY } else { self.model.habits() },
            seed: self.arguments.model.seed,
            stop: self.arguments.stop.clone(),
            special: Special::Drop,
            ..GenerationOptions::default()
        };
        let mut generation = self.session.begin(&mut self.model, &prompt, options)?;
        let reused = self.session.reused();
        let mut output = Output::new(self.arguments.model.json);
        let (mut said, mut tokens) = (String::new(), 0_u64);
        let reason = loop {
            if self.interrupt.asked() {
                break "cancelled";
            }
            match self.session.step(&mut self.model, &mut generation, |_| true) {
                Err(Error::Stopped) => break "cancelled",
                Err(error) => return Err(error.into()),
                Ok(Event::Prefilled { .. }) => {}
                Ok(Event::Token { text, .. }) => {
                    tokens += 1;
                    output.text(&text)?;
                    said.push_str(&text);
                }
                Ok(Event::Finished(Finish::Stop)) => break "stop",
                Ok(Event::Finished(Finish::Length)) => break "length",
            }
        };
        let rest = generation.finish_text(&self.model)?;
        output.text(&rest)?;
        said.push_str(&rest);
        let (prefill, decode) = generation.times();
        let mut report = Map::new();
        report.insert("text".into(), said.clone().into());
        report.insert("finish_reason".into(), reason.into());
        report.insert("tokens".into(), tokens.into());
        report.insert("prompt_tokens".into(), prompt.len().into());
        report.insert("prompt_tokens_reused".into(), reused.into());
        report.insert("timings".into(), json!({ "prefill": seconds(prefill), "decode": seconds(decode) }));
        output.finish(report)?;
        self.messages.push(json!({ "role": "assistant", "content": said }));
        Ok(if reason == "cancelled" { Outcome::Interrupted } else { Outcome::Done })
    }
}
