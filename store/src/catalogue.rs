//! The models that are to be had: Eddy's own list, and the user's additions to it.
//!
//! Sizes are those that the makers' cards state, rounded as they are there; what nobody states is absent here and asked
//! from the hub when a model is pulled. Nothing is guessed.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

use crate::error::{Error, Result};
use crate::hub::Repository;

const BUILT_IN: &str = include_str!("catalogue.toml");
/// Positions of a conversation that the stated need of memory allows for.
const POSITIONS: u64 = 4096;

/// What is known of a model's working here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Its layout is under test with small checkpoints; its published weights have not been run.
    Layout,
    /// The engine can describe it; nobody has tried it.
    Untested,
}

impl Status {
    /// The mark in lists.
    #[must_use]
    pub fn mark(self) -> &'static str {
        match self {
            Self::Layout => "layout tested",
            Self::Untested => "untested",
        }
    }
}

/// A licence that models of the catalogue have.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Terms {
    /// Its full name.
    pub name: String,
    /// What it asks, in a sentence.
    pub terms: String,
    /// Its text.
    pub link: String,
}

/// A precision of a model.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Variant {
    /// The graphs.
    pub files: Vec<String>,
    /// Bytes of graphs and weights, where they are stated.
    pub bytes: Option<u64>,
}

/// Shapes that random weights can be drawn in, for measuring a model that is not here.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shapes {
    /// The name that `eddy bench --make` takes.
    pub name: String,
    /// Bytes of such weights in each precision that they are drawn in.
    pub precisions: BTreeMap<String, u64>,
}

/// A model of the catalogue.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// The release that it belongs to: LFM2, LFM2.5.
    pub release: String,
    /// What it is: text, moe, vision, speech, colbert.
    pub family: String,
    /// `OWNER/NAME` on the hub.
    pub repository: String,
    /// The commit that is known to be what the rest says; the newest where there is none.
    pub revision: Option<String>,
    /// Parameters.
    pub parameters: Option<u64>,
    /// The short name of its licence.
    pub license: String,
    /// Languages, as the maker lists them; two letters.
    #[serde(default)]
    pub languages: Vec<String>,
    /// Positions of its context.
    pub context: Option<u64>,
    /// Bytes of cache that one position takes.
    pub cache_per_position: Option<u64>,
    /// What it is good for.
    pub purpose: String,
    /// What is known of its working here.
    pub status: Status,
    /// The shapes that it can be measured in without its weights.
    pub shapes: Option<Shapes>,
    /// By precision.
    #[serde(default)]
    pub precisions: BTreeMap<String, Variant>,
}

impl Entry {
    /// Where it is fetched from.
    ///
    /// # Errors
    /// [`Error::BadName`] for a mistake in the catalogue.
    pub fn source(&self) -> Result<Repository> {
        let revision = self.revision.as_deref().unwrap_or("main");
        Repository::parse(&format!("{}@{revision}", self.repository))
    }

    /// Whether a folder of this name is this model, fetched under its own name or that of its repository.
    #[must_use]
    pub fn is_called(&self, folder: &str) -> bool {
        let repository = self.repository.rsplit('/').next().unwrap_or(&self.repository);
        [repository, &self.name].iter().any(|name| name.eq_ignore_ascii_case(folder))
    }

    /// Bytes of memory that it takes at least in a precision: its weights, and the cache of 4,096 positions.
    #[must_use]
    pub fn memory(&self, precision: &str) -> Option<u64> {
        let weights = self.precisions.get(precision)?.bytes?;
        Some(weights + POSITIONS * self.cache_per_position.unwrap_or_default())
    }

    /// The smallest precision whose size is known.
    #[must_use]
    pub fn smallest(&self) -> Option<(&str, u64)> {
        let sized = self.precisions.iter().filter_map(|(name, variant)| Some((name.as_str(), variant.bytes?)));
        sized.min_by_key(|(_, bytes)| *bytes)
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    #[serde(default)]
    license: BTreeMap<String, Terms>,
    #[serde(default)]
    model: Vec<Entry>,
}

/// The models that are to be had.
#[derive(Debug, Clone)]
pub struct Catalogue {
    entries: Vec<Entry>,
    licenses: BTreeMap<String, Terms>,
}

impl Catalogue {
    /// Eddy's list, with the entries of `additions` (if that file exists) beside or instead of those of the same name.
    ///
    /// # Errors
    /// [`Error::Malformed`] for a mistake in it, [`Error::Io`] when it cannot be read.
    pub fn load(additions: &Path) -> Result<Self> {
        let mut catalogue = Self { entries: Vec::new(), licenses: BTreeMap::new() };
        catalogue.add(BUILT_IN, Path::new("the built-in catalogue"))?;
        match std::fs::read_to_string(additions) {
            Ok(text) => catalogue.add(&text, additions)?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(Error::io(additions, "check that the file may be read")(error)),
        }
        Ok(catalogue)
    }

