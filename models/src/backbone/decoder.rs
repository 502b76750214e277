//! Running the decoder graph: prefill in chunks, one position at a time after that.
//!
//! Promises that a cache is changed only by a run that succeeded, so that a stopped or failed step can be repeated.

use std::borrow::Cow;

use ort::memory::{AllocationDevice, AllocatorType, MemoryInfo, MemoryType};
use ort::value::{DynTensor, DynValue};

use super::cache::{Cache, Growth, SlotKind, Snapshot};
use super::plan::{Feed, HIDDEN_OUTPUT, LOGITS, Plan};
use crate::blocks::{BLOCK, Blocks};
use crate::error::{Error, Result};
use crate::folder::{GraphFile, ModelFolder};
use crate::graph::{Graph, Stop};
use crate::onnx::{ElementType, Size, Split, fuse_convolutions, split_head};
use crate::runtime::Runtime;
use crate::tensor::{floats_as, tensor};

/// What a run is fed.
#[derive(Debug, Clone, Copy)]
pub enum Input<'a> {
    /// Token ids; for graphs with `input_ids`.
    Ids(&'a [u32]),
    /// Embeddings, `[positions, hidden]` in one slice; for graphs with `inputs_embeds`.
    Embeddings(&'a [f32]),
}

/// What a run returns, for its last position.
#[derive(Debug, Clone)]
pub struct Output {
    /// Logits over the vocabulary's rows; empty after [`Backbone::advance`].
    pub logits: Vec<f32>,
    /// Hidden state after the final norm, where the graph gives it.
    pub hidden: Option<Vec<f32>>,
}

/// The vocabulary head, where the graph could be cut in front of it.
#[derive(Debug)]
struct Head {
    graph: Graph,
    /// What it lost, where it was rounded to 8 bits.
    difference: Option<f64>,
    input: String,
    /// The body's output that goes in.
    fed_from: String,
}

/// The backbone of a model, ready to run.
#[derive(Debug)]
pub struct Backbone {
    /// The whole decoder, or its body where there is a separate head.
    graph: Graph,
    head: Option<Head>,
    plan: Plan,
    cpu: MemoryInfo<'static>,
}

impl Head {
    /// Builds the session. A large head in 32-bit floats is stored in 8-bit blocks: it is read whole for every token.
    fn build(runtime: &Runtime, file: &GraphFile, split: &Split, stop: &Stop) -> Result<Self> {
        let plain = split.plain_weight.as_deref().filter(|_| !runtime.keeps_heads());
        let weight = plain.map(|name| file.weight(name)).transpose()?.flatten();
        let (bytes, difference) = match weight.as_ref().map(|weight| (weight, weight.dims.as_slice())) {
            Some((weight, [hidden, _])) if weight.bytes().len() >= LARGE_HEAD && hidden.is_multiple_of(BLOCK) => {
                let blocks = Blocks::of_columns(weight.bytes(), *hidden);
                let dims = [Size::Any("batch"), Size::Any("positions"), Size::Is(*hidden)];
                (Cow::Owned(blocks.graph((&split.head_input, &dims), LOGITS)), Some(blocks.difference()))
            }
            _ => (Cow::Borrowed(&split.head), None),
        };
        drop(weight);
        let graph = Graph::from_bytes(runtime, file, &bytes, stop)?;
        Ok(Self { graph, difference, input: split.head_input.clone(), fed_from: split.body_output.clone() })
    }
}

/// Graph files larger than this hold their weights themselves and are run whole.
const MOST_INLINE: usize = 32 << 20;
/// Heads smaller than this stay as they are published.
const LARGE_HEAD: usize = 64 << 20;

impl Backbone {
    /// Builds the sessions for the folder's decoder graph `file`, and has `others` load beside them what needs only the
    /// plan: no session takes more than one core to build.
    ///
    /// # Errors
    /// [`Error::UnknownGraph`] when its inputs are those of no known export, those of loading, and those of `others`.
    pub fn load_beside<T>(
        runtime: &Runtime,
        folder: &ModelFolder,
        file: &GraphFile,
        stop: &Stop,
        others: impl FnOnce(&Plan) -> Result<T>,
    ) -> Result<(Self, T)> {
        let plan = Plan::read(folder, file)?;
        let (sessions, others) = std::thread::scope(|scope| {
            let sessions = scope.spawn(|| sessions(runtime, file, &plan, stop));
            let others = others(&plan);
            (sessions.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)), others)
        });
        let ((graph, head), others) = (sessions?, others?);
        let cpu = MemoryInfo::new(AllocationDevice::CPU, 0, AllocatorType::Device, MemoryType::Default)
            .map_err(|error| graph.failure(&error))?;
        Ok((Self { graph, head, plan, cpu }, others))
    }

    /// Width of an embedding and of a hidden state.
    #[must_use]
    pub fn hidden(&self) -> usize {
        self.plan.hidden
    }

    /// Rows of the vocabulary head.
    #[must_use]
    pub fn vocabulary(&self) -> usize {
        self.plan.vocabulary
    }

    /// Positions that the model can attend to.
    #[must_use]
    pub fn context(&self) -> usize {
        self.plan.context
    }

    /// Whether the vocabulary head runs apart from the body, and only where logits are wanted.
    #[must_use]
    pub fn has_separate_head(&self) -> bool {
        self.head.is_some()
    }

    /// What of the head was stored in fewer bits than published, in a sentence.
    #[must_use]
    pub fn head_difference(&self) -> Option<String> {
        let percent = 100.0 * self.head.as_ref()?.difference?;
        Some(format!("vocabulary head: 32-bit floats in 8-bit blocks, {percent:.2} % of their size lost"))
    }

    /// Whether the graph takes token ids rather than embeddings.
    #[must_use]
    pub fn takes_ids(&self) -> bool {
        self.plan.feed == Feed::Ids
    }

    /// An empty cache.
    ///
    /// # Errors
    /// [`Error::Graph`] when memory is refused.
    pub fn new_cache(&self) -> Result<Cache> {
        Cache::new(&self.plan.slots, self.plan.growth, self.graph.binding()?)
            .map_err(|error| self.graph.failure(&error))
    }

    /// A cache that holds `positions` of nothing, to measure what a long context costs.
    ///
    /// # Errors
    /// [`Error::ContextFull`], [`Error::Graph`] when memory is refused.
    pub fn blank_cache(&self, positions: usize) -> Result<Cache> {
        if positions > self.plan.context {
            return Err(Error::ContextFull { needed: positions, limit: self.plan.context });
        }
        let mut cache = self.new_cache()?;
        cache.pretend(&self.plan.slots, positions, self.plan.context).map_err(|error| self.graph.failure(&error))?;
        Ok(cache)
    }

    /// A copy of what `cache` held at `end`, which goes its own way.
    ///
    /// # Errors
    /// [`Error::BadRequest`] when `end` is further than the cache is, [`Error::Graph`] when memory is refused.
    pub fn fork(&self, cache: &Cache, end: &Snapshot) -> Result<Cache> {
        check_reached(cache, end)?;
        cache
            .copy(&self.plan.slots, self.plan.growth, self.graph.binding()?, end)
            .map_err(|error| self.graph.failure(&error))
    }

    /// The point that `cache` is at, to go back to.
    #[must_use]
    pub fn snapshot(&self, cache: &Cache) -> Snapshot {
        cache.snapshot(&self.plan.slots)
    }

    /// Takes `cache` back to `to`, a snapshot of the same cache or of the one it was forked from.
    ///
    /// # Errors
    /// [`Error::BadRequest`] when `to` is further than the cache is.
    pub fn rewind(&self, cache: &mut Cache, to: &Snapshot) -> Result<()> {
        check_reached(cache, to)?;
        cache.rewind(&self.plan.slots, self.plan.growth, to).map_err(|error| self.graph.failure(&error))
    }

    /// Feeds `input` behind what `cache` holds and returns the last position's logits and hidden state.
    ///
    /// # Errors
    /// [`Error::ContextFull`] before anything is computed, [`Error::Stopped`], [`Error::Graph`].
    pub fn run(&mut self, cache: &mut Cache, input: Input<'_>) -> Result<Output> {
        let mut step = self.feed(cache, input)?;
        if let (Some(head), Some(row)) = (&mut self.head, &step.head_row) {
            let fed = tensor(&[1, 1, row.len()], row).map_err(|error| head.graph.failure(&error))?;
            step.output.logits = last_row(head.graph.run(vec![(head.input.as_str(), fed.into())])?.floats(LOGITS)?);
        }
        Ok(step.commit(cache))
    }

    /// Feeds `input` like [`Self::run`] and leaves the logits out, for positions after which no token is chosen: all but
    /// the last chunk of a prompt, and audio frames.
    ///
    /// # Errors
    /// Those of [`Self::run`].
    pub fn advance(&mut self, cache: &mut Cache, input: Input<'_>) -> Result<Output> {
        self.feed(cache, input).map(|step| step.commit(cache))
    }

    /// Runs the body. The cache stays as it was until the step is committed.
    fn feed(&mut self, cache: &mut Cache, input: Input<'_>) -> Result<Step> {
        let count = self.positions_of(input)?;
        let total = cache.length + count;
        if total > self.plan.context {
            return Err(Error::ContextFull { needed: total, limit: self.plan.context });
        }
        self.bind(cache, input, count, total).map_err(|error| self.graph.failure(&error))?;

        let mut outputs = self.graph.run_bound(&cache.binding)?;
        let hidden = match self.plan.gives_hidden {
            true => Some(last_row(outputs.floats(HIDDEN_OUTPUT)?)),
            false => None,
        };
        let (logits, head_row) = match &self.head {
            None => (last_row(outputs.floats(LOGITS)?), None),
            Some(head) if head.fed_from == HIDDEN_OUTPUT => (Vec::new(), hidden.clone()),
            Some(head) => (Vec::new(), Some(last_row(outputs.floats(&head.fed_from)?))),
        };
        let replaced: Vec<Option<DynTensor>> = match self.plan.growth {
            Growth::InPlace => Vec::new(),
            Growth::Replace => self
                .plan
                .slots
                .iter()
                .map(|slot| match slot.kind {
                    SlotKind::Convolution { .. } => Ok(None),
                    SlotKind::Attention { .. } => outputs.take(&slot.present).and_then(as_tensor).map(Some),
                })
                .collect::<Result<_>>()?,
        };
        Ok(Step { output: Output { logits, hidden }, head_row, replaced, total })
    }

    /// The error for logits among which nothing can be chosen.
    #[must_use]
    pub fn unusable_logits(&self) -> Error {
        self.graph.unusable()
    }

    fn positions_of(&self, input: Input<'_>) -> Result<usize> {
        let count = match (input, self.plan.feed) {
            (Input::Ids(ids), Feed::Ids) => ids.len(),
            (Input::Embeddings(rows), Feed::Embeddings(_)) if rows.len().is_multiple_of(self.plan.hidden.max(1)) => {
                rows.len() / self.plan.hidden.max(1)
            }
            (Input::Embeddings(rows), Feed::Embeddings(_)) => {
                return Err(Error::BadRequest(format!("{} floats are no rows of {}", rows.len(), self.plan.hidden)));
            }
            (Input::Ids(_), Feed::Embeddings(_)) | (Input::Embeddings(_), Feed::Ids) => {
                return Err(Error::BadRequest("this decoder takes the other kind of input".into()));
            }
        };
        if count == 0 {
            return Err(Error::BadRequest("nothing to feed to the model".into()));
        }
        Ok(count)
    }

    fn bind(&self, cache: &mut Cache, input: Input<'_>, count: usize, total: usize) -> Result<(), ort::Error> {
        if self.plan.growth == Growth::InPlace {
            cache.reserve(&self.plan.slots, total, self.plan.context)?;
        }
        let binding = &mut cache.binding;
        match input {
            Input::Ids(ids) => {
                let ids: Vec<i64> = ids.iter().map(|id| i64::from(*id)).collect();
                binding.bind_input("input_ids", &tensor(&[1, count], &ids)?)?;
            }
            Input::Embeddings(rows) => {
                let shape = [1, count, self.plan.hidden];
                let element = match self.plan.feed {
                    Feed::Embeddings(element) => element,
                    Feed::Ids => ElementType::F32,
                };
                binding.bind_input("inputs_embeds", &floats_as(element, &shape, rows)?)?;
            }
        }
        binding.bind_input("attention_mask", &tensor(&[1, total], &vec![1_i64; total])?)?;
        if self.plan.positions {
            let positions: Vec<i64> = (cache.length..total).map(|position| position as i64).collect();
            binding.bind_input("position_ids", &tensor(&[1, count], &positions)?)?;
        }
        if let Some((name, rank)) = self.plan.keep {
            // A scalar in published graphs, a list of one in some exports.
            binding.bind_input(name, &tensor(&vec![1; rank], &[1_i64])?)?;
        }
        for ((slot, past), spare) in self.plan.slots.iter().zip(&mut cache.tensors).zip(&mut cache.spare) {
            binding.bind_input(slot.past.as_str(), &*past)?;
            match (spare, self.plan.growth) {
                (Some(spare), _) => binding.bind_output(slot.present.as_str(), spare)?,
                (None, Growth::InPlace) => binding.bind_output(slot.present.as_str(), past)?,
                (None, Growth::Replace) => binding.bind_output_to_device(slot.present.as_str(), &self.cpu)?,
            }
        }
        let result = match &self.head {
            Some(head) => head.fed_from.as_str(),
            None => LOGITS,
        };
        binding.bind_output_to_device(result, &self.cpu)?;
        if self.plan.gives_hidden && result != HIDDEN_OUTPUT {
            binding.bind_output_to_device(HIDDEN_OUTPUT, &self.cpu)?;
        }
        Ok(())
    }
}

