//! A model folder or archive that is on this machine already, taken into the store.
//!
//! Only what a model consists of is copied.

use std::collections::BTreeSet;
use std::path::Path;

use eddy_models::folder::{GraphFile, ModelFolder, Precision, external_files};

use crate::archive::{ENDINGS, unpack};
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
    /// Takes the model in `source` (a folder, or an archive: [`ENDINGS`]) into the store as `name`, or as it is called.
    ///
    /// # Errors
    /// [`Error::Escapes`], [`Error::Malformed`], [`Error::NoSpace`], [`Error::InTheWay`], and those of a folder that
    /// holds no usable model. The store is then as it was.
    pub fn import(&self, source: &Path, name: Option<&str>) -> Result<Model> {
        let source = source
            .canonicalize()
            .map_err(Error::io(source, "give a model folder, or a .tar, .tar.gz or .zip of one"))?;
        let called = source.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let called = ENDINGS.iter().find_map(|ending| called.strip_suffix(ending)).unwrap_or(&called);
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
pub(crate) fn belongs(path: &str) -> bool {
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
