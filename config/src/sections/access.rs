//! `[access]`: which application may do what.
//!
//! Owns the rules and the order in which they decide. Who a caller is, and asking a person, are the
//! daemon's business; it hands in an [`Application`] and acts on the [`Decision`].

use std::collections::BTreeMap;
use std::fmt;

use crate::Place;
use crate::error::Problem;
use crate::nearest::nearest;
use crate::place::{Member, Node, Value, quoted};
use crate::schema::{choice, settings};
use crate::setting::Setting;

choice! {
    /// Something that an application may be allowed to do.
    pub enum Capability {
        /// Open the microphone and receive what was said.
        Listen = "listen",
        /// Have answers generated, written or spoken, from what the application itself hands over.
        Converse = "converse",
        /// Make sound on the speaker.
        Speak = "speak",
        /// Have images looked at.
        See = "see",
        /// Search indexes that another application made.
        ReadIndex = "read-index",
        /// Load, fetch and remove models; change permissions and settings.
        Manage = "manage",
    }
}

choice! {
    /// What to do about a request.
    pub enum Decision {
        /// Let it through.
        Allow = "allow",
        /// Refuse it.
        Deny = "deny",
        /// Ask the person, and refuse it if nobody can be asked.
        Ask = "ask",
    }
}

/// An application, by what the system says about the caller, never by what the caller says.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Application {
    /// Any caller without a rule of its own. Written `*`.
    Any,
    /// A program outside any sandbox, by the absolute path of its executable.
    Executable(String),
    /// A service or scope of systemd, by its unit's full name.
    Unit(String),
    /// A sandboxed application, by the identifier that the sandbox vouches for.
    Sandboxed(String),
    /// Everything that another user than the daemon's runs, by the user's name. Written `user:alice`.
    User(String),
}

impl Application {
    /// Reads the way applications are written in rules: `*`, `/usr/bin/notes`, `notes.service`,
    /// `org.example.Notes`, `user:alice`. `None` for anything else.
    pub fn from_word(word: &str) -> Option<Self> {
        let dotted = |text: &str| {
            text.contains('.')
                && text.split('.').all(|part| {
                    !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
                })
        };
        match word {
            "*" => Some(Self::Any),
            path if path.starts_with('/') && path.len() > 1 => Some(Self::Executable(path.into())),
            user if user.starts_with("user:") => {
                let name = &user["user:".len()..];
                let fits = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
                (!name.is_empty() && name.chars().all(fits)).then(|| Self::User(name.into()))
            }
            unit if unit.ends_with(".service") || unit.ends_with(".scope") => Some(Self::Unit(unit.into())),
            id if dotted(id) => Some(Self::Sandboxed(id.into())),
            _ => None,
        }
    }
}

impl fmt::Display for Application {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Executable(name) | Self::Unit(name) | Self::Sandboxed(name) => f.write_str(name),
            Self::User(name) => write!(f, "user:{name}"),
        }
    }
}

/// The rules, by application and capability. Layers add to each other rule by rule, so that a user's
/// file need not repeat the administrator's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rules(pub BTreeMap<Application, BTreeMap<Capability, Decision>>);

impl Rules {
    /// The rule that names this application and this capability, if there is one.
    pub fn get(&self, application: &Application, capability: Capability) -> Option<Decision> {
        self.0.get(application)?.get(&capability).copied()
    }
}

const APPLICATIONS: &str = "an application in quotes: \"*\", the path of an executable, a unit (\"notes.service\"), \
     a sandboxed application's identifier (\"org.example.Notes\") or another user (\"user:alice\")";

impl Setting for Rules {
    type Bound = bool;

    fn read(value: &Value) -> Result<Self, String> {
        let mut rules = Self::default();
        let node = Node { value: value.clone(), place: Place::BuiltIn };
        rules.absorb("", &node).map_err(|_| Self::accepts())?;
        Ok(rules)
    }

    fn write(&self) -> String {
        let applications: Vec<String> = self
            .0
            .iter()
            .map(|(application, rules)| {
                let rules: Vec<String> =
                    rules.iter().map(|(capability, decision)| format!("{capability} = \"{decision}\"")).collect();
                format!("{} = {{ {} }}", quoted(&application.to_string()), rules.join(", "))
            })
            .collect();
        if applications.is_empty() { "{}".into() } else { format!("{{ {} }}", applications.join(", ")) }
    }

    fn accepts() -> String {
        "a table of applications, each a table of capabilities".into()
    }

    fn entries(&self, key: &str) -> Vec<(String, String)> {
        self.0
            .iter()
            .flat_map(|(application, rules)| {
                rules.iter().map(move |(capability, decision)| {
                    (format!("{key}.{}.{capability}", quoted(&application.to_string())), decision.write())
                })
            })
            .collect()
    }

