//! Tensors of the runtime: made from slices, read as floats, copied as bytes.

use ort::memory::Allocator;
use ort::value::{DynTensor, DynValue, PrimitiveTensorElementType, Tensor, TensorElementType};

use crate::onnx::ElementType;
use crate::runtime::one_line;

/// A zeroed tensor.
pub(crate) fn zeros(element: ElementType, shape: &[usize]) -> Result<DynTensor, ort::Error> {
    let mut tensor = DynTensor::new(&Allocator::default(), runtime_type(element), shape)?;
    bytes_mut(&mut tensor).fill(0);
    Ok(tensor)
}

/// Bytes of one element.
pub(crate) fn width(element: ElementType) -> usize {
    match element {
        ElementType::F16 => 2,
        ElementType::F32 | ElementType::I32 => 4,
        ElementType::I64 | ElementType::Other(_) => 8,
    }
}

fn runtime_type(element: ElementType) -> TensorElementType {
    match element {
        ElementType::F16 => TensorElementType::Float16,
        ElementType::I32 => TensorElementType::Int32,
        ElementType::I64 => TensorElementType::Int64,
        ElementType::F32 | ElementType::Other(_) => TensorElementType::Float32,
    }
}

/// The elements as bytes.
pub(crate) fn bytes(tensor: &DynTensor) -> &[u8] {
    let length = byte_length(tensor);
    if length == 0 {
        return &[];
    }
    // SAFETY: the runtime owns a CPU buffer of exactly `length` bytes behind a tensor of a plain element type, and it
    // lives as long as the tensor does.
    unsafe { std::slice::from_raw_parts(tensor.data_ptr().cast(), length) }
}

/// The elements as bytes, to write to.
pub(crate) fn bytes_mut(tensor: &mut DynTensor) -> &mut [u8] {
    let length = byte_length(tensor);
    if length == 0 {
        return &mut [];
    }
    // SAFETY: as in `bytes`; the exclusive borrow covers every access from this crate, and the runtime writes only
    // while a graph runs, which borrows the whole cache.
    unsafe { std::slice::from_raw_parts_mut(tensor.data_ptr_mut().cast(), length) }
}

/// Copies the elements of an f32 tensor, as many as `out` has room for.
pub(crate) fn read_floats(tensor: &DynTensor, out: &mut [f32]) {
    for (out, raw) in out.iter_mut().zip(bytes(tensor).as_chunks::<4>().0) {
        *out = f32::from_ne_bytes(*raw);
    }
}

fn byte_length(tensor: &DynTensor) -> usize {
    let elements = tensor.shape().iter().map(|dim| usize::try_from(*dim).unwrap_or_default()).product();
    tensor.data_type().byte_size(elements).unwrap_or_default()
}

/// A tensor of the element type that a port asks for, from floats.
pub(crate) fn floats_as(element: ElementType, shape: &[usize], data: &[f32]) -> Result<DynValue, ort::Error> {
    match element {
        ElementType::F16 => {
            let data: Vec<half::f16> = data.iter().map(|value| half::f16::from_f32(*value)).collect();
            tensor(shape, &data)
        }
        ElementType::F32 | ElementType::I32 | ElementType::I64 | ElementType::Other(_) => tensor(shape, data),
    }
}

/// A tensor's shape and its elements as f32.
pub(crate) fn floats(value: &DynValue) -> Result<(Vec<usize>, Vec<f32>), String> {
    let shape = value.shape().iter().map(|dim| usize::try_from(*dim).unwrap_or_default()).collect();
    let elements = match value.data_type() {
        TensorElementType::Float16 => value
            .try_extract_tensor::<half::f16>()
            .map(|(_, data)| data.iter().map(|element| element.to_f32()).collect()),
        _ => value.try_extract_tensor::<f32>().map(|(_, data)| data.to_vec()),
    };
    Ok((shape, elements.map_err(|error| one_line(&error.to_string()))?))
}

/// A tensor from a shape and its elements; zero dimensions are allowed, which [`Tensor::from_array`] refuses.
pub(crate) fn tensor<T>(shape: &[usize], data: &[T]) -> Result<DynValue, ort::Error>
where
    T: PrimitiveTensorElementType + std::fmt::Debug + Copy + 'static,
{
    let mut tensor = Tensor::<T>::new(&Allocator::default(), shape)?;
    tensor.extract_tensor_mut().1.copy_from_slice(data);
    Ok(tensor.into_dyn())
}
