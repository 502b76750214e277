//! A speech model: the folder's parts put together, and what works without the missing ones.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::backbone::{Backbone, Cache, Plan, TokenEmbedding};
use crate::error::{Error, Result};
use crate::folder::{Family, Layout, ModelFolder, Precision, Role, Wanted};
use crate::graph::Stop;
use crate::runtime::Runtime;
use crate::tokenizer::Tokenizer;

use super::audio_embedding::AudioEmbedding;
use super::depthformer::Depthformer;
use super::detokenizer::Detokenizer;
use super::encoder::AudioEncoder;
use super::mel::MelFrontEnd;
use super::prompt::{Piece, Prompt};
use super::settings::Settings;

/// What a speech model can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Capability {
    /// Understanding recorded speech.
    Hearing,
    /// Answering in speech.
    Speaking,
}

/// Which parts of a folder are loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parts {
    /// The audio encoder.
    pub hearing: bool,
    /// Audio embedding, depthformer and detokenizer.
    pub speaking: bool,
}

impl Parts {
    /// Everything that is there.
    pub const ALL: Self = Self { hearing: true, speaking: true };
    /// Speech to text.
    pub const HEARING: Self = Self { hearing: true, speaking: false };
    /// Text to speech.
    pub const SPEAKING: Self = Self { hearing: false, speaking: true };
}

/// What is known of a loaded model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Its family.
    pub family: Family,
    /// The generation of its export.
    pub layout: Layout,
    /// The precision of its decoder.
    pub precision: Precision,
    /// Faults of the published files that were repaired at load.
    pub repairs: Vec<String>,
    /// What is stored in fewer bits than published, and what it lost.
    pub rounded: Vec<String>,
}

/// A loaded speech model. One thread owns it.
#[derive(Debug)]
pub struct Speech {
    identity: Identity,
    settings: Settings,
    tokenizer: Tokenizer,
    backbone: Backbone,
    embedding: TokenEmbedding,
    front_end: Arc<MelFrontEnd>,
    encoder: Option<AudioEncoder>,
    voice: Option<Voice>,
    /// Why a capability is missing.
    lacks: Vec<(Capability, Lack)>,
}

/// The parts that make speech; they are there together or not at all.
#[derive(Debug)]
struct Voice {
    embedding: AudioEmbedding,
    depthformer: Depthformer,
    detokenizer: Detokenizer,
}

/// A missing part, kept so that the error can be made each time it is asked for.
#[derive(Debug, Clone)]
struct Lack {
    what: String,
    path: PathBuf,
    consequence: &'static str,
}

impl Lack {
    fn error(&self) -> Error {
        Error::PartMissing {
            what: self.what.clone(),
            path: self.path.clone(),
            consequence: self.consequence.to_owned(),
        }
    }
}

/// Everything but the backbone.
struct Others {
    tokenizer: Tokenizer,
    settings: Settings,
    embedding: TokenEmbedding,
    encoder: Option<AudioEncoder>,
    voice: Option<Voice>,
    lacks: Vec<(Capability, Lack)>,
}

impl Others {
    fn load(
        runtime: &Runtime,
        folder: &ModelFolder,
        plan: &Plan,
        wanted: Wanted,
        parts: Parts,
        stop: &Stop,
    ) -> Result<Self> {
        let tokenizer = Tokenizer::load(folder, plan.vocabulary())?;
        let depthformer = folder.graph(Role::Depthformer, wanted)?;
        let settings = Settings::read(folder, depthformer.as_ref(), |token| tokenizer.find(token))?;
        let mut lacks = Vec::new();
        // A part that is not wanted is not looked at: it may be damaged.
        let encoder_file = if parts.hearing { folder.graph(Role::AudioEncoder, wanted)? } else { None };
        let encoder = match (parts.hearing, encoder_file) {
            (false, _) => None,
            (true, Some(file)) => {
                let sizes = [plan.hidden(), settings.mel.bins];
                Some(AudioEncoder::load(runtime, folder, &file, sizes, stop)?)
            }
            (true, None) => {
                lacks.push((Capability::Hearing, lack(folder, Role::AudioEncoder, HEARING_LOST)));
                None
            }
        };
        let voice = match parts.speaking {
            true => load_voice(runtime, folder, &settings, plan, wanted, stop)?,
            false => Ok(None),
        };
        let voice = voice.unwrap_or_else(|lack| {
            lacks.push((Capability::Speaking, lack));
            None
        });
        let embedding = TokenEmbedding::load(runtime, folder, wanted, plan.hidden(), stop)?;
        Ok(Self { tokenizer, settings, embedding, encoder, voice, lacks })
    }
}

