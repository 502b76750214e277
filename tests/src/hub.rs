//! A model hub on the loopback interface, with the faults that a test asks for.
//!
//! It answers as the real one does: a listing with sizes and hashes, small files from the hub itself, large ones by a
//! redirect to storage at another port, ranges, ETags. What it sent of each file is on record.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use eddy_store::{Hasher, Patience, Settings};
use serde_json::{Value, json};

/// Files of at least this many bytes are kept apart from the repository, in storage.
const LARGE: usize = 10_000;
/// The commit that everything here is at.
pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
/// Bytes that are sent at a time.
const PIECE: usize = 4096;

/// What goes wrong with the next request for a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The connection ends before this byte of the file.
    CutAt(usize),
    /// Nothing more comes from this byte on, and the connection stays open.
    HoldAt(usize),
    /// The byte at this place is another.
    CorruptAt(usize),
    /// An answer without the file.
    Status(u16, Option<u64>),
    /// The whole file, whatever range was asked for.
    NoRanges,
    /// An ETag of other content.
    OtherEtag,
    /// A Content-Length that is not the announced one, with as many bytes.
    Length(usize),
    /// A redirect to this address.
    Redirect(String),
    /// Each piece a while after the one before.
    Slowly(Duration),
}

/// One answer: the first byte of the file that it was to begin at, and how many bytes of it were sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sent {
    pub from: usize,
    pub count: usize,
}

#[derive(Default)]
struct State {
    files: BTreeMap<String, Vec<u8>>,
    /// What the listing says instead of a file's length.
    lengths: HashMap<String, u64>,
    faults: HashMap<String, VecDeque<Fault>>,
    sent: HashMap<String, Vec<Sent>>,
    license: Value,
    listings: VecDeque<Fault>,
    /// `Authorization` headers that the hub and that storage were sent.
    authorized: [usize; 2],
    commit: String,
    ended: bool,
}

/// The hub.
pub struct Hub {
    state: Arc<Mutex<State>>,
    pub base: String,
    storage: String,
}

impl Hub {
    /// Serves the files below a folder as `me/model`, licensed freely.
    pub fn of_folder(folder: &Path) -> Self {
        let mut files = BTreeMap::new();
        read_folder(folder, "", &mut files);
        Self::start(files)
    }

