//! The table of passages: ids, texts, places, and which rows of the vector file are theirs. SQLite keeps it.
//!
//! A batch counts from the moment its transaction is committed; what the vector file holds beyond that does not.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags, OptionalExtension, Row, Transaction, params};

use super::Passage;
use super::scan::Entry;
use crate::error::{Error, Result};

const FORMAT: i64 = 1;
/// How long another process that is writing is waited for.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(5);

/// Where a passage was cut from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The document, usually a file's path.
    pub document: String,
    /// Byte at which it begins.
    pub begin: u64,
    /// Byte behind its end.
    pub end: u64,
    /// Line on which it begins, from 1 on.
    pub line: u64,
}

/// What an index is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Description {
    pub width: usize,
    /// The model that made its vectors.
    pub model: String,
    /// Which vector file counts.
    pub generation: u64,
    /// Rows of it that count.
    pub rows: usize,
}

#[derive(Debug)]
pub(super) struct Table {
    connection: Connection,
    path: PathBuf,
    /// What SQLite called the state of the table when it was last asked; others' changes give it another number.
    version: i64,
}

impl Table {
    /// Makes the table of a new index.
    pub fn create(path: &Path, width: usize, model: &str) -> Result<Self> {
        let connection = Connection::open(path).map_err(failure(path))?;
        let mut table = Self { connection, path: path.to_path_buf(), version: 0 };
        table.settle()?;
        table.change(|change| {
            change.execute_batch(
                "CREATE TABLE description (format INTEGER NOT NULL, width INTEGER NOT NULL, model TEXT NOT NULL,
                     generation INTEGER NOT NULL, rows INTEGER NOT NULL);
                 CREATE TABLE passages (key INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, text TEXT NOT NULL,
                     document TEXT, begin INTEGER, end INTEGER, line INTEGER,
                     first INTEGER NOT NULL, count INTEGER NOT NULL);
                 CREATE INDEX passages_by_document ON passages (document);",
            )?;
            let row = params![FORMAT, width as i64, model];
            change.execute("INSERT INTO description VALUES (?1, ?2, ?3, 0, 0)", row)?;
            Ok(())
        })?;
        Ok(table)
    }

    /// Opens the table of an index that is there.
    pub fn open(path: &Path, write: bool) -> Result<Self> {
        let flags = match write {
            true => OpenFlags::SQLITE_OPEN_READ_WRITE,
            false => OpenFlags::SQLITE_OPEN_READ_ONLY,
        } | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags).map_err(failure(path))?;
        let table = Self { connection, path: path.to_path_buf(), version: 0 };
        table.connection.busy_timeout(PATIENCE).map_err(failure(path))?;
        if write {
            table.settle()?;
        }
        Ok(table)
    }

    /// Commits survive a power cut, and readers go on while somebody writes.
    fn settle(&self) -> Result<()> {
        let set = |name: &str, value: &str| self.connection.pragma_update(None, name, value);
        set("journal_mode", "WAL").and_then(|()| set("synchronous", "FULL")).map_err(self.failure())
    }

    /// Whether another connection has changed it since this was last asked.
    pub fn was_changed(&mut self) -> Result<bool> {
        let version = self.connection.pragma_query_value(None, "data_version", |row| row.get(0));
        let version: i64 = version.map_err(self.failure())?;
        Ok(std::mem::replace(&mut self.version, version) != version)
    }

    /// Reads what the index is and its entries, in the order of their rows.
    pub fn read(&mut self) -> Result<(Description, Vec<Entry>)> {
        let path = &self.path;
        let wrong = |reason: &str| Error::Malformed {
            path: path.clone(),
            reason: reason.to_owned(),
            remedy: "remove the index and add its documents again",
        };
        // One transaction, so that the description and the entries belong together.
        let snapshot = self.connection.transaction().map_err(failure(path))?;
        let stored = snapshot
            .query_row("SELECT format, width, model, generation, rows FROM description", [], |row| {
                Ok((
                    row.get::<_, i64>(0)?,
                    row.get::<_, i64>(1)?,
                    row.get(2)?,
                    row.get::<_, i64>(3)?,
                    row.get::<_, i64>(4)?,
                ))
            })
            .map_err(failure(path))?;
        let (format, width, model, generation, rows) = stored;
        if format != FORMAT {
            return Err(wrong(&format!("it has format {format} and this version reads {FORMAT}")));
        }
        let description = Description {
            width: usize::try_from(width)
                .ok()
                .filter(|width| (1..=1 << 16).contains(width))
                .ok_or_else(|| wrong("it gives no sensible width"))?,
            model,
            generation: u64::try_from(generation).map_err(|_| wrong("it names no vector file"))?,
            rows: usize::try_from(rows).map_err(|_| wrong("it counts no rows"))?,
        };
        let mut statement =
            snapshot.prepare("SELECT key, first, count FROM passages ORDER BY first").map_err(failure(path))?;
        let entry = |row: &Row<'_>| Ok((row.get(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?));
        let mut entries = Vec::new();
        for stored in statement.query_map([], entry).map_err(failure(path))? {
            let (key, first, count) = stored.map_err(failure(path))?;
            let (first, count) = (usize::try_from(first).ok(), usize::try_from(count).ok());
            let inside = first
                .zip(count)
                .filter(|(first, count)| first.checked_add(*count).is_some_and(|end| end <= description.rows));
            let (first, count) = inside.ok_or_else(|| wrong("a passage has vectors where there are none"))?;
            entries.push(Entry { key, first, count });
        }
        drop(statement);
        Ok((description, entries))
    }

    /// Does several changes, all or none.
    pub fn change<T>(&mut self, changes: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>) -> Result<T> {
        let path = &self.path;
        let transaction = self.connection.transaction().map_err(failure(path))?;
        let done = changes(&transaction).map_err(failure(path))?;
        transaction.commit().map_err(failure(path))?;
        Ok(done)
    }

    /// The passage with `key`.
    pub fn passage(&self, key: i64) -> Result<Option<Passage>> {
        self.connection
            .query_row("SELECT id, text, document, begin, end, line FROM passages WHERE key = ?1", [key], passage)
            .optional()
            .map_err(self.failure())
    }

    /// The passages that were cut from `document`, in its order.
    pub fn passages_of(&self, document: &str) -> Result<Vec<Passage>> {
        let query = "SELECT id, text, document, begin, end, line FROM passages WHERE document = ?1 ORDER BY begin";
        let mut statement = self.connection.prepare_cached(query).map_err(self.failure())?;
        let rows = statement.query_map([document], passage).map_err(self.failure())?;
        rows.collect::<rusqlite::Result<_>>().map_err(self.failure())
    }

    /// The documents that passages were cut from, with the number of their passages.
    pub fn documents(&self) -> Result<Vec<(String, u64)>> {
        let query = "SELECT document, COUNT(*) FROM passages WHERE document IS NOT NULL GROUP BY document ORDER BY 1";
        let mut statement = self.connection.prepare_cached(query).map_err(self.failure())?;
        let row = |row: &Row<'_>| Ok((row.get(0)?, row.get::<_, i64>(1)?.unsigned_abs()));
        let rows = statement.query_map([], row).map_err(self.failure())?;
        rows.collect::<rusqlite::Result<_>>().map_err(self.failure())
    }

    /// Bytes of the database.
    pub fn bytes(&self) -> Result<u64> {
        let pages: i64 = self
            .connection
            .query_row("SELECT page_count * page_size FROM pragma_page_count, pragma_page_size", [], |row| row.get(0))
            .map_err(self.failure())?;
        Ok(pages.unsigned_abs())
    }

    fn failure(&self) -> impl FnOnce(rusqlite::Error) -> Error {
        failure(&self.path)
    }
}

