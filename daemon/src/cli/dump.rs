//! NumPy files of the numbers on the way.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;

/// The folder that they go to.
#[derive(Debug)]
pub struct Dump {
    folder: PathBuf,
}

impl Dump {
    /// Makes the folder.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn create(folder: &Path) -> anyhow::Result<Self> {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("{}: cannot be made; name a folder that can", folder.display()))?;
        Ok(Self { folder: folder.to_path_buf() })
    }

    /// Writes `NAME.npy` with `data` in C order.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn floats(&self, name: &str, shape: &[usize], data: &[f32]) -> anyhow::Result<()> {
        anyhow::ensure!(
            shape.iter().product::<usize>() == data.len(),
            "{name}: {} floats are not {shape:?}",
            data.len()
        );
        let path = self.folder.join(format!("{name}.npy"));
        write(&path, shape, data).with_context(|| format!("{}: cannot be written", path.display()))
    }
}

fn write(path: &Path, shape: &[usize], data: &[f32]) -> std::io::Result<()> {
    let sizes: Vec<String> = shape.iter().map(ToString::to_string).collect();
    // A tuple of one element keeps its comma, as in Python.
    let tuple = if let [one] = sizes.as_slice() { format!("{one},") } else { sizes.join(", ") };
    let mut header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({tuple}), }}");
    // Magic, version and length take ten bytes; data begins at a multiple of 64 after a final newline.
    let padded = (header.len() + 11).next_multiple_of(64) - 11;
    header.extend(std::iter::repeat_n(' ', padded - header.len()));
    header.push('\n');

    let mut out = BufWriter::new(File::create(path)?);
    out.write_all(b"\x93NUMPY\x01\x00")?;
    out.write_all(&u16::try_from(header.len()).unwrap_or(u16::MAX).to_le_bytes())?;
    out.write_all(header.as_bytes())?;
    for value in data {
        out.write_all(&value.to_le_bytes())?;
    }
    out.flush()
}
