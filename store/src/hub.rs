//! A model hub as it is asked: names, where it is, who asks, and what a repository holds.

mod cache;
mod http;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

pub use cache::Cache;
pub use http::{Body, Trouble, http_agent};

use crate::choice::inside;
use crate::digest::Hash;
use crate::error::{Error, Result};

/// The largest listing that is read.
const MOST_LISTING: u64 = 32 << 20;

/// `OWNER/NAME` with a revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repository {
    /// `OWNER/NAME`.
    pub id: String,
    /// A branch, a tag or a commit.
    pub revision: String,
}

impl Repository {
    /// Reads `OWNER/NAME` or `OWNER/NAME@REVISION`.
    ///
    /// # Errors
    /// [`Error::BadName`].
    pub fn parse(given: &str) -> Result<Self> {
        let (id, revision) = given.split_once('@').unwrap_or((given, "main"));
        let word = |word: &str| {
            let fits = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            (1..=96).contains(&word.len())
                && word.chars().all(fits)
                && !word.starts_with(['.', '-'])
                && !word.contains("..")
        };
        let bad = |what, given: &str, expected| Err(Error::BadName { what, given: given.to_owned(), expected });
        match id.split_once('/') {
            Some((owner, name)) if word(owner) && word(name) => {}
            _ => return bad("repository", id, "OWNER/NAME, each of letters, digits, hyphens, points and underscores"),
        }
        if !revision.split('/').all(word) {
            return bad("revision", revision, "a branch, a tag or a commit");
        }
        Ok(Self { id: id.to_owned(), revision: revision.to_owned() })
    }

    /// The name without the owner, which is what the model's folder is called.
    #[must_use]
    pub fn name(&self) -> &str {
        self.id.rsplit('/').next().unwrap_or(&self.id)
    }
}

impl std::fmt::Display for Repository {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.revision.as_str() {
            "main" => out.write_str(&self.id),
            revision => write!(out, "{}@{revision}", self.id),
        }
    }
}

/// How long a hub is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// For a connection, and for the answer to a request.
    pub answer: Duration,
    /// For the next bytes of a file.
    pub stall: Duration,
    /// Failures one after the other, with nothing received between them, before it is given up.
    pub tries: u32,
    /// The pause after the first failure; it doubles with each further one.
    pub pause: Duration,
    /// The longest pause, also where the hub asks for a longer one.
    pub longest_pause: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            answer: Duration::from_secs(20),
            stall: Duration::from_secs(30),
            tries: 6,
            pause: Duration::from_secs(1),
            longest_pause: Duration::from_secs(60),
        }
    }
}

/// Where the hub is and who asks.
#[derive(Clone)]
pub struct Settings {
    /// The address without a slash at its end; a mirror's, where `HF_ENDPOINT` names one.
    pub base: String,
    /// The token that proves an account.
    pub token: Option<String>,
    /// Whether the network must not be used.
    pub offline: bool,
    /// The hub's cache of this user, if there is one.
    pub cache: Option<PathBuf>,
    /// How long it is waited for.
    pub patience: Patience,
}

impl std::fmt::Debug for Settings {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The token is a secret and stays out of logs.
        out.debug_struct("Settings").field("base", &self.base).field("offline", &self.offline).finish_non_exhaustive()
    }
}

impl Settings {
    /// From the variables that the hub's own tools read: `HF_ENDPOINT`, `HF_TOKEN`, `HF_TOKEN_PATH`,
    /// `HF_HUB_OFFLINE`, `HF_HUB_CACHE`, `HF_HOME`, `XDG_CACHE_HOME`, `HOME`.
    ///
    /// # Errors
    /// [`Error::BadName`] for an address that is none.
    pub fn from_environment(variable: impl Fn(&str) -> Option<OsString>) -> Result<Self> {
        let text = |name: &str| variable(name)?.into_string().ok().filter(|text| !text.trim().is_empty());
        let path = |name: &str| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let base = text("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".to_owned());
        let base = base.trim().trim_end_matches('/').to_owned();
        if !["http://", "https://"].iter().any(|scheme| base.strip_prefix(scheme).is_some_and(|host| !host.is_empty()))
        {
            let expected = "an address that begins with https:// or http://, in HF_ENDPOINT";
            return Err(Error::BadName { what: "hub", given: base, expected });
        }
        let home = path("HF_HOME")
            .or_else(|| path("XDG_CACHE_HOME").map(|cache| cache.join("huggingface")))
            .or_else(|| path("HOME").map(|home| home.join(".cache/huggingface")));
        let token = text("HF_TOKEN").or_else(|| {
            let file = path("HF_TOKEN_PATH").or_else(|| Some(home.as_ref()?.join("token")))?;
            std::fs::read_to_string(file).ok()
        });
        let token = token.map(|token| token.trim().to_owned()).filter(|token| !token.is_empty());
        let cache = path("HF_HUB_CACHE").or_else(|| Some(home?.join("hub"))).filter(|cache| cache.is_dir());
        let offline = text("HF_HUB_OFFLINE")
            .is_some_and(|word| !["0", "false", "no", "off"].contains(&word.to_lowercase().as_str()));
        Ok(Self { base, token, offline, cache, patience: Patience::default() })
    }
}