    pub fn start(files: BTreeMap<String, Vec<u8>>) -> Self {
        let state = Arc::new(Mutex::new(State {
            files,
            license: json!({ "license": "mit" }),
            commit: COMMIT.to_owned(),
            ..State::default()
        }));
        let listen = || TcpListener::bind("127.0.0.1:0").unwrap();
        let (hub, storage) = (listen(), listen());
        let address = |listener: &TcpListener| format!("http://{}", listener.local_addr().unwrap());
        let (base, storage_base) = (address(&hub), address(&storage));
        for (listener, place) in [(hub, 0), (storage, 1)] {
            let (state, storage_base) = (Arc::clone(&state), storage_base.clone());
            std::thread::spawn(move || {
                for stream in listener.incoming() {
                    if state.lock().unwrap().ended {
                        return;
                    }
                    let (state, storage_base) = (Arc::clone(&state), storage_base.clone());
                    std::thread::spawn(move || {
                        // A client that leaves in the middle is part of the tests.
                        let _ = serve(&state, stream.unwrap(), place, &storage_base);
                    });
                }
            });
        }
        Self { state, base, storage: storage_base }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// What goes wrong with the next requests for a file, one after the other.
    pub fn faults(&self, path: &str, faults: impl IntoIterator<Item = Fault>) {
        self.state().faults.entry(path.to_owned()).or_default().extend(faults);
    }

    /// What goes wrong with the next requests for the listing.
    pub fn listing_faults(&self, faults: impl IntoIterator<Item = Fault>) {
        self.state().listings.extend(faults);
    }

    /// The listing says another length of a file than it has.
    pub fn announce(&self, path: &str, length: u64) {
        self.state().lengths.insert(path.to_owned(), length);
    }

    pub fn license(&self, card: Value) {
        self.state().license = card;
    }

    /// A later commit, with other contents of some files.
    pub fn release(&self, commit: &str, changes: impl IntoIterator<Item = (&'static str, Vec<u8>)>) {
        let mut state = self.state();
        state.commit = commit.to_owned();
        state.files.extend(changes.into_iter().map(|(path, bytes)| (path.to_owned(), bytes)));
    }

    pub fn file(&self, path: &str) -> Vec<u8> {
        self.state().files[path].clone()
    }

    /// What was sent of a file, answer by answer.
    pub fn sent(&self, path: &str) -> Vec<Sent> {
        self.state().sent.get(path).cloned().unwrap_or_default()
    }

    /// Bytes that were sent of all files.
    pub fn sent_bytes(&self) -> usize {
        self.state().sent.values().flatten().map(|sent| sent.count).sum()
    }

    pub fn forget_sent(&self) {
        self.state().sent.clear();
    }

    /// Requests with a token that came to the hub, and to storage.
    pub fn authorized(&self) -> [usize; 2] {
        self.state().authorized
    }

    /// Settings of a client that is quick to give up.
    pub fn settings(&self) -> Settings {
        Settings {
            base: self.base.clone(),
            token: None,
            offline: false,
            cache: None,
            patience: Patience {
                answer: Duration::from_secs(5),
                stall: Duration::from_millis(150),
                tries: 3,
                pause: Duration::from_millis(1),
                longest_pause: Duration::from_millis(20),
            },
        }
    }

    /// Where storage is.
    pub fn storage(&self) -> &str {
        &self.storage
    }

    /// Waits until so many bytes of a file were sent.
    pub fn wait_sent(&self, path: &str, bytes: usize) {
        let begun = Instant::now();
        while self.sent(path).iter().map(|sent| sent.count).sum::<usize>() < bytes {
            assert!(begun.elapsed() < Duration::from_secs(20), "{path}: {bytes} bytes were not asked for");
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        self.state().ended = true;
        // Wakes the listeners.
        for base in [&self.base, &self.storage] {
            let _ = TcpStream::connect(base.trim_start_matches("http://"));
        }
    }
}

/// The files below a folder by their paths.
pub fn read_folder(folder: &Path, before: &str, files: &mut BTreeMap<String, Vec<u8>>) {
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let path = format!("{before}{}", entry.file_name().to_string_lossy());
        if entry.path().is_dir() {
            read_folder(&entry.path(), &format!("{path}/"), files);
        } else {
            files.insert(path, std::fs::read(entry.path()).unwrap());
        }
    }
}

fn hashes(bytes: &[u8]) -> (String, String) {
    let mut hasher = Hasher::new(bytes.len() as u64);
    hasher.update(bytes);
    let hashes = hasher.finish();
    (hashes.sha256, hashes.git)
}

/// Answers the requests of one connection.
fn serve(state: &Mutex<State>, stream: TcpStream, place: usize, storage: &str) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut out = stream;
    out.set_nodelay(true)?;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
        let mut from = 0;
        loop {
            let mut header = String::new();
            reader.read_line(&mut header)?;
            let header = header.trim().to_ascii_lowercase();
            if header.is_empty() {
                break;
            }
            if let Some(range) = header.strip_prefix("range: bytes=") {
                from = range.trim_end_matches('-').parse().unwrap();
            }
            if header.starts_with("authorization: bearer ") {
                state.lock().unwrap().authorized[place] += 1;
            }
        }
        if let Some(name) = path.strip_prefix("/storage/") {
            send(state, &mut out, name, from)?;
        } else if path.starts_with("/api/models/me/model/revision/") {
            listing(state, &mut out)?;
        } else if let Some(name) =
            path.strip_prefix("/me/model/resolve/").and_then(|rest| Some(rest.split_once('/')?.1))
        {
            let size = state.lock().unwrap().files.get(name).map(Vec::len);
            match size {
                None => answer(&mut out, 404, &[], b"Entry not found")?,
                Some(size) if size < LARGE => send(state, &mut out, name, from)?,
                Some(size) => {
                    let (sha256, _) = hashes(&state.lock().unwrap().files[name]);
                    let headers = [
                        format!("Location: {storage}/storage/{name}"),
                        format!("X-Linked-Size: {size}"),
                        format!("X-Linked-Etag: \"{sha256}\""),
                    ];
                    answer(&mut out, 302, &headers, b"")?;
                }
            }
        } else {
            answer(&mut out, 404, &[], b"Repository not found")?;
        }
    }
}

fn answer(out: &mut TcpStream, status: u16, headers: &[String], body: &[u8]) -> std::io::Result<()> {
    let mut head = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n", body.len());
    for header in headers {
        head += &format!("{header}\r\n");
    }
    out.write_all(head.as_bytes())?;
    out.write_all(b"\r\n")?;
    out.write_all(body)
}

