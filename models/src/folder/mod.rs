//! A model folder, believed only after a look.
//!
//! Owns the answer to: which parts are here, in which precisions, in which layout, of which family. Nothing is
//! concluded from the folder's name. Three generations of exports differ in file names, cache names and cache widths;
//! what a graph really takes is read from the graph ([`GraphFile`]).

mod graph_file;
mod json;
mod precision;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub use graph_file::{GraphFile, external_files};
pub(crate) use graph_file::{MappedWeight, map};
pub(crate) use json::Json;
pub use precision::{Precision, Wanted};

use crate::error::{Error, Result};

/// What a graph does in a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// The LFM2 backbone with its vocabulary head; in retrieval folders the whole encoder.
    Decoder,
    /// Token ids to embeddings, in newer exports also the splicing of audio or image features.
    TokenEmbedding,
    /// Mel features to embeddings.
    AudioEncoder,
    /// Audio codes to embeddings.
    AudioEmbedding,
    /// Hidden state to depth slices, in exports that keep it apart from the depthformer.
    DepthProjection,
    /// Hidden state to one frame of audio codes.
    Depthformer,
    /// Audio codes to STFT features.
    AudioDetokenizer,
    /// Image patches to features.
    VisionEncoder,
}

impl Role {
    /// The names that the graph has had, newest first.
    fn stems(self) -> &'static [&'static str] {
        match self {
            Self::Decoder => &["decoder", "decoder_model_merged", "model"],
            Self::TokenEmbedding => &["embeddings", "embed_tokens"],
            Self::AudioEncoder => &["audio_encoder"],
            Self::AudioEmbedding => &["audio_embedding"],
            Self::DepthProjection => &["vocoder_projection"],
            Self::Depthformer => &["vocoder_depthformer"],
            Self::AudioDetokenizer => &["audio_detokenizer"],
            Self::VisionEncoder => &["vision_encoder", "embed_images"],
        }
    }

    /// Where `genai_config.json` names the graph's file.
    fn genai_keys(self) -> Option<&'static [&'static str]> {
        match self {
            Self::Decoder => Some(&["model", "decoder", "filename"]),
            Self::TokenEmbedding => Some(&["model", "embedding", "filename"]),
            Self::AudioEncoder => Some(&["model", "speech", "filename"]),
            Self::AudioEmbedding => Some(&["model", "audio_output", "embedding", "filename"]),
            Self::Depthformer => Some(&["model", "audio_output", "depthformer", "filename"]),
            Self::VisionEncoder => Some(&["model", "vision", "filename"]),
            Self::DepthProjection | Self::AudioDetokenizer => None,
        }
    }

    /// The file pattern, for messages.
    #[must_use]
    pub fn pattern(self) -> String {
        format!("{}*.onnx", self.stems()[0])
    }

    const ALL: [Self; 8] = [
        Self::Decoder,
        Self::TokenEmbedding,
        Self::AudioEncoder,
        Self::AudioEmbedding,
        Self::DepthProjection,
        Self::Depthformer,
        Self::AudioDetokenizer,
        Self::VisionEncoder,
    ];
}

/// The generation of an export, by the names that its decoder gives its caches and by its file names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// `past_conv.N`, graphs named after their task.
    A,
    /// `past_conv.N`, graphs named as Transformers.js does.
    B,
    /// `past.N.conv`, as onnxruntime-genai's builder writes them.
    C,
}

impl Layout {
    /// `A`, `B` or `C`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::A => "A",
            Self::B => "B",
            Self::C => "C",
        }
    }
}

/// The family of a model, by the parts that its folder holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// Text in, text out.
    Text,
    /// Text in, text out, a mixture of experts inside.
    MixtureOfExperts,
    /// Images and text in, text out.
    Vision,
    /// Speech and text in, speech and text out.
    Speech,
    /// Text in, one vector per token out.
    Retrieval,
}

impl Family {
    /// The name in reports: `text`, `moe`, `vision`, `speech`, `colbert`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::MixtureOfExperts => "moe",
            Self::Vision => "vision",
            Self::Speech => "speech",
            Self::Retrieval => "colbert",
        }
    }
}

