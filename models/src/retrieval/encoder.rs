//! The encoder: texts to vectors, a batch at a time.

use std::path::Path;

use crate::error::{Error, Result};
use crate::folder::{Family, ModelFolder, Precision, Role, Wanted};
use crate::graph::{Graph, Stop};
use crate::onnx::{Dim, ElementType, Port};
use crate::runtime::Runtime;
use crate::tensor::tensor;

use super::head::Head;
use super::ruler::Ruler;
use super::settings::{FILE, Side};
use super::tokens::Tokens;
use super::vectors::{Vectors, normalise};

/// Texts in one run of the graph at most.
const BATCH_TEXTS: usize = 32;
/// Tokens in one run at most, filling included: what comes after a run waits for it, and larger ones are no faster.
const BATCH_TOKENS: usize = 512;
/// Vectors that differ by no more than this are the same.
const SAME: f32 = 1e-5;

/// What may share a run without changing the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Batching {
    /// Texts of any length: what fills a row up to the longest changes nothing.
    AnyLength,
    /// Texts of one length: the model looks at what fills a row up, as a convolution to both sides does.
    EqualLength,
}

/// A loaded late-interaction model. One thread owns it.
#[derive(Debug)]
pub struct Encoder {
    graph: Graph,
    output: String,
    /// An input of segment numbers, which are all zero.
    segments: Option<String>,
    head: Option<Head>,
    ruler: Ruler,
    width: usize,
    batching: Batching,
    precision: Precision,
}

impl Encoder {
    /// Loads the model in `root`.
    ///
    /// # Errors
    /// [`Error::NotAModel`], [`Error::PartMissing`] without a tokenizer or a needed head, [`Error::UnknownGraph`], and
    /// every error of a file that is there and is not what it claims to be.
    pub fn load(runtime: &Runtime, root: &Path, wanted: Wanted, stop: &Stop) -> Result<Self> {
        let folder = ModelFolder::open(root)?;
        let file =
            folder.required_graph(Role::Decoder, wanted, "nothing works without it; download the folder again")?;
        let family = folder.family(&file);
        if family != Family::Retrieval {
            return Err(Error::NotAModel {
                path: root.to_path_buf(),
                reason: format!("it holds a {} model", family.name()),
                expected: "a late-interaction model: model*.onnx without caches, config_sentence_transformers.json",
            });
        }
        let model = file.model();
        let known = ["input_ids", "attention_mask", "token_type_ids"];
        if let Some(port) = model.inputs.iter().find(|port| !known.contains(&port.name.as_str())) {
            return Err(file.unknown(format!("the input {} is not one of a known export", port.name)));
        }
        if let Some(name) = known[..2].iter().find(|name| model.input(name).is_none()) {
            return Err(file.unknown(format!("it has no input {name}")));
        }
        let floats = |port: &&Port| matches!(port.element, ElementType::F32 | ElementType::F16);
        let output = ["output", "token_embeddings", "last_hidden_state"]
            .iter()
            .find_map(|name| model.output(name))
            .or_else(|| model.outputs.iter().find(floats))
            .ok_or_else(|| file.unknown("it has no output of floats"))?;
        let mut encoder = Self {
            graph: Graph::load(runtime, &file, None, stop)?,
            output: output.name.clone(),
            segments: model.input("token_type_ids").map(|port| port.name.clone()),
            head: None,
            width: output.dims.last().and_then(Dim::fixed).unwrap_or_default(),
            ruler: Ruler::of(&folder)?,
            batching: Batching::EqualLength,
            precision: file.precision(),
        };
        encoder.find_width(&folder)?;
        encoder.batching = encoder.find_batching()?;
        Ok(encoder)
    }

    /// How texts are laid out.
    #[must_use]
    pub fn ruler(&self) -> &Ruler {
        &self.ruler
    }

    /// Floats in one vector.
    #[must_use]
    pub fn width(&self) -> usize {
        self.width
    }

    /// What may share a run.
    #[must_use]
    pub fn batching(&self) -> Batching {
        self.batching
    }