/// A file of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remote {
    /// Its path in the repository.
    pub path: String,
    /// Its length in bytes.
    pub size: u64,
    /// What it must hash to; `None` where only the file's own address tells.
    pub hash: Option<Hash>,
}

/// What a repository holds at one commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// The repository, with the revision that was asked for.
    pub repository: Repository,
    /// The commit that the revision means now.
    pub commit: String,
    /// All files.
    pub files: Vec<Remote>,
    /// The licence that the card states.
    pub license: Option<String>,
    /// Where its text is.
    pub license_link: Option<String>,
}

impl Listing {
    /// A file by its path.
    #[must_use]
    pub fn file(&self, path: &str) -> Option<&Remote> {
        self.files.iter().find(|file| file.path == path)
    }

    /// Reads the answer of the hub's `/api/models/…/revision/…?blobs=true`.
    fn read(repository: &Repository, base: &str, answer: &Value) -> Option<Result<Self>> {
        let commit = answer.get("sha")?.as_str()?;
        if commit.is_empty() || !commit.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return None;
        }
        let mut files = Vec::new();
        for file in answer.get("siblings")?.as_array()? {
            let path = file.get("rfilename")?.as_str()?;
            if let Err(error) = inside(path, &repository.id) {
                return Some(Err(error));
            }
            let lfs = file.get("lfs").and_then(|lfs| lfs.get("sha256")).and_then(Value::as_str);
            let blob = file.get("blobId").and_then(Value::as_str);
            let size =
                file.get("lfs").and_then(|lfs| lfs.get("size")).or_else(|| file.get("size")).and_then(Value::as_u64);
            let hash = lfs.or(blob).and_then(Hash::of_etag).filter(|_| size.is_some());
            files.push(Remote { path: path.to_owned(), size: size.unwrap_or_default(), hash });
        }
        let card = answer.get("cardData");
        let field = |name: &str| Some(card?.get(name)?.as_str()?.to_owned());
        // `other` alone names nothing: then the licence has a name of its own.
        let license = match field("license") {
            Some(license) if license == "other" => field("license_name").or(Some(license)),
            license => license,
        };
        let license_link = field("license_link").map(|link| match link.contains("://") {
            true => link,
            false => format!("{base}/{}/blob/{commit}/{link}", repository.id),
        });
        Some(Ok(Self { repository: repository.clone(), commit: commit.to_owned(), files, license, license_link }))
    }
}

/// A hub.
#[derive(Debug, Clone)]
pub struct Hub {
    settings: Settings,
    agent: ureq::Agent,
}

impl Hub {
    /// A hub by its settings. Proxies are taken from `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY`.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        let Patience { answer, stall, .. } = settings.patience;
        Self { agent: http_agent(answer, answer, stall), settings }
    }

    /// The settings.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The hub's cache of this user, if there is one.
    #[must_use]
    pub fn cache(&self) -> Option<Cache> {
        self.settings.cache.clone().map(Cache::new)
    }

    /// What a repository holds.
    ///
    /// # Errors
    /// [`Error::NotOnHub`], [`Error::Refused`], [`Error::Hub`], [`Error::Escapes`]; offline, [`Error::Offline`] when
    /// the hub's cache does not have it either.
    pub fn list(&self, repository: &Repository, pause: &mut dyn FnMut(Duration) -> Result<()>) -> Result<Listing> {
        if self.settings.offline {
            let cached = self.cache().and_then(|cache| cache.listing(repository));
            return cached.ok_or_else(|| Error::Offline { what: repository.to_string() });
        }
        let revision = repository.revision.replace('/', "%2F");
        let url = format!("{}/api/models/{}/revision/{revision}?blobs=true", self.settings.base, repository.id);
        let text = self.patiently(&url, "repository or revision", pause, |body| body.text(MOST_LISTING))?;
        let answer: Option<Value> = serde_json::from_slice(&text).ok();
        answer.and_then(|answer| Listing::read(repository, &self.settings.base, &answer)).unwrap_or_else(|| {
            let remedy = "check HF_ENDPOINT; a mirror has to speak the hub's protocol";
            Err(Error::Hub { url, reason: "the answer is no listing of a repository".into(), remedy })
        })
    }

    /// Opens a file from byte `from` on.
    ///
    /// # Errors
    /// What kind of trouble it is: for good, or for now.
    pub fn open(&self, listing: &Listing, file: &Remote, from: u64) -> Result<Body, Trouble> {
        self.get(&self.address(listing, file), "file", from)
    }

    /// The address of a file.
    #[must_use]
    pub fn address(&self, listing: &Listing, file: &Remote) -> String {
        let escaped: String = file.path.bytes().map(escape).collect();
        format!("{}/{}/resolve/{}/{escaped}", self.settings.base, listing.repository.id, listing.commit)
    }

    /// Asks again while the trouble passes.
    pub(crate) fn patiently<T>(
        &self,
        url: &str,
        what: &'static str,
        pause: &mut dyn FnMut(Duration) -> Result<()>,
        mut take: impl FnMut(Body) -> Result<T, Trouble>,
    ) -> Result<T> {
        let mut retry = Retry::new(self.settings.patience);
        loop {
            match self.get(url, what, 0).and_then(&mut take) {
                Ok(taken) => return Ok(taken),
                Err(trouble) => pause(retry.after(url, trouble)?)?,
            }
        }
    }
}

