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
    Grant(Rule),
    /// Forbid an application something, with --forget take a recorded rule back.
    Revoke {
        #[command(flatten)]
        rule: Rule,
        /// Take the recorded rule back instead, so that the configuration decides again.
        #[arg(long)]
        forget: bool,
    },
}

#[derive(Debug, clap::Args)]
struct Rule {
    /// *, the path of an executable, a unit (notes.service), or a sandboxed application (org.example.Notes).
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
        Action::Grant(rule) => set(&daemon, &rule, "allow")?,
        Action::Revoke { rule, forget: false } => set(&daemon, &rule, "deny")?,
        Action::Revoke { rule, forget: true } => daemon.call(async |connection| {
            AccessProxy::new(connection).await?.remove_rule(&rule.application, &rule.capability).await
        })?,
    }
    Ok(Outcome::Done)
}

fn set(daemon: &Daemon, rule: &Rule, decision: &str) -> anyhow::Result<()> {
    let options = eddy_ipc::Options::default();
    daemon.call(async |connection| {
        let access = AccessProxy::new(connection).await?;
        access.set_rule(&rule.application, &rule.capability, decision, &options).await
    })
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
