//! Cutting a decoder graph into its body and its vocabulary head.
//!
//! An audio step needs no vocabulary logits, and of a prompt only the last position does; the head is the largest matrix
//! of the model. The cut moves nodes and initializers between two graphs byte for byte; weights in external data stay
//! where they are.

use std::collections::{BTreeMap, BTreeSet};

use super::builder::{Size, port};
use super::model::{ElementType, graph_bytes, read_tensor};
use super::wire::{self, Field, NotProtobuf};

/// Operators that project a hidden state onto the vocabulary.
const PROJECTIONS: [&str; 3] = ["MatMul", "MatMulNBits", "Gemm"];
/// Operators that may stand behind the projection, or in front of its weights.
const PASSING: [&str; 4] = ["Identity", "Cast", "Transpose", "DequantizeLinear"];

/// A decoder in two graphs.
#[derive(Debug)]
pub struct Split {
    /// Everything up to the hidden state, as a serialized `ModelProto` without the output `logits`.
    pub body: Vec<u8>,
    /// From the hidden state to `logits`.
    pub head: Vec<u8>,
    /// The head's input.
    pub head_input: String,
    /// The body's output that the head is fed.
    pub body_output: String,
    /// The initializer of a head that is a plain `MatMul`, stored `[hidden, vocabulary]`.
    pub plain_weight: Option<String>,
}

pub(super) struct Node<'a> {
    pub raw: &'a [u8],
    op: &'a str,
    pub inputs: Vec<&'a str>,
    pub outputs: Vec<&'a str>,
}

/// A graph's fields by kind, in their order.
pub(super) struct Parts<'a> {
    pub nodes: Vec<Node<'a>>,
    pub initializers: BTreeMap<String, &'a [u8]>,
    pub outputs: BTreeMap<&'a str, &'a [u8]>,
    pub rest: Vec<&'a [u8]>,
}

/// Cuts the model before the projection that makes `logits`; `hidden` is the width of what it projects.
///
/// `None` when the graph's end has another form: the projection has to take, in f32, what an output of the graph already
/// is, and nothing else that is computed.
#[must_use]
pub fn split_head(model: &[u8], hidden: usize) -> Option<Split> {
    let parts = Parts::read(graph_bytes(model)?).ok()?;
    let mut head = BTreeSet::new();
    let mut at = parts.producer("logits")?;
    while !PROJECTIONS.contains(&parts.nodes[at].op) {
        if parts.nodes[at].op != "Identity" {
            return None;
        }
        head.insert(at);
        at = parts.producer(parts.nodes[at].inputs.first()?)?;
    }
    head.insert(at);
    let (head_input, weights) = parts.nodes[at].inputs.split_first()?;
    let body_output = parts.output_of(head_input)?;
    let mut pending: Vec<&str> = weights.to_vec();
    while let Some(name) = pending.pop() {
        if name.is_empty() || parts.initializers.contains_key(name) {
            continue;
        }
        let maker = parts.producer(name)?;
        if !PASSING.contains(&parts.nodes[maker].op) {
            return None;
        }
        pending.extend(&parts.nodes[maker].inputs);
        head.insert(maker);
    }
    Some(Split {
        body: parts.body(model, &head).ok()?,
        head: parts.head(model, &head, head_input, hidden).ok()?,
        head_input: (*head_input).to_owned(),
        body_output: body_output.to_owned(),
        plain_weight: match (parts.nodes[at].op, weights) {
            ("MatMul", [weight]) if parts.initializers.contains_key(*weight) => Some((*weight).to_owned()),
            _ => None,
        },
    })
}

impl<'a> Parts<'a> {
    pub fn read(graph: &'a [u8]) -> Result<Self, NotProtobuf> {
        let mut parts =
            Self { nodes: Vec::new(), initializers: BTreeMap::new(), outputs: BTreeMap::new(), rest: Vec::new() };
        for field in wire::fields(graph) {
            let field = field?;
            match (field.number, field.bytes()) {
                (1, Some(bytes)) => parts.nodes.push(Node::read(field, bytes)?),
                (5, Some(bytes)) => {
                    parts.initializers.insert(read_tensor(bytes)?.name, field.raw);
                }
                (12, Some(bytes)) => {
                    let name = wire::fields(bytes).flatten().find(|field| field.number == 1);
                    parts.outputs.insert(name.and_then(|name| name.text()).unwrap_or_default(), field.raw);
                }
                // Shapes of intermediate values (13) may name what goes to the other graph; they are hints only.
                (13, _) => {}
                _ => parts.rest.push(field.raw),
            }
        }
        Ok(parts)
    }

