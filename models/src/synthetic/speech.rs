//! A speech folder: decoder, token table, encoder, depthformer, audio embedding and detokenizer.

use std::path::Path;

use serde_json::json;

use crate::error::{Error, Result};
use crate::folder::Layout;
use crate::onnx::{ExternalData, Size, Value};

use super::backbone::{self, BackboneSizes, Feed, Form};
use super::canvas::{Canvas, F32, I64, Stored};
use super::depthformer::{self, DepthSizes};
use super::detokenizer::{self, DetokenizerSizes};
use super::embedding;
use super::encoder::{self, EncoderSizes};
use super::settings;
use super::weights::Weights;

const OPSET: i64 = 21;

/// The sizes of a speech model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpeechSizes {
    /// The backbone.
    pub backbone: BackboneSizes,
    /// The audio encoder.
    pub encoder: EncoderSizes,
    /// The depthformer.
    pub depthformer: DepthSizes,
    /// The detokenizer.
    pub detokenizer: DetokenizerSizes,
}

/// Writes the 4-bit bundle of `layout` into `folder`; parts that `like` has, a folder of the other layout, are linked.
pub(super) fn write(folder: &Path, sizes: &SpeechSizes, layout: Layout, like: Option<&Path>) -> Result<()> {
    let graphs = folder.join("onnx");
    std::fs::create_dir_all(&graphs).map_err(Error::io(&graphs, "check that the folder may be written"))?;
    configure(folder, sizes)?;

    let mut decoder = Canvas::new(&graphs, "decoder_q4", Stored::Four, 1);
    let head = if layout == Layout::C { Stored::Eight } else { Stored::Float };
    let form = Form { layout, feed: Feed::Rows, head, gives_hidden: true };
    backbone::draw(&mut decoder, &sizes.backbone, form)?;
    decoder.finish(&graphs, "decoder_q4", OPSET)?;
    tokens(&graphs, sizes, layout)?;

    if let Some(like) = like {
        return link_shared(&like.join("onnx"), &graphs);
    }
    let mut canvas = Canvas::new(&graphs, "audio_encoder_q4", Stored::Four, 2);
    encoder::draw(&mut canvas, &sizes.encoder)?;
    canvas.finish(&graphs, "audio_encoder_q4", OPSET)?;
    let mut canvas = Canvas::new(&graphs, "vocoder_depthformer_q4", Stored::Four, 3);
    depthformer::draw(&mut canvas, &sizes.depthformer)?;
    canvas.finish(&graphs, "vocoder_depthformer_q4", OPSET)?;
    let mut canvas = Canvas::new(&graphs, "audio_detokenizer_q4", Stored::Four, 4);
    detokenizer::draw(&mut canvas, &sizes.detokenizer)?;
    canvas.finish(&graphs, "audio_detokenizer_q4", OPSET)?;
    audio_embedding(&graphs, sizes)
}

/// The table of audio codes, raw and as the graph that gathers from it.
fn audio_embedding(graphs: &Path, sizes: &SpeechSizes) -> Result<()> {
    let (depth, hidden) = (&sizes.depthformer, sizes.backbone.hidden);
    let rows = depth.codebooks * depth.codes;
    let mut table = Weights::new(graphs, "audio_embedding.bin", 5);
    let place: ExternalData = table.floats(rows * hidden, 0.02)?;
    table.finish()?;
    settings::write(
        graphs,
        "audio_embedding.json",
        &json!({
            "vocab_size": rows, "hidden_size": hidden, "num_codebooks": depth.codebooks,
            "codebook_vocab": depth.codes, "dtype": "float32", "byte_order": "little",
        }),
    )?;
    let mut canvas = Canvas::new(graphs, "audio_embedding_q4", Stored::Float, 5);
    let graph = &mut canvas.graph;
    let codes = graph.input("audio_codes", I64, &[Size::Any("batch_size"), Size::Is(depth.codebooks)]);
    let table = graph.external("audio_embedding.weight", F32, &[rows, hidden], &place);
    graph.node("Gather", &[&table, &codes], "audio_embeds", &[("axis", Value::Int(0))]);
    graph.output("audio_embeds", F32, &[Size::Any("batch_size"), Size::Is(depth.codebooks), Size::Is(hidden)]);
    canvas.finish(graphs, "audio_embedding_q4", OPSET)?;
    Ok(())
}

/// Token embeddings: a raw table in layout A, a graph of 8-bit blocks that takes features too in layout C.
fn tokens(graphs: &Path, sizes: &SpeechSizes, layout: Layout) -> Result<()> {
    let [vocabulary, hidden] = [sizes.backbone.vocabulary, sizes.backbone.hidden];
    if layout != Layout::C {
        let mut table = Weights::new(graphs, "embed_tokens.bin", 6);
        table.floats(vocabulary * hidden, 0.02)?;
        table.finish()?;
        return settings::write(
            graphs,
            "embed_tokens.json",
            &json!({ "vocab_size": vocabulary, "hidden_size": hidden, "dtype": "float32", "byte_order": "little" }),
        );
    }
    embedding::write(graphs, [vocabulary, hidden], "audio_features", 133)
}

fn configure(folder: &Path, sizes: &SpeechSizes) -> Result<()> {
    settings::tokenizer(folder, sizes.backbone.vocabulary)?;
    settings::write(
        folder,
        "config.json",
        &json!({
            "architectures": ["Lfm2AudioForConditionalGeneration"],
            "codebooks": sizes.depthformer.codebooks,
            "interleaved_n_text": 6, "interleaved_n_audio": 12,
            "lfm": settings::backbone(&sizes.backbone),
            "encoder": { "pos_emb_max_len": sizes.encoder.rows, "d_model": sizes.encoder.width },
        }),
    )?;
    settings::write(&folder.join("onnx"), "mel_config.json", &settings::mel())
}

/// Links what the layouts have in common.
fn link_shared(from: &Path, to: &Path) -> Result<()> {
    let remedy = "check that both folders are on one disk and may be written";
    for entry in std::fs::read_dir(from).map_err(Error::io(from, remedy))? {
        let path = entry.map_err(Error::io(from, remedy))?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        if name.starts_with("audio_") || name.starts_with("vocoder_") {
            let target = to.join(name);
            if !target.exists() {
                std::fs::hard_link(&path, &target).map_err(Error::io(&target, remedy))?;
            }
        }
    }
    Ok(())
}
