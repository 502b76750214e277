//! `eddy chat`: a typed conversation.

use std::io::{BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use eddy_ipc::client::TextProxy;
use eddy_ipc::{Delta, FinishReason};
use eddy_models::Error;
use eddy_models::text::GenerationOptions;
use serde_json::{Map, Value, json};

use super::Outcome;
use super::daemon::{BusArguments, Daemon};
use super::interrupt::Interrupt;
use super::model::{ModelArguments, Place, warn_of_stand_in};
use super::output::{Output, seconds};
use crate::text::{Asked, Author, Draw, Progress, TextTurn};

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
    /// Leave out the oldest turns when the conversation becomes too long, instead of ending with an error.
    #[arg(long)]
    drop_oldest: bool,
    #[command(flatten)]
    model: ModelArguments,
}

/// What answers.
enum Partner {
    Here(Box<Author>, Interrupt),
    Daemon(Box<Daemon>, Option<String>),
}

/// A conversation until now.
struct Chat<'a> {
    arguments: &'a Arguments,
    partner: Partner,
    messages: Vec<(&'static str, String)>,
    tools: Value,
    schema: Option<Value>,
}

/// What one reply came to.
struct Said {
    reason: FinishReason,
    /// What is remembered of it, as the model wrote it.
    written: String,
    report: Map<String, Value>,
}

/// Bytes of one conversation that are kept for its next turn.
const PREFIX_CACHE: usize = 64 << 20;

/// Runs the verb.
///
/// # Errors
/// One line about what went wrong.
pub fn run(arguments: Arguments, bus: &BusArguments) -> anyhow::Result<Outcome> {
    let tools = arguments.tools.as_deref().map(json_file).transpose()?.unwrap_or_default();
    let schema = arguments.schema.as_deref().map(json_file).transpose()?;
    let partner = match arguments.model.place()? {
        Place::Here(folder) => {
            let wanted = arguments.model.load.wanted()?;
            let engine = arguments.model.load.engine()?;
            let author = Author::load(&engine.runtime, &folder, wanted, PREFIX_CACHE, engine.interrupt.stop())?;
            warn_of_stand_in(&folder, wanted, author.model.identity().precision);
            Partner::Here(Box::new(author), engine.interrupt)
        }
        Place::Daemon(name) => {
            anyhow::ensure!(!arguments.call, "--call is for a model in this process; give --model DIR");
            Partner::Daemon(Box::new(Daemon::connect(bus)?), name)
        }
    };
    let system = arguments.system.iter().map(|words| ("system", words.clone()));
    let mut chat = Chat { tools, schema, partner, messages: system.collect(), arguments: &arguments };
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
        match chat.turn(&line) {
            Ok(Outcome::Done) => {}
            Ok(Outcome::Interrupted) => return Ok(Outcome::Interrupted),
            // A person asks again, or otherwise, and loses nothing; a script has to know.
            Err(error) if inviting => {
                chat.messages.pop();
                eprintln!("eddy: {error:#}");
            }
            Err(error) => return Err(error),
        }
    }
}

fn json_file(path: &Path) -> anyhow::Result<Value> {
    let text = std::fs::read(path).with_context(|| format!("{}: cannot be read", path.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("{}: not JSON", path.display()))
}

impl Chat<'_> {
    /// Says `words` and prints the reply as it comes.
    fn turn(&mut self, words: &str) -> anyhow::Result<Outcome> {
        self.messages.push(("user", words.to_owned()));
        let mut output = Output::new(self.arguments.model.json);
        let asked = self.asked();
        let said = match &mut self.partner {
            Partner::Here(author, interrupt) => here(author, interrupt, asked, &mut output)?,
            Partner::Daemon(daemon, name) => {
                let options = eddy_ipc::Options {
                    stop: (!self.arguments.stop.is_empty()).then(|| self.arguments.stop.clone()),
                    tools: (!self.tools.is_null()).then(|| self.tools.to_string()),
                    schema: self.schema.as_ref().map(Value::to_string),
                    drop_oldest: self.arguments.drop_oldest.then_some(true),
                    ..self.arguments.model.options(name.clone())
                };
                by_daemon(daemon, &self.messages, options, &mut output)?
            }
        };
        output.finish(said.report)?;
        self.messages.push(("assistant", said.written));
        Ok(if said.reason == FinishReason::Cancelled { Outcome::Interrupted } else { Outcome::Done })
    }

    fn asked(&self) -> Asked {
        let message = |(role, content): &(&str, String)| json!({ "role": role, "content": content });
        let model = &self.arguments.model;
        Asked {
            messages: self.messages.iter().map(message).collect(),
            tools: self.tools.clone(),
            call: self.arguments.call,
            schema: self.schema.clone(),
            drop_oldest: self.arguments.drop_oldest,
            draw: Draw { greedy: model.greedy, ..Draw::default() },
            options: GenerationOptions {
                max_tokens: model.most_items(),
                seed: model.seed.unwrap_or_default(),
                stop: self.arguments.stop.clone(),
                ..GenerationOptions::default()
            },
        }
    }
}

