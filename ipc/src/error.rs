//! What can go wrong, by name and in a sentence a person can act on.
//!
//! One enum for both sides: the daemon answers with it, and a client gets it back from the wire with
//! the same name and the same sentence. The functions that make errors fix the sentences, so that the
//! same mistake reads the same on every interface.

use zbus::message::Header;
use zbus::names::ErrorName;
use zbus::{DBusError, Message};

use crate::names::PREFIX;

/// The result of anything on Eddy's interfaces.
pub type Result<T, E = Error> = std::result::Result<T, E>;

macro_rules! errors {
    ($( $(#[doc = $doc:expr])* $variant:ident, )*) => {
        /// An error of `org.eddy.Assistant1.Error.*`, or of the bus itself. The text is the whole
        /// sentence for people; programs go by the variant.
        #[derive(Debug, thiserror::Error)]
        #[non_exhaustive]
        pub enum Error {
            $( $(#[doc = $doc])* #[error("{0}")] $variant(String), )*
            /// The bus failed, or the other side answered with an error of none of these names.
            #[error("{}", explain(.0))]
            Bus(zbus::Error),
        }

        impl Error {
            /// The last element of every error's name.
            pub const NAMES: &'static [&'static str] = &[$( stringify!($variant) ),*];

            /// The full name on the bus.
            pub fn dbus_name(&self) -> String {
                match self {
                    $( Self::$variant(_) => format!("{PREFIX}{}", stringify!($variant)), )*
                    Self::Bus(zbus::Error::MethodError(name, _, _)) => name.to_string(),
                    Self::Bus(_) => "org.freedesktop.DBus.Error.Failed".to_owned(),
                }
            }

            /// The error of this name, full or the last element alone; `None` for an unknown name.
            pub fn from_name(name: &str, sentence: String) -> Option<Self> {
                match name.strip_prefix(PREFIX).unwrap_or(name) {
                    $( stringify!($variant) => Some(Self::$variant(sentence)), )*
                    _ => None,
                }
            }
        }
    };
}

errors! {
    /// The queue is full, or the thing is in use. Trying again later helps.
    Busy,
    /// The caller has as much as it may have. Ending something of its own helps.
    LimitReached,
    /// Something is larger than it may be.
    TooLarge,
    /// The microphone is muted.
    Muted,
    /// The rules do not let this application do this.
    NotPermitted,
    /// The object belongs to another caller.
    NotOwner,
    /// There is no model for this.
    ModelMissing,
    /// The model cannot be loaded, or failed at work.
    ModelFailed,
    /// There is nothing of this name.
    NotFound,
    /// There is something of this name already.
    Exists,
    /// An option that is not known, does not belong here, or has a value that does not fit.
    InvalidOption,
    /// An argument that does not fit.
    InvalidArgument,
    /// A file descriptor of the wrong kind, or without the seals it needs.
    InvalidDescriptor,
    /// The bytes are not what they should be: no WAV file, no image.
    InvalidContent,
    /// The configuration has mistakes.
    InvalidConfiguration,
    /// The other side of a descriptor, or a step of the work, took too long.
    TimedOut,
    /// A device, a library or a service that is needed is not there.
    Unavailable,
    /// The model or this version cannot do this.
    Unsupported,
    /// The request was cancelled.
    Cancelled,
    /// A fault of Eddy's own.
    Internal,
}

impl Error {
    /// The queue of the engine holds `waiting` requests, all it takes.
    pub fn busy(waiting: usize) -> Self {
        Self::Busy(format!("{waiting} requests are waiting, as many as limits.queue allows; try again later"))
    }

    /// The caller has `limit` of `what` (plural) already, and `key` is the setting that says so.
    pub fn limit_reached(what: &str, limit: u64, key: &str) -> Self {
        Self::LimitReached(format!(
            "this application has {limit} {what}, as many as {key} allows; end one of them, or raise {key}"
        ))
    }

    /// `what` has `size` of `unit` and may have `limit`, by the setting `key`.
    pub fn too_large(what: &str, size: u64, limit: u64, unit: &str, key: &str) -> Self {
        Self::TooLarge(format!("{what} has {size} {unit}, more than the {limit} that {key} allows"))
    }

    /// The microphone is muted.
    pub fn muted() -> Self {
        Self::Muted("the microphone is muted; `eddy unmute` opens it, unless another application holds it muted".into())
    }

    /// The rules deny it, or nobody was there to be asked.
    pub fn not_permitted(application: &str, capability: &str) -> Self {
        Self::NotPermitted(format!(
            "{application} may not {capability}; `eddy access grant {application} {capability}` allows it"
        ))
    }

    /// `what` (request, conversation, index) belongs to another caller.
    pub fn not_owner(what: &str) -> Self {
        Self::NotOwner(format!("this {what} belongs to another application"))
    }

    /// No folder serves the task.
    pub fn model_missing(task: &str) -> Self {
        Self::ModelMissing(format!(
            "there is no model for {task}; `eddy models list` shows what there is, `eddy models pull` fetches one"
        ))
    }

    /// The model `name` cannot be used, and why.
    pub fn model_failed(name: &str, why: impl std::fmt::Display) -> Self {
        Self::ModelFailed(format!("the model {name} cannot be used: {why}"))
    }

    /// There is no `what` called `name`.
    pub fn not_found(what: &str, name: &str) -> Self {
        Self::NotFound(format!("there is no {what} called \"{name}\""))
    }

    /// There is a `what` called `name` already.
    pub fn exists(what: &str, name: &str) -> Self {
        Self::Exists(format!("the {what} \"{name}\" is there already; take another name, or remove it first"))
    }

    /// The argument `name` does not fit, and what would.
    pub fn invalid_argument(name: &str, expected: impl std::fmt::Display) -> Self {
        Self::InvalidArgument(format!("{name}: expected {expected}"))
    }

    /// The descriptor passed as `name` does not fit, and why.
    pub fn invalid_descriptor(name: &str, why: impl std::fmt::Display) -> Self {
        Self::InvalidDescriptor(format!("{name}: {why}"))
    }

    /// The bytes passed as `name` are not what they should be, and why.
    pub fn invalid_content(name: &str, why: impl std::fmt::Display) -> Self {
        Self::InvalidContent(format!("{name}: {why}"))
    }

    /// `what` took longer than `after`.
    pub fn timed_out(what: &str, after: std::time::Duration) -> Self {
        Self::TimedOut(format!("{what} took longer than {after:?}"))
    }

    /// `what` is not there, and what to do.
    pub fn unavailable(what: &str, remedy: impl std::fmt::Display) -> Self {
        Self::Unavailable(format!("{what} is not available: {remedy}"))
    }
}

/// The sentence for an error that is not Eddy's own. The commonest ones are turned into what to do.
fn explain(error: &zbus::Error) -> String {
    match error {
        zbus::Error::FDO(inner) => match inner.name().as_str() {
            "org.freedesktop.DBus.Error.ServiceUnknown" | "org.freedesktop.DBus.Error.NameHasNoOwner" => {
                "Eddy's daemon is not running and cannot be started; `systemctl --user start eddy` tells why".into()
            }
            "org.freedesktop.DBus.Error.AccessDenied" => {
                "the bus does not let this user talk to Eddy; on the system bus, join the group eddy".into()
            }
            "org.freedesktop.DBus.Error.NoReply" => {
                "Eddy's daemon did not answer in time; `journalctl --user -u eddy` tells what it is doing".into()
            }
            _ => format!("the bus answered: {inner}"),
        },
        other => format!("the bus failed: {other}"),
    }
}

impl From<zbus::Error> for Error {
    fn from(error: zbus::Error) -> Self {
        match &error {
            zbus::Error::MethodError(name, sentence, _) => name
                .as_str()
                .strip_prefix(PREFIX)
                .and_then(|name| Self::from_name(name, sentence.clone().unwrap_or_default()))
                .unwrap_or(Self::Bus(error)),
            _ => Self::Bus(error),
        }
    }
}

impl DBusError for Error {
    fn create_reply(&self, call: &Header<'_>) -> zbus::Result<Message> {
        Message::error(call, self.name()).build(&(self.to_string(),))
    }

    fn name(&self) -> ErrorName<'_> {
        // Every name is made of a valid prefix and an identifier, or came from a message.
        ErrorName::from_string_unchecked(self.dbus_name())
    }

    fn description(&self) -> Option<&str> {
        match self {
            Self::Bus(error) => error.description(),
            Self::Busy(text)
            | Self::LimitReached(text)
            | Self::TooLarge(text)
            | Self::Muted(text)
            | Self::NotPermitted(text)
            | Self::NotOwner(text)
            | Self::ModelMissing(text)
            | Self::ModelFailed(text)
            | Self::NotFound(text)
            | Self::Exists(text)
            | Self::InvalidOption(text)
            | Self::InvalidArgument(text)
            | Self::InvalidDescriptor(text)
            | Self::InvalidContent(text)
            | Self::InvalidConfiguration(text)
            | Self::TimedOut(text)
            | Self::Unavailable(text)
            | Self::Unsupported(text)
            | Self::Cancelled(text)
            | Self::Internal(text) => Some(text),
        }
    }
}

impl From<Error> for zbus::BoxDBusError {
    fn from(error: Error) -> Self {
        Box::new(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_valid_and_comes_back() {
        for name in Error::NAMES {
            let error = Error::from_name(name, "why".into()).expect("known");
            assert_eq!(error.dbus_name(), format!("{PREFIX}{name}"));
            assert!(ErrorName::try_from(error.dbus_name()).is_ok());
            assert_eq!(error.description(), Some("why"));
            assert!(Error::from_name(&error.dbus_name(), String::new()).is_some());
        }
        assert!(Error::from_name("Nonsense", String::new()).is_none());
    }
}
