//! Text to token ids and back.
//!
//! Owns `tokenizer.json`. Decoding is incremental and never splits a character: bytes that may become one with the
//! next token are held back.

use std::path::{Path, PathBuf};

use aho_corasick::{AhoCorasick, MatchKind};
use tokenizers::{PostProcessor, TruncationDirection};

use crate::error::{Error, Result};
use crate::folder::ModelFolder;

const START_OF_TEXT: &str = "<|startoftext|>";
const TURN_START: &str = "<|im_start|>";
const TURN_END: &str = "<|im_end|>";

/// A folder's tokenizer.
#[derive(Debug, Clone)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    path: PathBuf,
    /// Whether a vocabulary row has a token.
    has_token: Vec<bool>,
    /// Tokens that are recognised in text whatever surrounds them.
    control: AhoCorasick,
}

impl Tokenizer {
    /// Reads `tokenizer.json` and checks that it belongs to a model with `vocabulary` rows.
    ///
    /// # Errors
    /// [`Error::PartMissing`] without a file, [`Error::Malformed`] for one that is damaged or belongs to another model.
    pub fn load(folder: &ModelFolder, vocabulary: usize) -> Result<Self> {
        let path = folder.root().join("tokenizer.json");
        if !path.is_file() {
            return Err(Error::PartMissing {
                what: "tokenizer.json".into(),
                path: folder.root().to_path_buf(),
                consequence: "text can neither be read nor written; download it from the model's repository".into(),
            });
        }
        let malformed = |reason: String| Error::Malformed {
            path: path.clone(),
            reason,
            remedy: "use the tokenizer.json that belongs to this model",
        };
        let mut inner =
            tokenizers::Tokenizer::from_file(&path).map_err(|error| malformed(format!("not a tokenizer ({error})")))?;
        // A file saved while a program was using it may cut texts off or fill them up.
        inner.with_padding(None);
        inner.with_truncation(None).map_err(|error| malformed(error.to_string()))?;
        for token in [START_OF_TEXT, TURN_START, TURN_END] {
            if inner.token_to_id(token).is_none() {
                return Err(malformed(format!("wrong tokenizer: it has no token {token}")));
            }
        }
        let mut has_token = vec![false; vocabulary];
        for (token, id) in inner.get_vocab(true) {
            match has_token.get_mut(id as usize) {
                Some(has) => *has = true,
                None => {
                    return Err(malformed(format!(
                        "wrong tokenizer: {token:?} has id {id}, but the model has {vocabulary} rows"
                    )));
                }
            }
        }
        let control: Vec<String> = inner.get_added_tokens_decoder().into_values().map(|token| token.content).collect();
        // In one pass over a text: a caller's may be nothing but such tokens.
        let control = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            .build(control.iter().filter(|token| !token.is_empty()))
            .map_err(|error| Error::Malformed {
                path: path.clone(),
                reason: format!("its added tokens cannot be searched for ({error})"),
                remedy: "use the tokenizer.json that belongs to this model",
            })?;
        Ok(Self { inner, path, has_token, control })
    }

    /// The file that it was read from.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The ids of `text`, special tokens in it recognised and none added.
    ///
    /// # Errors
    /// [`Error::BadRequest`] when the text cannot be represented.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let encoding = self
            .inner
            .encode_fast(text, false)
            .map_err(|error| Error::BadRequest(format!("{text:?} cannot be tokenised: {error}")))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The ids of `text` with those that the file's own frame puts around it (the first token of a text), at most
    /// `longest` of them: the text is cut off, the frame is not.
    ///
    /// # Errors
    /// [`Error::BadRequest`] when the text cannot be represented or the frame alone is longer.
    pub fn encode_framed(&self, text: &str, longest: usize) -> Result<Vec<u32>> {
        let wrong = |error| Error::BadRequest(format!("{text:?} cannot be tokenised: {error}"));
        let mut encoding = self.inner.encode_fast(text, false).map_err(wrong)?;
        let frame = self.inner.get_post_processor().map_or(0, |frame| frame.added_tokens(false));
        let room = longest.checked_sub(frame).ok_or_else(|| wrong("it is allowed too few tokens".into()))?;
        encoding.truncate(room, 0, TruncationDirection::Right);
        Ok(self.inner.post_process(encoding, None, true).map_err(wrong)?.get_ids().to_vec())
    }

    /// The ids of a caller's `text`, in which special tokens are plain text.
    ///
    /// # Errors
    /// [`Error::BadRequest`] when the text cannot be represented.
    pub fn encode_plain(&mut self, text: &str) -> Result<Vec<u32>> {
        self.inner.set_encode_special_tokens(true);
        let ids = self.encode(text);
        self.inner.set_encode_special_tokens(false);
        ids
    }