/// Adds a passage whose vectors are rows `first..first + count`, in the place of one with the same id.
pub(super) fn insert(change: &Transaction<'_>, passage: &Passage, first: usize, count: usize) -> rusqlite::Result<()> {
    let place = passage.place.as_ref();
    let number = |number: fn(&Place) -> u64| place.map(|place| number(place) as i64);
    change
        .prepare_cached(
            "INSERT OR REPLACE INTO passages (id, text, document, begin, end, line, first, count)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?
        .execute(params![
            passage.id,
            passage.text,
            place.map(|place| &place.document),
            number(|place| place.begin),
            number(|place| place.end),
            number(|place| place.line),
            first as i64,
            count as i64,
        ])?;
    Ok(())
}

/// Removes a passage; whether it was there.
pub(super) fn remove(change: &Transaction<'_>, id: &str) -> rusqlite::Result<bool> {
    Ok(change.prepare_cached("DELETE FROM passages WHERE id = ?1")?.execute([id])? > 0)
}

/// Writes down a passage's new place.
pub(super) fn relocate(change: &Transaction<'_>, id: &str, place: &Place) -> rusqlite::Result<()> {
    change
        .prepare_cached("UPDATE passages SET document = ?2, begin = ?3, end = ?4, line = ?5 WHERE id = ?1")?
        .execute(params![id, place.document, place.begin as i64, place.end as i64, place.line as i64])?;
    Ok(())
}

fn passage(row: &Row<'_>) -> rusqlite::Result<Passage> {
    let number =
        |index: usize| row.get::<_, Option<i64>>(index).map(|number| number.unwrap_or_default().unsigned_abs());
    let place = match row.get::<_, Option<String>>(2)? {
        Some(document) => Some(Place { document, begin: number(3)?, end: number(4)?, line: number(5)? }),
        None => None,
    };
    Ok(Passage { id: row.get(0)?, text: row.get(1)?, place })
}

/// An error of the database.
pub(super) fn failure(path: &Path) -> impl FnOnce(rusqlite::Error) -> Error {
    move |error| Error::Store { path: path.to_path_buf(), reason: error.to_string() }
}
