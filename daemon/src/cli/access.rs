//! `eddy access`: which application may do what.

use eddy_ipc::client::AccessProxy;
use serde_json::{Map, Value, json};

use super::Outcome;
use super::daemon::{BusArguments, Daemon};
use super::output::Output;

/// Arguments of the verb.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Show every rule, recorded or configured.
    List {
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Let an application do something.
    Grant {
        #[command(flatten)]
        rule: Rule,
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Forbid an application something, with --forget take a recorded rule back.
    Revoke {
        #[command(flatten)]
        rule: Rule,
        /// Take the recorded rule back instead, so that the configuration decides again.
        #[arg(long)]
        forget: bool,
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, clap::Args)]
struct Rule {
    /// *, the path of an executable, a unit (notes.service), or a sandboxed application (org.example.Notes), or another user
    /// (user:alice).
    application: String,
    /// listen, converse, speak, see, read-index or manage.
    capability: String,
}

/// Runs the verb.
///
/// # Errors
/// One line about what went wrong.
pub fn run(arguments: Arguments, bus: &BusArguments) -> anyhow::Result<Outcome> {
    let daemon = Daemon::connect(bus)?;
    match arguments.action {
        Action::List { json } => list(&daemon, json)?,
        Action::Grant { rule, json } => set(&daemon, &rule, "allow", json)?,
        Action::Revoke { rule, forget: false, json } => set(&daemon, &rule, "deny", json)?,
        Action::Revoke { rule, forget: true, json } => forget(&daemon, &rule, json)?,
    }
    Ok(Outcome::Done)
}

fn set(daemon: &Daemon, rule: &Rule, decision: &str, json: bool) -> anyhow::Result<()> {
    let Rule { application, capability } = rule;
    let options = eddy_ipc::Options::default();
    daemon.call(async |connection| {
        let access = AccessProxy::new(connection).await?;
        access.set_rule(application, capability, decision, &options).await
    })?;
    let may = if decision == "allow" { "may" } else { "may not" };
    tell(rule, decision, &format!("{application} {may} {capability}"), json)
}

fn forget(daemon: &Daemon, rule: &Rule, json: bool) -> anyhow::Result<()> {
    let Rule { application, capability } = rule;
    daemon.call(async |connection| AccessProxy::new(connection).await?.remove_rule(application, capability).await)?;
    tell(rule, "configured", &format!("the configuration decides whether {application} may {capability}"), json)
}

fn tell(rule: &Rule, decision: &str, line: &str, json: bool) -> anyhow::Result<()> {
    let mut output = Output::new(json);
    output.line(line)?;
    let fields = [("application", rule.application.as_str()), ("capability", &rule.capability), ("decision", decision)];
    Ok(output.finish(fields.map(|(key, value)| (key.to_owned(), Value::from(value))).into_iter().collect())?)
}

fn list(daemon: &Daemon, json: bool) -> anyhow::Result<()> {
    let rules = daemon.call(async |connection| AccessProxy::new(connection).await?.rules().await)?;
    let mut output = Output::new(json);
    let widest = rules.iter().map(|(application, ..)| application.chars().count()).max().unwrap_or_default();
    for (application, capability, decision, source) in &rules {
        output.line(&format!("{application:widest$}  {capability:10}  {decision:5}  {source}"))?;
    }
    let fields = rules.iter().map(|(application, capability, decision, source)| {
        json!({ "application": application, "capability": capability, "decision": decision, "source": source })
    });
    Ok(output.finish(Map::from_iter([("rules".to_owned(), fields.collect::<Value>())]))?)
}