    /// The id of a token by its exact text.
    ///
    /// # Errors
    /// [`Error::Malformed`] when there is no such token.
    pub fn id(&self, token: &str) -> Result<u32> {
        self.inner.token_to_id(token).ok_or_else(|| Error::Malformed {
            path: self.path.clone(),
            reason: format!("wrong tokenizer: it has no token {token}"),
            remedy: "use the tokenizer.json that belongs to this model",
        })
    }

    /// The id of a token, if there is one with this text.
    #[must_use]
    pub fn find(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// The first control token in `text`, with what stands before and after it.
    pub(crate) fn first_control_token<'a>(&self, text: &'a str) -> Option<(&'a str, &'a str, &'a str)> {
        // The longest of those that begin first, as the tokenizer takes it.
        let (at, length) = self.control.find(text).map(|found| (found.start(), found.len()))?;
        Some((&text[..at], &text[at..at + length], &text[at + length..]))
    }

    /// Where the last control token in `text` ends; zero without one.
    pub(crate) fn end_of_last_control_token(&self, text: &str) -> usize {
        self.control.find_iter(text).last().map_or(0, |found| found.end())
    }

    /// Whether the vocabulary row `id` has a token; rows without one are never chosen.
    #[must_use]
    pub fn has_token(&self, id: u32) -> bool {
        self.has_token.get(id as usize).copied().unwrap_or_default()
    }

    /// The text of `ids`.
    ///
    /// # Errors
    /// [`Error::BadRequest`] when the decoder of the file fails.
    pub fn decode(&self, ids: &[u32], special: Special) -> Result<String> {
        self.inner
            .decode(ids, special == Special::Drop)
            .map_err(|error| Error::BadRequest(format!("{ids:?} cannot be decoded: {error}")))
    }
}

/// What to do with special tokens when decoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Special {
    /// Leave them out, as a reader wants.
    Drop,
    /// Write them, as a parser of tool calls needs.
    Keep,
}

/// Decodes a growing sequence of ids piece by piece.
#[derive(Debug, Clone)]
pub struct TextStream {
    special: Special,
    /// Ids whose text may still change or that give the next ones their context.
    window: Vec<u32>,
    /// Bytes of the window's text that have been handed out.
    shown: usize,
}

/// Ids that a window keeps as context once their text is settled: a token's text may depend on the one before.
const CONTEXT: usize = 4;
/// Ids that may belong to a character whose last byte is to come.
const UNFINISHED: usize = 3;
/// A window longer than this is cut even if its text is not settled, which bounds work on invalid bytes.
const MOST_HELD: usize = 32;

impl TextStream {
    /// An empty stream.
    #[must_use]
    pub fn new(special: Special) -> Self {
        Self { special, window: Vec::new(), shown: 0 }
    }

    /// Adds `id` and returns the text that is settled by it, which may be empty.
    ///
    /// # Errors
    /// Those of [`Tokenizer::decode`].
    pub fn push(&mut self, tokenizer: &Tokenizer, id: u32) -> Result<String> {
        self.window.push(id);
        let text = tokenizer.decode(&self.window, self.special)?;
        if !text.ends_with(char::REPLACEMENT_CHARACTER) {
            return self.settle(tokenizer, self.window.len());
        }
        // The last bytes may still become a character.
        match self.window.len() < MOST_HELD {
            true => Ok(String::new()),
            false => self.settle(tokenizer, self.window.len() - UNFINISHED),
        }
    }

    /// Returns what was held back; incomplete characters become U+FFFD.
    ///
    /// # Errors
    /// Those of [`Tokenizer::decode`].
    pub fn finish(&mut self, tokenizer: &Tokenizer) -> Result<String> {
        let text = tokenizer.decode(&self.window, self.special)?;
        let rest = text.get(self.shown..).unwrap_or_default().to_owned();
        self.window.clear();
        self.shown = 0;
        Ok(rest)
    }

    /// Hands out the text of the first `count` ids and keeps the last of them as context for what follows.
    fn settle(&mut self, tokenizer: &Tokenizer, count: usize) -> Result<String> {
        let text = tokenizer.decode(&self.window[..count], self.special)?;
        let new = text.get(self.shown..).unwrap_or_default().to_owned();
        let cut = count.saturating_sub(CONTEXT);
        self.window.drain(..cut);
        self.shown = tokenizer.decode(&self.window[..count - cut], self.special)?.len();
        Ok(new)
    }
}
