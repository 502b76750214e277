//! `org.eddy.Access1`: the recorded rules.

use std::collections::HashMap;
use std::sync::Arc;

use eddy_config::{Application, Capability, Decision};
use eddy_ipc::{Error, Options, Result, accepts};
use zbus::OwnedVariant;
use zbus::message::Header;
use zbus::object_server::SignalEmitter;

use super::core::Core;

/// The interface on the admin root.
#[derive(Debug)]
pub struct Access {
    core: Arc<Core>,
}

impl Access {
    /// Serves `core`.
    #[must_use]
    pub fn new(core: &Arc<Core>) -> Self {
        Self { core: Arc::clone(core) }
    }

    /// Writes the record on a thread that may wait for the disk, and acts on the change.
    async fn change(
        &self,
        emitter: &SignalEmitter<'_>,
        change: impl FnOnce(&crate::access::Access) -> Result<()> + Send + 'static,
    ) -> Result<()> {
        let core = Arc::clone(&self.core);
        tokio::task::spawn_blocking(move || change(&core.access))
            .await
            .map_err(|error| Error::Internal(error.to_string()))??;
        self.core.objects.enforce(&self.core).await;
        Ok(self.rules_invalidate(emitter).await?)
    }
}

fn read<T>(name: &str, given: &str, known: Option<T>, expected: &str) -> Result<T> {
    known.ok_or_else(|| Error::invalid_argument(name, format!("{expected}, not \"{given}\"")))
}

fn read_application(given: &str) -> Result<Application> {
    let expected =
        "*, the path of an executable, a unit (notes.service) or a sandboxed application (org.example.Notes)";
    read("application", given, Application::from_word(given), expected)
}

fn read_capability(given: &str) -> Result<Capability> {
    let known = Capability::ALL.iter().map(|capability| capability.as_str()).collect::<Vec<_>>().join(", ");
    read("capability", given, Capability::from_word(given), &format!("one of {known}"))
}

// Its methods wait for the disk, so they run beside other calls.
#[zbus::interface(name = "org.eddy.Access1", introspection_docs = false)]
impl Access {
    async fn set_rule(
        &self,
        application: String,
        capability: String,
        decision: String,
        options: HashMap<String, OwnedVariant>,
        #[zbus(header)] header: Header<'_>,
        #[zbus(signal_emitter)] emitter: SignalEmitter<'_>,
    ) -> Result<()> {
        self.core.caller(&header, Capability::Manage).await?;
        Options::read(options, accepts::NONE)?;
        let (application, capability) = (read_application(&application)?, read_capability(&capability)?);
        let decision = read("decision", &decision, Decision::from_word(&decision), "allow, deny or ask")?;
        self.change(&emitter, move |access| access.set(application, capability, decision)).await
    }

    async fn remove_rule(
        &self,
        application: String,
        capability: String,
        #[zbus(header)] header: Header<'_>,
        #[zbus(signal_emitter)] emitter: SignalEmitter<'_>,
    ) -> Result<()> {
        self.core.caller(&header, Capability::Manage).await?;
        let (application, capability) = (read_application(&application)?, read_capability(&capability)?);
        self.change(&emitter, move |access| access.remove(&application, capability)).await
    }

    #[zbus(property(emits_changed_signal = "invalidates"))]
    fn rules(&self) -> Vec<(String, String, String, String)> {
        let row = |rule: crate::access::Rule| {
            let source = if rule.recorded { "record" } else { "configuration" };
            let words = (rule.capability.as_str().to_owned(), rule.decision.as_str().to_owned());
            (rule.application.to_string(), words.0, words.1, source.to_owned())
        };
        self.core.access.rules().into_iter().map(row).collect()
    }
}
