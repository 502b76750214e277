//! One graph file, looked at before ONNX Runtime sees it.
//!
//! Promises that the file is an ONNX graph and that every byte of external data it refers to is there: ONNX Runtime
//! would report a cut-off weight file late and without saying which.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::ops::Range;
use std::path::{Component, Path, PathBuf};

use memmap2::Mmap;

use super::precision::Precision;
use crate::error::{Error, Result};
use crate::onnx::{ElementType, ExternalData, Model};

const DOWNLOAD_AGAIN: &str = "download or export the folder again";

/// A graph file that has been looked at.
#[derive(Debug)]
pub struct GraphFile {
    path: PathBuf,
    precision: Precision,
    bytes: Mmap,
    model: Model,
    weight_bytes: u64,
}

/// The bytes of an initializer in external data, mapped.
#[derive(Debug)]
pub(crate) struct MappedWeight {
    file: Mmap,
    range: Range<usize>,
    /// Its shape.
    pub dims: Vec<usize>,
    /// Where the bytes lie.
    pub place: ExternalData,
}

impl MappedWeight {
    pub fn bytes(&self) -> &[u8] {
        &self.file[self.range.clone()]
    }
}

/// A folder that holds a graph's external data, and the names that the files have there.
#[derive(Debug)]
pub(crate) struct WeightsHome {
    pub folder: PathBuf,
    pub locations: BTreeMap<String, String>,
}

impl GraphFile {
    /// Maps and reads the graph at `path`, and checks its external data.
    ///
    /// # Errors
    /// [`Error::Io`] when a file cannot be read, [`Error::Malformed`] when one is not what it claims to be.
    pub fn open(path: &Path, precision: Precision) -> Result<Self> {
        let bytes = map(path)?;
        let model = Model::parse(&bytes).map_err(|reason| Error::Malformed {
            path: path.to_path_buf(),
            reason: reason.to_owned(),
            remedy: DOWNLOAD_AGAIN,
        })?;
        let weight_bytes = bytes.len() as u64 + check_external_data(path, &model)?;
        Ok(Self { path: path.to_path_buf(), precision, bytes, model, weight_bytes })
    }

    /// Where it lies.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its precision, by its name.
    #[must_use]
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// What it says of itself.
    #[must_use]
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// The serialized `ModelProto`.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Bytes of the graph and of all external data it refers to.
    #[must_use]
    pub fn weight_bytes(&self) -> u64 {
        self.weight_bytes
    }

    /// Maps the f32 initializer `name`; `None` when it stands in the graph itself or is no whole tensor of floats.
    pub(crate) fn weight(&self, name: &str) -> Result<Option<MappedWeight>> {
        let Some(tensor) = self.model.initializers.iter().find(|tensor| tensor.name == name) else { return Ok(None) };
        let (Some(place), ElementType::F32) = (&tensor.external, tensor.element) else { return Ok(None) };
        let file = map(&self.path.parent().unwrap_or(Path::new(".")).join(&place.location))?;
        let length = tensor.dims.iter().try_fold(size_of::<f32>(), |length, dim| length.checked_mul(*dim));
        let start = usize::try_from(place.offset).ok();
        let range = start.zip(length).and_then(|(start, length)| Some(start..start.checked_add(length)?));
        Ok(range.filter(|range| range.end <= file.len()).map(|range| MappedWeight {
            file,
            range,
            dims: tensor.dims.clone(),
            place: place.clone(),
        }))
    }

