//! One collection of a Qdrant server over its REST interface: JSON there, JSON back, and one sentence for whatever fails.

use std::time::Duration;

use eddy_models::{Error, Result};
use eddy_store::http_agent;
use serde_json::Value;
use ureq::http::{Method, Request};

/// How long the server may take for a name, a connection, an answer's beginning, or its next bytes.
const PATIENCE: Duration = Duration::from_secs(30);
/// The longest answer that is read: a page of passages is far smaller.
const MOST_BYTES: u64 = 64 << 20;

/// A collection, as it is asked.
#[derive(Debug)]
pub(super) struct Client {
    agent: ureq::Agent,
    /// The collection's URL.
    base: String,
}

impl Client {
    /// For `collection` of the server at `url`.
    ///
    /// # Errors
    /// [`Error::BadRequest`] for what is no URL or no name.
    pub fn new(url: &str, collection: &str) -> Result<Self> {
        let url = url.trim_end_matches('/');
        if !(url.starts_with("http://") || url.starts_with("https://")) || url.contains(['?', '#', ' ']) {
            return Err(Error::BadRequest(format!("{url}: not a server's URL, such as http://localhost:6333")));
        }
        let fits = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
        if collection.is_empty() || collection.len() > 64 || !collection.chars().all(fits) {
            return Err(Error::BadRequest(format!("{collection:?} cannot name a collection")));
        }
        let agent = http_agent(PATIENCE, PATIENCE, PATIENCE);
        Ok(Self { agent, base: format!("{url}/collections/{collection}") })
    }

    pub fn get(&self, path: &str) -> Result<Value> {
        self.ask(Method::GET, path, None)
    }

    pub fn put(&self, path: &str, body: &Value) -> Result<Value> {
        self.ask(Method::PUT, path, Some(body))
    }

    pub fn post(&self, path: &str, body: &Value) -> Result<Value> {
        self.ask(Method::POST, path, Some(body))
    }

    pub fn delete(&self, path: &str) -> Result<Value> {
        self.ask(Method::DELETE, path, None)
    }

    /// What went wrong, with the server's address.
    pub fn error(&self, reason: &str) -> Error {
        Error::Server { url: self.base.clone(), reason: reason.to_owned() }
    }

    /// The `result` of the server's answer.
    fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value> {
        let failed = |error: ureq::Error| self.error(&error.to_string());
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.base));
        if let Ok(key) = std::env::var(super::KEY) {
            request = request.header("api-key", key);
        }
        let request = request.header("content-type", "application/json");
        let body = body.map(Value::to_string).unwrap_or_default();
        let request = request.body(body).map_err(|error| self.error(&error.to_string()))?;
        let mut response = self.agent.run(request).map_err(failed)?;
        let text = response.body_mut().with_config().limit(MOST_BYTES).read_to_string().map_err(failed)?;
        let mut answer: Value = serde_json::from_str(&text).unwrap_or_default();
        if response.status().is_success() && answer.get("result").is_some() {
            return Ok(answer["result"].take());
        }
        let told = answer["status"]["error"].as_str().map_or_else(|| excerpt(&text), str::to_owned);
        Err(self.error(&format!("the server answers {}: {told}", response.status())))
    }
}

fn excerpt(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(200).collect()
}

/// A number of the server's.
pub(super) fn as_count(value: &Value) -> Result<usize> {
    let count = value.as_u64().and_then(|count| usize::try_from(count).ok());
    count.ok_or_else(|| Error::Server { url: "Qdrant".into(), reason: format!("{value} where a number belongs") })
}
