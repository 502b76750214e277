//! A vision folder of layout C: a decoder in 4-bit blocks, an image encoder and embeddings in 8-bit ones.

use std::path::Path;

use serde_json::json;

use crate::error::{Error, Result};
use crate::folder::Layout;
use crate::onnx::{Size, Value};

use super::backbone::{self, BackboneSizes, Feed, Form};
use super::canvas::{BATCH, Canvas, F32, I64, Stored};
use super::{embedding, settings};

/// The sizes of an image encoder and of what projects its features.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VisionSizes {
    /// Width of the residual stream.
    pub width: usize,
    /// Heads.
    pub heads: usize,
    /// Layers.
    pub layers: usize,
    /// Width inside a feed-forward network.
    pub feed_forward: usize,
    /// Positions along a side of the table that is interpolated.
    pub side: usize,
    /// Width inside the projector.
    pub projector: usize,
}

const PATCH: usize = 16 * 16 * 3;
const IMAGE: i64 = 396;

/// Writes the folder.
pub(super) fn write(folder: &Path, text: &BackboneSizes, vision: &VisionSizes) -> Result<()> {
    let graphs = folder.join("onnx");
    std::fs::create_dir_all(&graphs).map_err(Error::io(&graphs, "check that the folder may be written"))?;
    settings::tokenizer(folder, text.vocabulary)?;
    settings::write(
        folder,
        "config.json",
        &json!({
            "model_type": "lfm2_vl", "image_token_id": IMAGE, "downsample_factor": 2,
            "text_config": settings::backbone(text),
            "vision_config": { "hidden_size": vision.width, "num_hidden_layers": vision.layers, "patch_size": 16 },
        }),
    )?;
    settings::write(
        folder,
        "preprocessor_config.json",
        &json!({
            "do_image_splitting": true, "do_normalize": true, "do_pad": true, "do_rescale": true, "do_resize": true,
            "downsample_factor": 2, "encoder_patch_size": 16, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5],
            "max_image_tokens": 256, "min_image_tokens": 64, "max_pixels_tolerance": 2.0, "min_tiles": 2, "max_tiles": 10,
            "resample": 2, "rescale_factor": 1.0 / 255.0, "return_row_col_info": true, "tile_size": 512,
            "use_thumbnail": true,
        }),
    )?;
    let mut decoder = Canvas::new(&graphs, "decoder_q4", Stored::Four, 1);
    let form = Form { layout: Layout::C, feed: Feed::Rows, head: Stored::Eight, gives_hidden: false };
    backbone::draw(&mut decoder, text, form)?;
    decoder.finish(&graphs, "decoder_q4", 21)?;
    embedding::write(&graphs, [text.vocabulary, text.hidden], "image_features", IMAGE)?;
    let mut canvas = Canvas::new(&graphs, "vision_encoder_q8", Stored::Eight, 2);
    encoder(&mut canvas, vision, text.hidden)?;
    canvas.finish(&graphs, "vision_encoder_q8", 21)?;
    Ok(())
}

/// The tower and its projector: patches of one tile to `[tokens, hidden]`.
fn encoder(canvas: &mut Canvas, sizes: &VisionSizes, hidden: usize) -> Result<()> {
    let width = sizes.width;
    let pixels = canvas.graph.input("pixel_values", F32, &[BATCH, Size::Any("num_patches"), Size::Is(PATCH)]);
    let mask = canvas.graph.input("pixel_attention_mask", I64, &[BATCH, Size::Any("num_patches")]);
    let shapes = canvas.graph.input("spatial_shapes", I64, &[BATCH, Size::Is(2)]);
    let (zero, first, second) = (canvas.graph.int(0), canvas.graph.ints(&[0]), canvas.graph.ints(&[1]));
    let size = canvas.graph.node("Gather", &[&shapes, &zero], "size", &[("axis", Value::Int(0))]);
    let [height, columns] = [("height", 0), ("width", 1)].map(|(name, at)| canvas.slice(&size, [at, at + 1], 0, name));
    let graph = &mut canvas.graph;
    let counts = graph.node("ReduceSum", &[&mask, &second], "counts", &[("keepdims", Value::Int(0))]);
    let real = graph.node("ReduceMax", &[&counts, &first], "real", &[("keepdims", Value::Int(1))]);
    let patches = graph.node("Slice", &[&pixels, &first, &real, &second], "patches", &[]);

    let table = canvas.floats("position_embedding", &[1, width, sizes.side, sizes.side], 0.1)?;
    let front = canvas.graph.ints(&[1, width as i64]);
    let graph = &mut canvas.graph;
    let grid = graph.node("Concat", &[&front, &height, &columns], "grid", &[("axis", Value::Int(0))]);
    let places = graph.node(
        "Resize",
        &[&table, "", "", &grid],
        "places",
        &[("mode", Value::Text("linear")), ("coordinate_transformation_mode", Value::Text("half_pixel"))],
    );
    let flat = canvas.reshape(&places, &[1, width as i64, -1], "places/flat");
    let rows = canvas.transpose(&flat, &[0, 2, 1], "places/rows");
    let embedded = canvas.affine(&patches, [PATCH, width], "patch_embedding")?;
    let mut x = canvas.graph.node("Add", &[&embedded, &rows], "placed", &[]);
    for index in 0..sizes.layers {
        x = layer(canvas, sizes, &x, &format!("layers.{index}"))?;
    }
    let x = canvas.layer_norm(&x, width, "post_layernorm")?;
    let tokens = unshuffled(canvas, &x, [&height, &columns], &pixels, width);
    let inner = canvas.affine(&tokens, [4 * width, sizes.projector], "linear_1")?;
    let inner = canvas.graph.node("Gelu", &[&inner], "projector/gelu", &[]);
    let rows = canvas.affine(&inner, [sizes.projector, hidden], "linear_2")?;
    canvas.reshape(&rows, &[-1, hidden as i64], "image_features");
    canvas.graph.output("image_features", F32, &[Size::Any("num_image_tokens"), Size::Is(hidden)]);
    Ok(())
}

