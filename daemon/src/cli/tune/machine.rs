//! What can be set on this machine: how many threads, how long they wait awake, and whether they are held to their cores.

use std::collections::BTreeMap;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// How long threads may wait awake: as Eddy does unless it is told otherwise, not at all, and longer.
const SPINS: [u16; 3] = [10, 0, 50];

/// How a model is run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// Threads that compute one step.
    pub threads: usize,
    /// Microseconds that a thread waits awake between operators.
    pub spin_us: u16,
    /// The processors that the process is held to; all where there are none.
    pub pinned: Vec<usize>,
}

impl Setting {
    /// For tables.
    #[must_use]
    pub fn label(&self) -> String {
        let threads = if self.threads == 1 { "1 thread".to_owned() } else { format!("{} threads", self.threads) };
        let spin = if self.spin_us == SPINS[0] { String::new() } else { format!(", spin {} us", self.spin_us) };
        let pinned = if self.pinned.is_empty() { "" } else { ", pinned" };
        format!("{threads}{spin}{pinned}")
    }

    /// Does `work` while this thread, and what it starts, is held to the setting's processors.
    pub fn hold<T>(&self, work: impl FnOnce() -> T) -> T {
        let before = sched_getaffinity(None);
        if !self.pinned.is_empty() {
            let mut set = CpuSet::new();
            self.pinned.iter().for_each(|processor| set.set(*processor));
            // A system that does not allow it measures the same twice, which the figures show.
            let _ = sched_setaffinity(None, &set);
        }
        let done = work();
        if let Ok(before) = before {
            let _ = sched_setaffinity(None, &before);
        }
        done
    }
}

/// The settings that are tried: several numbers of threads, each free and, where that is less than the machine, held to
/// as many cores; with as many threads as cores, also other times to wait awake.
#[must_use]
pub fn settings() -> Vec<Setting> {
    let cores = cores();
    let processors: usize = cores.iter().map(Vec::len).sum();
    let mut counts = vec![cores.len() / 2, cores.len().saturating_sub(1), cores.len(), processors];
    counts.retain(|count| *count > 0);
    counts.sort_unstable();
    counts.dedup();
    let mut settings = Vec::new();
    for threads in counts {
        // A thread alone waits for no other.
        let spins = if threads == cores.len() && threads > 1 { &SPINS[..] } else { &SPINS[..1] };
        settings.extend(spins.iter().map(|spin_us| Setting { threads, spin_us: *spin_us, pinned: Vec::new() }));
        if threads <= cores.len() && threads < processors {
            let pinned = cores.iter().take(threads).filter_map(|core| core.first().copied()).collect();
            settings.push(Setting { threads, spin_us: SPINS[0], pinned });
        }
    }
    settings
}

/// The processors that this process may use, core by core.
fn cores() -> Vec<Vec<usize>> {
    let allowed = sched_getaffinity(None);
    let usable = |processor: &usize| allowed.as_ref().is_ok_and(|set| set.is_set(*processor));
    let mut cores: BTreeMap<(String, String), Vec<usize>> = BTreeMap::new();
    for processor in (0..CpuSet::MAX_CPU).filter(usable) {
        let read = |name: &str| {
            let path = format!("/sys/devices/system/cpu/cpu{processor}/topology/{name}");
            std::fs::read_to_string(path).map(|text| text.trim().to_owned())
        };
        // Where the kernel does not tell, every processor counts as a core.
        let place = match (read("physical_package_id"), read("core_id")) {
            (Ok(package), Ok(core)) => (package, core),
            _ => (String::new(), processor.to_string()),
        };
        cores.entry(place).or_default().push(processor);
    }
    let mut cores: Vec<Vec<usize>> = cores.into_values().collect();
    cores.sort();
    if cores.is_empty() { vec![vec![0]] } else { cores }
}

/// Bytes that are free or can be made so; two gigabytes where that cannot be known.
#[must_use]
pub fn available_memory() -> u64 {
    crate::memory::available().unwrap_or(2 << 30)
}
