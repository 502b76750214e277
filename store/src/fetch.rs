//! One file: from the byte where the last attempt ended to the last one, verified, then moved to its name.
//!
//! What has come is in `NAME.part` and nowhere else, so its length says where to go on. No byte that was written is asked
//! for again, unless the server knows no ranges or the whole turns out to be damaged.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::digest::{Hash, Hasher, Hashes, of_file};
use crate::error::{CHECK_FOLDER, Error, Result};
use crate::hub::{Body, Hub, Listing, Remote, Retry, Trouble};

const TRY_AGAIN: &str = "pull again; if it stays so, the hub or a proxy on the way is at fault";
/// How often a pause looks whether it is still wanted.
const WINK: Duration = Duration::from_millis(50);

/// What all workers of one pull share.
#[derive(Debug, Default)]
pub struct Tally {
    /// Bytes that are here, from earlier attempts too.
    pub here: AtomicU64,
    /// Bytes that came over the network.
    pub fetched: AtomicU64,
    /// Somebody wants it to end.
    pub stop: AtomicBool,
}

impl Tally {
    /// Waits, unless it is to end.
    ///
    /// # Errors
    /// [`Error::Cancelled`].
    pub fn pause(&self, time: Duration) -> Result<()> {
        let begun = Instant::now();
        loop {
            if self.stop.load(Ordering::Relaxed) {
                return Err(Error::Cancelled);
            }
            match time.checked_sub(begun.elapsed()) {
                Some(left) if !left.is_zero() => std::thread::sleep(left.min(WINK)),
                _ => return Ok(()),
            }
        }
    }
}

/// Where an unfinished file lies.
pub fn part_of(place: &Path) -> PathBuf {
    let mut name = place.as_os_str().to_owned();
    name.push(".part");
    name.into()
}

/// Brings `file` to `place`, whose folder exists, and returns its hashes.
///
/// # Errors
/// [`Error::WrongLength`], [`Error::WrongHash`], [`Error::Hub`] after too many failures, [`Error::Io`],
/// [`Error::Cancelled`].
pub fn fetch(hub: &Hub, listing: &Listing, file: &Remote, place: &Path, tally: &Tally) -> Result<Hashes> {
    let Some(announced) = &file.hash else {
        return Err(Error::Hub {
            url: hub.address(listing, file),
            reason: "the hub announces no hash, so the file could not be verified".into(),
            remedy: "use the hub itself or a mirror that passes its metadata on",
        });
    };
    if place.is_file() {
        // It got its name after it had been verified. That it still is costs a look.
        let (length, hashes) = of_file(place)?;
        if length == file.size && hashes.like(announced) == announced.digits() {
            tally.here.fetch_add(length, Ordering::Relaxed);
            return Ok(hashes);
        }
        std::fs::remove_file(place).map_err(Error::io(place, CHECK_FOLDER))?;
    }
    if let Some(hashes) = hub.cache().and_then(|cache| cache.give(&listing.repository, file, place)) {
        tally.here.fetch_add(file.size, Ordering::Relaxed);
        return Ok(hashes);
    }
    let mut part = Part::open(&part_of(place), file, tally)?;
    let url = hub.address(listing, file);
    let mut retry = Retry::new(hub.settings().patience);
    while part.length < file.size {
        let before = part.length;
        let attempt = hub.open(listing, file, part.length).and_then(|body| part.take(body, announced));
        if part.length > before {
            retry.progressed();
        }
        if let Err(trouble) = attempt {
            tally.pause(retry.after(&url, trouble)?)?;
        }
    }
    let hashes = part.finish(announced)?;
    std::fs::rename(part_of(place), place).map_err(Error::io(place, CHECK_FOLDER))?;
    if let Some(cache) = hub.cache() {
        cache.take(listing, file, place);
    }
    Ok(hashes)
}

/// An unfinished file.
struct Part<'a> {
    path: PathBuf,
    out: File,
    file: &'a Remote,
    length: u64,
    hasher: Hasher,
    tally: &'a Tally,
}

