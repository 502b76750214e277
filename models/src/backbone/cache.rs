//! The cache of one conversation: convolution states, keys and values, and the way back.
//!
//! Keys and values live in buffers with room to spare that the attention operator extends in place, so a step copies
//! nothing and going back is a shorter length. A convolution state cannot be shortened: going back needs a
//! [`Snapshot`] taken at that point (model contract, section 2).

use ort::session::IoBinding;
use ort::value::DynTensor;

use crate::onnx::{Dim, ElementType, Model, Port};
use crate::tensor::{bytes, bytes_mut, width, zeros};

/// Positions that a new cache has room for; it doubles as it fills.
const FIRST_CAPACITY: usize = 256;

/// Sizes from a folder's settings, for dimensions that a graph leaves open.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Widths {
    pub hidden: Option<usize>,
    pub kv_heads: Option<usize>,
    pub head_dim: Option<usize>,
}

/// What one `past*` input of a decoder graph holds.
#[derive(Debug, Clone)]
pub(super) struct Slot {
    /// Input name.
    pub past: String,
    /// Output name.
    pub present: String,
    pub element: ElementType,
    pub kind: SlotKind,
}

#[derive(Debug, Clone)]
pub(super) enum SlotKind {
    /// Columns of a gated short convolution, `[1, hidden, width]`.
    Convolution { shape: [usize; 3] },
    /// Keys or values, `[1, heads, positions, head_dim]`.
    Attention { heads: usize, head_dim: usize },
}

impl Slot {
    /// Reads the slots from a decoder's inputs; `usual` fills dimensions that the graph leaves open.
    ///
    /// # Errors
    /// A sentence about the first input that fits no known form.
    pub fn read_all(model: &Model, usual: &Widths) -> Result<Vec<Self>, String> {
        let slots: Vec<Self> = model
            .inputs
            .iter()
            .filter(|port| port.name.starts_with("past"))
            .map(|port| Self::read(port, usual))
            .collect::<Result<_, _>>()?;
        for slot in &slots {
            if model.output(&slot.present).is_none() {
                return Err(format!("it has the input {} and not the output {}", slot.past, slot.present));
            }
        }
        Ok(slots)
    }

    fn read(port: &Port, usual: &Widths) -> Result<Self, String> {
        if !matches!(port.element, ElementType::F32 | ElementType::F16) {
            return Err(format!("{port} is neither f32 nor f16"));
        }
        let known =
            |dim: &Dim, usual: Option<usize>| dim.fixed().or(usual).ok_or_else(|| format!("{port} is too open"));
        let kind = match port.dims.as_slice() {
            [_, hidden, Dim::Fixed(width)] => {
                SlotKind::Convolution { shape: [1, known(hidden, usual.hidden)?, *width] }
            }
            [_, heads, Dim::Symbol(_), last] => {
                SlotKind::Attention { heads: known(heads, usual.kv_heads)?, head_dim: known(last, usual.head_dim)? }
            }
            _ => return Err(format!("{port} is no known cache input")),
        };
        // past_conv.N, past.N.conv and past_key_values.N.key become present_conv.N, present.N.conv, present.N.key.
        let present = match port.name.strip_prefix("past_key_values.") {
            Some(rest) => format!("present.{rest}"),
            None => port.name.replacen("past", "present", 1),
        };
        Ok(Self { past: port.name.clone(), present, element: port.element, kind })
    }
}

/// How the graph takes and returns keys and values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Growth {
    /// The attention operator extends a buffer with room to spare, in place.
    InPlace,
    /// Every step returns new, longer tensors.
    Replace,
}

/// The cache of one conversation. Belongs to the backbone that made it.
#[derive(Debug)]
pub struct Cache {
    pub(super) length: usize,
    pub(super) capacity: usize,
    /// One tensor for each slot, in the slots' order.
    pub(super) tensors: Vec<DynTensor>,
    /// For each convolution slot the tensor that the next step writes: a graph may read the old state after it has
    /// begun to write the new one.
    pub(super) spare: Vec<Option<DynTensor>>,
    pub(super) binding: IoBinding,
}

/// A point to which a [`Cache`] can go back.
#[derive(Debug, Clone)]
pub struct Snapshot {
    length: usize,
    convolutions: Vec<Box<[u8]>>,
}

impl Snapshot {
    /// Positions that the cache held.
    #[must_use]
    pub fn length(&self) -> usize {
        self.length
    }

    /// Bytes that the snapshot occupies.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.convolutions.iter().map(|state| state.len()).sum()
    }
}

