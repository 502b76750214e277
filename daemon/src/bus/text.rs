//! `org.eddy.Text1`: written answers.

use std::collections::HashMap;
use std::sync::Arc;

use eddy_config::Capability;
use eddy_ipc::{Bus, Error, Options, Result, accepts};
use serde_json::{Value, json};
use zbus::message::Header;
use zbus::{OwnedObjectPath, OwnedVariant};

use super::core::Core;
use super::request::Request;
use crate::engine::{Job, Task};
use crate::jobs::{Delivery, Model, RemoteJob, TextJob, Words, asked};
use crate::remote::Ask;

const ROLES: [&str; 4] = ["system", "user", "assistant", "tool"];

/// The interface on the assistant's root.
#[derive(Debug)]
pub struct Text {
    core: Arc<Core>,
}

impl Text {
    /// Serves `core`.
    #[must_use]
    pub fn new(core: &Arc<Core>) -> Self {
        Self { core: Arc::clone(core) }
    }

    fn check(&self, messages: &[(String, String)], options: &Options) -> Result<u64> {
        let limits = &self.core.config().limits;
        let Some((last, _)) = messages.last() else {
            return Err(Error::invalid_argument("messages", "at least one message"));
        };
        if let Some((role, _)) = messages.iter().find(|(role, _)| !ROLES.contains(&role.as_str())) {
            return Err(Error::invalid_argument("messages", format!("the role {role:?} to be one of {ROLES:?}")));
        }
        if last == "system" {
            return Err(Error::invalid_argument("messages", "the last message to be something to answer"));
        }
        let texts = messages.iter().map(|(_, content)| content.len());
        let further = [&options.tools, &options.schema].into_iter().flatten().map(String::len);
        let bytes = texts.chain(further).sum::<usize>() as u64;
        match bytes > limits.text_bytes.0 {
            true => Err(Error::too_large("messages", bytes, limits.text_bytes.0, "bytes", "limits.text_bytes")),
            false => Ok(bytes),
        }
    }
}

#[zbus::interface(name = "org.eddy.Text1", spawn = false, introspection_docs = false)]
impl Text {
    #[zbus(out_args("request"))]
    async fn generate(
        &self,
        messages: Vec<(String, String)>,
        options: HashMap<String, OwnedVariant>,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<OwnedObjectPath> {
        let peer = self.core.caller(&header, Capability::Converse).await?;
        let mut options = Options::read(options, accepts::GENERATE)?;
        let bytes = self.check(&messages, &options)?;
        let model = self.core.model(Task::Text, &options)?;
        let config = self.core.config();
        let messages: Vec<Value> =
            messages.iter().map(|(role, content)| json!({ "role": role, "content": content })).collect();
        let asked = asked(messages, &options, &config)?;
        let hold = peer.hold_bytes(bytes, config.limits.bytes_per_caller.0)?;
        let stream = self.core.stream(&mut options)?;
        let token = options.handle_token.take();
        let request = Request::open(&self.core, Bus::Assistant, &peer, Capability::Converse, token).await?;
        let delivery = Delivery::new(Arc::clone(request.feed()), Words::Answer, None, stream);
        let job: Box<dyn Job<Model>> = match self.core.engine.is_remote(&model) {
            true => Box::new(RemoteJob::new(Ask::Text(Box::new(asked)), delivery, Some(Box::new(hold)))),
            false => Box::new(TextJob::new(asked, delivery, Some(Box::new(hold)))),
        };
        self.core.submit(&request, job, model, options.priority);
        Ok(request.path())
    }
}