/// A model folder whose listing has been read.
#[derive(Debug)]
pub struct ModelFolder {
    root: PathBuf,
    graphs: PathBuf,
    files: BTreeMap<Role, BTreeMap<Precision, PathBuf>>,
    config: Json,
    genai: Json,
}

impl ModelFolder {
    /// Reads the listing and the settings files of `root`.
    ///
    /// # Errors
    /// [`Error::NotAModel`] when no known graph is there, [`Error::Io`] and [`Error::Malformed`] for files that cannot
    /// be read.
    pub fn open(root: &Path) -> Result<Self> {
        let listing = |folder: &Path| -> Result<Vec<PathBuf>> {
            let mut paths = Vec::new();
            for entry in std::fs::read_dir(folder).map_err(Error::io(folder, "give the path of a model folder"))? {
                paths.push(entry.map_err(Error::io(folder, "check that the folder may be read"))?.path());
            }
            paths.sort();
            Ok(paths)
        };
        let nested = root.join("onnx");
        let graphs = if nested.is_dir() { nested } else { root.to_path_buf() };
        let mut files: BTreeMap<Role, BTreeMap<Precision, PathBuf>> = BTreeMap::new();
        for path in listing(root)?.into_iter().chain(if graphs == root { Vec::new() } else { listing(&graphs)? }) {
            let is_graph = path.extension().is_some_and(|extension| extension == "onnx");
            let Some(stem) = path.file_stem().and_then(|stem| stem.to_str()).filter(|_| is_graph) else {
                continue;
            };
            if let Some((role, precision)) = role_of(stem) {
                files.entry(role).or_default().insert(precision, path);
            }
        }
        if files.is_empty() {
            return Err(Error::NotAModel {
                path: root.to_path_buf(),
                reason: format!("no known graph in {}", graphs.display()),
                expected: "a published LFM2 folder with *.onnx graphs in onnx/ and tokenizer.json beside it",
            });
        }
        let (config, genai) = (Json::read(root, "config.json")?, Json::read(root, "genai_config.json")?);
        Ok(Self { root: root.to_path_buf(), graphs, files, config, genai })
    }

    /// The folder itself.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The folder of the graphs: `onnx/` where there is one.
    #[must_use]
    pub fn graphs(&self) -> &Path {
        &self.graphs
    }

    /// The files that were found, by role and precision.
    #[must_use]
    pub fn files(&self) -> &BTreeMap<Role, BTreeMap<Precision, PathBuf>> {
        &self.files
    }

    /// Whether there is a graph for `role` in any precision.
    #[must_use]
    pub fn has(&self, role: Role) -> bool {
        self.files.contains_key(&role)
    }

    /// `config.json`.
    pub(crate) fn config(&self) -> &Json {
        &self.config
    }

    /// `genai_config.json`.
    pub(crate) fn genai(&self) -> &Json {
        &self.genai
    }

    /// A file beside the graphs or in the root; the former wins.
    #[must_use]
    pub fn beside_graphs(&self, name: &str) -> Option<PathBuf> {
        [&self.graphs, &self.root].into_iter().map(|folder| folder.join(name)).find(|path| path.is_file())
    }

    /// Opens the graph for `role` in the wanted precision, or in what stands in for it; `None` if there is none.
    ///
    /// # Errors
    /// Those of [`GraphFile::open`].
    pub fn graph(&self, role: Role, wanted: Wanted) -> Result<Option<GraphFile>> {
        let Some(files) = self.files.get(&role) else {
            return Ok(None);
        };
        let default = match wanted {
            Wanted::Auto => self.default_file(role),
            Wanted::Exactly(_) => None,
        };
        let found = default.or_else(|| {
            wanted.order().into_iter().find_map(|precision| Some((precision, files.get(&precision)?.clone())))
        });
        found.map(|(precision, path)| GraphFile::open(&path, precision)).transpose()
    }

