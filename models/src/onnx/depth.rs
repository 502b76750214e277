//! Taking the tables out of a depthformer graph.
//!
//! A published graph gathers, at every step, a whole embedding table to read one row of it and a whole projection to
//! multiply with. Taken out, the row is an input and what is projected is an output; which table a step means is worked
//! out here from the graph's own arithmetic on `step_idx`.

use std::collections::BTreeSet;

use super::builder::{Size, port};
use super::constants::scalar_of;
use super::model::{ElementType, Model, Node, graph_bytes};
use super::split::{Parts, with_graph};
use super::wire;

/// The input that counts the codes of a frame.
const STEP: &str = "step_idx";
const TOKEN: &str = "prev_token";
/// Nodes between `step_idx` and an index; published graphs have four.
const LONGEST_CHAIN: usize = 16;

/// A depthformer without its tables.
#[derive(Debug)]
pub struct DepthCut {
    /// The graph, with the input [`Self::row`] and the output [`Self::projected`] for its `logits`.
    pub body: Vec<u8>,
    /// The input that takes the embedding of the code before, `[1, width]`.
    pub row: String,
    /// The output that is projected to logits, `[1, width]`.
    pub projected: String,
    /// The initializer with the embeddings, `[tables, codes, width]`.
    pub embeddings: String,
    /// For each step, the table of the code before.
    pub embedding_of: Vec<usize>,
    /// The initializer with the projections, `[tables, codes, width]`.
    pub projections: String,
    /// For each step, its projection.
    pub projection_of: Vec<usize>,
}

/// Takes the tables out of a graph that makes `codebooks` codes; `None` when it has another form.
#[must_use]
pub fn cut_depthformer(bytes: &[u8], codebooks: usize) -> Option<DepthCut> {
    let model = Model::parse(bytes).ok()?;
    let parts = Parts::read(graph_bytes(bytes)?).ok()?;
    let maker = |name: &str| model.nodes.iter().find(|node| node.outputs.iter().any(|output| output == name));
    let table = |name: &str| {
        let tensor = model.initializers.iter().find(|tensor| tensor.name == name)?;
        (tensor.element == ElementType::F32 && tensor.dims.len() == 3).then_some(tensor)
    };
    let of_every_step = |index: &str, tables: usize| {
        let steps = (0..codebooks).map(|step| {
            let found = evaluate(&model, &parts, index, i64::try_from(step).ok()?, LONGEST_CHAIN)?;
            usize::try_from(found).ok().filter(|found| *found < tables)
        });
        steps.collect::<Option<Vec<_>>>()
    };

    let product = maker("logits").filter(|node| node.op == "Gemm" && node.inputs.len() == 2)?;
    let plain = product.int("transB") == Some(1) && product.int("transA").unwrap_or(0) == 0;
    let [projected, weights] = product.inputs.as_slice() else { return None };
    let chosen = maker(weights).filter(|node| plain && is_gather(node))?;
    let projections = table(&chosen.inputs[0])?;
    let projection_of = of_every_step(&chosen.inputs[1], projections.dims[0])?;

    let row = model.nodes.iter().find(|node| is_gather(node) && node.inputs[1] == TOKEN)?;
    let asked = maker(&row.inputs[0]).filter(|node| is_gather(node))?;
    let embeddings = table(&asked.inputs[0])?;
    let embedding_of = of_every_step(&asked.inputs[1], embeddings.dims[0])?;
    if embeddings.dims[1..] != projections.dims[1..] {
        return None;
    }

    let gone: BTreeSet<&str> =
        [product, chosen, row, asked].into_iter().flat_map(|node| &node.outputs).map(String::as_str).collect();
    let body = body(bytes, &parts, &gone, [&row.outputs[0], projected], embeddings.dims[2])?;
    Some(DepthCut {
        body,
        row: row.outputs[0].clone(),
        projected: projected.clone(),
        embeddings: embeddings.name.clone(),
        embedding_of,
        projections: projections.name.clone(),
        projection_of,
    })
}

fn is_gather(node: &Node) -> bool {
    node.op == "Gather" && node.inputs.len() == 2 && node.int("axis").unwrap_or(0) == 0
}

/// The graph without the nodes whose outputs are `gone`, if nobody else reads them.
fn body(
    bytes: &[u8],
    parts: &Parts<'_>,
    gone: &BTreeSet<&str>,
    [row, projected]: [&str; 2],
    width: usize,
) -> Option<Vec<u8>> {
    let (mut graph, mut used) = (Vec::new(), BTreeSet::new());
    for node in &parts.nodes {
        if node.outputs.iter().any(|output| gone.contains(output)) {
            continue;
        }
        graph.extend_from_slice(node.raw);
        used.extend(node.inputs.iter().copied());
    }
    if used.iter().any(|name| gone.contains(name) && *name != row) {
        return None;
    }
    let of_gone: BTreeSet<&str> = parts
        .nodes
        .iter()
        .filter(|node| node.outputs.iter().any(|output| gone.contains(output)))
        .flat_map(|node| node.inputs.iter().copied())
        .collect();
    for (name, raw) in &parts.initializers {
        // Subgraphs use what is outside of them without saying so: only what was surely read by what is gone goes.
        if used.contains(name.as_str()) || !of_gone.contains(name.as_str()) {
            graph.extend_from_slice(raw);
        }
    }
    for (name, raw) in &parts.outputs {
        if *name != "logits" {
            graph.extend_from_slice(raw);
        }
    }
    for raw in &parts.rest {
        graph.extend_from_slice(raw);
    }
    let dims = [Size::Any("batch_size"), Size::Is(width)];
    wire::put_bytes(&mut graph, 11, &port(row, ElementType::F32, &dims));
    if !parts.outputs.contains_key(projected) {
        wire::put_bytes(&mut graph, 12, &port(projected, ElementType::F32, &dims));
    }
    with_graph(bytes, &graph).ok()
}

/// The integer that `name` is at `step`, where it is made of the step and of constants.
fn evaluate(model: &Model, parts: &Parts<'_>, name: &str, step: i64, left: usize) -> Option<i64> {
    if name == STEP {
        return Some(step);
    }
    if let Some(value) = scalar_of(parts, name) {
        return Some(value);
    }
    let node = model.nodes.iter().find(|node| node.outputs.iter().any(|output| output == name))?;
    let left = left.checked_sub(1)?;
    let mut inputs = node.inputs.iter().map(|input| evaluate(model, parts, input, step, left));
    let first = inputs.next()??;
    match node.op.as_str() {
        "Identity" | "Cast" | "Squeeze" | "Unsqueeze" | "Reshape" => Some(first),
        "Add" => first.checked_add(inputs.next()??),
        "Sub" => first.checked_sub(inputs.next()??),
        "Mul" => first.checked_mul(inputs.next()??),
        "Max" => inputs.try_fold(first, |most, input| Some(most.max(input?))),
        "Min" => inputs.try_fold(first, |least, input| Some(least.min(input?))),
        _ => None,
    }
}
