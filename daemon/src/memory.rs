//! What the kernel tells of memory, in bytes; `None` where `/proc` cannot be read.

/// All of the machine's memory.
#[must_use]
pub fn total() -> Option<u64> {
    field("/proc/meminfo", "MemTotal:")
}

/// What is free or can be made so.
#[must_use]
pub fn available() -> Option<u64> {
    field("/proc/meminfo", "MemAvailable:")
}

/// What of this process is resident.
#[must_use]
pub fn resident() -> Option<u64> {
    field(OWN, "VmRSS:")
}

/// What of this process is resident and belongs to no file.
#[must_use]
pub fn anonymous() -> Option<u64> {
    field(OWN, "RssAnon:")
}

/// The most of this process that was ever resident.
#[must_use]
pub fn peak() -> Option<u64> {
    field(OWN, "VmHWM:")
}

const OWN: &str = "/proc/self/status";

fn field(file: &str, name: &str) -> Option<u64> {
    let text = std::fs::read_to_string(file).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_tells() {
        let (Some(total), Some(available), Some(peak)) = (total(), available(), peak()) else { panic!("no /proc") };
        let (Some(resident), Some(anonymous)) = (resident(), anonymous()) else { panic!("no /proc/self") };
        assert!(anonymous > 0 && anonymous <= resident && resident <= peak.max(resident));
        assert!(available <= total && peak < total);
        assert_eq!(field("/proc/meminfo", "Nothing:"), None);
    }
}
