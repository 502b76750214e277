//! Where objects live: building paths from senders, tokens and names, and telling whose they are.
//!
//! Callers may predict the path of what they ask for, so the rules here are as public as the names.

use zbus::{ObjectPath, OwnedObjectPath};

use crate::names::Bus;
use crate::options::Token;

/// A kind of object below a root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Collection<'a> {
    /// A piece of work, by its owner's unique name and its token.
    Request {
        /// The owner's unique bus name, `None` on a connection without a bus.
        sender: Option<&'a str>,
        /// The token that the owner chose, or that was made for it.
        token: &'a Token,
    },
    /// A conversation, by its owner's unique name and its token.
    Conversation {
        /// The owner's unique bus name, `None` on a connection without a bus.
        sender: Option<&'a str>,
        /// The token that the owner chose, or that was made for it.
        token: &'a Token,
    },
    /// An index, by any name.
    Index(&'a str),
    /// A model folder, by any name.
    Model(&'a str),
}

/// The path of an object. Names with other characters than letters, digits and underscores are
/// escaped, so that every name has a path and no two names share one.
pub fn path(bus: Bus, collection: Collection<'_>) -> OwnedObjectPath {
    let root = bus.root();
    let text = match collection {
        Collection::Request { sender, token } => {
            format!("{root}/request/{}/{}", sender_element(sender), token.as_str())
        }
        Collection::Conversation { sender, token } => {
            format!("{root}/conversation/{}/{}", sender_element(sender), token.as_str())
        }
        Collection::Index(name) => format!("{root}/index/{}", escape(name)),
        Collection::Model(name) => format!("{root}/model/{}", escape(name)),
    };
    // Every element is made of the characters that paths allow and none is empty.
    ObjectPath::from_string_unchecked(text).into()
}

/// The element of a path that stands for a caller: its unique name without the colon and with
/// underscores for dots, as the desktop portals have it. `peer` where there is no bus.
pub fn sender_element(sender: Option<&str>) -> String {
    let Some(sender) = sender else {
        return "peer".to_owned();
    };
    let element: String =
        sender.trim_start_matches(':').chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    if element.is_empty() { "peer".to_owned() } else { element }
}

/// Whether a request's or conversation's path belongs to this caller.
pub fn owned_by(path: &str, sender: Option<&str>) -> bool {
    let mut elements = path.rsplit('/');
    elements.next().is_some() && elements.next() == Some(sender_element(sender).as_str())
}

/// One element of a path for any name. What is not a letter or a digit becomes an underscore and two
/// hexadecimal digits for each byte; so does a digit in front, as systemd has it, and an empty name is
/// one underscore.
fn escape(name: &str) -> String {
    if name.is_empty() {
        return "_".to_owned();
    }
    let mut out = String::with_capacity(name.len());
    for (index, byte) in name.bytes().enumerate() {
        if byte.is_ascii_alphabetic() || (byte.is_ascii_digit() && index > 0) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("_{byte:02x}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn callers_can_predict_the_path_of_a_request() {
        let token = Token::new("q1").expect("valid");
        let sender = Some(":1.42");
        let request = path(Bus::Assistant, Collection::Request { sender, token: &token });
        assert_eq!(request.as_str(), "/org/eddy/Assistant1/request/1_42/q1");
        assert!(owned_by(request.as_str(), sender));
        assert!(!owned_by(request.as_str(), Some(":1.4")));
        assert!(!owned_by(request.as_str(), Some(":1.420")));
        assert!(!owned_by(request.as_str(), None));
        let admin = path(Bus::Admin, Collection::Request { sender: None, token: &token });
        assert_eq!(admin.as_str(), "/org/eddy/Admin1/request/peer/q1");
    }

    #[test]
    fn every_name_has_a_path_of_its_own() {
        let names =
            ["", "_", "a", "a_", "a_5f", "LFM2.5-Audio-1.5B", "1a", "_31a", "notes und grüße", "a/b", ".", "a b"];
        let mut seen = std::collections::BTreeSet::new();
        for name in names {
            for collection in [Collection::Index(name), Collection::Model(name)] {
                let path = path(Bus::Admin, collection);
                assert!(ObjectPath::try_from(path.as_str()).is_ok(), "{path}");
                assert!(seen.insert(path.as_str().to_owned()), "{name:?} shares {path}");
            }
        }
    }
}