    fn producer(&self, name: &str) -> Option<usize> {
        self.nodes.iter().position(|node| node.outputs.contains(&name))
    }

    /// The graph output that equals `name`: itself, or a plain copy of it.
    fn output_of(&self, name: &'a str) -> Option<&'a str> {
        if self.outputs.contains_key(name) {
            return Some(name);
        }
        let copies = self.nodes.iter().filter(|node| node.op == "Identity" && node.inputs == [name]);
        copies.flat_map(|node| &node.outputs).copied().find(|output| self.outputs.contains_key(output))
    }

    fn body(&self, model: &[u8], head: &BTreeSet<usize>) -> Result<Vec<u8>, NotProtobuf> {
        let mut graph = Vec::new();
        let mut used: BTreeSet<&str> = BTreeSet::new();
        for (index, node) in self.nodes.iter().enumerate() {
            // What feeds the head may feed the body too, such as a table that both share.
            let shared = || {
                self.nodes.iter().enumerate().any(|(other, reader)| {
                    !head.contains(&other) && reader.inputs.iter().any(|input| node.outputs.contains(input))
                })
            };
            if !head.contains(&index) || shared() {
                graph.extend_from_slice(node.raw);
                used.extend(&node.inputs);
            }
        }
        // Subgraphs refer to outer initializers by names that are not listed here, so only what is surely the head's goes.
        let of_head: BTreeSet<&str> = head.iter().flat_map(|index| &self.nodes[*index].inputs).copied().collect();
        for (name, raw) in &self.initializers {
            if used.contains(name.as_str()) || !of_head.contains(name.as_str()) {
                graph.extend_from_slice(raw);
            }
        }
        for (name, raw) in &self.outputs {
            if *name != "logits" {
                graph.extend_from_slice(raw);
            }
        }
        for raw in &self.rest {
            graph.extend_from_slice(raw);
        }
        with_graph(model, &graph)
    }

    fn head(&self, model: &[u8], head: &BTreeSet<usize>, input: &str, hidden: usize) -> Result<Vec<u8>, NotProtobuf> {
        let mut graph = Vec::new();
        // A graph's name is not optional.
        wire::put_bytes(&mut graph, 2, b"head");
        for index in head {
            graph.extend_from_slice(self.nodes[*index].raw);
        }
        let inputs: BTreeSet<&str> = head.iter().flat_map(|index| &self.nodes[*index].inputs).copied().collect();
        for (name, raw) in &self.initializers {
            if inputs.contains(name.as_str()) {
                graph.extend_from_slice(raw);
            }
        }
        let dims = [Size::Any("batch"), Size::Any("positions"), Size::Is(hidden)];
        wire::put_bytes(&mut graph, 11, &port(input, ElementType::F32, &dims));
        if let Some(logits) = self.outputs.get("logits") {
            graph.extend_from_slice(logits);
        }
        with_graph(model, &graph)
    }
}

impl<'a> Node<'a> {
    fn read(field: Field<'a>, bytes: &'a [u8]) -> Result<Self, NotProtobuf> {
        let mut node = Self { raw: field.raw, op: "", inputs: Vec::new(), outputs: Vec::new() };
        for part in wire::fields(bytes) {
            let part = part?;
            match part.number {
                1 => node.inputs.push(part.text().unwrap_or_default()),
                2 => node.outputs.push(part.text().unwrap_or_default()),
                4 => node.op = part.text().unwrap_or_default(),
                _ => {}
            }
        }
        Ok(node)
    }
}

/// The model with another graph; version and operator sets stay.
pub(super) fn with_graph(model: &[u8], graph: &[u8]) -> Result<Vec<u8>, NotProtobuf> {
    let mut out = Vec::with_capacity(graph.len() + 256);
    for field in wire::fields(model) {
        let field = field?;
        if field.number != 7 {
            out.extend_from_slice(field.raw);
        }
    }
    wire::put_bytes(&mut out, 7, graph);
    Ok(out)
}