    /// The precision of the graph.
    #[must_use]
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// Encodes all `texts`, in their order.
    ///
    /// # Errors
    /// [`Error::BadRequest`], [`Error::Stopped`], [`Error::Graph`].
    pub fn encode<S: AsRef<str>>(&mut self, texts: &[S], side: Side) -> Result<Vec<Vectors>> {
        let mut encoding = Encoding::new(self, texts, side)?;
        while encoding.step(self)? != Progress::Finished {}
        Ok(encoding.vectors)
    }

    /// Looks at what the graph computes and takes the head where the graph leaves it out.
    fn find_width(&mut self, folder: &ModelFolder) -> Result<()> {
        let hello = self.ruler.tokens("a", Side::Document)?;
        let (shape, _) = self.run(&[&hello])?;
        let [1, positions, width] = shape[..] else {
            return Err(self.odd(format!("{} has shape {shape:?}, not [1, tokens, width]", self.output)));
        };
        if positions != hello.ids.len() || width == 0 {
            return Err(self.odd(format!("{} has shape {shape:?} for {} tokens", self.output, hello.ids.len())));
        }
        self.width = width;
        // The backbone's rows come out under names of their own or in a width that is not the vectors'.
        let whole = match self.ruler.settings().width {
            Some(expected) => width == expected,
            None => self.output != "last_hidden_state",
        };
        if whole {
            return Ok(());
        }
        let Some(head) = Head::load(folder)?.filter(|head| head.input() == width) else {
            return Err(Error::PartMissing {
                what: "1_Dense/model.safetensors".into(),
                path: folder.root().to_path_buf(),
                consequence: format!(
                    "the graph gives {width} floats a token and leaves the projection to {} out; export the model with \
                     its head, or copy 1_Dense from the checkpoint",
                    self.ruler.settings().width.map_or("its vectors".to_owned(), |width| width.to_string())
                ),
            });
        };
        if self.ruler.settings().width.is_some_and(|expected| expected != head.output()) {
            return Err(Error::Malformed {
                path: folder.root().join(FILE),
                reason: format!("embedding_dim is not the {} floats of 1_Dense", head.output()),
                remedy: "use the files that belong to this model",
            });
        }
        self.width = head.output();
        self.head = Some(head);
        Ok(())
    }

    /// Tries whether filling changes what is computed: a folder does not say, and graphs differ.
    fn find_batching(&mut self) -> Result<Batching> {
        let short = self.ruler.tokens("one", Side::Document)?;
        let mut long = short.clone();
        for _ in 0..4 {
            long.ids.extend_from_slice(&short.ids);
            long.mask.extend_from_slice(&short.mask);
            long.kept.extend_from_slice(&short.kept);
        }
        let alone = self.batch(&[&short])?.swap_remove(0);
        let beside = self.batch(&[&short, &long])?.swap_remove(0);
        let same = alone.data().iter().zip(beside.data()).all(|(a, b)| (a - b).abs() <= SAME);
        Ok(if same { Batching::AnyLength } else { Batching::EqualLength })
    }

    /// Groups texts, by index, into runs: like lengths together, long ones first.
    fn plan(&self, tokens: &[Tokens]) -> Vec<Vec<usize>> {
        let mut order: Vec<usize> = (0..tokens.len()).collect();
        order.sort_by_key(|index| std::cmp::Reverse(tokens[*index].ids.len()));
        let mut plan: Vec<Vec<usize>> = Vec::new();
        for index in order {
            let fits = plan.last().is_some_and(|batch| {
                let longest = tokens[batch[0]].ids.len();
                let length = tokens[index].ids.len();
                let alike = match self.batching {
                    Batching::EqualLength => length == longest,
                    // Shorter ones would be mostly filling.
                    Batching::AnyLength => length * 2 >= longest,
                };
                alike && batch.len() < BATCH_TEXTS && (batch.len() + 1) * longest <= BATCH_TOKENS
            });
            match plan.last_mut() {
                Some(batch) if fits => batch.push(index),
                Some(_) | None => plan.push(vec![index]),
            }
        }
        plan
    }

