//! One request over HTTP: redirects, ranges, and which failures pass.
//!
//! Redirects are followed here and not by the client library: the token goes to the hub alone, never to the storage
//! that the hub points to, and what the hub says of a file on the way is compared with its listing.

use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use ureq::http::{HeaderMap, Response};
use ureq::tls::{RootCerts, TlsConfig, TlsProvider};

use super::Hub;
use crate::digest::Hash;
use crate::error::Error;

const MOST_REDIRECTS: usize = 6;

/// Why a request came to nothing.
#[derive(Debug)]
pub enum Trouble {
    /// Asking again will not help.
    Final(Error),
    /// It may, after a while that the hub may have named.
    Passing {
        /// What happened.
        reason: String,
        /// How long the hub asks to wait.
        after: Option<Duration>,
    },
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self::Final(error)
    }
}

/// A file that comes.
pub struct Body {
    /// Its first byte's place in the file: where it was asked for, or 0 when the server knows no ranges.
    pub from: u64,
    /// The length of the whole file, where the server says it.
    pub total: Option<u64>,
    /// The hash that the server announces for the whole file.
    pub hash: Option<Hash>,
    reader: Box<dyn Read + Send>,
}

impl Body {
    /// The next bytes; 0 at the end.
    ///
    /// # Errors
    /// A failure that passes.
    pub fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Trouble> {
        self.reader.read(buffer).map_err(|error| passing(format!("the connection broke ({error})")))
    }

    /// All of it, if it is not more than `most` bytes.
    pub(super) fn text(mut self, most: u64) -> Result<Vec<u8>, Trouble> {
        let mut text = Vec::new();
        let mut buffer = vec![0; 1 << 16];
        loop {
            match self.read(&mut buffer)? {
                0 if self.total.is_some_and(|total| total != text.len() as u64) => {
                    return Err(passing("the answer was cut off".into()));
                }
                0 => return Ok(text),
                count => text.extend_from_slice(&buffer[..count]),
            }
            if text.len() as u64 > most {
                return Err(passing(format!("the answer is longer than {most} bytes")));
            }
        }
    }
}

fn passing(reason: String) -> Trouble {
    Trouble::Passing { reason, after: None }
}

/// A client that trusts what the system trusts, goes through the proxies of the environment, takes every status as an
/// answer and follows no redirect. `connect` is for a connection, `answer` until the head of an answer, `stall` until its
/// next bytes.
#[must_use]
pub fn http_agent(connect: Duration, answer: Duration, stall: Duration) -> ureq::Agent {
    let tls = TlsConfig::builder()
        .provider(TlsProvider::Rustls)
        .root_certs(RootCerts::PlatformVerifier)
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .build();
    ureq::Agent::config_builder()
        .tls_config(tls)
        .user_agent(concat!("eddy/", env!("CARGO_PKG_VERSION")))
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .timeout_resolve(Some(connect))
        .timeout_connect(Some(connect))
        .timeout_recv_response(Some(answer))
        .timeout_per_read(Some(stall))
        .build()
        .new_agent()
}

impl Hub {
    /// Gets `url` from byte `from` on.
    pub(super) fn get(&self, url: &str, what: &'static str, from: u64) -> Result<Body, Trouble> {
        if self.settings.offline {
            return Err(Error::Offline { what: url.to_owned() }.into());
        }
        let mut address = url.to_owned();
        let mut announced = None;
        for hop in 0..MOST_REDIRECTS {
            let response = self.ask(&address, from)?;
            let status = response.status().as_u16();
            let headers = response.headers();
            announced = announced.or_else(|| hash(headers));
            match status {
                200 | 206 => return body(&address, from, announced, response),
                301 | 302 | 303 | 307 | 308 => address = onward(&address, text(headers, "location"))?,
                404 | 410 => return Err(Error::NotOnHub { what, url: url.to_owned() }.into()),
                // Storage refuses an address that has grown old; the hub then gives a new one.
                401 | 403 if hop == 0 => return Err(Error::Refused { url: url.to_owned(), status }.into()),
                401 | 403 | 408 | 425 | 429 | 500..=599 => {
                    let after = text(headers, "retry-after").and_then(|text| text.trim().parse().ok());
                    let reason = format!("the server answered {status}");
                    return Err(Trouble::Passing { reason, after: after.map(Duration::from_secs) });
                }
                _ => return Err(unexpected(url, format!("the server answered {status}"))),
            }
        }
        Err(unexpected(url, format!("more than {MOST_REDIRECTS} redirects")))
    }

