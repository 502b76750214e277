//! One piece of work: `org.eddy.Request1`.

use std::collections::HashMap;

use zbus::{OwnedVariant, Variant, proxy};

use crate::error::Result;

/// A piece of work. For one of the admin connection, build it with `.destination(Bus::Admin.name())`.
#[proxy(interface = "org.eddy.Request1", default_service = "org.eddy.Assistant1")]
pub trait Request {
    /// Ends the work at the next step.
    fn cancel(&self) -> Result<()>;

    /// How it stands, one of the words of [`crate::RequestState`].
    #[zbus(property)]
    fn state(&self) -> zbus::Result<String>;
    /// What it came to; read it with [`crate::Outcome::from_dictionary`].
    #[zbus(property(emits_changed_signal = "false"))]
    fn result(&self) -> zbus::Result<HashMap<String, OwnedVariant>>;

    /// Something new; read it with [`crate::Delta::from_signal`].
    #[zbus(signal, name = "Delta")]
    fn delta_signal(&self, kind: &str, value: Variant<'_>) -> zbus::Result<()>;
    /// The last signal; read the result with [`crate::Outcome::from_dictionary`].
    #[zbus(signal)]
    fn finished(&self, state: &str, result: HashMap<String, Variant<'_>>) -> zbus::Result<()>;
}