    fn add(&mut self, text: &str, path: &Path) -> Result<()> {
        let malformed = |reason: String| Error::Malformed {
            path: path.to_path_buf(),
            reason,
            remedy: "write it as store/src/catalogue.toml is written",
        };
        let text: Text =
            toml::from_str(text).map_err(|error| malformed(error.to_string().trim().replace('\n', " ")))?;
        self.licenses.extend(text.license);
        for entry in text.model {
            entry.source().map_err(|error| malformed(format!("{}: {error}", entry.name)))?;
            self.entries.retain(|other| other.name != entry.name);
            self.entries.push(entry);
        }
        Ok(())
    }

    /// All of them, in the order of the list.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// What a licence asks, if it is known.
    #[must_use]
    pub fn terms(&self, license: &str) -> Option<&Terms> {
        self.licenses.get(license)
    }

    /// Where a model is fetched from: by its name in the catalogue, or as `OWNER/NAME[@REVISION]`.
    ///
    /// # Errors
    /// [`Error::UnknownModel`], [`Error::BadName`].
    pub fn source(&self, given: &str) -> Result<Repository> {
        if given.contains('/') {
            return Repository::parse(given);
        }
        let (name, revision) = given.split_once('@').map_or((given, None), |(name, revision)| (name, Some(revision)));
        let found = self.entries.iter().find(|entry| entry.name.eq_ignore_ascii_case(name));
        match (found, revision) {
            (Some(entry), None) => entry.source(),
            (Some(entry), Some(revision)) => Repository::parse(&format!("{}@{revision}", entry.repository)),
            (None, _) => Err(Error::UnknownModel { near: self.near(name), name: given.to_owned() }),
        }
    }

    /// The name that shares most of its pairs of letters with `name`.
    fn near(&self, name: &str) -> Option<String> {
        let pairs = |text: &str| -> Vec<[u8; 2]> {
            let text = text.to_ascii_lowercase().into_bytes();
            text.windows(2).map(|pair| [pair[0], pair[1]]).collect()
        };
        let wanted = pairs(name);
        let likeness = |entry: &&Entry| {
            let known = pairs(&entry.name);
            let shared = wanted.iter().filter(|pair| known.contains(pair)).count();
            shared * 100 / wanted.len().max(known.len()).max(1)
        };
        let best = self.entries.iter().max_by_key(likeness)?;
        (likeness(&best) >= 40).then(|| best.name.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_list_is_right() {
        let catalogue = Catalogue::load(Path::new("/nonexistent")).expect("right");
        assert!(catalogue.entries().len() >= 10);
        for entry in catalogue.entries() {
            assert!(catalogue.terms(&entry.license).is_some(), "{}: {}", entry.name, entry.license);
            assert!(["text", "moe", "vision", "speech", "colbert"].contains(&entry.family.as_str()), "{}", entry.name);
            for (precision, variant) in &entry.precisions {
                precision.parse::<eddy_models::folder::Wanted>().expect("a precision");
                assert!(!variant.files.is_empty(), "{} {precision}", entry.name);
            }
        }
        let entry = catalogue.entries().iter().find(|entry| entry.name == "LFM2.5-350M").expect("there");
        assert_eq!(entry.memory("q4"), Some(276_000_000 + 4096 * 24_576));
        assert_eq!(catalogue.source("lfm2.5-350m").expect("found").id, "LiquidAI/LFM2.5-350M-ONNX");
        assert_eq!(catalogue.source("LFM2.5-350M@v1").expect("found").revision, "v1");
        assert_eq!(catalogue.source("me/mine@abc").expect("found").to_string(), "me/mine@abc");
        let error = catalogue.source("LFM2.5-350").expect_err("unknown").to_string();
        assert!(error.contains("did you mean LFM2.5-350M?"), "{error}");
        assert!(matches!(catalogue.source("qwen"), Err(Error::UnknownModel { near: None, .. })));
    }

    #[test]
    fn a_users_file_adds_and_replaces() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let file = folder.path().join("models.toml");
        let entry = |name: &str| {
            format!(
                "[[model]]\nname = \"{name}\"\nrelease = \"x\"\nfamily = \"text\"\nrepository = \"me/mine\"\n\
                 license = \"mit\"\npurpose = \"p\"\nstatus = \"untested\"\n"
            )
        };
        std::fs::write(&file, entry("Mine") + &entry("LFM2.5-350M")).expect("written");
        let catalogue = Catalogue::load(&file).expect("right");
        assert_eq!(catalogue.source("mine").expect("found").id, "me/mine");
        assert_eq!(catalogue.source("LFM2.5-350M").expect("found").id, "me/mine");
        std::fs::write(&file, "[[model]]\nnam = 1\n").expect("written");
        let error = Catalogue::load(&file).expect_err("wrong").to_string();
        assert!(error.contains("models.toml") && error.contains("nam"), "{error}");
    }
}
