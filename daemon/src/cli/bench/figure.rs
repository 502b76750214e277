//! Figures: medians with their range, told as they come and kept for the report.

use std::io::Write;
use std::time::Instant;

use serde_json::{Map, Value, json};

use crate::cli::output::{in_mib, peak_rss_mib};
use crate::memory;

/// Wall and processor time from a moment on.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    begun: Instant,
    processor: f64,
}

impl Clock {
    /// From now on.
    #[must_use]
    pub fn start() -> Self {
        Self { begun: Instant::now(), processor: processor_seconds() }
    }

    /// Seconds until now.
    #[must_use]
    pub fn seconds(&self) -> f64 {
        self.begun.elapsed().as_secs_f64()
    }

    /// Seconds of all threads together until now, in steps of ten milliseconds.
    #[must_use]
    pub fn processor(&self) -> f64 {
        processor_seconds() - self.processor
    }
}

/// User and system time of this process.
fn processor_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    // Fields 14 and 15 of proc_pid_stat(5), in hundredths of a second on every Linux; the name in brackets is the second.
    fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / 100.0
}

/// The runs of one measurement.
#[derive(Debug, Clone, Default)]
pub struct Sample {
    values: Vec<f64>,
    /// How many cores it got: processor time over wall time. Less than it has threads means that others had them.
    cores: Option<f64>,
}

impl Sample {
    /// Measures `runs` times.
    ///
    /// # Errors
    /// Those of the measurement.
    pub fn take(runs: usize, mut one: impl FnMut() -> anyhow::Result<f64>) -> anyhow::Result<Self> {
        let clock = Clock::start();
        let values = (0..runs.max(1)).map(|_| one()).collect::<anyhow::Result<Vec<_>>>()?;
        Ok(Self { cores: Some(clock.processor() / clock.seconds()), ..Self::of(values) })
    }

    /// Of values that are there.
    #[must_use]
    pub fn of(mut values: Vec<f64>) -> Self {
        values.sort_unstable_by(f64::total_cmp);
        Self { values, cores: None }
    }

    /// The middle one.
    #[must_use]
    pub fn median(&self) -> f64 {
        let middle = self.values.len() / 2;
        match (self.values.len() % 2, self.values.get(middle)) {
            (_, None) => f64::NAN,
            (0, Some(upper)) => f64::midpoint(self.values[middle - 1], *upper),
            (_, Some(value)) => *value,
        }
    }

    /// Every value turned, as from seconds to a rate.
    #[must_use]
    pub fn map(&self, turn: impl Fn(f64) -> f64) -> Self {
        Self { cores: self.cores, ..Self::of(self.values.iter().map(|value| turn(*value)).collect()) }
    }

    /// Median, range and number of runs.
    #[must_use]
    pub fn json(&self) -> Value {
        let value = |value: f64| (value * 1e4).round() / 1e4;
        json!({
            "median": value(self.median()),
            "low": value(self.values.first().copied().unwrap_or(f64::NAN)),
            "high": value(self.values.last().copied().unwrap_or(f64::NAN)),
            "runs": self.values.len(),
            "cores": self.cores.map(|cores| (cores * 100.0).round() / 100.0),
        })
    }

    fn text(&self) -> String {
        let digits = if self.median() < 10.0 { 3 } else { 1 };
        let [low, high] = [self.values.first(), self.values.last()].map(|value| value.copied().unwrap_or(f64::NAN));
        let cores = self.cores.map_or(String::new(), |cores| format!(" on {cores:.2} cores"));
        format!("{:.digits$} ({low:.digits$} to {high:.digits$}){cores}", self.median())
    }
}

/// The figures of a report.
#[derive(Debug)]
pub struct Figures {
    quiet: bool,
    fields: Map<String, Value>,
    loaded_mib: Option<f64>,
    load_peak_mib: Option<f64>,
}

impl Figures {
    /// Figures that a person sees as they come, unless `quiet`.
    #[must_use]
    pub fn new(quiet: bool) -> Self {
        Self { quiet, fields: Map::new(), loaded_mib: None, load_peak_mib: None }
    }

    /// A line above figures.
    ///
    /// # Errors
    /// When standard output is closed.
    pub fn heading(&mut self, line: &str) -> std::io::Result<()> {
        if self.quiet { Ok(()) } else { writeln!(std::io::stdout().lock(), "{line}") }
    }

    /// Adds to the list `name` a sample in `unit`, under what tells it from the others of the list, with its share of a
    /// ceiling where there is one.
    ///
    /// # Errors
    /// When standard output is closed.
    pub fn add(
        &mut self,
        name: &str,
        (key, at): (&str, Value),
        sample: &Sample,
        unit: &str,
        share: Option<f64>,
    ) -> std::io::Result<()> {
        let of = share.map_or(String::new(), |share| format!(", {:.0} % of the ceiling", 100.0 * share));
        let shown = at.as_str().map_or_else(|| at.to_string(), str::to_owned);
        self.heading(&format!("  {name:<14} {key} {shown:<16} {} {unit}{of}", sample.text()))?;
        let mut entry = Map::new();
        entry.insert(key.into(), at);
        entry.insert(unit.replace(['/', ' '], "_"), sample.json());
        if let Some(share) = share {
            entry.insert("share_of_ceiling".into(), ((share * 1e3).round() / 1e3).into());
        }
        if let Value::Array(list) = self.fields.entry(name).or_insert_with(|| Value::Array(Vec::new())) {
            list.push(Value::Object(entry));
        }
        Ok(())
    }

    /// A value of its own.
    pub fn set(&mut self, name: &str, value: Value) {
        self.fields.insert(name.into(), value);
    }

    /// Notes how long loading took and what is resident after it.
    ///
    /// # Errors
    /// When standard output is closed.
    pub fn loaded(&mut self, seconds: f64) -> std::io::Result<()> {
        self.loaded_mib = memory::anonymous().map(in_mib);
        self.load_peak_mib = peak_rss_mib();
        self.heading(&format!("  {:<14} {seconds:.2} s", "load"))?;
        self.set("load_s", ((seconds * 1e3).round() / 1e3).into());
        Ok(())
    }

    /// What the model occupied; `files` is what it maps.
    ///
    /// # Errors
    /// When standard output is closed.
    pub fn memory(&mut self, files: u64) -> std::io::Result<()> {
        let files = files as f64 / f64::from(1 << 20);
        let peak = peak_rss_mib().unwrap_or(f64::NAN);
        self.heading(&format!(
            "  {:<14} peak {peak:.0} MiB for {files:.0} MiB of files ({:.2} times)",
            "memory",
            peak / files
        ))?;
        self.set(
            "memory",
            json!({
                "files_mib": files.round(),
                "peak_mib": peak,
                "peak_of_load_mib": self.load_peak_mib,
                "peak_over_files": (peak / files * 1e3).round() / 1e3,
                "anonymous_after_load_mib": self.loaded_mib,
                "anonymous_mib": memory::anonymous().map(in_mib),
                "resident_mib": memory::resident().map(in_mib),
            }),
        );
        Ok(())
    }

    /// All of them.
    #[must_use]
    pub fn into_json(self) -> Map<String, Value> {
        self.fields
    }
}