impl<'a> Part<'a> {
    fn open(path: &Path, file: &'a Remote, tally: &'a Tally) -> Result<Self> {
        let out = File::options().create(true).truncate(false).read(true).write(true).open(path);
        let out = out.map_err(Error::io(path, CHECK_FOLDER))?;
        let mut part = Self { path: path.to_owned(), out, file, length: 0, hasher: Hasher::new(file.size), tally };
        let length = part.out.metadata().map_err(|error| part.io(error))?.len();
        if length > file.size {
            part.restart()?;
        }
        let mut buffer = vec![0; 1 << 18];
        loop {
            match part.out.read(&mut buffer).map_err(|error| part.io(error))? {
                0 => break,
                count => part.note(&buffer[..count]),
            }
        }
        Ok(part)
    }

    fn io(&self, error: std::io::Error) -> Error {
        Error::io(&self.path, "make room on the disk, and check that the folder may be written to")(error)
    }

    fn note(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
        self.length += bytes.len() as u64;
        self.tally.here.fetch_add(bytes.len() as u64, Ordering::Relaxed);
    }

    /// Throws away what there is.
    fn restart(&mut self) -> Result<()> {
        self.out.set_len(0).and_then(|()| self.out.seek(SeekFrom::Start(0))).map_err(|error| self.io(error))?;
        self.tally.here.fetch_sub(self.length, Ordering::Relaxed);
        self.length = 0;
        self.hasher = Hasher::new(self.file.size);
        Ok(())
    }

    /// Writes down what comes.
    fn take(&mut self, mut body: Body, announced: &Hash) -> Result<(), Trouble> {
        let same_kind = |hash: &Hash| std::mem::discriminant(hash) == std::mem::discriminant(announced);
        if let Some(other) = body.hash.take().filter(|hash| same_kind(hash) && hash != announced) {
            return Err(Error::WrongHash {
                file: self.file.path.clone(),
                expected: announced.digits().to_owned(),
                found: format!("{} by the server's ETag", other.digits()),
            }
            .into());
        }
        if let Some(total) = body.total.filter(|total| *total != self.file.size) {
            return Err(self.wrong_length(total).into());
        }
        if body.from != self.length {
            self.restart()?;
        }
        let mut buffer = vec![0; 1 << 17];
        loop {
            if self.tally.stop.load(Ordering::Relaxed) {
                return Err(Error::Cancelled.into());
            }
            let count = body.read(&mut buffer)?;
            if count == 0 {
                break;
            }
            if self.length + count as u64 > self.file.size {
                return Err(self.wrong_length(self.length + count as u64).into());
            }
            self.out.write_all(&buffer[..count]).map_err(|error| {
                // What was written of this piece is not known; the next attempt goes on from what is.
                let _ = self.out.set_len(self.length);
                self.io(error)
            })?;
            self.note(&buffer[..count]);
            self.tally.fetched.fetch_add(count as u64, Ordering::Relaxed);
        }
        match self.length == self.file.size {
            true => Ok(()),
            false => Err(Trouble::Passing {
                reason: format!("the connection ended after {} of {} bytes", self.length, self.file.size),
                after: None,
            }),
        }
    }

    fn wrong_length(&self, found: u64) -> Error {
        Error::WrongLength { file: self.file.path.clone(), expected: self.file.size, found, remedy: TRY_AGAIN }
    }

    fn finish(self, announced: &Hash) -> Result<Hashes> {
        let hasher = self.hasher;
        let hashes = hasher.finish();
        if hashes.like(announced) != announced.digits() {
            let _ = std::fs::remove_file(&self.path);
            return Err(Error::WrongHash {
                file: self.file.path.clone(),
                expected: announced.digits().to_owned(),
                found: hashes.like(announced).to_owned(),
            });
        }
        let remedy = "make room on the disk, and check that the folder may be written to";
        self.out.sync_all().map_err(Error::io(&self.path, remedy))?;
        Ok(hashes)
    }
}
