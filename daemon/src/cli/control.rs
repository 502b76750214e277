//! `eddy status`, `mute`, `unmute` and `interrupt`: what the daemon is doing, and how to make it stop.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use eddy_ipc::client::{AssistantProxy, DaemonProxy};
use serde_json::{Map, Value, json};
use zbus::OwnedVariant;

use super::Outcome;
use super::daemon::{BusArguments, Daemon};
use super::models::{listed, mib};
use super::output::Output;
use crate::card;
use crate::voice::{Account, Foresight};

/// Mutes the microphone, or takes this person's wish back.
///
/// # Errors
/// One line about what went wrong.
pub fn mute(muted: bool, json: bool, bus: &BusArguments) -> anyhow::Result<Outcome> {
    let daemon = Daemon::connect(bus)?;
    let muted = daemon.call(async |connection| -> eddy_ipc::Result<bool> {
        let assistant = AssistantProxy::new(connection).await?;
        assistant.set_muted(muted).await?;
        Ok(assistant.muted().await?)
    })?;
    let mut output = Output::new(json);
    output.line(if muted { "muted" } else { "not muted" })?;
    output.finish(Map::from_iter([("muted".to_owned(), muted.into())]))?;
    Ok(Outcome::Done)
}

/// Ends the reply that is being made or spoken.
///
/// # Errors
/// One line about what went wrong.
pub fn interrupt(json: bool, bus: &BusArguments) -> anyhow::Result<Outcome> {
    Daemon::connect(bus)?.call(async |connection| AssistantProxy::new(connection).await?.interrupt().await)?;
    Output::new(json).finish(Map::new())?;
    Ok(Outcome::Done)
}

/// Arguments of `eddy status`, `mute`, `unmute` and `interrupt`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
}

/// What the assistant says of itself.
struct Voice {
    version: String,
    state: String,
    reason: String,
    muted: bool,
    microphone: bool,
    speaker: bool,
}

/// Shows what the daemon is doing.
///
/// # Errors
/// One line about what went wrong.
pub fn status(arguments: Arguments, bus: &BusArguments) -> anyhow::Result<Outcome> {
    let daemon = Daemon::connect(bus)?;
    let voice = daemon.call(async |connection| -> eddy_ipc::Result<Voice> {
        let assistant = AssistantProxy::new(connection).await?;
        Ok(Voice {
            version: assistant.version().await?,
            state: assistant.state().await?,
            reason: assistant.state_reason().await?,
            muted: assistant.muted().await?,
            microphone: assistant.microphone_in_use().await?,
            speaker: assistant.speaker_in_use().await?,
        })
    })?;
    let models = listed(&daemon)?;
    // Whoever may not manage the daemon still sees the rest.
    let report = daemon.call(async |connection| DaemonProxy::new(connection).await?.report().await).ok();

    let mut output = Output::new(arguments.json);
    output.line(&format!("eddyd     {}", voice.version))?;
    let reason = if voice.reason.is_empty() { String::new() } else { format!(": {}", voice.reason) };
    output.line(&format!("voice     {}{reason}", voice.state))?;
    let microphone = match (voice.muted, voice.microphone) {
        (true, _) => "muted",
        (false, true) => "open",
        (false, false) => "closed",
    };
    output.line(&format!(
        "sound     microphone {microphone}, speaker {}",
        if voice.speaker { "in use" } else { "silent" }
    ))?;
    for model in &models {
        output.line(&format!(
            "model     {} ({}, {}, {}): {}",
            model.name,
            model.family,
            model.precision,
            mib(model.bytes),
            model.state
        ))?;
        if let Some(limits) = card::limits(Path::new(&model.path)) {
            output.line(&format!("          {limits}"))?;
        }
    }
    if let Some(report) = &report {
        let number =
            |name: &str| report.get(name).and_then(|value| u64::try_from(value.clone()).ok()).unwrap_or_default();
        output.line(&format!(
            "requests  {} done, {} failed, {} cancelled, {} waiting; {} callers; {} of models in memory",
            number("done"),
            number("failed"),
            number("cancelled"),
            number("queue"),
            number("callers"),
            mib(number("loaded_bytes")),
        ))?;
        if let Some(echo) = echo(report) {
            output.line(&format!("echo      {echo}"))?;
        }
        if let Some(pace) = pace(report) {
            output.line(&format!("speech    {pace}"))?;
        }
        if let Some(foresight) = foresight(report).and_then(|foresight| foresight.sentence()) {
            output.line(&format!("ahead     {foresight}"))?;
        }
    }
    let models = models.iter().map(
        |model| json!({ "name": model.name, "state": model.state, "bytes": model.bytes, "limits": card::limits(Path::new(&model.path)) }),
    );
    let fields = json!({
        "version": voice.version, "state": voice.state, "reason": voice.reason, "muted": voice.muted,
        "microphone_in_use": voice.microphone, "speaker_in_use": voice.speaker,
        "models": models.collect::<Value>(), "report": report.map(numbers),
    });
    let Value::Object(fields) = fields else { return Ok(Outcome::Done) };
    output.finish(fields)?;
    Ok(Outcome::Done)
}