fn layer(canvas: &mut Canvas, sizes: &VisionSizes, x: &str, name: &str) -> Result<String> {
    let (width, heads, size) = (sizes.width, sizes.heads as i64, (sizes.width / sizes.heads) as i64);
    let normed = canvas.layer_norm(x, width, &format!("{name}.layer_norm1"))?;
    let mut parts = Vec::new();
    for (part, order) in [("q_proj", [0, 2, 1, 3]), ("k_proj", [0, 2, 3, 1]), ("v_proj", [0, 2, 1, 3])] {
        let name = format!("{name}.{part}");
        let y = canvas.affine(&normed, [width, width], &name)?;
        let y = canvas.reshape(&y, &[0, 0, heads, size], &format!("{name}/heads"));
        parts.push(canvas.transpose(&y, &order, &format!("{name}/apart")));
    }
    let scale = canvas.graph.floats("scale", &[], [(size as f32).sqrt().recip()]);
    let graph = &mut canvas.graph;
    let dots = graph.node("MatMul", &[&parts[0], &parts[1]], &format!("{name}/dots"), &[]);
    let scores = graph.node("Mul", &[&dots, &scale], &format!("{name}/scores"), &[]);
    let shares = graph.node("Softmax", &[&scores], &format!("{name}/shares"), &[("axis", Value::Int(-1))]);
    let mixed = graph.node("MatMul", &[&shares, &parts[2]], &format!("{name}/mixed"), &[]);
    let rows = canvas.transpose(&mixed, &[0, 2, 1, 3], &format!("{name}/rows"));
    let joined = canvas.reshape(&rows, &[0, 0, width as i64], &format!("{name}/joined"));
    let mixed = canvas.affine(&joined, [width, width], &format!("{name}.out_proj"))?;
    let x = canvas.graph.node("Add", &[x, &mixed], &format!("{name}/after_attention"), &[]);
    let normed = canvas.layer_norm(&x, width, &format!("{name}.layer_norm2"))?;
    let wide = canvas.affine(&normed, [width, sizes.feed_forward], &format!("{name}.fc1"))?;
    let active = canvas.graph.node("Gelu", &[&wide], &format!("{name}/gelu"), &[("approximate", Value::Text("tanh"))]);
    let narrow = canvas.affine(&active, [sizes.feed_forward, width], &format!("{name}.fc2"))?;
    Ok(canvas.graph.node("Add", &[&x, &narrow], &format!("{name}/after_mlp"), &[]))
}

/// Two by two patches become one token.
fn unshuffled(canvas: &mut Canvas, x: &str, [height, width]: [&str; 2], pixels: &str, channels: usize) -> String {
    let two = canvas.graph.ints(&[2]);
    let halves = [("height", height), ("width", width)]
        .map(|(name, side)| canvas.graph.node("Div", &[side, &two], &format!("{name}/half"), &[]));
    let shape = canvas.graph.node("Shape", &[pixels], "shape", &[]);
    let batch = canvas.slice(&shape, [0, 1], 0, "entries");
    let (pair, all, rest) = (
        canvas.graph.ints(&[2 * channels as i64]),
        canvas.graph.ints(&[4 * channels as i64]),
        canvas.graph.ints(&[-1]),
    );
    let axis = [("axis", Value::Int(0))];
    let paired = canvas.graph.node("Concat", &[&batch, &halves[0], &two, &halves[1], &pair], "paired", &axis);
    let pairs = canvas.graph.node("Reshape", &[x, &paired], "pairs", &[]);
    let apart = canvas.transpose(&pairs, &[0, 1, 3, 2, 4], "pairs/apart");
    let tokens = canvas.graph.node("Concat", &[&batch, &rest, &all], "tokens", &axis);
    canvas.graph.node("Reshape", &[&apart, &tokens], "unshuffled", &[])
}