    fn ask(&self, address: &str, from: u64) -> Result<Response<ureq::Body>, Trouble> {
        let mut request = self.agent.get(address).header("Accept-Encoding", "identity");
        if from > 0 {
            request = request.header("Range", format!("bytes={from}-"));
        }
        if let Some(token) = self.settings.token.as_ref().filter(|_| is_under(address, &self.settings.base)) {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        request.call().map_err(|error| match error {
            ureq::Error::BadUri(_) | ureq::Error::Http(_) | ureq::Error::InvalidProxyUrl => {
                unexpected(address, format!("{error}"))
            }
            ureq::Error::Tls(_) | ureq::Error::Rustls(_) => {
                unexpected(address, format!("no safe connection ({error})"))
            }
            error => passing(format!("no answer ({error})")),
        })
    }
}

/// Whether an address is on the hub itself: the same scheme, host and port.
fn is_under(address: &str, base: &str) -> bool {
    address.strip_prefix(base).is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '?']))
}

fn unexpected(url: &str, reason: String) -> Trouble {
    let remedy = "check HF_ENDPOINT and HTTPS_PROXY; a mirror has to speak the hub's protocol";
    Trouble::Final(Error::Hub { url: url.to_owned(), reason, remedy })
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// The hash that a hub, or storage behind it, announces.
fn hash(headers: &HeaderMap) -> Option<Hash> {
    ["x-linked-etag", "etag"].into_iter().find_map(|name| Hash::of_etag(text(headers, name)?))
}

/// The address that a redirect leads to. Never from a safe connection to one that is not.
fn onward(address: &str, location: Option<&str>) -> Result<String, Trouble> {
    let Some(location) = location else { return Err(unexpected(address, "a redirect to nowhere".into())) };
    let onward = if location.starts_with("//") {
        format!("{}:{location}", address.split(':').next().unwrap_or("https"))
    } else if location.starts_with('/') {
        let after_scheme = address.find("://").map_or(0, |at| at + 3);
        let end = address[after_scheme..].find('/').map_or(address.len(), |at| after_scheme + at);
        format!("{}{location}", &address[..end])
    } else {
        location.to_owned()
    };
    let safe = onward.starts_with("https://") || (address.starts_with("http://") && onward.starts_with("http://"));
    match safe {
        true => Ok(onward),
        false => Err(unexpected(address, format!("a redirect to {onward}, which is not safe"))),
    }
}

fn body(address: &str, from: u64, hash: Option<Hash>, response: Response<ureq::Body>) -> Result<Body, Trouble> {
    let headers = response.headers();
    let partial = response.status().as_u16() == 206;
    let (begin, total) = match (partial, text(headers, "content-range").map(range)) {
        (true, Some(Some((begin, total)))) => (begin, total),
        (true, _) => {
            return Err(unexpected(address, "a part of a file without a Content-Range that says which".into()));
        }
        (false, _) => (0, text(headers, "content-length").and_then(|length| length.parse().ok())),
    };
    if partial && begin != from {
        return Err(unexpected(address, format!("byte {from} was asked for and byte {begin} came")));
    }
    let reader = response.into_body().into_with_config().limit(u64::MAX).reader();
    Ok(Body { from: begin, total, hash, reader: Box::new(reader) })
}

/// The first byte and the whole length of `bytes 5-9/10`.
fn range(text: &str) -> Option<(u64, Option<u64>)> {
    let (span, total) = text.strip_prefix("bytes ")?.split_once('/')?;
    Some((span.split_once('-')?.0.parse().ok()?, total.parse().ok()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_stays_with_the_hub() {
        assert!(is_under("https://hub.example/a/b", "https://hub.example"));
        assert!(!is_under("https://hub.example.evil.net/a", "https://hub.example"));
        assert!(!is_under("https://cdn.example/a", "https://hub.example"));
    }

    #[test]
    fn redirects_lead_on_and_never_to_less_safety() {
        let lead = |from: &str, to: &str| onward(from, Some(to)).ok();
        assert_eq!(lead("https://hub/a/b?c", "/x/y").as_deref(), Some("https://hub/x/y"));
        assert_eq!(lead("https://hub/a", "https://cdn/x").as_deref(), Some("https://cdn/x"));
        assert_eq!(lead("https://hub/a", "//cdn/x").as_deref(), Some("https://cdn/x"));
        assert_eq!(lead("http://127.0.0.1:1/a", "http://127.0.0.1:2/b").as_deref(), Some("http://127.0.0.1:2/b"));
        assert_eq!(lead("https://hub/a", "http://cdn/x"), None);
        assert_eq!(lead("https://hub/a", "file:///etc/passwd"), None);
    }

    #[test]
    fn ranges_are_read() {
        assert_eq!(range("bytes 5-9/10"), Some((5, Some(10))));
        assert_eq!(range("bytes 5-9/*"), Some((5, None)));
        assert_eq!(range("bytes */10"), None);
    }
}