/// One byte of a path as an address has it.
fn escape(byte: u8) -> String {
    match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b'/' => char::from(byte).to_string(),
        other => format!("%{other:02X}"),
    }
}

/// Counts failures and says how long to wait.
#[derive(Debug)]
pub struct Retry {
    patience: Patience,
    failures: u32,
}

impl Retry {
    /// Nothing has failed yet.
    #[must_use]
    pub fn new(patience: Patience) -> Self {
        Self { patience, failures: 0 }
    }

    /// Something was received: what failed before no longer counts.
    pub fn progressed(&mut self) {
        self.failures = 0;
    }

    /// The pause after `trouble` with `url`.
    ///
    /// # Errors
    /// When the trouble is for good, or has come too often.
    pub fn after(&mut self, url: &str, trouble: Trouble) -> Result<Duration> {
        let (reason, asked) = match trouble {
            Trouble::Final(error) => return Err(error),
            Trouble::Passing { reason, after } => (reason, after),
        };
        self.failures += 1;
        if self.failures >= self.patience.tries {
            let remedy = "check the connection (HTTPS_PROXY, HF_ENDPOINT) and pull again; what has come is kept";
            return Err(Error::Hub {
                url: url.to_owned(),
                reason: format!("{reason}, {} times", self.failures),
                remedy,
            });
        }
        let doubled = self.patience.pause.saturating_mul(1 << (self.failures - 1).min(16));
        Ok(asked.unwrap_or(doubled).min(self.patience.longest_pause))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repositories_are_read_and_odd_ones_refused() {
        let plain = Repository::parse("LiquidAI/LFM2.5-350M-ONNX").expect("a name");
        assert_eq!((plain.name(), plain.revision.as_str()), ("LFM2.5-350M-ONNX", "main"));
        assert_eq!(Repository::parse("a/b@refs/pr/1").expect("a name").to_string(), "a/b@refs/pr/1");
        for bad in ["a", "a/b/c", "../b", "a/..", "a/b@../x", "a/b@", "a b/c", "a/b?x", "/b"] {
            assert!(matches!(Repository::parse(bad), Err(Error::BadName { .. })), "{bad}");
        }
    }

    #[test]
    fn settings_are_those_of_the_hubs_own_tools() {
        let folder = std::env::temp_dir().join(format!("eddy-hub-{}", std::process::id()));
        std::fs::create_dir_all(folder.join("hub")).expect("made");
        std::fs::write(folder.join("token"), "hf_secret\n").expect("written");
        let read = |pairs: &[(&str, &str)]| {
            Settings::from_environment(|name| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into()))
        };
        let home = folder.to_str().expect("text");
        let settings = read(&[("HF_HOME", home), ("HF_ENDPOINT", "http://localhost:1/"), ("HF_HUB_OFFLINE", "1")]);
        let settings = settings.expect("right");
        assert_eq!((settings.base.as_str(), settings.token.as_deref()), ("http://localhost:1", Some("hf_secret")));
        assert_eq!((settings.offline, settings.cache.clone()), (true, Some(folder.join("hub"))));
        let plain = read(&[("HF_HUB_OFFLINE", "0"), ("HF_TOKEN", " t ")]).expect("right");
        assert_eq!((plain.offline, plain.token.as_deref(), &plain.cache), (false, Some("t"), &None));
        assert!(!format!("{plain:?}").contains("\"t\""));
        assert!(matches!(read(&[("HF_ENDPOINT", "huggingface.co")]), Err(Error::BadName { .. })));
        std::fs::remove_dir_all(folder).expect("removed");
    }

    #[test]
    fn a_path_out_of_the_folder_spoils_the_listing() {
        let repository = Repository::parse("a/b").expect("a name");
        let answer = serde_json::json!({ "sha": "abc", "siblings": [{ "rfilename": "../../.bashrc", "size": 1 }] });
        let read = Listing::read(&repository, "https://hub", &answer).expect("a listing");
        assert!(matches!(read, Err(Error::Escapes { .. })));
    }

    #[test]
    fn failures_add_up_until_something_comes() {
        let mut retry = Retry::new(Patience { tries: 3, ..Patience::default() });
        let passing = |after| Trouble::Passing { reason: "busy".into(), after };
        assert_eq!(retry.after("u", passing(None)).expect("again"), Duration::from_secs(1));
        assert_eq!(retry.after("u", passing(Some(Duration::from_secs(600)))).expect("again"), Duration::from_secs(60));
        retry.progressed();
        assert_eq!(retry.after("u", passing(None)).expect("again"), Duration::from_secs(1));
        retry.after("u", passing(None)).expect("again");
        assert!(matches!(retry.after("u", passing(None)), Err(Error::Hub { .. })));
    }
}
