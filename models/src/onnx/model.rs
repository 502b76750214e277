//! What an ONNX file says of itself: ports, nodes, initializers, external data.
//!
//! A view into the file's bytes. Field numbers are those of `onnx.proto` (IR version 10).

use std::collections::BTreeMap;

use super::wire::{self, Field, NotProtobuf, Value};

/// Graphs inside each other; published ones have two levels.
pub(super) const DEEPEST: usize = 32;

/// One dimension of a port's shape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Dim {
    /// A number.
    Fixed(usize),
    /// A symbol, such as `sequence_length`; empty where the file leaves the dimension open.
    Symbol(String),
}

impl Dim {
    /// The number, where it is one.
    #[must_use]
    pub fn fixed(&self) -> Option<usize> {
        match self {
            Self::Fixed(size) => Some(*size),
            Self::Symbol(_) => None,
        }
    }
}

/// The element types that published folders use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ElementType {
    /// 32-bit float.
    F32,
    /// 16-bit IEEE float.
    F16,
    /// 32-bit integer.
    I32,
    /// 64-bit integer.
    I64,
    /// Any other, by its number in `TensorProto.DataType`.
    Other(i64),
}

impl ElementType {
    fn from_number(number: i64) -> Self {
        match number {
            1 => Self::F32,
            10 => Self::F16,
            6 => Self::I32,
            7 => Self::I64,
            other => Self::Other(other),
        }
    }

    /// Its number in `TensorProto.DataType`.
    pub(super) fn number(self) -> i64 {
        match self {
            Self::F32 => 1,
            Self::F16 => 10,
            Self::I32 => 6,
            Self::I64 => 7,
            Self::Other(number) => number,
        }
    }

    /// `TensorProto.DataType.UINT8`, the type of packed weights.
    pub const BYTES: Self = Self::Other(2);
}

impl std::fmt::Display for ElementType {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::F32 => out.write_str("f32"),
            Self::F16 => out.write_str("f16"),
            Self::I32 => out.write_str("i32"),
            Self::I64 => out.write_str("i64"),
            Self::Other(number) => write!(out, "type {number}"),
        }
    }
}

/// An input or output of a graph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// Its name.
    pub name: String,
    /// Its element type.
    pub element: ElementType,
    /// Its shape.
    pub dims: Vec<Dim>,
}

impl std::fmt::Display for Port {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{} {}[", self.name, self.element)?;
        for (index, dim) in self.dims.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            match dim {
                Dim::Fixed(size) => write!(out, "{comma}{size}")?,
                Dim::Symbol(symbol) => write!(out, "{comma}{symbol}")?,
            }
        }
        out.write_str("]")
    }
}

/// An attribute's value, as far as anything here asks for it.
#[derive(Debug, Clone, PartialEq)]
enum Attribute {
    Int(i64),
    Ints(Vec<i64>),
    Text(String),
    Other,
}

/// A node of the graph.
#[derive(Debug, Clone)]
pub struct Node {
    /// Its operator, such as `GroupQueryAttention`.
    pub op: String,
    /// Names of its inputs; empty where an optional input is left out.
    pub inputs: Vec<String>,
    /// Names of its outputs.
    pub outputs: Vec<String>,
    attributes: BTreeMap<String, Attribute>,
}

impl Node {
    /// The integer attribute `name`.
    #[must_use]
    pub fn int(&self, name: &str) -> Option<i64> {
        match self.attributes.get(name)? {
            Attribute::Int(value) => Some(*value),
            Attribute::Ints(_) | Attribute::Text(_) | Attribute::Other => None,
        }
    }

    /// The list attribute `name`.
    #[must_use]
    pub fn ints(&self, name: &str) -> Option<&[i64]> {
        match self.attributes.get(name)? {
            Attribute::Ints(values) => Some(values),
            Attribute::Int(_) | Attribute::Text(_) | Attribute::Other => None,
        }
    }

    /// The text attribute `name`.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        match self.attributes.get(name)? {
            Attribute::Text(value) => Some(value),
            Attribute::Int(_) | Attribute::Ints(_) | Attribute::Other => None,
        }
    }
}

/// Where an initializer's bytes lie when they are not in the graph file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExternalData {
    /// File name, relative to the graph's folder.
    pub location: String,
    /// First byte.
    pub offset: u64,
    /// Number of bytes; `None` means to the end of the file.
    pub length: Option<u64>,
}

/// An initializer.
#[derive(Debug, Clone)]
pub struct Tensor {
    /// Its name.
    pub name: String,
    /// Its element type.
    pub element: ElementType,
    /// Its shape.
    pub dims: Vec<usize>,
    /// Its place outside of the graph file, if it has one.
    pub external: Option<ExternalData>,
}

/// A graph file's self-description.
#[derive(Debug, Clone)]
pub struct Model {
    /// The graph's inputs, without initializers that are listed as inputs.
    pub inputs: Vec<Port>,
    /// The graph's outputs.
    pub outputs: Vec<Port>,
    /// All nodes, those of nested subgraphs behind their parent.
    pub nodes: Vec<Node>,
    /// All initializers, those of nested subgraphs included.
    pub initializers: Vec<Tensor>,
    /// Version of ONNX's own operators.
    pub opset: i64,
}

