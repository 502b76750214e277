//! How ONNX Runtime is started, as the configuration says.

use eddy_config::{Auto, Config, Paths};
use eddy_models::RuntimeOptions;

/// What `[runtime]` asks for on this machine.
#[must_use]
pub fn options(config: &Config, paths: &Paths) -> RuntimeOptions {
    let settings = &config.runtime;
    RuntimeOptions {
        library: (!settings.library.as_os_str().is_empty()).then(|| paths.expand(&settings.library)),
        cache: Some(paths.cache.join("runtime")),
        threads: match settings.threads {
            Auto::Set(threads) => Some(threads as usize),
            Auto::Auto => spare_one_core(),
        },
        spin: settings.spin,
        keep_heads: settings.exact_heads,
    }
}

/// All physical cores but one, so that audio is never late because a model is busy; where there are two at most, all that
/// may be used.
fn spare_one_core() -> Option<usize> {
    let usable = std::thread::available_parallelism().map_or(1, usize::from);
    let core = |cpu: usize| {
        let read = |name| std::fs::read_to_string(format!("/sys/devices/system/cpu/cpu{cpu}/topology/{name}")).ok();
        Some((read("physical_package_id")?, read("core_id")?))
    };
    let cores: std::collections::BTreeSet<_> = (0..usable).filter_map(core).collect();
    let cores = if cores.is_empty() { usable } else { cores.len() };
    (cores > 2).then(|| cores - 1)
}
