//! What a verb prints: text as it comes for people, one JSON object at the end for programs.

use std::io::Write;
use std::time::Duration;

use serde_json::{Map, Value};

use crate::memory;

/// Where a verb's results go.
#[derive(Debug)]
pub struct Output {
    json: bool,
    /// Something has been printed on the current line.
    open_line: bool,
}

impl Output {
    /// Prints text, or JSON at the end.
    #[must_use]
    pub fn new(json: bool) -> Self {
        Self { json, open_line: false }
    }

    /// Text that is settled now.
    ///
    /// # Errors
    /// When standard output is closed.
    pub fn text(&mut self, text: &str) -> std::io::Result<()> {
        if self.json || text.is_empty() {
            return Ok(());
        }
        let mut out = std::io::stdout().lock();
        out.write_all(text.as_bytes())?;
        out.flush()?;
        self.open_line = !text.ends_with('\n');
        Ok(())
    }

    /// A line for a person, which a program does not see.
    ///
    /// # Errors
    /// When standard output is closed.
    pub fn line(&mut self, line: &str) -> std::io::Result<()> {
        self.end_line()?;
        if self.json { Ok(()) } else { writeln!(std::io::stdout().lock(), "{line}") }
    }

    /// Ends the output; `fields` is the whole of it in JSON.
    ///
    /// # Errors
    /// When standard output is closed.
    pub fn finish(mut self, fields: Map<String, Value>) -> std::io::Result<()> {
        self.end_line()?;
        match self.json {
            true => writeln!(std::io::stdout().lock(), "{}", Value::Object(fields)),
            false => Ok(()),
        }
    }

    fn end_line(&mut self) -> std::io::Result<()> {
        if std::mem::take(&mut self.open_line) { writeln!(std::io::stdout().lock()) } else { Ok(()) }
    }
}

/// Seconds as JSON.
pub fn seconds(duration: Duration) -> Value {
    figure(duration.as_secs_f64())
}

/// A figure of a report.
pub fn figure(value: f64) -> Value {
    // Microseconds are finer than any clock here; more digits would be noise.
    Value::from((value * 1e6).round() / 1e6)
}

/// The largest resident size that the process has had, in MiB.
pub fn peak_rss_mib() -> Option<f64> {
    memory::peak().map(in_mib)
}

/// Bytes as MiB for reports, to a tenth.
pub fn in_mib(bytes: u64) -> f64 {
    (bytes as f64 / f64::from(1 << 20) * 10.0).round() / 10.0
}
