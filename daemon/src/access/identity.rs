//! Who a process is, by what the kernel says about it: sandboxed application, unit, executable, user.
//!
//! Nothing that the caller says of itself is asked. A process number can be used again by the time it is looked at; the
//! one who calls this has to make sure afterwards that the connection is still there.

use std::io::ErrorKind;
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

/// A caller of whom the system does not say whether it runs in a sandbox. It gets what an unknown sandboxed application gets.
const UNIDENTIFIED: &str = "unidentified.caller";

/// The names that the system vouches for, the most telling first; never empty.
#[must_use]
pub fn identify(credentials: &Credentials) -> Vec<Application> {
    let snap = credentials.label.as_deref().and_then(snap_of_label);
    let process = credentials.process.map(|process| Path::new("/proc").join(process.to_string()));
    let own = rustix::process::geteuid().as_raw();
    let identities = match credentials.user.filter(|user| *user != own) {
        // The kernel shows another user's executables and files to root alone. That the user may call at all is the
        // bus's policy.
        Some(user) if own != 0 => {
            let unit = process.as_deref().and_then(unit_of).map(Application::Unit);
            let sandboxed = snap.map(Application::Sandboxed);
            sandboxed.into_iter().chain(unit).chain([Application::User(name_of(user, PASSWORDS))]).collect()
        }
        Some(_) | None => match process {
            Some(process) => identify_in(&process, snap),
            None => snap.map(Application::Sandboxed).into_iter().collect(),
        },
    };
    if identities.is_empty() { vec![Application::Sandboxed(UNIDENTIFIED.into())] } else { identities }
}

fn identify_in(process: &Path, snap: Option<String>) -> Vec<Application> {
    let sandboxed = match std::fs::read_to_string(process.join("root/.flatpak-info")) {
        Ok(info) => Some(flatpak_name(&info).unwrap_or_else(|| UNIDENTIFIED.into())),
        Err(error) if error.kind() == ErrorKind::NotFound => snap,
        // Whether there is a sandbox cannot be seen, as from inside a namespace of users.
        Err(_) => Some(snap.unwrap_or_else(|| UNIDENTIFIED.into())),
    };
    // What runs in a sandbox sees other files under the same paths: its executable's path says nothing outside.
    let executable = match sandboxed {
        Some(_) => None,
        None => std::fs::read_link(process.join("exe")).ok().and_then(|path| path.to_str().map(str::to_owned)),
    };
    let identities = [
        sandboxed.map(Application::Sandboxed),
        unit_of(process).map(Application::Unit),
        executable.map(|path| Application::Executable(path.trim_end_matches(" (deleted)").to_owned())),
    ];
    identities.into_iter().flatten().collect()
}

fn unit_of(process: &Path) -> Option<String> {
    unit_of_cgroup(&std::fs::read_to_string(process.join("cgroup")).ok()?)
}

/// Where users' names are; those of a directory service are named by their numbers.
const PASSWORDS: &str = "/etc/passwd";

fn name_of(user: u32, passwords: &str) -> String {
    let number = user.to_string();
    let entries = std::fs::read_to_string(passwords).unwrap_or_default();
    let mut fields = entries.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let entry = fields.find(|fields| fields.get(2) == Some(&number.as_str()));
    entry.and_then(|fields| fields.first().map(|name| (*name).to_owned())).unwrap_or(number)
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
        std::fs::write(process.path().join("root/.flatpak-info"), "[Instance]\n").expect("written");
        let unidentified = [Application::Sandboxed(UNIDENTIFIED.into())];
        assert_eq!(identify_in(process.path(), None), unidentified, "a sandbox without a name");
        assert_eq!(identify(&Credentials { process: Some(u32::MAX), ..Credentials::default() }), unidentified);
    }

    #[test]
    fn whose_sandbox_cannot_be_seen_has_one() {
        let process = tempfile::tempdir().expect("temporary folder");
        // Nothing below can be opened, and not because it is not there.
        std::fs::write(process.path().join("root"), "").expect("written");
        std::fs::write(process.path().join("cgroup"), "0::/app.slice/app-notes.scope\n").expect("written");
        std::os::unix::fs::symlink("/usr/bin/notes", process.path().join("exe")).expect("made");
        let unit = Application::Unit("app-notes.scope".into());
        assert_eq!(identify_in(process.path(), None), [Application::Sandboxed(UNIDENTIFIED.into()), unit]);
    }

    #[test]
    fn users_are_named_where_they_have_names() {
        let file = tempfile::NamedTempFile::new().expect("temporary file");
        std::fs::write(file.path(), "root:x:0:0::/root:/bin/sh\nalice:x:1000:1000::/home/alice:/bin/sh\n")
            .expect("written");
        let passwords = file.path().to_str().expect("text");
        assert_eq!(name_of(1000, passwords), "alice");
        assert_eq!(name_of(1001, passwords), "1001");
        assert_eq!(name_of(0, "/nowhere"), "0");
    }
}
