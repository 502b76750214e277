//! Models with random weights in the published layouts and sizes, to measure with.
//!
//! Owns what such a folder holds. Promises that the graphs have the operators, tensors and precisions of the published
//! ones (model contract, sections 1 to 5) where those are known, that weights are streamed to disk, and that the same
//! name gives the same bytes. What a model of random weights says is noise.

mod backbone;
mod canvas;
mod depthformer;
mod detokenizer;
mod embedding;
mod encoder;
mod plain;
mod retrieval;
mod settings;
mod speech;
mod vision;
mod weights;

use std::path::Path;
use std::str::FromStr;

use crate::error::{Error, Result};
use crate::folder::{Layout, Precision};

pub use backbone::{BackboneSizes, Experts};
pub use depthformer::DepthSizes;
pub use detokenizer::DetokenizerSizes;
pub use encoder::EncoderSizes;
pub use plain::PlainSizes;
pub use speech::SpeechSizes;
pub use vision::VisionSizes;

use backbone::{Feed, Form};
use canvas::{Canvas, Stored};

/// A model that can be made, by the published one whose sizes it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Synthetic {
    /// LFM2.5-350M.
    Text350M,
    /// LFM2-700M.
    Text700M,
    /// LFM2.5-1.2B.
    Text1B2,
    /// LFM2.5-2.6B.
    Text2B6,
    /// LFM2.5-350M in layout C, which onnxruntime-genai runs too.
    Text350MC,
    /// LFM2.5-1.2B, likewise.
    Text1B2C,
    /// LFM2.5-Audio-1.5B in layout A: an fp32 vocabulary head over 4-bit layers, and raw tables.
    SpeechA,
    /// The same in layout C: an 8-bit head and 8-bit embeddings.
    SpeechC,
    /// LFM2.5-VL-450M in layout C: an 8-bit image encoder and embeddings beside a 4-bit decoder.
    Vision450M,
    /// LFM2.5-VL-1.6B, likewise.
    Vision1B6,
    /// LFM2-8B-A1B: a mixture of 32 experts of which a position asks four.
    Moe8B,
    /// LFM2-ColBERT-350M.
    Colbert350M,
}

