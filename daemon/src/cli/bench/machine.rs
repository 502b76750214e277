//! The machine: what it is, and what it can do at best.

use std::fs::read_to_string;

use eddy_models::Runtime;
use eddy_models::ceiling::{Product, Work, bandwidth};
use serde_json::{Value, json};

use super::figure::Sample;
use crate::cli::model::Engine;

/// Cores that this process may use.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// The processor's name.
pub fn processor() -> String {
    let text = read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = |key| text.lines().find_map(|line| line.strip_prefix(key)?.split_once(':')).map(|(_, name)| name.trim());
    name("model name").or(name("Hardware")).unwrap_or("unknown processor").to_owned()
}

/// What the report says of the machine; nothing that names it.
pub fn describe(threads: usize) -> Value {
    let memory = crate::memory::total().map(|bytes| (bytes as f64 / f64::from(1 << 30)).round());
    let load = read_to_string("/proc/loadavg").ok().and_then(|text| text.split(' ').next()?.parse::<f64>().ok());
    json!({
        "processor": processor(), "cores": cores(), "threads": threads, "memory_gib": memory, "load_at_start": load,
        "architecture": std::env::consts::ARCH,
    })
}

/// The programs that were measured.
pub fn versions(runtime: &Runtime) -> Value {
    let library = runtime.library().file_name().map(|name| name.to_string_lossy().into_owned());
    json!({ "eddy": env!("CARGO_PKG_VERSION"), "onnxruntime": library, "optimised": !cfg!(debug_assertions) })
}

/// What the machine can do at best.
#[derive(Debug)]
pub struct Ceilings {
    bandwidth: Sample,
    arithmetic: Sample,
}

impl Ceilings {
    /// Reads memory and multiplies matrices with `threads`.
    ///
    /// # Errors
    /// Those of ONNX Runtime.
    pub fn measure(engine: &Engine, threads: usize, runs: usize) -> anyhow::Result<Self> {
        let mut product = Product::new(&engine.runtime, engine.interrupt.stop())?;
        product.measure()?;
        let ceilings = Self {
            bandwidth: Sample::take(runs, || Ok(bandwidth(threads)))?,
            arithmetic: Sample::take(runs, || Ok(product.measure()?))?,
        };
        // The peak from here on is the model's; a system that does not reset it says more than that.
        let _ = std::fs::write("/proc/self/clear_refs", "5");
        Ok(ceilings)
    }

    /// The share of the bandwidth that reading `work` in `seconds` is.
    #[must_use]
    pub fn of_bandwidth(&self, work: Work, seconds: f64) -> f64 {
        work.bytes as f64 / seconds / self.bandwidth.median()
    }

    /// The share of 32-bit arithmetic that computing `work` for `positions` in `seconds` is.
    #[must_use]
    pub fn of_arithmetic(&self, work: Work, positions: usize, seconds: f64) -> f64 {
        work.operations as f64 * positions as f64 / seconds / self.arithmetic.median()
    }

    /// For the report.
    #[must_use]
    pub fn json(&self) -> Value {
        json!({
            "read_gb_per_s": self.bandwidth.map(|bytes| bytes / 1e9).json(),
            "fp32_gflop_per_s": self.arithmetic.map(|operations| operations / 1e9).json(),
        })
    }
}