    /// Where the external data really lies; `None` when it lies beside the graph.
    ///
    /// In the hub's cache every file of a folder is a link to a file of another name elsewhere, and ONNX Runtime refuses
    /// external data behind a link that leaves the folder it was told.
    pub(crate) fn weights_home(&self) -> Result<Option<WeightsHome>> {
        let folder = self.path.parent().unwrap_or(Path::new("."));
        let remedy = "check that the file exists and may be read";
        let here = folder.canonicalize().map_err(Error::io(folder, remedy))?;
        let mut real = BTreeMap::new();
        for data in self.model.initializers.iter().filter_map(|tensor| tensor.external.as_ref()) {
            if !real.contains_key(&data.location) {
                let path = folder.join(&data.location);
                real.insert(data.location.clone(), path.canonicalize().map_err(Error::io(path, remedy))?);
            }
        }
        if real.values().all(|path| path.starts_with(&here)) {
            return Ok(None);
        }
        let mut home: Option<PathBuf> = None;
        for path in real.values() {
            let mut common = home.unwrap_or_else(|| path.parent().unwrap_or(path).to_path_buf());
            while !path.starts_with(&common) {
                common.pop();
            }
            home = Some(common);
        }
        let folder = home.unwrap_or(here);
        let locations = real
            .into_iter()
            .filter_map(|(name, path)| Some((name, path.strip_prefix(&folder).ok()?.to_string_lossy().into_owned())))
            .collect();
        Ok(Some(WeightsHome { folder, locations }))
    }

    /// An [`Error::UnknownGraph`] about this file.
    pub(crate) fn unknown(&self, reason: impl Into<String>) -> Error {
        Error::UnknownGraph {
            path: self.path.clone(),
            reason: reason.into(),
            inputs: if self.model.inputs.is_empty() { "none".into() } else { self.model.inputs_line() },
        }
    }
}

/// The names of the files that hold the weights of the graph at `path`, relative to its folder. They need not be there
/// yet.
///
/// # Errors
/// [`Error::Io`] when the graph cannot be read, [`Error::Malformed`] when it is none.
pub fn external_files(path: &Path) -> Result<BTreeSet<String>> {
    let bytes = map(path)?;
    let model = Model::parse(&bytes).map_err(|reason| Error::Malformed {
        path: path.to_path_buf(),
        reason: reason.to_owned(),
        remedy: DOWNLOAD_AGAIN,
    })?;
    Ok(model.initializers.iter().filter_map(|tensor| Some(tensor.external.as_ref()?.location.clone())).collect())
}

/// Maps `path` read-only.
pub(crate) fn map(path: &Path) -> Result<Mmap> {
    let remedy = "check that the file exists and may be read";
    // Looked at before it is opened: opening a pipe waits for a writer.
    if !std::fs::metadata(path).map_err(Error::io(path, remedy))?.is_file() {
        return Err(Error::Malformed { path: path.to_path_buf(), reason: "it is no plain file".into(), remedy });
    }
    let file = File::open(path).map_err(Error::io(path, remedy))?;
    // SAFETY: the map is only read. A file that another process shortens meanwhile would raise SIGBUS; model files are
    // written aside and moved into place, which leaves the mapped file as it was.
    unsafe { Mmap::map(&file) }.map_err(Error::io(path, remedy))
}

/// Checks that all external data of `model` lies beside it and is complete; returns its size in bytes.
fn check_external_data(graph: &Path, model: &Model) -> Result<u64> {
    let folder = graph.parent().unwrap_or(Path::new("."));
    let mut needed: BTreeMap<&str, u64> = BTreeMap::new();
    for data in model.initializers.iter().filter_map(|tensor| tensor.external.as_ref()) {
        let end = data.offset.saturating_add(data.length.unwrap_or_default());
        let so_far = needed.entry(&data.location).or_default();
        *so_far = end.max(*so_far);
    }
    let mut total = 0_u64;
    for (location, needed) in needed {
        let inside =
            Path::new(location).components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
        if !inside {
            return Err(Error::Malformed {
                path: graph.to_path_buf(),
                reason: format!("it refers to weights outside of its folder ({location})"),
                remedy: "do not use this folder: it was not written by a known exporter",
            });
        }
        let path = folder.join(location);
        let size = std::fs::metadata(&path)
            .map_err(Error::io(&path, "it holds weights of the graph beside it; download or export the folder again"))?
            .len();
        if size < needed {
            return Err(Error::Malformed {
                path,
                reason: format!("cut off: {size} bytes, but its graph needs {needed}"),
                remedy: DOWNLOAD_AGAIN,
            });
        }
        total += size;
    }
    Ok(total)
}