impl Synthetic {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::Text350M,
        Self::Text700M,
        Self::Text1B2,
        Self::Text2B6,
        Self::Text350MC,
        Self::Text1B2C,
        Self::SpeechA,
        Self::SpeechC,
        Self::Vision450M,
        Self::Vision1B6,
        Self::Moe8B,
        Self::Colbert350M,
    ];

    /// The name that people type, which is that of its folder.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Text350M => "text-350m",
            Self::Text700M => "text-700m",
            Self::Text1B2 => "text-1.2b",
            Self::Text2B6 => "text-2.6b",
            Self::Text350MC => "text-350m-c",
            Self::Text1B2C => "text-1.2b-c",
            Self::SpeechA => "speech-1.5b-a",
            Self::SpeechC => "speech-1.5b-c",
            Self::Vision450M => "vl-450m",
            Self::Vision1B6 => "vl-1.6b",
            Self::Moe8B => "moe-8b-a1b",
            Self::Colbert350M => "colbert-350m",
        }
    }

    /// The precisions in which it can be written.
    #[must_use]
    pub fn precisions(self) -> &'static [Precision] {
        match self {
            Self::Text350M | Self::Text700M | Self::Text1B2 | Self::Text2B6 => {
                &[Precision::Q4, Precision::Q8, Precision::Fp32]
            }
            Self::Text350MC | Self::Text1B2C => &[Precision::Q4],
            Self::SpeechA | Self::SpeechC | Self::Vision450M | Self::Vision1B6 | Self::Moe8B => &[Precision::Q4],
            Self::Colbert350M => &[Precision::Fp32, Precision::Q8],
        }
    }

    /// Writes it into `folder` in the published size, in `precision`; other precisions of it that are there stay.
    ///
    /// A speech folder that lies beside one of the other layout links the parts that both have.
    ///
    /// # Errors
    /// [`Error::Io`] when the disk is full or the folder may not be written, [`Error::PrecisionMissing`] for a precision
    /// that the published model does not come in.
    pub fn write(self, folder: &Path, precision: Precision) -> Result<()> {
        if !self.precisions().contains(&precision) {
            return Err(Error::BadRequest(format!(
                "{} is not made in {precision}; take one of {}",
                self.name(),
                self.precisions().iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
            )));
        }
        match self {
            Self::Text350M => write_text(folder, &backbone_350m(), Layout::A, precision),
            Self::Text700M => write_text(folder, &backbone_700m(), Layout::A, precision),
            Self::Text1B2 => write_text(folder, &backbone_1b2(), Layout::A, precision),
            Self::Text2B6 => write_text(folder, &backbone_2b6(), Layout::A, precision),
            Self::Text350MC => write_text(folder, &backbone_350m(), Layout::C, precision),
            Self::Text1B2C => write_text(folder, &backbone_1b2(), Layout::C, precision),
            Self::Moe8B => write_text(folder, &backbone_8b(), Layout::C, precision),
            Self::Vision450M => write_vision(folder, &backbone_350m(), &siglip2_base()),
            Self::Vision1B6 => write_vision(folder, &backbone_1b2(), &siglip2_so400m()),
            Self::Colbert350M => {
                let stored = if precision == Precision::Q8 { Stored::Eight } else { Stored::Float };
                retrieval::write(folder, &colbert_350m(), backbone_350m().vocabulary, stored)
            }
            Self::SpeechA | Self::SpeechC => {
                let (layout, other) = match self {
                    Self::SpeechC => (Layout::C, Self::SpeechA),
                    _ => (Layout::A, Self::SpeechC),
                };
                let beside = folder.with_file_name(other.name());
                let like = beside.join("onnx/audio_detokenizer_q4.onnx").is_file().then_some(beside);
                write_speech(folder, &speech_1b5(), layout, like.as_deref())
            }
        }
    }
}

impl FromStr for Synthetic {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|model| model.name() == text).ok_or_else(|| {
            let known = Self::ALL.map(Self::name).join(", ");
            Error::BadRequest(format!("no model {text:?} is made here; take one of {known}"))
        })
    }
}

/// Writes a text folder.
///
/// # Errors
/// [`Error::Io`] when the disk is full or the folder may not be written.
pub fn write_text(folder: &Path, sizes: &BackboneSizes, layout: Layout, precision: Precision) -> Result<()> {
    let graphs = folder.join("onnx");
    std::fs::create_dir_all(&graphs).map_err(Error::io(&graphs, "check that the folder may be written"))?;
    settings::tokenizer(folder, sizes.vocabulary)?;
    let mut config = settings::backbone(sizes);
    if let (Some(experts), Some(config)) = (sizes.experts, config.as_object_mut()) {
        config.insert("num_experts".into(), experts.count.into());
        config.insert("num_experts_per_tok".into(), experts.asked.into());
    }
    settings::write(folder, "config.json", &config)?;
    let (stem, stored) = match precision {
        Precision::Q4 | Precision::Q4f16 | Precision::Q4f32 => ("model_q4", Stored::Four),
        Precision::Q8 => ("model_q8", Stored::Eight),
        Precision::Fp32 | Precision::Fp16 => ("model", Stored::Float),
    };
    let mut canvas = Canvas::new(&graphs, stem, stored, 1);
    let form = Form { layout, feed: Feed::Ids, head: stored, gives_hidden: false };
    backbone::draw(&mut canvas, sizes, form)?;
    canvas.finish(&graphs, stem, 21)?;
    if layout == Layout::C {
        settings::write(folder, "genai_config.json", &settings::genai(sizes, &format!("onnx/{stem}.onnx")))?;
    }
    Ok(())
}

