//! Bringing an index up to date with files.
//!
//! A passage is known by its document and its text, so one that has not changed is kept where it is, even when it has moved
//! within its document. Every finished batch stays when the work is interrupted, and the next run goes on from there.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};

use eddy_models::Error;
use eddy_models::retrieval::index::{Index, Passage, Place};
use eddy_models::retrieval::{Ruler, Side};

use crate::cli::encoding::Encoding;

use super::passages::{cut, shorten};

/// Passages that are encoded and stored together.
const BATCH: usize = 16;
/// Larger files are no notes.
const MOST_BYTES: u64 = 16 << 20;
/// Folders inside each other.
const DEEPEST: usize = 32;
const ENDINGS: [&str; 4] = ["md", "markdown", "txt", "text"];

/// What an update came to.
#[derive(Debug, Default)]
pub(super) struct Done {
    pub documents: usize,
    pub added: usize,
    pub kept: usize,
    pub removed: usize,
    pub passed_over: Vec<(PathBuf, String)>,
    pub interrupted: bool,
}

/// An update in progress.
pub(super) struct Update<'a> {
    pub index: &'a mut dyn Index,
    pub encoding: &'a mut Encoding,
}

impl Update<'_> {
    /// Takes in `paths`.
    ///
    /// # Errors
    /// For a path that does not exist, and those of model and index.
    pub fn run(&mut self, paths: &[PathBuf]) -> anyhow::Result<Done> {
        let mut done = Done::default();
        let mut files = Vec::new();
        for path in paths {
            anyhow::ensure!(path.exists(), "{}: no such file or folder", path.display());
            collect(path, 0, true, &mut files, &mut done);
        }
        let total = files.len();
        for (number, file) in files.into_iter().enumerate() {
            if self.encoding.interrupted() {
                done.interrupted = true;
                break;
            }
            let text = match read(&file) {
                Ok(text) => text,
                Err(PassedOver::Unreadable(reason)) => {
                    done.passed_over.push((file, reason));
                    continue;
                }
                Err(PassedOver::NoText(reason)) => {
                    // What it said when it was text, it says no more.
                    done.removed += self.forget(&file.to_string_lossy())?;
                    done.passed_over.push((file, reason));
                    continue;
                }
            };
            progress(number + 1, total, &file);
            match self.document(&file, &text, &mut done) {
                Err(error) if matches!(error.downcast_ref(), Some(Error::Stopped)) => {
                    done.interrupted = true;
                    break;
                }
                result => result?,
            }
            done.documents += 1;
        }
        end_progress();
        if !done.interrupted {
            self.forget_gone(paths, &mut done)?;
        }
        Ok(done)
    }

    /// Takes out what came from files below `paths` that are there no more.
    fn forget_gone(&mut self, paths: &[PathBuf], done: &mut Done) -> anyhow::Result<()> {
        let roots: Vec<PathBuf> = paths.iter().filter_map(|path| path.canonicalize().ok()).collect();
        for (document, _) in self.index.documents()? {
            let file = Path::new(&document);
            if roots.iter().any(|root| file.starts_with(root)) && !file.exists() {
                done.removed += self.forget(&document)?;
            }
        }
        Ok(())
    }

    fn forget(&mut self, document: &str) -> anyhow::Result<usize> {
        let passages = self.index.passages_of(document)?;
        let ids: Vec<&str> = passages.iter().map(|passage| passage.id.as_str()).collect();
        Ok(self.index.remove(&ids)?)
    }

    fn document(&mut self, file: &Path, text: &str, done: &mut Done) -> anyhow::Result<()> {
        let document = file.to_string_lossy().into_owned();
        let wanted = wanted_passages(&document, text, self.encoding.ruler())?;
        let known: HashMap<String, Passage> =
            self.index.passages_of(&document)?.into_iter().map(|passage| (passage.id.clone(), passage)).collect();
        let ids: HashSet<&str> = wanted.iter().map(|passage| passage.id.as_str()).collect();
        let gone: Vec<&str> = known.keys().map(String::as_str).filter(|id| !ids.contains(id)).collect();
        done.removed += self.index.remove(&gone)?;

        let same = |passage: &&Passage| known.get(&passage.id).is_some_and(|known| known.text == passage.text);
        let moved: Vec<(&str, &Place)> = wanted
            .iter()
            .filter(same)
            .filter(|passage| known[&passage.id].place != passage.place)
            .filter_map(|passage| Some((passage.id.as_str(), passage.place.as_ref()?)))
            .collect();
        self.index.relocate(&moved)?;
        done.kept += wanted.iter().filter(same).count();

        let new: Vec<Passage> = wanted.iter().filter(|passage| !same(passage)).cloned().collect();
        for batch in new.chunks(BATCH) {
            let texts: Vec<&str> = batch.iter().map(|passage| passage.text.as_str()).collect();
            let vectors = self.encoding.encode(&texts, Side::Document)?;
            self.index.add(batch, &vectors)?;
            done.added += batch.len();
        }
        Ok(())
    }
}

