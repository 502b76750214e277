//! Who may do what: the rules that a person recorded, then those of the configuration.
//!
//! Promises that the record survives a crash at any moment with either the old or the new rule, and that `ask` is a
//! refusal for as long as there is nobody to ask.

mod identity;
mod record;

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use eddy_config::{Access as Configured, Application, Capability, Decision};
use eddy_ipc::{Error, Result};

pub use identity::{Credentials, identify};
use record::Record;

/// A rule and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// The application.
    pub application: Application,
    /// What it wants.
    pub capability: Capability,
    /// What it gets.
    pub decision: Decision,
    /// Whether it is recorded, and not configured.
    pub recorded: bool,
}

/// The rules in effect.
#[derive(Debug)]
pub struct Access {
    record: Mutex<Record>,
    configured: Mutex<Configured>,
}

impl Access {
    /// With the record in `file`, which need not exist, and the configuration's rules.
    ///
    /// # Errors
    /// A sentence about a record that is there and cannot be read: to go on without it would allow what was denied.
    pub fn open(file: PathBuf, configured: Configured) -> std::result::Result<Self, String> {
        Ok(Self { record: Mutex::new(Record::open(file)?), configured: Mutex::new(configured) })
    }

    /// Takes the rules of another configuration.
    pub fn configure(&self, configured: Configured) {
        *self.configured.lock().unwrap_or_else(PoisonError::into_inner) = configured;
    }

    /// What to do when a caller with these identities wants this. The most telling identity with a recorded rule
    /// decides, then a recorded `*`, then the configuration.
    #[must_use]
    pub fn decide(&self, identities: &[Application], capability: Capability) -> Decision {
        let recorded = {
            let record = self.record();
            identities.iter().chain([&Application::Any]).find_map(|application| record.get(application, capability))
        };
        recorded.unwrap_or_else(|| {
            self.configured.lock().unwrap_or_else(PoisonError::into_inner).decide(identities, capability)
        })
    }

    /// Lets a caller through, or says why not.
    ///
    /// # Errors
    /// [`Error::NotPermitted`].
    pub fn check(&self, identities: &[Application], capability: Capability) -> Result<()> {
        match self.decide(identities, capability) {
            Decision::Allow => Ok(()),
            Decision::Deny | Decision::Ask => {
                let application = identities.first().unwrap_or(&Application::Any);
                Err(Error::not_permitted(&application.to_string(), capability.as_str()))
            }
        }
    }

    /// Records a rule. Blocks until it is on the disk.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when it cannot be written; the old rule stays.
    pub fn set(&self, application: Application, capability: Capability, decision: Decision) -> Result<()> {
        let mut record = self.record();
        let old = record.set(application.clone(), capability, Some(decision));
        record.write().inspect_err(|_| {
            record.set(application, capability, old);
        })
    }

    /// Takes a recorded rule back.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is none, [`Error::Unavailable`] when the change cannot be written.
    pub fn remove(&self, application: &Application, capability: Capability) -> Result<()> {
        let mut record = self.record();
        let old = record.set(application.clone(), capability, None);
        if old.is_none() {
            return Err(Error::not_found("recorded rule", &format!("{application} {capability}")));
        }
        record.write().inspect_err(|_| {
            record.set(application.clone(), capability, old);
        })
    }

    /// Every rule, the recorded ones first.
    #[must_use]
    pub fn rules(&self) -> Vec<Rule> {
        let record = self.record();
        let configured = self.configured.lock().unwrap_or_else(PoisonError::into_inner);
        let mut rules = Vec::new();
        for (recorded, all) in [(true, &record.rules), (false, &configured.rules)] {
            for (application, decisions) in &all.0 {
                rules.extend(decisions.iter().map(|(capability, decision)| Rule {
                    application: application.clone(),
                    capability: *capability,
                    decision: *decision,
                    recorded,
                }));
            }
        }
        rules
    }

    fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Capability::{Listen, Speak};
    use Decision::{Allow, Ask, Deny};

    fn application(word: &str) -> Application {
        Application::from_word(word).expect("valid")
    }

    #[test]
    fn recorded_rules_come_first_and_survive() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let file = folder.path().join("state/access.json");
        let mut configured = Configured::default();
        configured.rules.0.entry(application("/usr/bin/notes")).or_default().insert(Listen, Deny);
        let access = Access::open(file.clone(), configured.clone()).expect("no record yet");
        let notes = [application("notes.service"), application("/usr/bin/notes")];
        assert_eq!(access.decide(&notes, Listen), Deny);
        assert!(access.check(&notes, Listen).is_err());
        access.set(application("/usr/bin/notes"), Listen, Allow).expect("written");
        access.set(application("*"), Speak, Ask).expect("written");
        assert!(access.check(&notes, Listen).is_ok());
        assert_eq!(
            access.check(&notes, Speak).expect_err("nobody to ask").dbus_name(),
            "org.eddy.Assistant1.Error.NotPermitted"
        );

        let access = Access::open(file, configured).expect("readable");
        assert_eq!(access.decide(&notes, Listen), Allow);
        let rules = access.rules();
        assert_eq!(rules.iter().map(|rule| rule.recorded).collect::<Vec<_>>(), [true, true, false]);
        access.remove(&application("/usr/bin/notes"), Listen).expect("there");
        assert_eq!(access.decide(&notes, Listen), Deny);
        assert!(matches!(access.remove(&application("/usr/bin/notes"), Listen), Err(Error::NotFound(_))));
    }

    #[test]
    fn a_record_that_cannot_be_read_is_no_empty_record() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let file = folder.path().join("access.json");
        std::fs::write(&file, "{\"rules\": [[\"*\", \"listen\"").expect("written");
        let reason = Access::open(file.clone(), Configured::default()).expect_err("cut off");
        assert!(reason.contains("access.json"), "{reason}");
        std::fs::write(&file, r#"{"rules": [["*", "listen", "perhaps"]]}"#).expect("written");
        assert!(Access::open(file, Configured::default()).expect_err("no decision").contains("perhaps"));
    }

    #[test]
    fn a_rule_that_cannot_be_written_is_not_in_effect() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let blocked = folder.path().join("file");
        std::fs::write(&blocked, "").expect("written");
        let access = Access::open(blocked.join("access.json"), Configured::default()).expect("no record");
        assert!(matches!(access.set(application("*"), Listen, Deny), Err(Error::Unavailable(_))));
        assert_eq!(access.decide(&[], Listen), Allow);
    }
}
