//! A frame of audio codes as the backbone reads it: the sum of one embedding row for every codebook.

use crate::backbone::Table;
use crate::error::{Error, Result};
use crate::folder::{ModelFolder, Role, Wanted};
use crate::graph::{Graph, Stop};
use crate::runtime::Runtime;
use crate::tensor::tensor;

/// The table of audio embeddings, mapped or in a graph.
#[derive(Debug)]
pub struct AudioEmbedding {
    source: Source,
    codebooks: usize,
    codebook_size: usize,
    hidden: usize,
}

#[derive(Debug)]
enum Source {
    Table(Table),
    Graph { graph: Graph, input: String, output: String },
}

impl AudioEmbedding {
    /// Opens `audio_embedding.bin`, or else `audio_embedding*.onnx`; `None` when the folder has neither.
    ///
    /// # Errors
    /// Those of loading; [`Error::Malformed`] when the table does not fit the codebooks.
    pub fn load(
        runtime: &Runtime,
        folder: &ModelFolder,
        wanted: Wanted,
        [codebooks, codebook_size, hidden]: [usize; 3],
        stop: &Stop,
    ) -> Result<Option<Self>> {
        let name = "audio_embedding";
        let source = match Table::open(folder.graphs(), name, hidden)? {
            Some(table) => {
                if table.rows() != codebooks * codebook_size {
                    return Err(Error::Malformed {
                        path: folder.graphs().join(format!("{name}.bin")),
                        reason: format!("{} rows are not {codebooks} codebooks of {codebook_size}", table.rows()),
                        remedy: "download or export the folder again",
                    });
                }
                Source::Table(table)
            }
            None => {
                let Some(file) = folder.graph(Role::AudioEmbedding, wanted)? else {
                    return Ok(None);
                };
                let ([input], [output]) = (file.model().inputs.as_slice(), file.model().outputs.as_slice()) else {
                    return Err(file.unknown("it does not map one input to one output"));
                };
                let (input, output) = (input.name.clone(), output.name.clone());
                Source::Graph { graph: Graph::load(runtime, &file, None, stop)?, input, output }
            }
        };
        Ok(Some(Self { source, codebooks, codebook_size, hidden }))
    }

    /// Appends the embedding of one frame to `out`.
    ///
    /// # Errors
    /// [`Error::BadRequest`] for a frame of another size or a code outside of its codebook.
    pub fn append(&mut self, frame: &[u32], out: &mut Vec<f32>) -> Result<()> {
        if frame.len() != self.codebooks || frame.iter().any(|code| *code as usize >= self.codebook_size) {
            return Err(Error::BadRequest(format!(
                "{frame:?} is no frame of {} codes below {}",
                self.codebooks, self.codebook_size
            )));
        }
        let rows = frame.iter().enumerate().map(|(codebook, code)| codebook * self.codebook_size + *code as usize);
        let start = out.len();
        out.resize(start + self.hidden, 0.0);
        let sum = &mut out[start..];
        match &mut self.source {
            Source::Table(table) => rows.into_iter().try_for_each(|row| table.add(row, sum)),
            Source::Graph { graph, input, output } => {
                let rows: Vec<i64> = rows.map(|row| row as i64).collect();
                let codes = tensor(&[1, rows.len()], &rows).map_err(|error| graph.failure(&error))?;
                let (_, embeddings) = graph.run(vec![(input.as_str(), codes.into())])?.floats(output)?;
                graph.expect(embeddings.len(), rows.len() * self.hidden)?;
                for row in embeddings.chunks_exact(self.hidden) {
                    for (sum, value) in sum.iter_mut().zip(row) {
                        *sum += value;
                    }
                }
                Ok(())
            }
        }
    }
}
