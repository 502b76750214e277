//! The numbers of a speech model, read from its folder, with the published values where the folder is silent.

use crate::error::{Error, Result};
use crate::folder::{GraphFile, Json, ModelFolder};

use super::mel::MelSettings;
use super::stft::StftSettings;

/// The numbers that the speech loops need.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Codes in one frame of audio.
    pub codebooks: usize,
    /// Codes in one codebook, the end code included: it is the last.
    pub codebook_size: usize,
    /// Text tokens in a row in the interleaved loop.
    pub interleaved_text: i64,
    /// Audio frames in a row in the interleaved loop.
    pub interleaved_audio: i64,
    /// Token that switches the sequential loop to audio.
    pub audio_start: u32,
    /// Token after which the interleaved loop speaks no more text.
    pub text_end: u32,
    /// Token that ends a turn.
    pub turn_end: u32,
    /// Whether the folder wants the likeliest token and code, unless somebody decides otherwise.
    pub greedy: bool,
    /// The mel front end.
    pub mel: MelSettings,
    /// The inverse STFT behind the detokenizer.
    pub stft: StftSettings,
}

/// Published ids; a folder's own tokenizer wins where it has the names.
const TURN_END: u32 = 7;
const AUDIO_START: u32 = 128;
const TEXT_END: u32 = 130;

impl Settings {
    /// Reads `config.json`, `genai_config.json`, `generation_config.json`, `mel_config.json` and `audio_embedding.json`, and where these say nothing
    /// of the codebooks the shapes of `depthformer`; `token` looks up an id.
    ///
    /// # Errors
    /// [`Error::Malformed`] for values of the wrong kind or out of any sense.
    pub fn read(
        folder: &ModelFolder,
        depthformer: Option<&GraphFile>,
        token: impl Fn(&str) -> Option<u32>,
    ) -> Result<Self> {
        let (config, genai) = (folder.config(), folder.genai());
        let embedding = Json::read(folder.graphs(), "audio_embedding.json")?;
        let generation = Json::read(folder.root(), "generation_config.json")?;
        let first = |found: [Result<Option<usize>>; 3], default: usize| -> Result<usize> {
            for found in found {
                if let Some(count) = found? {
                    return Ok(count);
                }
            }
            Ok(default)
        };
        let audio = |key: &str| genai.count(&["model", "audio_output", key]);
        let shapes = depthformer.map(GraphFile::model);
        let slices = shapes.and_then(|model| model.inputs.iter().find(|port| port.name.starts_with("depth_")));
        let usual_codebooks = slices.and_then(|port| port.dims.get(1)?.fixed()).unwrap_or(8);
        let codebooks = first(
            [config.count(&["codebooks"]), audio("num_codebooks"), embedding.count(&["num_codebooks"])],
            usual_codebooks,
        )?;
        let logits = shapes.and_then(|model| model.output("logits"));
        let usual_size = logits.and_then(|port| port.dims.last()?.fixed()).unwrap_or(2049);
        let codebook_size =
            first([embedding.count(&["codebook_vocab"]), audio("codebook_size"), Ok(None)], usual_size)?;
        if !(1..=64).contains(&codebooks) || !(2..=1 << 20).contains(&codebook_size) {
            return Err(Error::Malformed {
                path: folder.root().to_path_buf(),
                reason: format!("{codebooks} codebooks of {codebook_size} codes make no sense"),
                remedy: "correct config.json and audio_embedding.json, or download the folder again",
            });
        }
        let run = |key: &str, default| -> Result<i64> {
            let length = first([config.count(&[key]), audio(key), Ok(None)], default)?;
            Ok(i64::try_from(length).unwrap_or(i64::MAX))
        };
        let id = |genai_key: &str, name: &str, default| -> Result<u32> {
            let found = genai.ids(&["model", "audio_output", genai_key])?.first().copied();
            Ok(found.or_else(|| token(name)).unwrap_or(default))
        };
        Ok(Self {
            codebooks,
            codebook_size,
            interleaved_text: run("interleaved_n_text", 6)?,
            interleaved_audio: run("interleaved_n_audio", 12)?,
            audio_start: id("audio_start_token_id", "<|audio_start|>", AUDIO_START)?,
            text_end: id("text_end_token_id", "<|text_end|>", TEXT_END)?,
            greedy: generation.get(&["do_sample"]).and_then(serde_json::Value::as_bool) == Some(false),
            turn_end: token("<|im_end|>").unwrap_or(TURN_END),
            mel: MelSettings::read(folder)?,
            stft: StftSettings::read(folder)?,
        })
    }

    /// The code with which codebook 0 ends the speech.
    #[must_use]
    pub fn end_code(&self) -> u32 {
        self.codebook_size as u32 - 1
    }
}
