//! The long proofs of the live voice: each part runs for as long as it is told, says what it measured, and whether that
//! is what was promised.
//!
//! [`echo`], [`turns`] and [`wake`] run faster than time, over the same canceller, detectors and judge as the live loop, in rooms
//! made by arithmetic. The others run in real time, between a virtual microphone and a virtual loudspeaker.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

pub mod beside;
pub mod devices;
pub mod ears;
pub mod echo;
pub mod hour;
pub mod interruptions;
pub mod turns;
pub mod wake;

/// What a part found: lines as they came, and whether everything was as promised.
#[derive(Debug)]
pub struct Report {
    part: String,
    text: String,
    kept: bool,
}

impl Report {
    /// Nothing yet.
    #[must_use]
    pub fn new(part: &str) -> Self {
        Self { part: part.to_owned(), text: String::new(), kept: true }
    }

    /// A line, shown at once and kept.
    pub fn line(&mut self, line: &str) {
        println!("{line}");
        self.text.push_str(line);
        self.text.push('\n');
    }

    /// A promise, and whether it was kept.
    pub fn promise(&mut self, what: &str, found: &str, kept: bool) {
        let verdict = if kept { "kept" } else { "NOT KEPT" };
        self.line(&format!("{verdict}: {what}: {found}"));
        self.kept &= kept;
    }

    /// Writes everything into a file of `folder`, with when, how and where it was measured; whether all promises were kept.
    #[must_use]
    pub fn write(self, folder: &Path) -> bool {
        let now = jiff::Zoned::now();
        let command: Vec<String> = std::env::args().skip(1).collect();
        let processor = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = processor.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let build = if cfg!(debug_assertions) { "debug" } else { "release" };
        let mut text = String::new();
        writeln!(text, "date: {}", now.strftime("%Y-%m-%d %H:%M")).unwrap();
        writeln!(text, "command: soak {} ({build} build)", command.join(" ")).unwrap();
        writeln!(text, "machine: {cores} x{}; load at the end: {}", model.replace(':', ""), load.trim()).unwrap();
        text.push_str(&self.text);
        std::fs::create_dir_all(folder).unwrap();
        let file = folder.join(format!("{}-{}.txt", now.strftime("%Y-%m-%d-%H%M"), self.part));
        std::fs::write(&file, text).unwrap();
        println!("written: {}", file.display());
        self.kept
    }
}

/// The value that `part` of all are at or below.
#[must_use]
pub fn quantile(values: &[f64], part: f64) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    let at = ((values.len() as f64 * part).ceil() as usize).clamp(1, values.len().max(1)) - 1;
    values.get(at).copied().unwrap_or(f64::NAN)
}

/// Median, 95th percentile and largest, in milliseconds.
#[must_use]
pub fn spread(seconds: &[f64]) -> String {
    let at = |part| quantile(seconds, part) * 1e3;
    format!("{} times: median {:.0} ms, 95 % {:.0} ms, most {:.0} ms", seconds.len(), at(0.5), at(0.95), at(1.0))
}

/// Minutes as a duration.
#[must_use]
pub fn minutes(minutes: f64) -> Duration {
    Duration::from_secs_f64(60.0 * minutes)
}