impl Cache {
    pub(super) fn new(slots: &[Slot], growth: Growth, binding: IoBinding) -> Result<Self, ort::Error> {
        let capacity = match growth {
            Growth::InPlace => FIRST_CAPACITY,
            Growth::Replace => 0,
        };
        let mut cache = Self { length: 0, capacity, tensors: Vec::new(), spare: Vec::new(), binding };
        for slot in slots {
            let spare = match &slot.kind {
                SlotKind::Convolution { shape } => {
                    cache.tensors.push(zeros(slot.element, shape)?);
                    Some(zeros(slot.element, shape)?)
                }
                SlotKind::Attention { heads, head_dim } => {
                    cache.tensors.push(zeros(slot.element, &[1, *heads, capacity, *head_dim])?);
                    None
                }
            };
            cache.spare.push(spare);
        }
        Ok(cache)
    }

    /// Positions that it holds.
    #[must_use]
    pub fn length(&self) -> usize {
        self.length
    }

    /// Bytes that it occupies.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.tensors.iter().chain(self.spare.iter().flatten()).map(|tensor| bytes(tensor).len()).sum()
    }

    /// Makes room for `positions`, at most `limit`, keeping what is held.
    pub(super) fn reserve(&mut self, slots: &[Slot], positions: usize, limit: usize) -> Result<(), ort::Error> {
        if positions <= self.capacity {
            return Ok(());
        }
        let capacity = positions.next_multiple_of(FIRST_CAPACITY).max(self.capacity * 2).min(limit.max(positions));
        for (slot, tensor) in slots.iter().zip(&mut self.tensors) {
            if let SlotKind::Attention { heads, head_dim } = slot.kind {
                *tensor = resized(slot.element, heads, head_dim, tensor, self.length, capacity)?;
            }
        }
        self.capacity = capacity;
        Ok(())
    }

    /// Holds `positions` of zeros.
    pub(super) fn pretend(&mut self, slots: &[Slot], positions: usize, limit: usize) -> Result<(), ort::Error> {
        self.reserve(slots, positions, limit)?;
        self.length = positions;
        Ok(())
    }

    pub(super) fn snapshot(&self, slots: &[Slot]) -> Snapshot {
        let convolutions = slots
            .iter()
            .zip(&self.tensors)
            .filter(|(slot, _)| matches!(slot.kind, SlotKind::Convolution { .. }))
            .map(|(_, tensor)| bytes(tensor).into())
            .collect();
        Snapshot { length: self.length, convolutions }
    }

    pub(super) fn rewind(&mut self, slots: &[Slot], growth: Growth, to: &Snapshot) -> Result<(), ort::Error> {
        let mut states = to.convolutions.iter();
        for (slot, tensor) in slots.iter().zip(&mut self.tensors) {
            match (&slot.kind, growth) {
                (SlotKind::Convolution { .. }, _) => {
                    if let Some(state) = states.next() {
                        bytes_mut(tensor).copy_from_slice(state);
                    }
                }
                (SlotKind::Attention { .. }, Growth::InPlace) => {}
                (SlotKind::Attention { heads, head_dim }, Growth::Replace) => {
                    *tensor = resized(slot.element, *heads, *head_dim, tensor, to.length, to.length)?;
                }
            }
        }
        self.length = to.length;
        Ok(())
    }

    /// A cache of its own with what this one held at the point `end`.
    pub(super) fn copy(
        &self,
        slots: &[Slot],
        growth: Growth,
        binding: IoBinding,
        end: &Snapshot,
    ) -> Result<Self, ort::Error> {
        let mut copy = Self::new(slots, growth, binding)?;
        copy.capacity = match growth {
            Growth::InPlace => end.length.next_multiple_of(FIRST_CAPACITY).max(FIRST_CAPACITY),
            Growth::Replace => 0,
        };
        copy.length = end.length;
        let mut states = end.convolutions.iter();
        for ((slot, from), to) in slots.iter().zip(&self.tensors).zip(&mut copy.tensors) {
            match slot.kind {
                SlotKind::Convolution { .. } => {
                    if let Some(state) = states.next() {
                        bytes_mut(to).copy_from_slice(state);
                    }
                }
                SlotKind::Attention { heads, head_dim } => {
                    let capacity = copy.capacity.max(end.length);
                    *to = resized(slot.element, heads, head_dim, from, end.length, capacity)?;
                }
            }
        }
        Ok(copy)
    }
}

/// A `[1, heads, capacity, head_dim]` tensor that holds the first `length` positions of `from`.
fn resized(
    element: ElementType,
    heads: usize,
    head_dim: usize,
    from: &DynTensor,
    length: usize,
    capacity: usize,
) -> Result<DynTensor, ort::Error> {
    let mut to = zeros(element, &[1, heads, capacity, head_dim])?;
    let row = head_dim * width(element);
    let source = bytes(from);
    let old_head = source.len() / heads.max(1);
    let used = length * row;
    if used > 0 {
        for (old, new) in source.chunks_exact(old_head).zip(bytes_mut(&mut to).chunks_exact_mut(capacity * row)) {
            new[..used].copy_from_slice(&old[..used]);
        }
    }
    Ok(to)
}
