//! One target's run: the corpus first, then what becomes of it.

use std::collections::HashSet;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context;

use crate::limits::{Watch, measured};
use crate::mutate::Mutator;
use crate::targets::{Name, Target};

/// Inputs that are kept because they led to something new.
const MOST_KEPT: usize = 2048;
/// Kinds of answers that are told apart.
const MOST_KINDS: usize = 1 << 16;
/// Bytes of an input.
const LONGEST: usize = 64 << 10;

/// What a worker is to do.
#[derive(Debug)]
pub struct Work<'a> {
    pub target: Name,
    pub time: Duration,
    pub seed: u64,
    /// Where the input that runs is written to.
    pub current: &'a Path,
    /// Inputs to run once; without them, inputs are made.
    pub files: &'a [PathBuf],
}

/// Runs inputs until the time is over. What is a finding ends the process.
pub fn run(work: &Work<'_>) -> anyhow::Result<()> {
    let mut target = work.target.open()?;
    let mut runner = Runner {
        current: File::create(work.current).with_context(|| work.current.display().to_string())?,
        watch: Watch::start()?,
        count: 0,
        seen: HashSet::new(),
    };
    if !work.files.is_empty() {
        for file in work.files {
            let input = std::fs::read(file).with_context(|| file.display().to_string())?;
            println!("{}: {}", file.display(), runner.run(target.as_mut(), &input)?.0);
        }
        return Ok(());
    }

    let mut pool = corpus(work.target, target.as_ref())?;
    for input in &pool {
        runner.run(target.as_mut(), input)?;
    }
    let mut mutator = Mutator::new(work.seed, target.dictionary());
    let (given, end) = (pool.len(), Instant::now() + work.time);
    while Instant::now() < end {
        let mut input = mutator.next(&pool);
        input.truncate(LONGEST);
        target.mend(&mut input);
        if runner.run(target.as_mut(), &input)?.1 && pool.len() < MOST_KEPT {
            pool.push(input);
        }
    }
    println!(
        "{}: {} inputs, {} answers of different kinds, from {given} files of the corpus",
        work.target,
        runner.count,
        runner.seen.len()
    );
    Ok(())
}

/// The files in the target's folder, and what the target adds to them.
fn corpus(name: Name, target: &dyn Target) -> anyhow::Result<Vec<Vec<u8>>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name.as_str());
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
        paths.push(entry?.path());
    }
    paths.sort();
    let mut inputs = target.seeds()?;
    for path in paths {
        inputs.push(std::fs::read(&path).with_context(|| path.display().to_string())?);
    }
    Ok(inputs)
}

struct Runner {
    current: File,
    watch: Watch,
    count: u64,
    seen: HashSet<String>,
}

impl Runner {
    /// Runs one input: what it led to, and whether that is new.
    fn run(&mut self, target: &mut dyn Target, input: &[u8]) -> anyhow::Result<(String, bool)> {
        self.current.set_len(0)?;
        self.current.write_all_at(input, 0)?;
        self.count += 1;
        self.watch.begin(self.count);
        // A panic ends the process: its message is on standard error, and the input is written down.
        let (answer, bytes) = measured(|| target.run(input));
        self.watch.end();
        if bytes > target.most_memory() {
            eprintln!("an input made the target ask for {bytes} bytes; it may take {}", target.most_memory());
            std::process::exit(4);
        }
        let new = self.seen.len() < MOST_KINDS && self.seen.insert(kind(&answer));
        Ok((answer, new))
    }
}

/// An answer without what differs from input to input: numbers, what stands in quotes, and letters of names.
fn kind(answer: &str) -> String {
    let (mut quoted, mut escaped) = (false, false);
    let mut kind = String::new();
    for character in answer.chars().take(1000) {
        match character {
            _ if std::mem::take(&mut escaped) => {}
            '\\' => escaped = true,
            '"' | '`' => quoted = !quoted,
            _ if quoted || !(character.is_ascii_lowercase() || character == ' ') => {}
            _ => kind.push(character),
        }
    }
    kind.truncate(80);
    kind
}
