//! What manages the machine: `org.eddy.Models1`, `org.eddy.Access1` and `org.eddy.Daemon1`.

use std::collections::HashMap;

use zbus::{OwnedObjectPath, OwnedVariant, proxy};

use crate::error::Result;
use crate::options::Options;

/// The machine's model folders. Each is a [`super::ModelProxy`] under the root's object manager.
#[proxy(interface = "org.eddy.Models1", default_service = "org.eddy.Admin1", default_path = "/org/eddy/Admin1")]
pub trait Models {
    /// Fetches a model (a name of the catalogue, or `OWNER/NAME[@REVISION]`); the path of a [`super::RequestProxy`] of the admin connection.
    fn pull(&self, repository: &str, options: &Options) -> Result<OwnedObjectPath>;

    /// Bytes that all loaded models together may take.
    #[zbus(property)]
    fn memory_budget(&self) -> zbus::Result<u64>;
    /// Sets the budget until the daemon ends or reloads its configuration.
    #[zbus(property)]
    fn set_memory_budget(&self, bytes: u64) -> zbus::Result<()>;
}

/// Which application may do what.
#[proxy(interface = "org.eddy.Access1", default_service = "org.eddy.Admin1", default_path = "/org/eddy/Admin1")]
pub trait Access {
    /// Records a rule.
    fn set_rule(&self, application: &str, capability: &str, decision: &str, options: &Options) -> Result<()>;
    /// Takes a recorded rule back.
    fn remove_rule(&self, application: &str, capability: &str) -> Result<()>;

    /// Application, capability, decision and source of every rule.
    #[zbus(property(emits_changed_signal = "invalidates"))]
    fn rules(&self) -> zbus::Result<Vec<(String, String, String, String)>>;
}

/// The daemon itself.
#[proxy(interface = "org.eddy.Daemon1", default_service = "org.eddy.Admin1", default_path = "/org/eddy/Admin1")]
pub trait Daemon {
    /// Reads the configuration again: key, new value, and when it takes effect (`now` or `restart`).
    fn reload(&self, options: &Options) -> Result<Vec<(String, String, String)>>;

    /// Numbers since the start.
    #[zbus(property(emits_changed_signal = "false"))]
    fn report(&self) -> zbus::Result<HashMap<String, OwnedVariant>>;
}