impl Speech {
    /// Loads the model in `root`.
    ///
    /// A part that the folder lacks is named in [`Self::lacking`], and what works without it works.
    ///
    /// # Errors
    /// [`Error::NotAModel`], [`Error::PartMissing`] for the decoder, the token embedding or the tokenizer, and every
    /// error of a file that is there and is not what it claims to be.
    pub fn load(runtime: &Runtime, root: &Path, wanted: Wanted, parts: Parts, stop: &Stop) -> Result<Self> {
        let folder = ModelFolder::open(root)?;
        let file =
            folder.required_graph(Role::Decoder, wanted, "nothing works without it; download the folder again")?;
        let family = folder.family(&file);
        if family != Family::Speech {
            return Err(Error::NotAModel {
                path: root.to_path_buf(),
                reason: format!("it holds a {} model", family.name()),
                expected: "a speech model with audio_encoder*.onnx and vocoder_depthformer*.onnx",
            });
        }
        if wanted == Wanted::Auto {
            tracing::debug!(path = %file.path().display(), precision = %file.precision(), "decoder chosen");
        }
        // The other parts follow the decoder's precision, so that `auto` gives the folder's own bundle.
        let wanted = Wanted::Exactly(file.precision());
        let (backbone, others) = Backbone::load_beside(runtime, &folder, &file, stop, |plan| {
            if plan.takes_ids() {
                return Err(file.unknown("a speech model's decoder takes inputs_embeds"));
            }
            Others::load(runtime, &folder, plan, wanted, parts, stop)
        })?;
        let Others { tokenizer, mut settings, embedding, encoder, voice, lacks } = others;
        let mut repairs = Vec::new();
        if let Some(voice) = &voice {
            settings.stft = voice.detokenizer.settings().clone();
            repairs = voice.depthformer.repairs().to_vec();
        }
        let rounded = voice.as_ref().and_then(|voice| voice.depthformer.rounded());
        let rounded = backbone.head_difference().into_iter().chain(rounded).collect();
        Ok(Self {
            identity: Identity { family, layout: folder.layout(&file), precision: file.precision(), repairs, rounded },
            front_end: MelFrontEnd::new(settings.mel.clone()),
            embedding,
            settings,
            tokenizer,
            backbone,
            encoder,
            voice,
            lacks,
        })
    }

    /// What is known of the model.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The numbers of the model.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The tokenizer.
    #[must_use]
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// The mel front end, to begin clips with.
    #[must_use]
    pub fn front_end(&self) -> &Arc<MelFrontEnd> {
        &self.front_end
    }

    /// The backbone.
    pub fn backbone(&mut self) -> &mut Backbone {
        &mut self.backbone
    }

    /// What the folder lacks, in sentences.
    #[must_use]
    pub fn lacking(&self) -> Vec<String> {
        self.lacks.iter().map(|(_, lack)| lack.error().to_string()).collect()
    }

    /// Whether replies can be spoken.
    #[must_use]
    pub fn can_speak(&self) -> bool {
        self.voice.is_some()
    }

    /// An empty cache for a conversation.
    ///
    /// # Errors
    /// [`Error::Graph`] when memory is refused.
    pub fn new_cache(&self) -> Result<Cache> {
        self.backbone.new_cache()
    }

    /// The audio encoder.
    ///
    /// # Errors
    /// [`Error::PartMissing`] when the folder has none or it was not loaded.
    pub fn encoder(&mut self) -> Result<&mut AudioEncoder> {
        let lack = self.lack(Capability::Hearing);
        self.encoder.as_mut().ok_or(lack)
    }

