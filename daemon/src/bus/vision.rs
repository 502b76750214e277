//! `org.eddy.Vision1`: questions about images.

use std::collections::HashMap;
use std::sync::Arc;

use eddy_config::Capability;
use eddy_ipc::{Bus, Error, Options, Result, accepts};
use eddy_models::vision::{Knobs, Limits};
use zbus::message::Header;
use zbus::{OwnedFd, OwnedObjectPath, OwnedVariant};

use super::core::{Core, Incoming};
use super::request::Request;
use crate::engine::{Job, Task};
use crate::jobs::{Delivery, Hold, Look, Model, RemoteJob, VisionJob, Words, asked};
use crate::remote::Ask;
use crate::vision::Question;

/// The interface on the assistant's root.
#[derive(Debug)]
pub struct Vision {
    core: Arc<Core>,
}

impl Vision {
    /// Serves `core`.
    #[must_use]
    pub fn new(core: &Arc<Core>) -> Self {
        Self { core: Arc::clone(core) }
    }
}

fn knobs(options: &Options) -> Knobs {
    let count = |given: Option<u32>| given.map(|count| count as usize);
    Knobs {
        max_image_tokens: count(options.max_image_tokens),
        tiles: count(options.tiles),
        thumbnail: options.thumbnail,
    }
}

#[zbus::interface(name = "org.eddy.Vision1", spawn = false, introspection_docs = false)]
impl Vision {
    #[zbus(out_args("request"))]
    async fn ask(
        &self,
        images: Vec<OwnedFd>,
        question: String,
        options: HashMap<String, OwnedVariant>,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<OwnedObjectPath> {
        let peer = self.core.caller(&header, Capability::See).await?;
        let mut options = Options::read(options, accepts::LOOK)?;
        self.core.check_text("question", &question)?;
        let config = self.core.config();
        let most = config.limits.images_per_request;
        if images.is_empty() {
            return Err(Error::invalid_argument("images", "at least one image"));
        }
        if images.len() > most as usize {
            let count = images.len() as u64;
            return Err(Error::too_large("images", count, u64::from(most), "images", "limits.images_per_request"));
        }
        let model = self.core.model(Task::Vision, &options)?;
        let asked = asked(Vec::new(), &options, &config)?;
        let remote = self.core.engine.is_remote(&model);
        let limits = Limits { bytes: config.limits.image_bytes.0, ..Limits::default() };
        let knobs = knobs(&options);
        let intake = self.core.intake(&peer, Incoming::Images, images.into_iter().map(Into::into).collect())?;
        let stream = self.core.stream(&mut options)?;
        let token = options.handle_token.take();
        let request = Request::open(&self.core, Bus::Assistant, &peer, Capability::See, token).await?;
        let (core, theirs) = (Arc::clone(&self.core), Arc::clone(&request));
        intake.read(&request, move |files, held| {
            let delivery = Delivery::new(Arc::clone(theirs.feed()), Words::Answer, None, stream);
            let hold: Option<Hold> = Some(Box::new(held));
            let job: Box<dyn Job<Model>> = if remote {
                let ask = Ask::Images { files, asked: Box::new(asked), words: question };
                Box::new(RemoteJob::new(ask, delivery, hold))
            } else {
                let question = Question { words: question, draw: asked.draw, options: asked.options };
                Box::new(VisionJob::new(Look { files, limits, knobs, question }, delivery, hold))
            };
            core.submit(&theirs, job, model, options.priority);
        });
        Ok(request.path())
    }
}
