//! What a vision model is measured by beside its backbone: from an image to the first token.

use std::time::Instant;

use eddy_models::folder::GraphFile;
use eddy_models::text::GenerationOptions;
use eddy_models::vision::{Knobs, Picture};

use super::figure::Sample;
use super::{Bench, Part, text};
use crate::cli::model::Engine;
use crate::vision::{LookTurn, Looked, Question, Viewer};

/// Sides of the images: one tile, and several with a thumbnail.
const IMAGES: [[usize; 2]; 2] = [[512, 512], [1024, 768]];

/// Measures a vision model.
///
/// # Errors
/// Those of the model.
pub fn run(bench: &mut Bench<'_>, engine: &Engine, decoder: &GraphFile) -> anyhow::Result<()> {
    let begun = Instant::now();
    let mut viewer = Viewer::load(&engine.runtime, bench.folder, bench.wanted, engine.interrupt.stop())?;
    bench.figures.loaded(begun.elapsed().as_secs_f64())?;
    text::backbone(bench, viewer.model.text_mut().backbone(), decoder)?;
    if !bench.wants(Part::First) {
        return Ok(());
    }
    for [width, height] in IMAGES {
        let pixels: Vec<u8> = (0..width * height * 3).map(|at| (at * 31 % 251) as u8).collect();
        let seconds = Sample::take(bench.runs(), || {
            let begun = Instant::now();
            let picture = Picture::from_rgb(width, height, pixels.clone())?;
            let image = viewer.model.image(&picture, &Knobs::default())?;
            let options = GenerationOptions { max_tokens: 1, ..GenerationOptions::default() };
            let question = Question { words: "What is this?".into(), options, ..Question::default() };
            let mut turn = LookTurn::begin(&mut viewer, vec![image], question)?;
            let mut made = String::new();
            while !matches!(turn.step(&mut viewer, &mut made)?, Looked::Complete(_)) {}
            Ok(begun.elapsed().as_secs_f64())
        })?;
        let size = format!("{width} by {height}");
        bench.figures.add("first_token", ("image", size.into()), &seconds, "s", None)?;
    }
    Ok(())
}