    /// The depthformer.
    ///
    /// # Errors
    /// [`Error::PartMissing`] when a part that speaking needs is missing or was not loaded.
    pub fn depthformer(&mut self) -> Result<&mut Depthformer> {
        self.voice().map(|voice| &mut voice.depthformer)
    }

    /// The detokenizer.
    ///
    /// # Errors
    /// As for [`Self::depthformer`].
    pub fn detokenizer(&mut self) -> Result<&mut Detokenizer> {
        self.voice().map(|voice| &mut voice.detokenizer)
    }

    /// The rows that `prompt` becomes, `[positions, hidden]` in one slice.
    ///
    /// # Errors
    /// [`Error::PartMissing`] for sound without an encoder, [`Error::Unhearable`], [`Error::Graph`].
    pub fn embed(&mut self, prompt: &Prompt) -> Result<Vec<f32>> {
        let mut rows = Vec::new();
        for piece in &prompt.pieces {
            match piece {
                Piece::Markup(text) => {
                    let ids = self.tokenizer.encode(text)?;
                    self.embedding.append(&ids, &mut rows)?;
                }
                Piece::Words(text) => {
                    let ids = self.tokenizer.encode_plain(text)?;
                    self.embedding.append(&ids, &mut rows)?;
                }
                Piece::Sound(mel) => rows.extend(self.encoder()?.encode(mel)?),
            }
        }
        Ok(rows)
    }

    /// Appends the embedding of a text token.
    pub(super) fn append_token(&mut self, id: u32, out: &mut Vec<f32>) -> Result<()> {
        self.embedding.append(&[id], out)
    }

    /// Appends the embedding of an audio frame.
    pub(super) fn append_frame(&mut self, frame: &[u32], out: &mut Vec<f32>) -> Result<()> {
        self.voice()?.embedding.append(frame, out)
    }

    fn voice(&mut self) -> Result<&mut Voice> {
        let lack = self.lack(Capability::Speaking);
        self.voice.as_mut().ok_or(lack)
    }

    fn lack(&self, capability: Capability) -> Error {
        match self.lacks.iter().find(|(lacking, _)| *lacking == capability) {
            Some((_, lack)) => lack.error(),
            None => Error::BadRequest(format!("the model was loaded without its parts for {capability:?}")),
        }
    }
}

const HEARING_LOST: &str = "speech input is unavailable, text input works";
const SPEECH_LOST: &str = "speech output is unavailable, text output works";

fn lack(folder: &ModelFolder, role: Role, consequence: &'static str) -> Lack {
    Lack { what: role.pattern(), path: folder.graphs().to_path_buf(), consequence }
}

/// The parts that make speech; the inner error is the first part that the folder lacks.
fn load_voice(
    runtime: &Runtime,
    folder: &ModelFolder,
    settings: &Settings,
    plan: &Plan,
    wanted: Wanted,
    stop: &Stop,
) -> Result<Result<Option<Voice>, Lack>> {
    let sizes = [settings.codebooks, settings.codebook_size, plan.hidden()];
    let Some(depthformer) = Depthformer::load(runtime, folder, wanted, sizes, stop)? else {
        return Ok(Err(lack(folder, Role::Depthformer, SPEECH_LOST)));
    };
    let Some(embedding) = AudioEmbedding::load(runtime, folder, wanted, sizes, stop)? else {
        return Ok(Err(lack(folder, Role::AudioEmbedding, SPEECH_LOST)));
    };
    let Some(file) = folder.graph(Role::AudioDetokenizer, wanted)? else {
        return Ok(Err(lack(folder, Role::AudioDetokenizer, SPEECH_LOST)));
    };
    if !plan.gives_hidden() {
        let what = "the decoder's output hidden_states".to_owned();
        return Ok(Err(Lack { what, path: folder.graphs().to_path_buf(), consequence: SPEECH_LOST }));
    }
    let end = settings.end_code();
    let detokenizer = Detokenizer::load(runtime, &file, settings.stft.clone(), settings.codebooks, end, stop)?;
    Ok(Ok(Some(Voice { embedding, depthformer, detokenizer })))
}
