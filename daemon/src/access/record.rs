//! The file of recorded rules. It is replaced as a whole: written beside, flushed to the disk, renamed.

use std::path::PathBuf;

use eddy_config::{Application, Capability, Decision, Rules};
use eddy_ipc::{Error, Result};

use crate::replace::replace;

#[derive(Debug)]
pub(super) struct Record {
    file: PathBuf,
    pub rules: Rules,
}

#[derive(Default, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    /// Application, capability, decision.
    rules: Vec<(String, String, String)>,
}

impl Record {
    pub fn open(file: PathBuf) -> std::result::Result<Self, String> {
        let text = match std::fs::read(&file) {
            Ok(text) => text,
            Err(error) if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => {
                return Ok(Self { file, rules: Rules::default() });
            }
            Err(error) => return Err(format!("{}: {error}; correct its permissions", file.display())),
        };
        let damaged = |what: String| {
            let path = file.display();
            format!("{path}: the record of permissions is damaged ({what}); correct it, or remove it and grant anew")
        };
        let written: Written = serde_json::from_slice(&text).map_err(|error| damaged(error.to_string()))?;
        let mut rules = Rules::default();
        for (application, capability, decision) in written.rules {
            let rule = (
                Application::from_word(&application),
                Capability::from_word(&capability),
                Decision::from_word(&decision),
            );
            let (Some(known), Some(capability), Some(decision)) = rule else {
                return Err(damaged(format!("no such rule: {application} {capability} {decision}")));
            };
            rules.0.entry(known).or_default().insert(capability, decision);
        }
        Ok(Self { file, rules })
    }

    pub fn get(&self, application: &Application, capability: Capability) -> Option<Decision> {
        self.rules.get(application, capability)
    }

    /// Sets or removes a rule, in memory alone; returns the one before.
    pub fn set(
        &mut self,
        application: Application,
        capability: Capability,
        decision: Option<Decision>,
    ) -> Option<Decision> {
        let rules = self.rules.0.entry(application.clone()).or_default();
        let old = match decision {
            Some(decision) => rules.insert(capability, decision),
            None => rules.remove(&capability),
        };
        if rules.is_empty() {
            self.rules.0.remove(&application);
        }
        old
    }

    pub fn write(&self) -> Result<()> {
        self.replace().map_err(|error| {
            Error::unavailable("the record of permissions", format!("{}: {error}", self.file.display()))
        })
    }

    fn replace(&self) -> std::io::Result<()> {
        let rows = self.rules.0.iter().flat_map(|(application, rules)| {
            rules.iter().map(|(capability, decision)| {
                (application.to_string(), capability.as_str().to_owned(), decision.as_str().to_owned())
            })
        });
        let text = serde_json::to_vec_pretty(&Written { rules: rows.collect() })?;
        replace(&self.file, &text, 0o666)
    }
}
