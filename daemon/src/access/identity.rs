//! Who a process is, by what the kernel says about it: sandboxed application, unit, executable.
//!
//! Nothing that the caller says of itself is asked. A process number can be used again by the time it is looked at; the
//! one who calls this has to make sure afterwards that the connection is still there.

use std::path::Path;

use eddy_config::Application;

/// What the bus vouches for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Credentials {
    /// The user.
    pub user: Option<u32>,
    /// The process.
    pub process: Option<u32>,
    /// The label that a security module gave it.
    pub label: Option<String>,
}

/// The names that the system vouches for, the most telling first. Empty for a process that has none.
#[must_use]
pub fn identify(credentials: &Credentials) -> Vec<Application> {
    let mut identities = Vec::new();
    let snap = credentials.label.as_deref().and_then(snap_of_label);
    if let Some(process) = credentials.process {
        identities.extend(identify_in(&Path::new("/proc").join(process.to_string()), snap));
    } else {
        identities.extend(snap.map(Application::Sandboxed));
    }
    identities
}

fn identify_in(process: &Path, snap: Option<String>) -> Vec<Application> {
    let flatpak = std::fs::read_to_string(process.join("root/.flatpak-info")).ok();
    let sandboxed = flatpak.as_deref().and_then(flatpak_name).or(snap);
    let unit = std::fs::read_to_string(process.join("cgroup")).ok().as_deref().and_then(unit_of_cgroup);
    // What runs in a sandbox sees other files under the same paths: its executable's path says nothing outside.
    let executable = match sandboxed {
        Some(_) => None,
        None => std::fs::read_link(process.join("exe")).ok().and_then(|path| path.to_str().map(str::to_owned)),
    };
    let identities = [
        sandboxed.map(Application::Sandboxed),
        unit.map(Application::Unit),
        executable.map(|path| Application::Executable(path.trim_end_matches(" (deleted)").to_owned())),
    ];
    identities.into_iter().flatten().collect()
}

/// `name` of the section `[Application]`, or of `[Runtime]` for a sandbox without an application.
fn flatpak_name(info: &str) -> Option<String> {
    let mut section = "";
    for line in info.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            section = name;
        } else if let (true, Some(name)) = (matches!(section, "Application" | "Runtime"), line.strip_prefix("name=")) {
            return Some(name.to_owned());
        }
    }
    None
}

/// `snap.NAME.APP (enforce)`: a name that no Flatpak can have.
fn snap_of_label(label: &str) -> Option<String> {
    let profile = label.trim_end_matches('\0').split(' ').next()?;
    let name = profile.strip_prefix("snap.")?.split('.').next().filter(|name| !name.is_empty())?;
    Some(format!("snap.{name}"))
}

/// The innermost unit of a control group: `app-notes.service`, `session-2.scope`.
fn unit_of_cgroup(cgroup: &str) -> Option<String> {
    let path = cgroup.lines().find_map(|line| line.strip_prefix("0::").or_else(|| named_systemd(line)))?;
    path.rsplit('/').find(|part| part.ends_with(".service") || part.ends_with(".scope")).map(without_escape)
}

/// The hierarchy of systemd on a machine with the old control groups.
fn named_systemd(line: &str) -> Option<&str> {
    line.split_once(":name=systemd:").map(|(_, path)| path)
}

/// systemd puts an underscore before names that could be taken for the kernel's own files.
fn without_escape(part: &str) -> String {
    part.trim_start_matches('_').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_files_are_read() {
        let flatpak = "[Application]\nname=org.example.Notes\nruntime=x\n[Instance]\nname=other\n";
        assert_eq!(flatpak_name(flatpak).as_deref(), Some("org.example.Notes"));
        assert_eq!(flatpak_name("[Instance]\nname=other\n"), None);
        for (cgroup, unit) in [
            (
                "0::/user.slice/user-1000.slice/user@1000.service/app.slice/app-notes@1.service\n",
                Some("app-notes@1.service"),
            ),
            ("0::/user.slice/user-1000.slice/session-2.scope\n", Some("session-2.scope")),
            ("12:pids:/x\n1:name=systemd:/system.slice/cron.service\n", Some("cron.service")),
            ("0::/\n", None),
            ("", None),
        ] {
            assert_eq!(unit_of_cgroup(cgroup).as_deref(), unit, "{cgroup}");
        }
        assert_eq!(snap_of_label("snap.spotify.spotify (enforce)\0").as_deref(), Some("snap.spotify"));
        assert_eq!(snap_of_label("unconfined\0"), None);
    }

    #[test]
    fn this_process_is_its_executable_and_a_sandboxed_one_is_not() {
        let own = identify(&Credentials { process: Some(std::process::id()), ..Credentials::default() });
        let path = std::env::current_exe().expect("known").to_str().expect("text").to_owned();
        assert!(own.contains(&Application::Executable(path)), "{own:?}");

        let process = tempfile::tempdir().expect("temporary folder");
        std::fs::create_dir(process.path().join("root")).expect("made");
        std::fs::write(process.path().join("root/.flatpak-info"), "[Application]\nname=org.example.Notes\n")
            .expect("written");
        std::os::unix::fs::symlink("/usr/bin/sudo", process.path().join("exe")).expect("made");
        let found = identify_in(process.path(), None);
        assert_eq!(found, [Application::Sandboxed("org.example.Notes".into())]);
        assert!(identify(&Credentials { process: Some(u32::MAX), ..Credentials::default() }).is_empty());
    }
}