    /// The vectors of one run.
    fn batch(&mut self, tokens: &[&Tokens]) -> Result<Vec<Vectors>> {
        let (shape, rows) = self.run(tokens)?;
        let positions = tokens.iter().map(|tokens| tokens.ids.len()).max().unwrap_or_default();
        let [texts, filled, width] = shape[..] else {
            return Err(self.odd(format!("{} has shape {shape:?}", self.output)));
        };
        if texts != tokens.len() || filled != positions {
            return Err(self.odd(format!("{} has shape {shape:?} for {} texts", self.output, tokens.len())));
        }
        let mut answer = Vec::with_capacity(texts);
        for (tokens, rows) in tokens.iter().zip(rows.chunks_exact((filled * width).max(1))) {
            let kept = tokens.kept.iter().zip(rows.chunks_exact(width)).filter(|(kept, _)| **kept);
            let kept: Vec<f32> = kept.flat_map(|(_, row)| row).copied().collect();
            let mut vectors = match &self.head {
                Some(head) => head.apply(&kept),
                None => kept,
            };
            normalise(&mut vectors, self.width);
            if vectors.iter().any(|value| !value.is_finite()) {
                return Err(self.graph.unusable());
            }
            answer.push(Vectors::new(self.width, vectors));
        }
        Ok(answer)
    }

    /// One run of the graph; rows are filled up to the longest text.
    fn run(&mut self, tokens: &[&Tokens]) -> Result<(Vec<usize>, Vec<f32>)> {
        let longest = tokens.iter().map(|tokens| tokens.ids.len()).max().unwrap_or_default();
        let shape = [tokens.len(), longest];
        let (mut ids, mut mask) = (Vec::new(), Vec::new());
        for tokens in tokens {
            ids.extend(tokens.ids.iter().map(|id| i64::from(*id)));
            mask.extend_from_slice(&tokens.mask);
            ids.resize(ids.len() + longest - tokens.ids.len(), i64::from(self.ruler.settings().pad));
            mask.resize(ids.len(), 0);
        }
        let made = |data: &[i64]| tensor(&shape, data).map_err(|error| self.graph.failure(&error));
        let mut inputs = vec![("input_ids", made(&ids)?.into()), ("attention_mask", made(&mask)?.into())];
        if let Some(name) = &self.segments {
            inputs.push((name.as_str(), made(&vec![0; ids.len()])?.into()));
        }
        self.graph.run(inputs)?.floats(&self.output)
    }

    fn odd(&self, reason: String) -> Error {
        self.graph.odd(reason)
    }
}

/// How far an [`Encoding`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// A batch was encoded.
    Texts {
        /// Texts so far.
        done: usize,
        /// Texts in all.
        total: usize,
    },
    /// All are.
    Finished,
}

/// Texts being encoded, one batch a step, so that something more urgent can go first between any two.
#[derive(Debug)]
pub struct Encoding {
    tokens: Vec<Tokens>,
    /// Batches to come, the next one last.
    plan: Vec<Vec<usize>>,
    vectors: Vec<Vectors>,
    done: usize,
}

impl Encoding {
    /// Tokenises `texts` and plans their batches.
    ///
    /// # Errors
    /// [`Error::BadRequest`] when a text cannot be represented.
    pub fn new<S: AsRef<str>>(encoder: &Encoder, texts: &[S], side: Side) -> Result<Self> {
        let tokens: Vec<Tokens> =
            texts.iter().map(|text| encoder.ruler.tokens(text.as_ref(), side)).collect::<Result<_>>()?;
        let mut plan = encoder.plan(&tokens);
        plan.reverse();
        let none = Vectors::new(encoder.width, Vec::new());
        Ok(Self { vectors: vec![none; tokens.len()], tokens, plan, done: 0 })
    }

    /// Encodes one batch. After an error the same batch comes again.
    ///
    /// # Errors
    /// [`Error::Stopped`], [`Error::Graph`].
    pub fn step(&mut self, encoder: &mut Encoder) -> Result<Progress> {
        let Some(batch) = self.plan.last() else {
            return Ok(Progress::Finished);
        };
        let tokens: Vec<&Tokens> = batch.iter().map(|index| &self.tokens[*index]).collect();
        for (index, vectors) in batch.iter().zip(encoder.batch(&tokens)?) {
            self.vectors[*index] = vectors;
        }
        self.done += batch.len();
        self.plan.pop();
        Ok(Progress::Texts { done: self.done, total: self.tokens.len() })
    }

    /// The vectors of all texts, in their order; empty ones for those that no step has reached.
    #[must_use]
    pub fn into_vectors(self) -> Vec<Vectors> {
        self.vectors
    }
}
