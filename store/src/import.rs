//! A model folder or archive that is on this machine already, taken into the store.
//!
//! Only what a model consists of is copied; links in an archive, devices and paths that lead out of it end the import.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use eddy_models::folder::{GraphFile, ModelFolder, Precision, external_files};

use crate::choice::{beside, inside};
use crate::digest::of_file;
use crate::error::{CHECK_FOLDER, Error, Result};
use crate::manifest::{FILE, Manifest, Piece};
use crate::space;
use crate::store::{Model, Store, check_name};
use crate::versions::drop_folder;

/// How deep folders of a model are.
const DEEPEST: usize = 3;

impl Store {
    /// Takes the model in `source` (a folder, a `.tar` or a `.tar.gz`) into the store as `name`, or as it is called.
    ///
    /// # Errors
    /// [`Error::Escapes`], [`Error::Malformed`], [`Error::NoSpace`], [`Error::InTheWay`], and those of a folder that
    /// holds no usable model. The store is then as it was.
    pub fn import(&self, source: &Path, name: Option<&str>) -> Result<Model> {
        let source =
            source.canonicalize().map_err(Error::io(source, "give a model folder, or a .tar or .tar.gz of one"))?;
        let called = source.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let called =
            [".tar.gz", ".tgz", ".tar"].iter().find_map(|ending| called.strip_suffix(ending)).unwrap_or(&called);
        let name = name.unwrap_or(called).to_owned();
        check_name(&name)?;
        let root = self.root();
        std::fs::create_dir_all(root).map_err(Error::io(root, CHECK_FOLDER))?;
        let versions = self.versions(&name);
        versions.check_free()?;
        let _lock = self.lock(&name, || Ok(()))?;
        let staging = versions.staging("import");
        if staging.exists() {
            drop_folder(&staging)?;
        }
        let taken = match source.is_dir() {
            true => copy_folder(&source, &staging),
            false => unpack(&source, &staging),
        };
        let moved = taken.and_then(|()| {
            let manifest = describe(&staging, &source)?;
            manifest.write(&staging)?;
            versions.install(&staging)
        });
        if moved.is_err() {
            // The import failed for a reason that is told; what it left is only in the way.
            let _ = drop_folder(&staging);
            let _ = std::fs::remove_dir(versions.home());
        }
        moved?;
        self.model(&name)
    }
}

/// Whether a file is part of a model: a graph, weights beside one, or what every model has.
fn belongs(path: &str) -> bool {
    let graph = path.ends_with(".onnx") || path.contains(".onnx_data") || path.contains(".onnx.data");
    graph || path.ends_with(".data") || beside(path)
}

/// The folder's own files; weights under any name that its graphs refer to are among them.
fn copy_folder(source: &Path, staging: &Path) -> Result<()> {
    let mut files = Vec::new();
    gather(source, "", 0, &mut files)?;
    let mut wanted: BTreeSet<String> = files.iter().filter(|path| belongs(path)).cloned().collect();
    for graph in files.iter().filter(|path| path.ends_with(".onnx")) {
        let before = graph.rfind('/').map_or("", |at| &graph[..=at]);
        for location in external_files(&source.join(graph))? {
            let path = format!("{before}{location}");
            inside(&path, &source.display().to_string())?;
            wanted.insert(path);
        }
    }
    let length = |path: &String| std::fs::metadata(source.join(path)).map_or(0, |metadata| metadata.len());
    let home = staging.parent().unwrap_or(staging);
    std::fs::create_dir_all(home).map_err(Error::io(home, CHECK_FOLDER))?;
    space::check(home, wanted.iter().map(length).sum())?;
    for path in &wanted {
        let (from, to) = (source.join(path), staging.join(path));
        if let Some(parent) = to.parent() {
            std::fs::create_dir_all(parent).map_err(Error::io(parent, CHECK_FOLDER))?;
        }
        std::fs::copy(&from, &to)
            .map_err(Error::io(from, "make room on the disk, and check that the file may be read"))?;
    }
    Ok(())
}

fn gather(folder: &Path, before: &str, depth: usize, files: &mut Vec<String>) -> Result<()> {
    for entry in std::fs::read_dir(folder).map_err(Error::io(folder, "check that the folder may be read"))?.flatten() {
        // A name that is no text belongs to no model.
        let Ok(name) = entry.file_name().into_string() else { continue };
        let (path, place) = (format!("{before}{name}"), entry.path());
        // Links are followed: in the hub's cache every file is one, and the person has named this folder.
        if place.is_dir() && depth < DEEPEST && !name.starts_with('.') {
            gather(&place, &format!("{path}/"), depth + 1, files)?;
        } else if place.is_file() && name != FILE {
            files.push(path);
        }
    }
    Ok(())
}

