//! The knobs of a late-interaction model, read from `config_sentence_transformers.json`, with pylate's defaults where
//! the file is silent.

use std::collections::HashSet;

use crate::error::{Error, Result};
use crate::folder::{Json, ModelFolder};
use crate::tokenizer::Tokenizer;

/// Where the knobs are.
pub(super) const FILE: &str = "config_sentence_transformers.json";
/// Longer texts than any published encoder takes.
const MOST_TOKENS: usize = 8192;

/// What a text is encoded as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// What somebody looks for.
    Query,
    /// What is looked through.
    Document,
}

/// Whether a query is filled up to its full length, which lets the model add words of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expansion {
    /// No.
    None,
    /// Yes, and the query's own words do not see what was added.
    Unseen,
    /// Yes, and everything sees everything.
    Seen,
}

/// The knobs of one folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Token behind the first one of a query; `None` where the prefix is empty.
    pub query_prefix: Option<u32>,
    /// Token behind the first one of a document.
    pub document_prefix: Option<u32>,
    /// Tokens of a query, prefix included.
    pub query_length: usize,
    /// Tokens of a document at most, prefix included.
    pub document_length: usize,
    /// How queries are filled up.
    pub expansion: Expansion,
    /// The token that they are filled up with.
    pub pad: u32,
    /// Tokens whose vectors are left out of a document.
    pub skiplist: HashSet<u32>,
    /// Width of a vector, where the file says it.
    pub width: Option<usize>,
}

impl Settings {
    /// Reads the folder's knobs.
    ///
    /// # Errors
    /// [`Error::Malformed`] for a prefix that is no token, and for values of the wrong kind or out of any sense.
    pub fn read(folder: &ModelFolder, tokenizer: &Tokenizer) -> Result<Self> {
        let json = Json::read(folder.root(), FILE)?;
        let malformed = |reason: String| Error::Malformed {
            path: folder.root().join(FILE),
            reason,
            remedy: "correct it, or use the file and the tokenizer.json that belong to this model",
        };
        let prefix = |name: &str, default: &str| -> Result<Option<u32>> {
            let text = json.text(&[name]).unwrap_or(default);
            if text.is_empty() {
                return Ok(None);
            }
            // The blank at its end is part of the token. pylate looks it up and so does this; the id that an exporter
            // wrote down stands in where the tokenizer was saved without the token.
            let written = json.ids(&[&format!("{name}_id")])?.first().copied();
            match tokenizer.find(text).or(written) {
                Some(id) => Ok(Some(id)),
                None => Err(malformed(format!("the {name} {text:?} is no token of the tokenizer"))),
            }
        };
        let length = |name: &str, default: usize| -> Result<usize> {
            let length = json.count(&[name])?.unwrap_or(default);
            // A first token, a prefix, and something to say.
            if !(3..=MOST_TOKENS).contains(&length) {
                return Err(malformed(format!("{name} is {length}, which makes no sense")));
            }
            Ok(length)
        };
        let flag = |name: &str, default: bool| -> Result<bool> {
            match json.get(&[name]) {
                None => Ok(default),
                Some(value) => {
                    value.as_bool().ok_or_else(|| malformed(format!("{name} is {value}, not true or false")))
                }
            }
        };
        let expansion = match (flag("do_query_expansion", true)?, flag("attend_to_expansion_tokens", false)?) {
            (false, _) => Expansion::None,
            (true, false) => Expansion::Unseen,
            (true, true) => Expansion::Seen,
        };
        let pad = match json.ids(&["mask_token_id"])?.first().or(json.ids(&["pad_token_id"])?.first()) {
            Some(id) => *id,
            None => tokenizer.id("<|im_end|>")?,
        };
        let skiplist = match json.get(&["skiplist_words"]) {
            None => (b'!'..=b'~')
                .filter(u8::is_ascii_punctuation)
                .filter_map(|byte| tokenizer.find(&char::from(byte).to_string()))
                .collect(),
            Some(serde_json::Value::Array(words)) => words
                .iter()
                .map(|word| word.as_str().ok_or_else(|| malformed(format!("skiplist_words has {word}, not a text"))))
                // A word without a token of its own can leave no token out.
                .filter_map(|word| word.map(|word| tokenizer.find(word)).transpose())
                .collect::<Result<_>>()?,
            Some(other) => return Err(malformed(format!("skiplist_words is {other}, not a list"))),
        };
        Ok(Self {
            query_prefix: prefix("query_prefix", "[Q] ")?,
            document_prefix: prefix("document_prefix", "[D] ")?,
            query_length: length("query_length", 32)?,
            document_length: length("document_length", 180)?,
            expansion,
            pad,
            skiplist,
            width: json.count(&["embedding_dim"])?,
        })
    }

    /// The prefix and the length of one side.
    #[must_use]
    pub fn side(&self, side: Side) -> (Option<u32>, usize) {
        match side {
            Side::Query => (self.query_prefix, self.query_length),
            Side::Document => (self.document_prefix, self.document_length),
        }
    }
}
