//! Token ids to embeddings, for decoders that take embeddings.

use super::table::Table;
use crate::error::{Error, Result};
use crate::folder::{GraphFile, ModelFolder, Role, Wanted};
use crate::graph::{Graph, Stop};
use crate::onnx::{Dim, Port};
use crate::runtime::Runtime;
use crate::tensor::{floats_as, tensor};

/// Where embeddings come from.
#[derive(Debug)]
pub struct TokenEmbedding {
    source: Source,
}

#[derive(Debug)]
enum Source {
    /// `embed_tokens.bin`.
    Table(Table),
    /// `embed_tokens*.onnx`, or `embeddings*.onnx` whose second input takes features of width `features`.
    Graph { graph: Graph, output: String, features: Option<(Port, usize)>, hidden: usize },
}

impl TokenEmbedding {
    /// Opens the folder's table, or else its embedding graph; `hidden` is the decoder's width.
    ///
    /// # Errors
    /// [`Error::PartMissing`] when there is neither, and those of loading.
    pub fn load(runtime: &Runtime, folder: &ModelFolder, wanted: Wanted, hidden: usize, stop: &Stop) -> Result<Self> {
        for place in [folder.graphs(), folder.root()] {
            // The table has full precision and costs no graph run; it wins where both are there.
            if let Some(table) = Table::open(place, "embed_tokens", hidden)? {
                return Ok(Self { source: Source::Table(table) });
            }
        }
        let Some(file) = folder.graph(Role::TokenEmbedding, wanted)? else {
            return Err(Error::PartMissing {
                what: "embed_tokens.bin or embed*.onnx".into(),
                path: folder.graphs().to_path_buf(),
                consequence: "the decoder takes embeddings and nothing here makes them; download the folder again"
                    .into(),
            });
        };
        let source = Self::graph_source(runtime, &file, hidden, stop)?;
        Ok(Self { source })
    }

    fn graph_source(runtime: &Runtime, file: &GraphFile, hidden: usize, stop: &Stop) -> Result<Source> {
        let model = file.model();
        if model.input("input_ids").is_none() {
            return Err(file.unknown("it has no input input_ids"));
        }
        let output =
            model.output("inputs_embeds").or(model.outputs.first()).ok_or_else(|| file.unknown("it has no output"))?;
        if let Some(found) = output.dims.last().and_then(Dim::fixed).filter(|found| *found != hidden) {
            return Err(file.unknown(format!("its rows have {found} floats and the decoder takes {hidden}")));
        }
        let output = output.name.clone();
        let features = model
            .inputs
            .iter()
            .find(|port| port.name.ends_with("_features"))
            .map(|port| (port.clone(), port.dims.last().and_then(Dim::fixed).unwrap_or(hidden)));
        Ok(Source::Graph { graph: Graph::load(runtime, file, None, stop)?, output, features, hidden })
    }

    /// Rows of the table, where that is known.
    #[must_use]
    pub fn rows(&self) -> Option<usize> {
        match &self.source {
            Source::Table(table) => Some(table.rows()),
            Source::Graph { .. } => None,
        }
    }

    /// Appends the embeddings of `ids` to `out`, one row each.
    ///
    /// # Errors
    /// [`Error::BadRequest`] for an id without a row, [`Error::Graph`].
    pub fn append(&mut self, ids: &[u32], out: &mut Vec<f32>) -> Result<()> {
        if ids.is_empty() {
            return Ok(());
        }
        match &mut self.source {
            Source::Table(table) => ids.iter().try_for_each(|id| table.append(*id as usize, out)),
            Source::Graph { graph, output, features, hidden } => {
                let ids: Vec<i64> = ids.iter().map(|id| i64::from(*id)).collect();
                let value = tensor(&[1, ids.len()], &ids).map_err(|error| graph.failure(&error))?;
                let mut inputs = vec![("input_ids", value.into())];
                if let Some((port, width)) = features {
                    let none = floats_as(port.element, &[0, *width], &[]).map_err(|error| graph.failure(&error))?;
                    inputs.push((port.name.as_str(), none.into()));
                }
                let (_, rows) = graph.run(inputs)?.floats(output)?;
                graph.expect(rows.len(), ids.len() * *hidden)?;
                out.extend(rows);
                Ok(())
            }
        }
    }
}