/// The decoder's session, or those of its body and its head.
fn sessions(runtime: &Runtime, file: &GraphFile, plan: &Plan, stop: &Stop) -> Result<(Graph, Option<Head>)> {
    // A cut graph is handed over from memory: with its weights inside that would be several copies of them.
    let small = file.bytes().len() <= MOST_INLINE;
    let fused = small.then(|| fuse_convolutions(file.bytes())).flatten();
    let bytes = fused.as_deref().unwrap_or(file.bytes());
    let sessions = match small.then(|| split_head(bytes, plan.hidden)).flatten() {
        Some(split) => {
            let (body, head) = std::thread::scope(|scope| {
                let head = scope.spawn(|| Head::build(runtime, file, &split, stop));
                let body = Graph::from_bytes(runtime, file, &split.body, stop);
                (body, head.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            });
            (body?, Some(head?))
        }
        None if fused.is_some() => (Graph::from_bytes(runtime, file, bytes, stop)?, None),
        None => (Graph::load(runtime, file, None, stop)?, None),
    };
    Ok(sessions)
}

/// What a run of the body came to.
struct Step {
    output: Output,
    /// The row that the head is fed.
    head_row: Option<Vec<f32>>,
    /// New tensors of the cache, by slot, where it does not grow in place.
    replaced: Vec<Option<DynTensor>>,
    /// Positions that the cache holds after it.
    total: usize,
}

fn check_reached(cache: &Cache, point: &Snapshot) -> Result<()> {
    if point.length() <= cache.length {
        return Ok(());
    }
    let (point, held) = (point.length(), cache.length);
    Err(Error::BadRequest(format!("cannot go back to position {point} of a cache that holds {held}")))
}

impl Step {
    fn commit(self, cache: &mut Cache) -> Output {
        for (tensor, new) in cache.tensors.iter_mut().zip(self.replaced) {
            if let Some(new) = new {
                *tensor = new;
            }
        }
        for (tensor, spare) in cache.tensors.iter_mut().zip(&mut cache.spare) {
            if let Some(spare) = spare {
                std::mem::swap(tensor, spare);
            }
        }
        cache.length = self.total;
        self.output
    }
}

fn as_tensor(value: DynValue) -> Result<DynTensor> {
    value.downcast().map_err(|error| Error::BadRequest(error.to_string()))
}

fn last_row((shape, data): (Vec<usize>, Vec<f32>)) -> Vec<f32> {
    let width = shape.last().copied().unwrap_or_default();
    match data.len() == width {
        true => data,
        false => data[data.len() - width.min(data.len())..].to_vec(),
    }
}