    /// Opens the graph for `role`, which has to be there in some precision.
    ///
    /// # Errors
    /// [`Error::PartMissing`] and those of [`GraphFile::open`].
    pub fn required_graph(&self, role: Role, wanted: Wanted, purpose: &'static str) -> Result<GraphFile> {
        self.graph(role, wanted)?.ok_or_else(|| self.missing(role, purpose))
    }

    /// An [`Error::PartMissing`] for `role`.
    pub(crate) fn missing(&self, role: Role, consequence: &str) -> Error {
        Error::PartMissing { what: role.pattern(), path: self.graphs.clone(), consequence: consequence.to_owned() }
    }

    /// The file that `genai_config.json` names for `role`, as the folder's own default.
    fn default_file(&self, role: Role) -> Option<(Precision, PathBuf)> {
        let name = self.genai.text(role.genai_keys()?)?;
        let (precision, path) = self.files.get(&role)?.iter().find(|(_, path)| path.ends_with(name))?;
        Some((*precision, path.clone()))
    }

    /// The family, by the parts that are here and the shape of `decoder`.
    #[must_use]
    pub fn family(&self, decoder: &GraphFile) -> Family {
        let audio = [Role::AudioEncoder, Role::Depthformer, Role::AudioDetokenizer];
        let experts = ["MoE", "QMoE"].iter().any(|op| decoder.model().nodes_of(op).next().is_some());
        let cached = decoder.model().inputs.iter().any(|port| port.name.starts_with("past"));
        if audio.iter().any(|role| self.has(*role)) {
            Family::Speech
        } else if self.has(Role::VisionEncoder) {
            Family::Vision
        } else if !cached {
            Family::Retrieval
        } else if experts || self.config.get(&["num_experts"]).is_some() {
            Family::MixtureOfExperts
        } else {
            Family::Text
        }
    }

    /// The layout, by the names that `decoder` gives its caches.
    #[must_use]
    pub fn layout(&self, decoder: &GraphFile) -> Layout {
        let inputs = &decoder.model().inputs;
        if inputs.iter().any(|port| port.name.starts_with("past.")) {
            return Layout::C;
        }
        let stem = |name: &str| {
            self.files
                .values()
                .flat_map(BTreeMap::values)
                .any(|path| path.file_name().is_some_and(|file| file.to_string_lossy().starts_with(name)))
        };
        if stem("decoder_model_merged") || stem("vision_encoder") { Layout::B } else { Layout::A }
    }
}

/// The role and precision that a graph's file stem stands for, such as `decoder_q4`; `None` for other files.
#[must_use]
pub fn role_of(stem: &str) -> Option<(Role, Precision)> {
    Role::ALL.into_iter().find_map(|role| {
        role.stems()
            .iter()
            .find_map(|prefix| Precision::of_suffix(stem.strip_prefix(prefix)?))
            .map(|precision| (role, precision))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stems_name_roles_and_precisions() {
        for (stem, expected) in [
            ("decoder", Some((Role::Decoder, Precision::Fp32))),
            ("decoder_q4", Some((Role::Decoder, Precision::Q4))),
            ("decoder_model_merged_q4f16", Some((Role::Decoder, Precision::Q4f16))),
            ("model_int8", Some((Role::Decoder, Precision::Q8))),
            ("embed_images_fp16", Some((Role::VisionEncoder, Precision::Fp16))),
            ("audio_embedding_q8", Some((Role::AudioEmbedding, Precision::Q8))),
            ("vocoder_projection", Some((Role::DepthProjection, Precision::Fp32))),
            ("decoder_with_past", None),
            ("readme", None),
        ] {
            assert_eq!(role_of(stem), expected, "{stem}");
        }
    }

    #[test]
    fn a_folder_without_graphs_is_refused() {
        let folder = std::env::temp_dir().join(format!("eddy-empty-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("temporary folder");
        assert!(matches!(ModelFolder::open(&folder), Err(Error::NotAModel { .. })));
        std::fs::remove_dir_all(&folder).expect("clean up");
    }
}