fn here(author: &mut Author, interrupt: &Interrupt, asked: Asked, output: &mut Output) -> anyhow::Result<Said> {
    let mut turn = TextTurn::begin(author, asked)?;
    let mut made = String::new();
    let mut reason = FinishReason::Cancelled;
    while !interrupt.asked() {
        match turn.step(author, &mut made) {
            Err(Error::Stopped) => break,
            Ok(Progress::More) => {}
            Ok(Progress::Complete(why)) => {
                reason = why;
                break;
            }
            Err(error) => return Err(error.into()),
        }
        output.text(&made)?;
        made.clear();
    }
    turn.finish(author, &mut made)?;
    output.text(&made)?;
    let reply = turn.reply(reason);
    let summary = turn.close(Some(author));
    let (reply, reason) = reply?;
    warn_of_dropped(summary.dropped);
    let report = json!({
        "text": reply.text,
        "tool_calls": reply.calls,
        "finish_reason": reason.as_str(),
        "tokens": summary.tokens,
        "prompt_tokens": summary.prompt.0,
        "prompt_tokens_reused": summary.prompt.1,
        "messages_dropped": summary.dropped,
        "timings": { "prefill": seconds(summary.times.0), "decode": seconds(summary.times.1) },
    });
    let Value::Object(report) = report else { return Err(anyhow::anyhow!("a report is an object")) };
    Ok(Said { reason, written: summary.said, report })
}

fn by_daemon(
    daemon: &Daemon,
    messages: &[(&str, String)],
    options: eddy_ipc::Options,
    output: &mut Output,
) -> anyhow::Result<Said> {
    let messages: Vec<(&str, &str)> = messages.iter().map(|(role, content)| (*role, content.as_str())).collect();
    let mut written = String::new();
    let begin = async |connection: &zbus::Connection, options: &eddy_ipc::Options| {
        TextProxy::new(connection).await?.generate(&messages, options).await
    };
    let (_, ended) = daemon.follow(options, begin, |delta| {
        if let Delta::Text(text) = delta {
            output.text(text)?;
            written.push_str(text);
        }
        Ok(())
    })?;
    ended.verdict()?;
    let outcome = &ended.outcome;
    warn_of_dropped(outcome.dropped.unwrap_or_default());
    let calls = outcome.tool_calls.as_deref().map(serde_json::from_str).transpose()?.unwrap_or_else(|| json!([]));
    let reason = outcome.finish_reason.unwrap_or(FinishReason::Stop);
    let report = json!({
        "text": outcome.text,
        "tool_calls": calls,
        "finish_reason": reason.as_str(),
        "tokens": outcome.tokens,
        "prompt_tokens": outcome.prompt_tokens,
        "prompt_tokens_reused": outcome.prompt_tokens_reused,
        "messages_dropped": outcome.dropped.unwrap_or_default(),
        "timings": outcome.latency,
    });
    let Value::Object(mut report) = report else { return Err(anyhow::anyhow!("a report is an object")) };
    mark_remote(outcome.remote.as_deref(), &mut report);
    Ok(Said { reason, written, report })
}

/// Says where an answer was made, and marks its report, if that was not here.
pub fn mark_remote(remote: Option<&str>, report: &mut Map<String, Value>) {
    if let Some(url) = remote {
        eprintln!("eddy: answered by {url}; the question left this machine's daemon");
        report.insert("remote".into(), url.into());
    }
}

fn warn_of_dropped(messages: u32) {
    if messages > 0 {
        eprintln!("eddy: the conversation is too long; its {messages} oldest messages were left out");
    }
}