/// How the last answer kept up with its sound, if there was one.
fn pace(report: &HashMap<String, OwnedVariant>) -> Option<String> {
    let real = |name: &str| report.get(name).and_then(|value| f64::try_from(value.clone()).ok());
    let whole = |name: &str| report.get(name).and_then(|value| u64::try_from(value.clone()).ok());
    let factor = real("speech_rtf")?;
    let account = Account {
        factor: Some(factor),
        held_back: Duration::try_from_secs_f64(real("speech_held_back")?).ok()?,
        ran_dry: u32::try_from(whole("speech_ran_dry")?).ok()?,
        written: report.get("speech_written").is_some_and(|value| bool::try_from(value.clone()).unwrap_or(false)),
    };
    let what = if account.written { "the last answer was " } else { "" };
    let keeps_up = || format!("takes {factor:.2} times its length, so it keeps up");
    Some(account.remark().map_or_else(keeps_up, |remark| format!("{what}{remark}")))
}

/// How answers turned out that were begun before the turn was over.
fn foresight(report: &HashMap<String, OwnedVariant>) -> Option<Foresight> {
    let whole = |name: &str| u64::try_from(report.get(name)?.clone()).ok();
    let saved = f64::try_from(report.get("answers_ahead_saved")?.clone()).ok()?;
    Some(Foresight {
        begun: whole("answers_begun_ahead")?,
        right: whole("answers_ahead_wanted")?,
        saved: Duration::try_from_secs_f64(saved).ok()?,
    })
}

/// How well the loudspeaker is taken out of what the microphone hears, once that is known.
fn echo(report: &HashMap<String, OwnedVariant>) -> Option<String> {
    let number = |name: &str| report.get(name).and_then(|value| f64::try_from(value.clone()).ok());
    let decibels = number("echo_return_loss_db")?;
    let late = number("echo_delay").map(|delay| format!(", {:.0} ms late", delay * 1e3)).unwrap_or_default();
    let stays = report.get("half_duplex").is_some_and(|value| bool::try_from(value.clone()).unwrap_or(false));
    let what = if stays { "; that is too little, so Eddy does not listen while it speaks" } else { "" };
    Some(format!("taken out by {decibels:.0} dB{late}{what}"))
}

fn numbers(report: HashMap<String, OwnedVariant>) -> Map<String, Value> {
    let number = |value: OwnedVariant| -> Option<Value> {
        let whole = u64::try_from(value.clone()).map(Value::from);
        let real = || f64::try_from(value.clone()).map(Value::from);
        whole.or_else(|_| real()).or_else(|_| bool::try_from(value.clone()).map(Value::from)).ok()
    };
    let mut fields: Vec<(String, Value)> =
        report.into_iter().filter_map(|(name, value)| Some((name, number(value)?))).collect();
    fields.sort_by(|one, other| one.0.cmp(&other.0));
    fields.into_iter().collect()
}
