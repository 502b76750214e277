//! Small integers that stand in a graph.

use super::split::Parts;
use super::wire::{self, Value};

/// The integer that `name` is, where it is an initializer or a `Constant` of one element.
pub(super) fn scalar_of(parts: &Parts<'_>, name: &str) -> Option<i64> {
    match parts.initializers.get(name) {
        Some(raw) => wire::fields(raw).next()?.ok()?.bytes().and_then(scalar),
        None => constant(parts, name),
    }
}

/// The value of the `Constant` node that makes `name`.
fn constant(parts: &Parts<'_>, name: &str) -> Option<i64> {
    let node = parts.nodes.iter().find(|node| node.outputs.contains(&name))?;
    let body = wire::fields(node.raw).next()?.ok()?.bytes()?;
    let attributes = wire::fields(body).flatten().filter(|field| field.number == 5).filter_map(|field| field.bytes());
    // AttributeProto.t
    attributes
        .flat_map(wire::fields)
        .flatten()
        .filter(|field| field.number == 5)
        .find_map(|field| scalar(field.bytes()?))
}

/// The only element of an integer `TensorProto`.
fn scalar(tensor: &[u8]) -> Option<i64> {
    for field in wire::fields(tensor) {
        let field = field.ok()?;
        match (field.number, field.value) {
            (5 | 7, Value::Varint(_) | Value::Bytes(_)) => {
                return wire::packed_ints(&field).first().copied();
            }
            (9, Value::Bytes(bytes)) => {
                return match *bytes {
                    [a, b, c, d] => Some(i64::from(i32::from_le_bytes([a, b, c, d]))),
                    [a, b, c, d, e, f, g, h] => Some(i64::from_le_bytes([a, b, c, d, e, f, g, h])),
                    _ => None,
                };
            }
            _ => {}
        }
    }
    None
}
