//! Short convolutions of older exports in one operator.
//!
//! Layout A writes a causal convolution as a join with the state, a window of the joined and a grouped `Conv`, which
//! takes several times as long for one position as `CausalConvWithState`, the operator that newer exports use. The
//! state keeps its shape and the join stays, because it makes the next state.

use std::collections::BTreeMap;

use super::builder::{Value, node};
use super::constants::scalar_of;
use super::model::{ElementType, Model, Node, graph_bytes};
use super::split::{Parts, with_graph};
use super::wire;

/// Taps of LFM2's convolutions.
const TAPS: i64 = 3;

/// What takes the place of a node.
type Replaced<'a> = BTreeMap<&'a str, Vec<u8>>;

/// The model with every convolution that has the known form in one operator; `None` when there is none.
#[must_use]
pub fn fuse_convolutions(bytes: &[u8]) -> Option<Vec<u8>> {
    let model = Model::parse(bytes).ok()?;
    let parts = Parts::read(graph_bytes(bytes)?).ok()?;
    let mut replaced = Replaced::new();
    for convolution in model.nodes_of("Conv") {
        fuse(&model, &parts, convolution, &mut replaced);
    }
    if replaced.is_empty() {
        return None;
    }
    let mut graph = Vec::new();
    for node in &parts.nodes {
        match node.outputs.first().and_then(|output| replaced.get(output)) {
            Some(new) => wire::put_bytes(&mut graph, 1, new),
            None => graph.extend_from_slice(node.raw),
        }
    }
    let rest = parts.initializers.values().chain(parts.outputs.values()).chain(&parts.rest);
    rest.for_each(|raw| graph.extend_from_slice(raw));
    with_graph(bytes, &graph).ok()
}

/// Finds state → join → window → `convolution`, and notes what takes the place of the last two.
fn fuse<'a>(model: &'a Model, parts: &Parts<'_>, convolution: &'a Node, replaced: &mut Replaced<'a>) -> Option<()> {
    let maker = |name: &str| model.nodes.iter().find(|node| node.outputs.first().is_some_and(|output| output == name));
    let readers = |name: &str| model.nodes.iter().filter(|node| node.inputs.iter().any(|input| input == name)).count();
    let unpadded = convolution.ints("pads").is_none_or(|pads| pads.iter().all(|pad| *pad == 0));
    let plain = |name: &str| convolution.ints(name).is_none_or(|steps| steps == [1]);
    let weight = convolution.inputs.get(1)?;
    let weight = model.initializers.iter().find(|tensor| tensor.name == *weight)?;
    let depthwise = weight.element == ElementType::F32
        && matches!(weight.dims.as_slice(), [channels, 1, taps]
            if convolution.int("group") == i64::try_from(*channels).ok() && *taps as i64 == TAPS);
    if !unpadded || !plain("strides") || !plain("dilations") || !depthwise {
        return None;
    }
    let window = maker(convolution.inputs.first()?).filter(|node| node.op == "Slice" && node.inputs.len() >= 4)?;
    let join = maker(window.inputs.first()?).filter(|node| node.op == "Concat" && node.int("axis") == Some(2))?;
    let [state, new] = join.inputs.as_slice() else { return None };
    let columns = model.input(state).filter(|port| port.element == ElementType::F32)?.dims.get(2)?.fixed()?;
    let [start, stop, axis] = [1, 2, 3].map(|at| scalar_of(parts, &window.inputs[at]));
    let step = window.inputs.get(4).filter(|name| !name.is_empty()).map_or(Some(1), |name| scalar_of(parts, name));
    let start = start?;
    let whole = stop? >= i64::from(i32::MAX) && axis? == 2 && step? == 1;
    // What the window leaves of the state has to be what the kernel looks back at.
    if !whole || start < 0 || i64::try_from(columns).ok()? - start != TAPS - 1 || readers(&window.outputs[0]) != 1 {
        return None;
    }

    let mut cut: Vec<&str> = window.inputs.iter().map(String::as_str).collect();
    cut[0] = state;
    replaced.insert(&window.outputs[0], node("Slice", &cut, &[&window.outputs[0]], &[]));
    let bias = convolution.inputs.get(2).map_or("", String::as_str);
    let spare = format!("{}/state", convolution.outputs[0]);
    let fused = node(
        "CausalConvWithState",
        &[new, &weight.name, bias, &window.outputs[0]],
        &[&convolution.outputs[0], &spare],
        &[("ndim", Value::Int(1)), ("activation", Value::Text("none")), ("state_window", Value::Int(0))],
    );
    replaced.insert(&convolution.outputs[0], fused);
    Some(())
}
