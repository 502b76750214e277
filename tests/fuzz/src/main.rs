//! `eddy-fuzz`: hostile input for what reads input, on a stable compiler.
//!
//! Inputs come from a corpus and from changes of what is in it; what leads to an answer that was not seen before joins the
//! pool. A panic, a crash, more than two seconds of computing, and more memory than a target may take are findings. Every
//! target runs in a process of its own, and every input is written down before it is run, so that nothing that ends the
//! process is lost.

mod limits;
mod mutate;
mod targets;
mod worker;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::Context;
use clap::Parser;

use targets::Name;
use worker::Work;

#[global_allocator]
static COUNTING: limits::Counting = limits::Counting;

/// Runs hostile input against what reads it.
#[derive(Debug, Parser)]
#[command(name = "eddy-fuzz")]
struct Arguments {
    /// Inputs to run once, instead of making some; needs --target.
    #[arg(value_name = "FILE", requires = "target")]
    files: Vec<PathBuf>,
    /// What to run; all of them without it.
    #[arg(long, value_enum)]
    target: Option<Name>,
    /// Seconds for each target.
    #[arg(long, value_name = "N", default_value_t = 60)]
    seconds: u64,
    /// Where chance starts; another one each time without it.
    #[arg(long)]
    seed: Option<u64>,
    /// Folder for inputs that were findings.
    #[arg(long, value_name = "DIR", default_value = "target/fuzz")]
    findings: PathBuf,
    /// Run in this process, and write every input to this file before it is run.
    #[arg(long, value_name = "FILE", hide = true)]
    worker: Option<PathBuf>,
}

fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    let seed = arguments.seed.unwrap_or_else(|| fastrand::u64(..));
    if let (Some(current), Some(target)) = (&arguments.worker, arguments.target) {
        let time = Duration::from_secs(arguments.seconds);
        worker::run(&Work { target, time, seed, current, files: &arguments.files })?;
        return Ok(ExitCode::SUCCESS);
    }
    let targets = arguments.target.map_or_else(|| Name::ALL.to_vec(), |target| vec![target]);
    // All at once: a target is one process that computes, and a machine has several cores.
    let clean = std::thread::scope(|scope| {
        let arguments = &arguments;
        let running: Vec<_> =
            targets.into_iter().map(|target| scope.spawn(move || supervise(arguments, target, seed))).collect();
        running.into_iter().try_fold(true, |clean, target| {
            let found = target.join().map_err(|_| anyhow::anyhow!("a supervisor panicked"))?;
            anyhow::Ok(clean & found?)
        })
    })?;
    Ok(if clean { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs one target in a process of its own; whether it found nothing.
fn supervise(arguments: &Arguments, target: Name, seed: u64) -> anyhow::Result<bool> {
    let scratch = tempfile::tempdir()?;
    let current = scratch.path().join("input");
    let status = Command::new(std::env::current_exe()?)
        .args(["--target", target.as_str(), "--seconds", &arguments.seconds.to_string(), "--seed", &seed.to_string()])
        .arg("--worker")
        .arg(&current)
        .args(&arguments.files)
        .status()
        .context("the worker cannot be run")?;
    if status.success() {
        return Ok(true);
    }
    let kept = keep(&current, &arguments.findings, target)?;
    eprintln!(
        "{target}: FINDING ({status}, seed {seed})\n  run it again: eddy-fuzz --target {target} {}\n  once it is mended, \
         it belongs in tests/fuzz/corpus/{target}/",
        kept.display()
    );
    Ok(false)
}

fn keep(current: &Path, findings: &Path, target: Name) -> anyhow::Result<PathBuf> {
    std::fs::create_dir_all(findings).with_context(|| findings.display().to_string())?;
    let input = std::fs::read(current).context("the worker ended before its first input")?;
    // FNV-1a: a name that is the same for the same input.
    let digest = input
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |digest, byte| (digest ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3));
    let kept = findings.join(format!("{target}-{digest:016x}"));
    std::fs::write(&kept, input).with_context(|| kept.display().to_string())?;
    Ok(kept)
}