    fn absorb(&mut self, key: &str, node: &Node) -> Result<Vec<(String, Place)>, Vec<Problem>> {
        let Value::Table(applications) = &node.value else {
            return Err(vec![wrong(&node.place, key, &node.value, Self::accepts())]);
        };
        let mut set = Vec::new();
        let mut problems = Vec::new();
        for entry in applications {
            let named = format!("{key}.{}", quoted(&entry.key));
            match (Application::from_word(&entry.key), &entry.node.value) {
                (None, _) => problems.push(Problem::WrongValue {
                    place: entry.place.clone(),
                    key: named,
                    found: quoted(&entry.key),
                    expected: APPLICATIONS.into(),
                }),
                (Some(application), Value::Table(rules)) => {
                    let known = self.0.entry(application).or_default();
                    for rule in rules {
                        match read_rule(&named, rule) {
                            Ok((capability, decision)) => {
                                known.insert(capability, decision);
                                set.push((format!("{named}.{capability}"), rule.node.place.clone()));
                            }
                            Err(problem) => problems.push(problem),
                        }
                    }
                }
                (Some(_), other) => problems.push(wrong(
                    &entry.node.place,
                    &named,
                    other,
                    "a table of capabilities, such as { speak = \"allow\" }".into(),
                )),
            }
        }
        if problems.is_empty() { Ok(set) } else { Err(problems) }
    }
}

fn read_rule(application: &str, rule: &Member) -> Result<(Capability, Decision), Problem> {
    let key = format!("{application}.{}", rule.key);
    let Some(capability) = Capability::from_word(&rule.key) else {
        return Err(Problem::UnknownKey {
            place: rule.place.clone(),
            key,
            suggestion: nearest(&rule.key, Capability::ALL.iter().map(|capability| capability.as_str()))
                .map(str::to_owned),
        });
    };
    Decision::read(&rule.node.value)
        .map(|decision| (capability, decision))
        .map_err(|expected| wrong(&rule.node.place, &key, &rule.node.value, expected))
}

fn wrong(place: &Place, key: &str, value: &Value, expected: String) -> Problem {
    Problem::WrongValue { place: place.clone(), key: key.to_owned(), found: value.to_string(), expected }
}

settings! {
    /// Which application may do what. The capabilities are listen (open the microphone), converse
    /// (have answers generated from what the application hands over), speak (make sound on the
    /// speaker), see (have images looked at), read-index (search what another application indexed)
    /// and manage (models, permissions, settings). Each is "allow", "deny" or "ask"; "ask" refuses
    /// when there is nobody to ask.
    pub struct Access("access") {
        /// For programs outside any sandbox. Such a program can record the microphone without Eddy.
        default: Decision = Decision::Allow, live;
        /// For applications in a sandbox.
        sandboxed: Decision = Decision::Ask, live;
        /// Rules by application and capability, before the two above. An application is the path of
        /// an executable, a systemd unit, the identifier of a sandboxed application, or "*" for all
        /// that have no rule of their own for the capability. Also written as tables:
        ///     [access.rules."org.example.Notes"]
        ///     speak = "allow"
        ///     listen = "deny"
        rules: Rules = Rules::default(), live;
    }
}

impl Access {
    /// What to do when this application wants this. `identities` are the names that the system vouches
    /// for, the most telling first (sandbox identifier, unit, executable); the first one with a rule decides,
    /// then `*`, then the default for callers inside or outside a sandbox.
    pub fn decide(&self, identities: &[Application], capability: Capability) -> Decision {
        identities
            .iter()
            .chain([&Application::Any])
            .find_map(|application| self.rules.get(application, capability))
            .unwrap_or_else(|| {
                if identities.iter().any(|identity| matches!(identity, Application::Sandboxed(_))) {
                    self.sandboxed
                } else {
                    self.default
                }
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::place::parse_value;

    fn access(rules: &str) -> Access {
        let node = parse_value(rules, &Place::BuiltIn);
        Access { rules: Rules::read(&node.value).expect("valid rules"), ..Access::default() }
    }

    #[test]
    fn the_most_telling_identity_with_a_rule_decides() {
        use Capability::{Listen, Speak};
        use Decision::{Allow, Ask, Deny};
        let access = access(
            r#"{ "*" = { listen = "ask" }, "/usr/bin/notes" = { listen = "deny" },
                 "notes.service" = { listen = "allow" }, "org.example.Notes" = { speak = "deny" } }"#,
        );
        let executable = Application::Executable("/usr/bin/notes".into());
        let unit = Application::Unit("notes.service".into());
        let sandboxed = Application::Sandboxed("org.example.Notes".into());
        let stranger = Application::Sandboxed("org.example.Other".into());
        for (identities, capability, decision) in [
            (vec![unit, executable.clone()], Listen, Allow),
            (vec![executable.clone()], Listen, Deny),
            (vec![executable], Speak, Allow),
            (vec![sandboxed.clone()], Speak, Deny),
            (vec![sandboxed], Listen, Ask),
            (vec![stranger], Speak, Ask),
            (vec![], Listen, Ask),
            (vec![], Speak, Allow),
        ] {
            assert_eq!(access.decide(&identities, capability), decision, "{identities:?} {capability}");
        }
    }

    #[test]
    fn names_that_identify_nothing_are_refused() {
        for word in ["", "/", "notes", "a..b", "org.example.", "has space.x"] {
            assert_eq!(Application::from_word(word), None, "{word:?}");
        }
    }

    #[test]
    fn rules_are_written_as_they_are_read() {
        let written = r#"{ "/usr/bin/a" = { listen = "ask", read-index = "deny" } }"#;
        assert_eq!(access(written).rules.write(), written);
    }
}