impl Model {
    /// Reads the self-description of a serialized `ModelProto`.
    ///
    /// # Errors
    /// A sentence when `bytes` are not an ONNX model.
    pub fn parse(bytes: &[u8]) -> Result<Self, &'static str> {
        let graph = graph_bytes(bytes).ok_or("not an ONNX model (no graph inside, or cut off)")?;
        let mut model = Self {
            inputs: Vec::new(),
            outputs: Vec::new(),
            nodes: Vec::new(),
            initializers: Vec::new(),
            opset: read_opset(bytes).map_err(|NotProtobuf| "not an ONNX model (damaged head)")?,
        };
        model.read_graph(graph, 0).map_err(|NotProtobuf| "not an ONNX model (damaged graph)")?;
        let weights: std::collections::HashSet<&str> =
            model.initializers.iter().map(|tensor| tensor.name.as_str()).collect();
        model.inputs.retain(|port| !weights.contains(port.name.as_str()));
        Ok(model)
    }

    /// The input named `name`.
    #[must_use]
    pub fn input(&self, name: &str) -> Option<&Port> {
        self.inputs.iter().find(|port| port.name == name)
    }

    /// The output named `name`.
    #[must_use]
    pub fn output(&self, name: &str) -> Option<&Port> {
        self.outputs.iter().find(|port| port.name == name)
    }

    /// The nodes with operator `op`.
    pub fn nodes_of<'a>(&'a self, op: &'a str) -> impl Iterator<Item = &'a Node> {
        self.nodes.iter().filter(move |node| node.op == op)
    }

    /// The inputs in one line, for error messages.
    #[must_use]
    pub fn inputs_line(&self) -> String {
        self.inputs.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    }

    fn read_graph(&mut self, graph: &[u8], depth: usize) -> Result<(), NotProtobuf> {
        if depth > DEEPEST {
            return Err(NotProtobuf);
        }
        for field in wire::fields(graph) {
            let field = field?;
            match (field.number, field.bytes()) {
                (1, Some(node)) => self.read_node(node, depth)?,
                (5, Some(tensor)) => self.initializers.push(read_tensor(tensor)?),
                (11, Some(port)) if depth == 0 => self.inputs.push(read_port(port)?),
                (12, Some(port)) if depth == 0 => self.outputs.push(read_port(port)?),
                _ => {}
            }
        }
        Ok(())
    }

    fn read_node(&mut self, bytes: &[u8], depth: usize) -> Result<(), NotProtobuf> {
        let mut node = Node { op: String::new(), inputs: Vec::new(), outputs: Vec::new(), attributes: BTreeMap::new() };
        let mut subgraphs = Vec::new();
        for field in wire::fields(bytes) {
            let field = field?;
            match field.number {
                1 => node.inputs.push(field.text().unwrap_or_default().to_owned()),
                2 => node.outputs.push(field.text().unwrap_or_default().to_owned()),
                4 => node.op = field.text().unwrap_or_default().to_owned(),
                5 => {
                    let (name, value, subgraph) = read_attribute(field.bytes().unwrap_or_default())?;
                    node.attributes.insert(name, value);
                    subgraphs.extend(subgraph);
                }
                _ => {}
            }
        }
        self.nodes.push(node);
        for subgraph in subgraphs {
            self.read_graph(subgraph, depth + 1)?;
        }
        Ok(())
    }
}

/// The bytes of `ModelProto.graph`.
pub(super) fn graph_bytes(model: &[u8]) -> Option<&[u8]> {
    let mut graph = None;
    for field in wire::fields(model) {
        let field = field.ok()?;
        if field.number == 7 {
            graph = field.bytes();
        }
    }
    graph
}

/// The version of ONNX's own operators that a model imports; zero where it does not say.
fn read_opset(model: &[u8]) -> Result<i64, NotProtobuf> {
    for import in wire::fields(model) {
        let import = import?;
        if import.number != 8 {
            continue;
        }
        let (mut domain, mut version) = (String::new(), 0);
        for field in wire::fields(import.bytes().unwrap_or_default()) {
            let field = field?;
            match field.number {
                1 => domain = field.text().unwrap_or_default().to_owned(),
                2 => version = field.int().unwrap_or_default(),
                _ => {}
            }
        }
        if domain.is_empty() || domain == "ai.onnx" {
            return Ok(version);
        }
    }
    Ok(0)
}

