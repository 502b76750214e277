//! What a changed configuration means for a daemon that is running.

use std::collections::BTreeMap;

use crate::config::Config;

/// When a changed value takes effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applies {
    /// The running daemon takes it on reload.
    AtOnce,
    /// It needs a restart; the running daemon keeps the old value.
    AfterRestart,
}

/// One key whose value differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The key with its section; for a rule, with application and capability too.
    pub key: String,
    /// The value before as a TOML literal, `None` for a rule that is new.
    pub old: Option<String>,
    /// The value now, `None` for a rule that is gone.
    pub new: Option<String>,
    /// When it takes effect.
    pub applies: Applies,
}

/// What differs between the configuration a daemon runs with and a newer one, in the order of keys.
pub fn changes(old: &Config, new: &Config) -> Vec<Change> {
    let (before, after): (BTreeMap<_, _>, BTreeMap<_, _>) =
        (old.entries().into_iter().collect(), new.entries().into_iter().collect());
    let fields = Config::fields();
    let applies = |key: &str| {
        let restart = fields.iter().any(|field| field.applies == Applies::AfterRestart && field.key() == key);
        if restart { Applies::AfterRestart } else { Applies::AtOnce }
    };
    let mut keys: Vec<&String> = before.keys().chain(after.keys()).collect();
    keys.sort();
    keys.dedup();
    keys.into_iter()
        .filter(|key| before.get(*key) != after.get(*key))
        .map(|key| Change {
            key: key.clone(),
            old: before.get(key).cloned(),
            new: after.get(key).cloned(),
            applies: applies(key),
        })
        .collect()
}
