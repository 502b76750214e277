//! The command line: verbs, their options, and how they end.
//!
//! Exit status 0 done, 1 failed, 2 bad usage, 130 interrupted. An error is one line on standard error.

mod access;
mod bench;
mod chat;
mod config;
mod control;
mod converse;
mod daemon;
mod demo;
mod doctor;
mod dump;
mod embed;
mod encoding;
mod images;
mod index;
mod interrupt;
mod look;
mod model;
mod models;
mod output;
mod pages;
mod private;
mod probe;
mod say;
mod speaking;
mod talk;
mod transcribe;
mod tune;
mod wake;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Eddy, a voice assistant that runs on this machine and nowhere else.
#[derive(Debug, Parser)]
#[command(name = "eddy", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
    #[command(flatten)]
    bus: daemon::BusArguments,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Talk with Eddy: a live conversation at this terminal.
    Talk(talk::Arguments),
    /// Answer a recorded question in speech.
    Converse(converse::Arguments),
    /// Write down what a recording says.
    Transcribe(transcribe::Arguments),
    /// Read a text aloud, through the speaker or into a file.
    Say(say::Arguments),
    /// Type to a model, and read what it answers.
    Chat(chat::Arguments),
    /// Ask about images.
    Look(look::Arguments),
    /// Ask recorded questions and show what comes of them.
    Demo(demo::Arguments),
    /// Search files by meaning.
    Index(index::Arguments),
    /// Turn texts into the vectors that search compares.
    Embed(embed::Arguments),
    /// Show what the daemon is doing.
    Status(control::Arguments),
    /// Close the microphone.
    Mute(control::Arguments),
    /// Teach Eddy the phrase that you call it by, try it on a recording, or have it forgotten.
    Wake(wake::Arguments),
    /// Let the microphone be opened again.
    Unmute(control::Arguments),
    /// End the reply that is being made or spoken.
    Interrupt(control::Arguments),
    /// See, load and unload the daemon's models.
    Models(models::Arguments),
    /// See and change which application may do what.
    Access(access::Arguments),
    /// See, check and change the configuration.
    Config(config::Arguments),
    /// Look what this machine has for Eddy, and what it lacks.
    Doctor(doctor::Arguments),
    /// Measure what this machine can do with models, and recommend one with its settings.
    Tune(tune::Arguments),
    /// Print completions for a shell.
    Completions(pages::Completions),
    /// Write the manual pages into a folder.
    Man(pages::Man),
    /// Check a model folder against its claims with one deterministic pass.
    Probe(probe::Arguments),
    /// Measure what a model costs on this machine.
    Bench(bench::Arguments),
}

/// How a verb ended, when it did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Done,
    Interrupted,
}

/// Runs the verb that the arguments name.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    let bus = &cli.bus;
    let outcome = match cli.verb {
        Verb::Talk(arguments) => talk::run(arguments, bus),
        Verb::Converse(arguments) => converse::run(arguments, bus),
        Verb::Transcribe(arguments) => transcribe::run(arguments, bus),
        Verb::Say(arguments) => say::run(arguments, bus),
        Verb::Chat(arguments) => chat::run(arguments, bus),
        Verb::Look(arguments) => look::run(arguments, bus),
        Verb::Demo(arguments) => demo::run(arguments),
        Verb::Index(arguments) => index::run(arguments, bus),
        Verb::Embed(arguments) => embed::run(arguments, bus),
        Verb::Status(arguments) => control::status(arguments, bus),
        Verb::Mute(arguments) => control::mute(true, arguments.json, bus),
        Verb::Wake(arguments) => wake::run(arguments, bus),
        Verb::Unmute(arguments) => control::mute(false, arguments.json, bus),
        Verb::Interrupt(arguments) => control::interrupt(arguments.json, bus),
        Verb::Models(arguments) => models::run(arguments, bus),
        Verb::Access(arguments) => access::run(arguments, bus),
        Verb::Config(arguments) => config::run(arguments),
        Verb::Doctor(arguments) => doctor::run(arguments, bus),
        Verb::Tune(arguments) => tune::run(&arguments),
        Verb::Completions(arguments) => pages::completions(&arguments),
        Verb::Man(arguments) => pages::man(&arguments),
        Verb::Probe(arguments) => probe::run(arguments),
        Verb::Bench(arguments) => bench::run(arguments),
    };
    match outcome {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::Interrupted) => interrupted(),
        // A graph that was stopped while there was nothing to finish yet.
        Err(error) if matches!(error.downcast_ref(), Some(eddy_models::Error::Stopped)) => interrupted(),
        // The reader of a pipe that has seen enough is no failure.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("eddy: {}", told_once(&error));
            ExitCode::FAILURE
        }
    }
}

/// Whether `words` (with `eddy` in front) is a command line that is understood; for checking documents.
///
/// # Errors
/// What is wrong with it.
pub fn check_usage(words: &[String]) -> Result<(), String> {
    Cli::try_parse_from(words).map(|_| ()).map_err(|error| error.to_string())
}

/// The error and its causes in one line, without causes that the sentence before has told already.
fn told_once(error: &anyhow::Error) -> String {
    let mut line = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if !line.contains(&cause) {
            line += if line.is_empty() { "" } else { ": " };
            line += &cause;
        }
    }
    line
}

fn interrupted() -> ExitCode {
    eprintln!("eddy: interrupted");
    ExitCode::from(130)
}

fn usage(error: &clap::Error) -> ExitCode {
    // Help and version are answers, not errors; clap knows where each belongs.
    let _ = error.print();
    ExitCode::from(if error.use_stderr() { 2 } else { 0 })
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<std::io::Error>())
        .any(|cause| cause.kind() == std::io::ErrorKind::BrokenPipe)
}
