//! Reading NumPy's `.npy` files, as far as the fixtures use them: little-endian f32 and i64, bytes, C order.

use std::path::Path;

/// An array's shape and elements.
pub struct Array<T> {
    pub shape: Vec<usize>,
    pub data: Vec<T>,
}

/// Reads an f32 array.
pub fn floats(path: impl AsRef<Path>) -> Array<f32> {
    let (shape, bytes) = read(path.as_ref(), "<f4");
    Array { shape, data: bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect() }
}

/// Reads an i64 array.
pub fn ints(path: impl AsRef<Path>) -> Array<i64> {
    let (shape, bytes) = read(path.as_ref(), "<i8");
    Array { shape, data: bytes.as_chunks::<8>().0.iter().map(|bytes| i64::from_le_bytes(*bytes)).collect() }
}

/// Reads an array of bytes.
pub fn bytes(path: impl AsRef<Path>) -> Array<u8> {
    let (shape, data) = read(path.as_ref(), "|u1");
    Array { shape, data }
}

fn read(path: &Path, element: &str) -> (Vec<usize>, Vec<u8>) {
    let bytes = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert_eq!(&bytes[..6], b"\x93NUMPY", "{} is no .npy file", path.display());
    let length = usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    let header = std::str::from_utf8(&bytes[10..10 + length]).unwrap();
    assert!(header.contains(&format!("'descr': '{element}'")), "{}: {header}", path.display());
    assert!(header.contains("'fortran_order': False"), "{}: {header}", path.display());
    let inside = header.split_once("'shape': (").and_then(|(_, rest)| rest.split_once(')')).unwrap().0;
    let shape = inside.split(',').filter_map(|size| size.trim().parse().ok()).collect();
    (shape, bytes[10 + length..].to_vec())
}