fn listing(state: &Mutex<State>, out: &mut TcpStream) -> std::io::Result<()> {
    let mut state = state.lock().unwrap();
    if let Some(Fault::Status(status, after)) = state.listings.pop_front() {
        let headers: Vec<String> = after.map(|after| format!("Retry-After: {after}")).into_iter().collect();
        return answer(out, status, &headers, b"{}");
    }
    let siblings = state.files.iter().map(|(path, bytes)| {
        let (sha256, git) = hashes(bytes);
        let size = state.lengths.get(path).copied().unwrap_or(bytes.len() as u64);
        match bytes.len() < LARGE {
            true => json!({ "rfilename": path, "size": size, "blobId": git }),
            false => json!({
                "rfilename": path, "size": size, "blobId": "f".repeat(40),
                "lfs": { "sha256": sha256, "size": size, "pointerSize": 134 },
            }),
        }
    });
    let siblings: Vec<Value> = siblings.collect();
    let text = json!({ "id": "me/model", "sha": state.commit, "siblings": siblings, "cardData": state.license });
    answer(out, 200, &["Content-Type: application/json".into()], text.to_string().as_bytes())
}

fn send(state: &Mutex<State>, out: &mut TcpStream, name: &str, from: usize) -> std::io::Result<()> {
    let (bytes, fault) = {
        let mut state = state.lock().unwrap();
        let Some(bytes) = state.files.get(name).cloned() else { return answer(out, 404, &[], b"") };
        (bytes, state.faults.get_mut(name).and_then(VecDeque::pop_front))
    };
    let mut bytes = bytes;
    let (sha256, git) = hashes(&bytes);
    let mut etag = if bytes.len() < LARGE { git } else { sha256 };
    let mut from = from;
    let mut length = bytes.len();
    match &fault {
        Some(Fault::Status(status, after)) => {
            let headers: Vec<String> = after.map(|after| format!("Retry-After: {after}")).into_iter().collect();
            return answer(out, *status, &headers, b"");
        }
        Some(Fault::Redirect(to)) => return answer(out, 302, &[format!("Location: {to}")], b""),
        Some(Fault::NoRanges) => from = 0,
        Some(Fault::CorruptAt(at)) => bytes[*at] ^= 1,
        Some(Fault::OtherEtag) => etag = etag.chars().rev().collect(),
        Some(Fault::Length(other)) => {
            length = *other;
            bytes.resize(length, 0);
        }
        Some(Fault::CutAt(_) | Fault::HoldAt(_) | Fault::Slowly(_)) | None => {}
    }
    let ranged = from > 0;
    let head = match ranged {
        true => format!("HTTP/1.1 206 X\r\nContent-Range: bytes {from}-{}/{length}\r\n", length - 1),
        false => "HTTP/1.1 200 X\r\nAccept-Ranges: bytes\r\n".to_owned(),
    };
    out.write_all(format!("{head}Content-Length: {}\r\nETag: \"{etag}\"\r\n\r\n", length - from).as_bytes())?;
    let number = {
        let mut state = state.lock().unwrap();
        let sent = state.sent.entry(name.to_owned()).or_default();
        sent.push(Sent { from, count: 0 });
        sent.len() - 1
    };
    let end = match &fault {
        Some(Fault::CutAt(at) | Fault::HoldAt(at)) => (*at).clamp(from, length),
        _ => length,
    };
    let mut at = from;
    while at < end {
        let until = (at + PIECE).min(end);
        out.write_all(&bytes[at..until])?;
        if let Some(sent) = state.lock().unwrap().sent.get_mut(name).and_then(|sent| sent.get_mut(number)) {
            sent.count += until - at;
        }
        at = until;
        if let Some(Fault::Slowly(pause)) = &fault {
            std::thread::sleep(*pause);
        }
    }
    match fault {
        Some(Fault::CutAt(_)) => out.shutdown(std::net::Shutdown::Both),
        // Until the client leaves.
        Some(Fault::HoldAt(_)) => {
            out.set_read_timeout(Some(Duration::from_secs(60)))?;
            let mut byte = [0];
            let _ = std::io::Read::read(out, &mut byte);
            out.shutdown(std::net::Shutdown::Both)
        }
        _ => Ok(()),
    }
}