/// Writes the 4-bit bundle of a vision model.
///
/// # Errors
/// [`Error::Io`] when the disk is full or the folder may not be written.
pub fn write_vision(folder: &Path, text: &BackboneSizes, vision: &VisionSizes) -> Result<()> {
    vision::write(folder, text, vision)
}

/// Writes the 4-bit bundle of a speech model; the parts that both layouts have are linked from `like`, a folder of the
/// other one.
///
/// # Errors
/// [`Error::Io`] when the disk is full or the folder may not be written.
pub fn write_speech(folder: &Path, sizes: &SpeechSizes, layout: Layout, like: Option<&Path>) -> Result<()> {
    speech::write(folder, sizes, layout, like)
}

fn lfm2(hidden: usize, heads: usize, feed_forward: usize) -> BackboneSizes {
    const ATTENTION: [usize; 6] = [2, 5, 8, 10, 12, 14];
    BackboneSizes {
        hidden,
        heads,
        kv_heads: 8,
        head_dim: 64,
        feed_forward,
        attention: (0..16).map(|index| ATTENTION.contains(&index)).collect(),
        vocabulary: 65_536,
        positions: 128_000,
        experts: None,
    }
}

fn backbone_350m() -> BackboneSizes {
    lfm2(1024, 16, 4608)
}

fn backbone_700m() -> BackboneSizes {
    lfm2(1536, 24, 6912)
}

fn backbone_1b2() -> BackboneSizes {
    lfm2(2048, 32, 8192)
}

fn backbone_2b6() -> BackboneSizes {
    // That eight of its thirty layers are attention is known; which ones makes no difference to the time of a step.
    const ATTENTION: [usize; 8] = [2, 5, 9, 13, 17, 21, 25, 28];
    BackboneSizes { attention: (0..30).map(|index| ATTENTION.contains(&index)).collect(), ..lfm2(2048, 32, 10_752) }
}

fn backbone_8b() -> BackboneSizes {
    const ATTENTION: [usize; 6] = [2, 6, 10, 14, 18, 21];
    BackboneSizes {
        attention: (0..24).map(|index| ATTENTION.contains(&index)).collect(),
        experts: Some(Experts { count: 32, asked: 4, inner: 1792, from: 2 }),
        ..lfm2(2048, 32, 7168)
    }
}

fn colbert_350m() -> PlainSizes {
    let BackboneSizes { hidden, heads, kv_heads, feed_forward, attention, .. } = backbone_350m();
    PlainSizes { width: hidden, heads, kv_heads, feed_forward, attention }
}

fn siglip2_base() -> VisionSizes {
    VisionSizes { width: 768, heads: 12, layers: 12, feed_forward: 3072, side: 16, projector: 2560 }
}

fn siglip2_so400m() -> VisionSizes {
    VisionSizes { width: 1152, heads: 16, layers: 27, feed_forward: 4304, side: 16, projector: 2560 }
}

