//! Edits of an ONNX graph at the byte level.
//!
//! Everything that an edit does not name is copied as it stands, so that external data references and fields of later
//! ONNX versions stay valid.

use std::collections::BTreeMap;

use super::model::Model;
use super::wire::{self, NotProtobuf};

/// New contents for an initializer, written inline (external references are dropped).
#[derive(Debug, Clone)]
pub struct TensorPatch {
    /// Little-endian bytes in the initializer's own element type and shape.
    pub raw: Vec<u8>,
}

/// Gives the new body of a field, by its number and old body, or `None` where it stays.
type Special = fn(&Edit, u32, &[u8]) -> Result<Option<Vec<u8>>, NotProtobuf>;

/// A set of edits, applied in one pass.
#[derive(Debug, Clone, Default)]
pub struct Edit {
    /// Integer attributes to add: (operator, attribute, value), to every node of that operator that lacks it.
    pub attributes: Vec<(&'static str, &'static str, i64)>,
    /// Integer attributes to set, whatever they were: (operator, attribute, value).
    pub overrides: Vec<(&'static str, &'static str, i64)>,
    /// Initializers to replace, by name.
    pub tensors: BTreeMap<String, TensorPatch>,
    /// New places of external data files, by their old ones.
    pub locations: BTreeMap<String, String>,
}

impl Edit {
    /// Applies the edits to a serialized `ModelProto`, in nested subgraphs too.
    ///
    /// # Errors
    /// A sentence when `model` is not an ONNX model.
    pub fn apply(&self, model: &[u8]) -> Result<Vec<u8>, &'static str> {
        // What can be read has a bounded depth, and so has what is rewritten.
        Model::parse(model)?;
        let mut out = Vec::with_capacity(model.len() + 4096);
        self.rewrite(model, &mut out, Self::model_field).map_err(|NotProtobuf| "damaged graph")?;
        Ok(out)
    }

    /// Copies `message`; `special` returns the new body of a field that changes.
    fn rewrite(&self, message: &[u8], out: &mut Vec<u8>, special: Special) -> Result<(), NotProtobuf> {
        for field in wire::fields(message) {
            let field = field?;
            let changed = match field.bytes() {
                Some(bytes) => special(self, field.number, bytes)?,
                None => None,
            };
            match changed {
                Some(body) => wire::put_bytes(out, field.number, &body),
                None => out.extend_from_slice(field.raw),
            }
        }
        Ok(())
    }

    fn model_field(&self, number: u32, bytes: &[u8]) -> Result<Option<Vec<u8>>, NotProtobuf> {
        if number == 7 { self.graph(bytes).map(Some) } else { Ok(None) }
    }

    fn graph(&self, bytes: &[u8]) -> Result<Vec<u8>, NotProtobuf> {
        let mut out = Vec::with_capacity(bytes.len() + 4096);
        self.rewrite(bytes, &mut out, Self::graph_field)?;
        Ok(out)
    }

    fn graph_field(&self, number: u32, bytes: &[u8]) -> Result<Option<Vec<u8>>, NotProtobuf> {
        match number {
            1 => self.node(bytes).map(Some),
            5 => self.tensor(bytes),
            _ => Ok(None),
        }
    }

    fn node(&self, bytes: &[u8]) -> Result<Vec<u8>, NotProtobuf> {
        let (mut op, mut present) = ("", Vec::new());
        for field in wire::fields(bytes) {
            let field = field?;
            match field.number {
                4 => op = field.text().unwrap_or_default(),
                5 => present.push(attribute_name(field.bytes().unwrap_or_default())?),
                _ => {}
            }
        }
        let overrides = self.overrides.iter().filter(|(of, ..)| *of == op);
        let mut out = Vec::with_capacity(bytes.len() + 32);
        for field in wire::fields(bytes) {
            let field = field?;
            let name = match field.number {
                5 => attribute_name(field.bytes().unwrap_or_default())?,
                _ => String::new(),
            };
            if !overrides.clone().any(|(_, overridden, _)| *overridden == name) {
                self.rewrite(field.raw, &mut out, Self::node_field)?;
            }
        }
        let lacking =
            self.attributes.iter().filter(|(of, name, _)| *of == op && !present.iter().any(|present| present == name));
        for (_, name, value) in lacking.chain(overrides) {
            let mut attribute = Vec::new();
            wire::put_bytes(&mut attribute, 1, name.as_bytes());
            wire::put_int(&mut attribute, 3, *value);
            // AttributeProto.AttributeType.INT
            wire::put_int(&mut attribute, 20, 2);
            wire::put_bytes(&mut out, 5, &attribute);
        }
        Ok(out)
    }

    fn node_field(&self, number: u32, bytes: &[u8]) -> Result<Option<Vec<u8>>, NotProtobuf> {
        if number != 5 {
            return Ok(None);
        }
        let mut out = Vec::with_capacity(bytes.len());
        self.rewrite(bytes, &mut out, Self::attribute_field)?;
        Ok(Some(out))
    }

    fn attribute_field(&self, number: u32, bytes: &[u8]) -> Result<Option<Vec<u8>>, NotProtobuf> {
        if number == 6 { self.graph(bytes).map(Some) } else { Ok(None) }
    }

    fn tensor_field(&self, number: u32, bytes: &[u8]) -> Result<Option<Vec<u8>>, NotProtobuf> {
        if number != 13 || self.locations.is_empty() {
            return Ok(None);
        }
        let Some(place) = location(bytes)?.and_then(|place| self.locations.get(place)) else { return Ok(None) };
        let mut entry = Vec::with_capacity(place.len() + 16);
        wire::put_bytes(&mut entry, 1, b"location");
        wire::put_bytes(&mut entry, 2, place.as_bytes());
        Ok(Some(entry))
    }

    fn tensor(&self, bytes: &[u8]) -> Result<Option<Vec<u8>>, NotProtobuf> {
        let mut name = "";
        for field in wire::fields(bytes) {
            let field = field?;
            if field.number == 8 {
                name = field.text().unwrap_or_default();
            }
        }
        let Some(patch) = self.tensors.get(name) else {
            let mut out = Vec::with_capacity(bytes.len());
            self.rewrite(bytes, &mut out, Self::tensor_field)?;
            return Ok(Some(out));
        };
        let mut out = Vec::with_capacity(patch.raw.len() + 64);
        for field in wire::fields(bytes) {
            let field = field?;
            // Dims, type and name stay; every form of payload (typed, raw, external) goes.
            if matches!(field.number, 1 | 2 | 8 | 12) {
                out.extend_from_slice(field.raw);
            }
        }
        wire::put_bytes(&mut out, 9, &patch.raw);
        Ok(Some(out))
    }
}

/// The value of an external data entry (`key`, `value`) whose key is `location`.
fn location(entry: &[u8]) -> Result<Option<&str>, NotProtobuf> {
    let (mut key, mut value) = ("", "");
    for field in wire::fields(entry) {
        let field = field?;
        match field.number {
            1 => key = field.text().unwrap_or_default(),
            2 => value = field.text().unwrap_or_default(),
            _ => {}
        }
    }
    Ok((key == "location").then_some(value))
}

fn attribute_name(bytes: &[u8]) -> Result<String, NotProtobuf> {
    for field in wire::fields(bytes) {
        let field = field?;
        if field.number == 1 {
            return Ok(field.text().unwrap_or_default().to_owned());
        }
    }
    Ok(String::new())
}
