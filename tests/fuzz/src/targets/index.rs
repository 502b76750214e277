//! The files of an index: the table, then the vectors, each with its length in front.

use std::path::Path;

use eddy_models::retrieval::Vectors;
use eddy_models::retrieval::index::{Access, Index as _, LocalIndex, Passage};

use super::{Target, words};

const TABLE: &str = "passages.sqlite";
const VECTORS: &str = "vectors-0.bin";
const WIDTH: usize = 4;

/// See the module.
pub struct Index {
    folder: tempfile::TempDir,
}

impl Index {
    /// Makes a folder for the files.
    pub fn open() -> anyhow::Result<Self> {
        Ok(Self { folder: tempfile::tempdir()? })
    }
}

fn unit(place: usize) -> Vectors {
    let row = (0..WIDTH).map(|at| if at == place % WIDTH { 1.0 } else { 0.0 });
    Vectors::new(WIDTH, row.collect())
}

/// Reads all that there is to read.
fn read(folder: &Path, access: Access) -> eddy_models::Result<String> {
    let mut index = LocalIndex::open(folder, access)?;
    let hits = index.search(&unit(1), 5)?;
    let documents = index.documents()?;
    for (document, _) in documents.iter().take(4) {
        index.passages_of(document)?;
    }
    index.refresh()?;
    let _ = (index.bytes(), index.model());
    Ok(format!("{} hits of {}, {} documents", hits.len().min(3), index.passages().min(3), documents.len().min(3)))
}

impl Target for Index {
    fn run(&mut self, input: &[u8]) -> String {
        let folder = self.folder.path();
        let Some((length, rest)) = input.split_first_chunk::<4>() else { return "nothing".into() };
        let (table, vectors) = rest.split_at(rest.len().min(u32::from_le_bytes(*length) as usize));
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let _ = std::fs::remove_file(entry.path());
        }
        for (name, bytes) in [(TABLE, table), (VECTORS, vectors)] {
            if let Err(error) = std::fs::write(folder.join(name), bytes) {
                return error.to_string();
            }
        }
        let place = folder.to_string_lossy().into_owned();
        let told = |access| match read(folder, access) {
            Ok(answer) => answer,
            Err(error) => error.to_string().replace(&place, ""),
        };
        format!("{}; {}", told(Access::Read), told(Access::Write))
    }

    fn seeds(&self) -> anyhow::Result<Vec<Vec<u8>>> {
        let mut seeds = Vec::new();
        for count in [0, 1, 6] {
            let folder = tempfile::tempdir()?;
            let mut index = LocalIndex::create(folder.path(), WIDTH, "a model")?;
            let passages = (0..count).map(|at| Passage { id: format!("p{at}"), text: "some text".into(), place: None });
            let vectors: Vec<Vectors> = (0..count).map(unit).collect();
            index.add(&passages.collect::<Vec<_>>(), &vectors)?;
            drop(index);
            let table = std::fs::read(folder.path().join(TABLE))?;
            let vectors = std::fs::read(folder.path().join(VECTORS))?;
            seeds.push([&(table.len() as u32).to_le_bytes()[..], &table, &vectors].concat());
        }
        Ok(seeds)
    }

    fn dictionary(&self) -> Vec<Vec<u8>> {
        words(&["eddyvec1", "SQLite format 3\0", "CREATE TABLE", "description", "passages", "p0", "some text"])
    }
}