fn speech_1b5() -> SpeechSizes {
    let [hidden, codebooks, codes] = [2048, 8, 2049];
    SpeechSizes {
        backbone: backbone_1b2(),
        encoder: EncoderSizes { bins: 128, channels: 256, width: 512, heads: 8, layers: 17, rows: 5000, hidden },
        depthformer: DepthSizes {
            hidden,
            width: 1024,
            layers: 6,
            heads: 32,
            kv_heads: 8,
            feed_forward: 2816,
            codebooks,
            codes,
        },
        detokenizer: DetokenizerSizes {
            layers: PlainSizes {
                width: 512,
                heads: 16,
                kv_heads: 8,
                feed_forward: 2304,
                attention: [false, false, true, false, true, false, true, false].to_vec(),
            },
            codebooks,
            codes: codes - 1,
            features: 1282,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The shapes of a speech model that is small enough for a test.
    fn small() -> SpeechSizes {
        let mut sizes = speech_1b5();
        let hidden = 64;
        sizes.backbone = BackboneSizes {
            hidden,
            heads: 4,
            kv_heads: 2,
            head_dim: 16,
            feed_forward: 96,
            attention: vec![false, true, false],
            vocabulary: 1024,
            positions: 512,
            experts: None,
        };
        sizes.encoder = EncoderSizes { channels: 32, width: 32, heads: 4, layers: 2, rows: 64, hidden, bins: 128 };
        sizes.depthformer = DepthSizes {
            hidden,
            width: 64,
            layers: 2,
            heads: 4,
            kv_heads: 2,
            feed_forward: 96,
            codebooks: 8,
            codes: 65,
        };
        sizes.detokenizer.layers.width = 64;
        sizes.detokenizer.layers.heads = 4;
        sizes.detokenizer.layers.kv_heads = 2;
        sizes.detokenizer.layers.feed_forward = 96;
        sizes.detokenizer.codes = 64;
        sizes
    }

    #[test]
    fn published_sizes_have_the_published_number_of_bytes() {
        // The 4-bit layers of the published decoder with its tables: 1,217,650,688 bytes less an fp32 head of 2048 by
        // 65,536; scales count 32 bits a block.
        let sizes = backbone_1b2();
        let hidden = sizes.hidden;
        let layers: usize = sizes
            .attention
            .iter()
            .map(|attention| match attention {
                true => 2 * hidden * hidden + 2 * hidden * sizes.kv_heads * sizes.head_dim,
                false => 4 * hidden * hidden,
            })
            .sum();
        let weights = layers + sizes.attention.len() * 3 * hidden * sizes.feed_forward;
        let bytes = weights * 5 / 8 + sizes.positions * sizes.head_dim * 4;
        let published = 1_217_650_688 - 4 * hidden * sizes.vocabulary;
        assert!(published.abs_diff(bytes) < 1_000_000, "{bytes} and {published}");
    }

    #[test]
    fn backbones_have_the_published_number_of_parameters() {
        let published = [
            (backbone_350m(), 354_483_968),
            (backbone_700m(), 742_489_344),
            (backbone_1b2(), 1_170_340_608),
            (backbone_2b6(), 2_569_272_320),
        ];
        for (sizes, parameters) in published {
            let BackboneSizes { hidden, kv_heads, head_dim, feed_forward, vocabulary, .. } = sizes;
            let layer = |attention: &bool| {
                let mixer = match attention {
                    true => 2 * hidden * hidden + 2 * hidden * kv_heads * head_dim + 2 * head_dim,
                    false => 4 * hidden * hidden + 3 * hidden,
                };
                mixer + 3 * hidden * feed_forward + 2 * hidden
            };
            let layers: usize = sizes.attention.iter().map(layer).sum();
            // The head is the table of embeddings.
            assert_eq!(layers + vocabulary * hidden + hidden, parameters);
        }
    }

    #[test]
    fn folders_are_what_a_reader_expects() {
        let root = std::env::temp_dir().join(format!("eddy-synthetic-{}", std::process::id()));
        let (a, c) = (root.join("a"), root.join("c"));
        write_speech(&a, &small(), Layout::A, None).expect("a");
        write_speech(&c, &small(), Layout::C, Some(&a)).expect("c");
        for (folder, layout) in [(&a, Layout::A), (&c, Layout::C)] {
            let opened = crate::folder::ModelFolder::open(folder).expect("a folder");
            let wanted = crate::folder::Wanted::Exactly(Precision::Q4);
            let file = opened.graph(crate::folder::Role::Decoder, wanted).expect("a graph").expect("a decoder");
            assert_eq!(opened.layout(&file), layout);
            assert_eq!(opened.family(&file), crate::folder::Family::Speech);
            let nodes = |op| file.model().nodes_of(op).count();
            assert_eq!(nodes("GroupQueryAttention"), 1);
            assert_eq!(nodes("CausalConvWithState"), if layout == Layout::C { 2 } else { 0 });
        }
        std::fs::remove_dir_all(&root).expect("clean up");
    }
}
