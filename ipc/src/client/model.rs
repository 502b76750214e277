//! One model folder: `org.eddy.Model1`.

use zbus::proxy;

use crate::error::Result;
use crate::options::Options;

/// One model folder.
#[proxy(interface = "org.eddy.Model1", default_service = "org.eddy.Admin1")]
pub trait Model {
    /// Begins to load the model; the state tells how it goes.
    fn load(&self, options: &Options) -> Result<()>;
    /// Unloads the model once the step it is in has ended.
    fn unload(&self) -> Result<()>;

    /// The folder's name.
    #[zbus(property(emits_changed_signal = "const"))]
    fn name(&self) -> zbus::Result<String>;
    /// What kind of model it is.
    #[zbus(property)]
    fn family(&self) -> zbus::Result<String>;
    /// The precision that is loaded, or would be.
    #[zbus(property)]
    fn precision(&self) -> zbus::Result<String>;
    /// The folder.
    #[zbus(property(emits_changed_signal = "const"), name = "Path")]
    fn folder(&self) -> zbus::Result<String>;
    /// The licence that the folder states.
    #[zbus(property)]
    fn license(&self) -> zbus::Result<String>;
    /// What the model takes in memory.
    #[zbus(property)]
    fn bytes(&self) -> zbus::Result<u64>;
    /// How it stands, one of the words of [`crate::ModelState`].
    #[zbus(property)]
    fn state(&self) -> zbus::Result<String>;
    /// What is wrong with the folder, or was repaired.
    #[zbus(property)]
    fn state_reason(&self) -> zbus::Result<String>;
    /// Whether the model is kept in memory when it is idle.
    #[zbus(property)]
    fn resident(&self) -> zbus::Result<bool>;
}