fn unpack(archive: &Path, staging: &Path) -> Result<()> {
    let malformed = |reason: String| Error::Malformed {
        path: archive.to_path_buf(),
        reason,
        remedy: "give a .tar or .tar.gz of a model folder",
    };
    let mut file = File::open(archive).map_err(Error::io(archive, "check that the file may be read"))?;
    let mut magic = [0; 2];
    let read = file.read(&mut magic).and_then(|_| std::io::Seek::rewind(&mut file));
    read.map_err(Error::io(archive, "check that the file may be read"))?;
    let source: Box<dyn Read> = match magic {
        [0x1f, 0x8b] => Box::new(flate2::read::MultiGzDecoder::new(file)),
        _ => Box::new(file),
    };
    let mut archive_reader = tar::Archive::new(source);
    let entries = archive_reader.entries().map_err(|error| malformed(format!("no archive ({error})")))?;
    std::fs::create_dir_all(staging).map_err(Error::io(staging, CHECK_FOLDER))?;
    let mut seen = 0;
    for entry in entries {
        let mut entry = entry.map_err(|error| malformed(format!("damaged ({error})")))?;
        let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let path = path.strip_prefix("./").unwrap_or(&path).to_owned();
        let kind = entry.header().entry_type();
        if kind.is_dir() || matches!(kind, tar::EntryType::XGlobalHeader | tar::EntryType::XHeader) {
            continue;
        }
        inside(&path, &archive.display().to_string())?;
        if !kind.is_file() {
            return Err(Error::Escapes { path, source_name: format!("{} (a link or a device)", archive.display()) });
        }
        // Archives usually hold one folder with the model in it.
        let below = path.split_once('/').map_or(path.as_str(), |(_, below)| below);
        if !belongs(&path) && !belongs(below) {
            continue;
        }
        space::check(staging, entry.size())?;
        let place = staging.join(&path);
        if let Some(parent) = place.parent() {
            std::fs::create_dir_all(parent).map_err(Error::io(parent, CHECK_FOLDER))?;
        }
        let mut out = File::create(&place).map_err(Error::io(&place, CHECK_FOLDER))?;
        std::io::copy(&mut entry, &mut out)
            .map_err(Error::io(&place, "make room on the disk, and check the archive"))?;
        seen += 1;
    }
    if seen == 0 {
        return Err(malformed("it holds no file of a model".into()));
    }
    lift(staging)
}

/// Takes the contents of a single folder up by one.
fn lift(staging: &Path) -> Result<()> {
    let entries: Vec<PathBuf> = std::fs::read_dir(staging)
        .map_err(Error::io(staging, CHECK_FOLDER))?
        .flatten()
        .map(|entry| entry.path())
        .collect();
    let [only] = entries.as_slice() else { return Ok(()) };
    if !only.is_dir() || only.ends_with("onnx") {
        return Ok(());
    }
    let aside = staging.with_extension("lifted");
    std::fs::rename(only, &aside)
        .and_then(|()| std::fs::remove_dir(staging))
        .and_then(|()| std::fs::rename(&aside, staging))
        .map_err(Error::io(staging, CHECK_FOLDER))
}

/// What a folder holds, once it is known to be a model's.
fn describe(staging: &Path, source: &Path) -> Result<Manifest> {
    let folder = ModelFolder::open(staging)?;
    let mut precisions = BTreeSet::new();
    for (precision, graph) in folder.files().values().flatten() {
        GraphFile::open(graph, Precision::Fp32)?;
        precisions.insert(precision.to_string());
    }
    let mut paths = Vec::new();
    gather(staging, "", 0, &mut paths)?;
    paths.sort();
    let piece = |path: String| {
        let (size, hashes) = of_file(&staging.join(&path))?;
        Ok(Piece { path, size, sha256: hashes.sha256 })
    };
    Ok(Manifest {
        repository: source.display().to_string(),
        revision: None,
        precisions: precisions.into_iter().collect(),
        license: None,
        files: paths.into_iter().map(piece).collect::<Result<_>>()?,
    })
}
