//! `eddy chat`: a typed conversation.

use std::io::{BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};

use eddy_models::chat::tools::{Reply, read_reply};
use eddy_models::chat::{ChatTemplate, Constrainer, Conversation};
use eddy_models::sampler::Sampling;
use eddy_models::text::{Event, Finish, GenerationOptions, TextModel, TextSession};
use eddy_models::{Error, tokenizer::Special};
use serde_json::{Map, Value, json};

use super::Outcome;
use super::interrupt::Interrupt;
use super::model::{ModelArguments, warn_of_stand_in};
use super::output::{Output, seconds};

/// Written by models that keep their special tokens, and no part of what they say.
const TURN_END: &str = "<|im_end|>";

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
    /// Reply only with JSON of the schema in this file.
    #[arg(long, value_name = "FILE.json", conflicts_with_all = ["tools", "call"])]
    schema: Option<PathBuf>,
    /// Functions that the model may call, as a JSON list; calls are printed and nothing runs them.
    #[arg(long, value_name = "FILE.json")]
    tools: Option<PathBuf>,
    /// Reply only with calls of the tools.
    #[arg(long, requires = "tools")]
    call: bool,
    #[command(flatten)]
    model: ModelArguments,
}

struct Chat<'a> {
    arguments: &'a Arguments,
    model: TextModel,
    template: ChatTemplate,
    session: TextSession,
    messages: Vec<Value>,
    tools: Value,
    form: Form,
    interrupt: Interrupt,
}

/// What replies may look like.
enum Form {
    Free,
    Json(Constrainer, Value),
    Calls(Constrainer),
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
    let tools = arguments.tools.as_deref().map(json_file).transpose()?.unwrap_or_default();
    let mut model = model;
    let form = form(&arguments, &mut model)?;
    let mut chat = Chat {
        tools,
        form,
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

fn json_file(path: &Path) -> anyhow::Result<Value> {
    let text = std::fs::read(path).map_err(|error| anyhow::anyhow!("{}: cannot be read: {error}", path.display()))?;
    serde_json::from_slice(&text).map_err(|error| anyhow::anyhow!("{}: not JSON: {error}", path.display()))
}

fn form(arguments: &Arguments, model: &mut TextModel) -> anyhow::Result<Form> {
    let mut constrainer = || -> anyhow::Result<Constrainer> {
        let (rows, end) = (model.backbone().vocabulary(), model.tokenizer().id("<|im_end|>")?);
        Ok(Constrainer::new(model.tokenizer(), rows, end)?)
    };
    match (&arguments.schema, arguments.call) {
        (Some(path), _) => Ok(Form::Json(constrainer()?, json_file(path)?)),
        (None, true) => Ok(Form::Calls(constrainer()?)),
        (None, false) => Ok(Form::Free),
    }
}

impl Chat<'_> {
    /// Says `words` and prints the reply as it comes.
    fn turn(&mut self, words: &str) -> anyhow::Result<Outcome> {
        self.messages.push(json!({ "role": "user", "content": words }));
        let conversation = Conversation {
            messages: Value::Array(self.messages.clone()),
            tools: self.tools.clone(),
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
            special: if self.tools.is_null() { Special::Drop } else { Special::Keep },
            ..GenerationOptions::default()
        };
        let mut constraint = match &self.form {
            Form::Free => None,
            Form::Json(constrainer, schema) => Some(constrainer.json(schema)?),
            Form::Calls(constrainer) => Some(constrainer.calls(&self.tools)?),
        };
        let mut generation = self.session.begin(&mut self.model, &prompt, options)?;
        let reused = self.session.reused();
        let mut output = Output::new(self.arguments.model.json);
        let (mut said, mut tokens) = (String::new(), 0_u64);
        let reason = loop {
            if self.interrupt.asked() {
                break "cancelled";
            }
            let allowed = |id| constraint.as_ref().is_none_or(|constraint| constraint.allows(id));
            match self.session.step(&mut self.model, &mut generation, allowed) {
                Err(Error::Stopped) => break "cancelled",
                Err(error) => return Err(error.into()),
                Ok(Event::Prefilled { .. }) => {}
                Ok(Event::Token { id, text }) => {
                    tokens += 1;
                    if let Some(constraint) = constraint.as_mut().filter(|_| !self.model.ends_with(id)) {
                        constraint.take(id)?;
                    }
                    let text = text.replace(TURN_END, "");
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
        let reply = match self.tools.is_null() {
            true => Reply { text: said.clone(), calls: Vec::new() },
            false => read_reply(&said)?,
        };
        let (prefill, decode) = generation.times();
        let mut report = Map::new();
        report.insert("text".into(), reply.text.into());
        let calls = reply.calls.iter().map(|call| json!({ "name": call.name, "arguments": call.arguments }));
        report.insert("tool_calls".into(), calls.collect());
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
