//! Writing an ONNX graph from nothing: ports, nodes, small initializers inline and large ones by reference.
//!
//! Promises only well-formed protobuf; whether the graph makes sense is the caller's affair. IR 10, and the operator set
//! that the caller names.

use std::collections::BTreeSet;

use super::model::{ElementType, ExternalData};
use super::wire;

/// Operators of ONNX Runtime's own domain.
const CONTRIBUTED: [&str; 7] = [
    "CausalConvWithState",
    "GatherBlockQuantized",
    "GroupQueryAttention",
    "MatMulNBits",
    "QMoE",
    "SkipSimplifiedLayerNormalization",
    "QuickGelu",
];
const IR_VERSION: i64 = 10;

/// One dimension of a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Size {
    /// A number.
    Is(usize),
    /// A symbol.
    Any(&'static str),
}

/// An attribute of a node.
#[derive(Debug, Clone, Copy)]
pub enum Value<'a> {
    /// `INT`
    Int(i64),
    /// `FLOAT`
    Float(f32),
    /// `INTS`
    Ints(&'a [i64]),
    /// `STRING`
    Text(&'a str),
    /// `GRAPH`, as [`GraphBuilder::subgraph`] gives it.
    Graph(&'a [u8]),
}

/// A graph in the making.
#[derive(Debug)]
pub struct GraphBuilder {
    name: String,
    nodes: Vec<u8>,
    initializers: Vec<u8>,
    known: BTreeSet<String>,
    ports: Vec<u8>,
}

impl GraphBuilder {
    /// An empty graph.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            nodes: Vec::new(),
            initializers: Vec::new(),
            known: BTreeSet::new(),
            ports: Vec::new(),
        }
    }

    /// Declares an input.
    pub fn input(&mut self, name: &str, element: ElementType, dims: &[Size]) -> String {
        wire::put_bytes(&mut self.ports, 11, &port(name, element, dims));
        name.to_owned()
    }

    /// Declares an output.
    pub fn output(&mut self, name: &str, element: ElementType, dims: &[Size]) {
        wire::put_bytes(&mut self.ports, 12, &port(name, element, dims));
    }

    /// Adds a node with one output, and returns the output's name.
    pub fn node(&mut self, op: &str, inputs: &[&str], output: &str, attributes: &[(&str, Value<'_>)]) -> String {
        self.node_of_many(op, inputs, &[output], attributes);
        output.to_owned()
    }

    /// Adds a node.
    pub fn node_of_many(&mut self, op: &str, inputs: &[&str], outputs: &[&str], attributes: &[(&str, Value<'_>)]) {
        wire::put_bytes(&mut self.nodes, 1, &node(op, inputs, outputs, attributes));
    }

    /// Whether there is an initializer of this name.
    #[must_use]
    pub fn knows(&self, name: &str) -> bool {
        self.known.contains(name)
    }

    /// Adds an initializer whose bytes stand in the graph; a name that is known stays as it is.
    pub fn inline(&mut self, name: &str, element: ElementType, dims: &[usize], raw: &[u8]) -> String {
        if self.known.insert(name.to_owned()) {
            let mut tensor = head(name, element, dims);
            wire::put_bytes(&mut tensor, 9, raw);
            wire::put_bytes(&mut self.initializers, 5, &tensor);
        }
        name.to_owned()
    }

    /// Adds an initializer whose bytes lie elsewhere; a name that is known stays as it is.
    pub fn external(&mut self, name: &str, element: ElementType, dims: &[usize], place: &ExternalData) -> String {
        if self.known.insert(name.to_owned()) {
            let mut tensor = head(name, element, dims);
            let length = place.length.map(|length| length.to_string());
            let entries = [
                ("location", Some(place.location.clone())),
                ("offset", Some(place.offset.to_string())),
                ("length", length),
            ];
            for (key, value) in entries {
                let Some(value) = value else { continue };
                let mut entry = Vec::new();
                wire::put_bytes(&mut entry, 1, key.as_bytes());
                wire::put_bytes(&mut entry, 2, value.as_bytes());
                wire::put_bytes(&mut tensor, 13, &entry);
            }
            // TensorProto.DataLocation.EXTERNAL
            wire::put_int(&mut tensor, 14, 1);
            wire::put_bytes(&mut self.initializers, 5, &tensor);
        }
        name.to_owned()
    }

    /// Integers as an initializer that is named after them.
    pub fn ints(&mut self, values: &[i64]) -> String {
        let name = values.iter().map(|value| format!("_{value}")).collect::<String>();
        let raw: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.inline(&format!("ints{name}"), ElementType::I64, &[values.len()], &raw)
    }

    /// An integer as a scalar that is named after it.
    pub fn int(&mut self, value: i64) -> String {
        self.inline(&format!("int_{value}"), ElementType::I64, &[], &value.to_le_bytes())
    }

    /// Floats as an initializer.
    pub fn floats(&mut self, name: &str, dims: &[usize], values: impl IntoIterator<Item = f32>) -> String {
        let raw: Vec<u8> = values.into_iter().flat_map(f32::to_le_bytes).collect();
        self.inline(name, ElementType::F32, dims, &raw)
    }

    /// The graph without a model around it, for an attribute; its initializers are those of the graph around it.
    #[must_use]
    pub fn subgraph(self) -> Vec<u8> {
        let mut graph = self.nodes;
        wire::put_bytes(&mut graph, 2, self.name.as_bytes());
        graph.extend_from_slice(&self.initializers);
        graph.extend_from_slice(&self.ports);
        graph
    }

    /// The serialized `ModelProto`, which says that it comes from `producer`.
    #[must_use]
    pub fn finish(self, opset: i64, producer: &str) -> Vec<u8> {
        let mut model = Vec::new();
        wire::put_int(&mut model, 1, IR_VERSION);
        wire::put_bytes(&mut model, 2, producer.as_bytes());
        for (domain, version) in [("", opset), ("com.microsoft", 1)] {
            let mut import = Vec::new();
            wire::put_bytes(&mut import, 1, domain.as_bytes());
            wire::put_int(&mut import, 2, version);
            wire::put_bytes(&mut model, 8, &import);
        }
        wire::put_bytes(&mut model, 7, &self.subgraph());
        model
    }
}

/// A `NodeProto`.
pub(super) fn node(op: &str, inputs: &[&str], outputs: &[&str], attributes: &[(&str, Value<'_>)]) -> Vec<u8> {
    let mut node = Vec::new();
    for input in inputs {
        wire::put_bytes(&mut node, 1, input.as_bytes());
    }
    for output in outputs {
        wire::put_bytes(&mut node, 2, output.as_bytes());
    }
    let name = format!("{}/{op}", outputs.first().copied().unwrap_or_default());
    wire::put_bytes(&mut node, 3, name.as_bytes());
    wire::put_bytes(&mut node, 4, op.as_bytes());
    for (name, value) in attributes {
        wire::put_bytes(&mut node, 5, &attribute(name, *value));
    }
    if CONTRIBUTED.contains(&op) {
        wire::put_bytes(&mut node, 7, b"com.microsoft");
    }
    node
}

/// What every initializer has.
fn head(name: &str, element: ElementType, dims: &[usize]) -> Vec<u8> {
    let mut tensor = Vec::new();
    for dim in dims {
        wire::put_int(&mut tensor, 1, *dim as i64);
    }
    wire::put_int(&mut tensor, 2, element.number());
    wire::put_bytes(&mut tensor, 8, name.as_bytes());
    tensor
}

fn attribute(name: &str, value: Value<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    wire::put_bytes(&mut out, 1, name.as_bytes());
    let kind = match value {
        Value::Float(value) => {
            wire::put_fixed32(&mut out, 2, value.to_le_bytes());
            1
        }
        Value::Int(value) => {
            wire::put_int(&mut out, 3, value);
            2
        }
        Value::Text(value) => {
            wire::put_bytes(&mut out, 4, value.as_bytes());
            3
        }
        Value::Graph(graph) => {
            wire::put_bytes(&mut out, 6, graph);
            5
        }
        Value::Ints(values) => {
            for value in values {
                wire::put_int(&mut out, 8, *value);
            }
            7
        }
    };
    // AttributeProto.AttributeType
    wire::put_int(&mut out, 20, kind);
    out
}

/// A `ValueInfoProto`.
pub(super) fn port(name: &str, element: ElementType, dims: &[Size]) -> Vec<u8> {
    let mut shape = Vec::new();
    for size in dims {
        let mut dim = Vec::new();
        match size {
            Size::Is(size) => wire::put_int(&mut dim, 1, *size as i64),
            Size::Any(symbol) => wire::put_bytes(&mut dim, 2, symbol.as_bytes()),
        }
        wire::put_bytes(&mut shape, 1, &dim);
    }
    let (mut tensor, mut kind, mut port) = (Vec::new(), Vec::new(), Vec::new());
    wire::put_int(&mut tensor, 1, element.number());
    wire::put_bytes(&mut tensor, 2, &shape);
    wire::put_bytes(&mut kind, 1, &tensor);
    wire::put_bytes(&mut port, 1, name.as_bytes());
    wire::put_bytes(&mut port, 2, &kind);
    port
}

#[cfg(test)]
mod tests {
    use super::super::{Dim, Model};
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mut graph = GraphBuilder::new("one");
        let x = graph.input("x", ElementType::F32, &[Size::Any("rows"), Size::Is(32)]);
        let place = ExternalData { location: "one.onnx_data".into(), offset: 64, length: Some(4096) };
        let weight = graph.external("weight", ElementType::F32, &[32, 32], &place);
        let axes = graph.ints(&[1]);
        let y = graph.node("MatMul", &[&x, &weight], "y", &[]);
        graph.node("ReduceSum", &[&y, &axes], "sum", &[("keepdims", Value::Int(0))]);
        graph.output("sum", ElementType::F32, &[Size::Any("rows")]);
        let bytes = graph.finish(21, "a test");
        let model = Model::parse(&bytes).expect("well formed");
        assert_eq!(model.opset, 21);
        assert_eq!(model.input("x").expect("declared").dims, [Dim::Symbol("rows".into()), Dim::Fixed(32)]);
        assert_eq!(model.initializers[0].external.as_ref(), Some(&place));
        assert_eq!(model.nodes_of("ReduceSum").next().and_then(|node| node.int("keepdims")), Some(0));
        assert!(model.output("sum").is_some());
    }
}