/// The passages that a document should have, none longer than the model reads if `ruler` tells that; equal texts in one
/// document are told apart by their number.
fn wanted_passages(document: &str, text: &str, ruler: Option<&Ruler>) -> Result<Vec<Passage>, Error> {
    let mut repeats: BTreeMap<u64, u32> = BTreeMap::new();
    let mut pieces = cut(text);
    if let Some(ruler) = ruler {
        pieces = shorten(text, pieces, |words| ruler.share(words))?;
    }
    let passages = pieces.into_iter().map(|piece| {
        let words = &text[piece.begin..piece.end];
        let hash = fnv(words.as_bytes());
        let repeat = repeats.entry(hash).or_default();
        *repeat += 1;
        let place = Place {
            document: document.to_owned(),
            begin: piece.begin as u64,
            end: piece.end as u64,
            line: piece.line as u64,
        };
        Passage { id: format!("{document}#{hash:016x}.{repeat}"), text: words.to_owned(), place: Some(place) }
    });
    Ok(passages.collect())
}

/// Why a file is not taken in.
enum PassedOver {
    /// It is none that could be searched.
    NoText(String),
    /// It may be one, and cannot be looked at.
    Unreadable(String),
}

/// FNV-1a: names must stay the same from one version of the program to the next, which the standard hasher does not promise.
fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Gathers the files below `path`. A file that is named is taken whatever its ending; hidden files and links are not followed.
fn collect(path: &Path, depth: usize, named: bool, files: &mut Vec<PathBuf>, done: &mut Done) {
    let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
    if !named && (hidden || path.is_symlink()) {
        return;
    }
    if path.is_dir() {
        if depth >= DEEPEST {
            done.passed_over.push((path.to_path_buf(), "too many folders inside each other".into()));
            return;
        }
        match std::fs::read_dir(path) {
            Ok(entries) => {
                let mut entries: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
                entries.sort();
                for entry in entries {
                    collect(&entry, depth + 1, false, files, done);
                }
            }
            Err(error) => done.passed_over.push((path.to_path_buf(), error.to_string())),
        }
        return;
    }
    let ending = path.extension().map(|ending| ending.to_string_lossy().to_lowercase()).unwrap_or_default();
    if named || ENDINGS.contains(&ending.as_str()) {
        // One name for a file, from wherever it is added.
        files.push(path.canonicalize().unwrap_or_else(|_| path.to_path_buf()));
    }
}

fn read(path: &Path) -> Result<String, PassedOver> {
    use PassedOver::{NoText, Unreadable};
    let unreadable = |error: std::io::Error| Unreadable(error.to_string());
    let about = std::fs::metadata(path).map_err(unreadable)?;
    // A pipe would be waited for, and a device has no end.
    if !about.is_file() {
        return Err(NoText("not a file".into()));
    }
    let size = about.len();
    if size > MOST_BYTES {
        return Err(NoText(format!("{} MiB are more than the limit of {} MiB", size >> 20, MOST_BYTES >> 20)));
    }
    let bytes = std::fs::read(path).map_err(unreadable)?;
    String::from_utf8(bytes).map_err(|_| NoText("not UTF-8 text".into()))
}

fn progress(number: usize, total: usize, file: &Path) {
    if std::io::stderr().is_terminal() {
        eprint!("\r\x1b[K{number}/{total} {}", file.display());
        let _ = std::io::stderr().flush();
    }
}

fn end_progress() {
    if std::io::stderr().is_terminal() {
        eprint!("\r\x1b[K");
    }
}