fn read_attribute(bytes: &[u8]) -> Result<(String, Attribute, Option<&[u8]>), NotProtobuf> {
    let (mut name, mut int, mut ints, mut graph, mut kind) = (String::new(), None, Vec::new(), None, 0);
    let mut text = String::new();
    for field in wire::fields(bytes) {
        let field = field?;
        match field.number {
            1 => name = field.text().unwrap_or_default().to_owned(),
            3 => int = field.int(),
            4 => text = field.text().unwrap_or_default().to_owned(),
            6 => graph = field.bytes(),
            8 => ints.extend(wire::packed_ints(&field)),
            20 => kind = field.int().unwrap_or_default(),
            _ => {}
        }
    }
    // AttributeProto.AttributeType: INT is 2, STRING is 3, INTS is 7.
    let value = match (kind, int) {
        (2, value) => Attribute::Int(value.unwrap_or_default()),
        (3, _) => Attribute::Text(text),
        (7, _) => Attribute::Ints(ints),
        _ => Attribute::Other,
    };
    Ok((name, value, graph))
}

fn read_port(bytes: &[u8]) -> Result<Port, NotProtobuf> {
    let mut port = Port { name: String::new(), element: ElementType::Other(0), dims: Vec::new() };
    for field in wire::fields(bytes) {
        let field = field?;
        match field.number {
            1 => port.name = field.text().unwrap_or_default().to_owned(),
            2 => {
                for kind in wire::fields(field.bytes().unwrap_or_default()) {
                    let kind = kind?;
                    if kind.number == 1 {
                        read_tensor_type(kind.bytes().unwrap_or_default(), &mut port)?;
                    }
                }
            }
            _ => {}
        }
    }
    Ok(port)
}

fn read_tensor_type(bytes: &[u8], port: &mut Port) -> Result<(), NotProtobuf> {
    for field in wire::fields(bytes) {
        let field = field?;
        match field.number {
            1 => port.element = ElementType::from_number(field.int().unwrap_or_default()),
            2 => {
                for dim in wire::fields(field.bytes().unwrap_or_default()) {
                    port.dims.push(read_dim(dim?.bytes().unwrap_or_default())?);
                }
            }
            _ => {}
        }
    }
    Ok(())
}

fn read_dim(bytes: &[u8]) -> Result<Dim, NotProtobuf> {
    let mut dim = Dim::Symbol(String::new());
    for field in wire::fields(bytes) {
        let field = field?;
        match (field.number, field.value) {
            (1, Value::Varint(size)) => {
                // A negative size is how some exporters write an open dimension.
                dim = match i64::try_from(size).ok().and_then(|size| usize::try_from(size).ok()) {
                    Some(size) => Dim::Fixed(size),
                    None => Dim::Symbol(String::new()),
                };
            }
            (2, Value::Bytes(_)) => dim = Dim::Symbol(field.text().unwrap_or_default().to_owned()),
            _ => {}
        }
    }
    Ok(dim)
}

pub(super) fn read_tensor(bytes: &[u8]) -> Result<Tensor, NotProtobuf> {
    let mut tensor = Tensor { name: String::new(), element: ElementType::Other(0), dims: Vec::new(), external: None };
    let mut entries: BTreeMap<String, String> = BTreeMap::new();
    for field in wire::fields(bytes) {
        let field = field?;
        match field.number {
            1 => tensor
                .dims
                .extend(wire::packed_ints(&field).into_iter().map(|dim| usize::try_from(dim).unwrap_or_default())),
            2 => tensor.element = ElementType::from_number(field.int().unwrap_or_default()),
            8 => tensor.name = field.text().unwrap_or_default().to_owned(),
            13 => {
                let (key, value) = read_entry(&field)?;
                entries.insert(key, value);
            }
            _ => {}
        }
    }
    if let Some(location) = entries.remove("location") {
        let number = |key: &str| entries.get(key).and_then(|value| value.parse().ok());
        tensor.external =
            Some(ExternalData { location, offset: number("offset").unwrap_or_default(), length: number("length") });
    }
    Ok(tensor)
}

fn read_entry(field: &Field<'_>) -> Result<(String, String), NotProtobuf> {
    let (mut key, mut value) = (String::new(), String::new());
    for part in wire::fields(field.bytes().unwrap_or_default()) {
        let part = part?;
        match part.number {
            1 => key = part.text().unwrap_or_default().to_owned(),
            2 => value = part.text().unwrap_or_default().to_owned(),
            _ => {}
        }
    }
    Ok((key, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn graphs_inside_each_other_without_end_are_refused() {
        let mut graph = Vec::new();
        for _ in 0..20_000 {
            let (mut attribute, mut node) = (Vec::new(), Vec::new());
            wire::put_bytes(&mut attribute, 6, &graph);
            wire::put_bytes(&mut node, 5, &attribute);
            graph.clear();
            wire::put_bytes(&mut graph, 1, &node);
        }
        let mut model = Vec::new();
        wire::put_bytes(&mut model, 7, &graph);
        assert!(Model::parse(&model).is_err());
        assert!(crate::onnx::Edit::default().apply(&model).is_err());
    }

    #[test]
    fn text_is_not_a_model() {
        for bytes in [&b""[..], b"{}", b"a text file that somebody named model.onnx\n"] {
            assert!(Model::parse(bytes).is_err());
        }
    }
}
