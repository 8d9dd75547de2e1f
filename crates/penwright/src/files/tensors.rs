//! Weights as safetensors, with a checksum that loading verifies.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use penwright_kernels::Mapped;
use rayon::prelude::*;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde_json::json;
use xxhash_rust::xxh3::xxh3_64;

use super::write_streamed;
use crate::model::Params;
use crate::{Error, Result};

/// Writes flat arrays and a text into one file, with a checksum.
pub(crate) fn write_floats(path: &Path, arrays: &[(&str, &[f32])], text: &str) -> Result<()> {
    let arrays = arrays.iter().map(|&(name, values)| (name, vec![values.len()], values));
    write_arrays(path, arrays, Some(text))
}

/// A flat array and its name.
pub(crate) type Named = (String, Vec<f32>);

/// Reads the arrays, by name, and the text that [`write_floats`] wrote.
pub(crate) fn read_floats(path: &Path) -> Result<(Vec<Named>, String)> {
    let raw = Mapped::open(path).map_err(Error::io("read", path))?;
    let damaged = |problem: String| Error::damaged(path, format!("{problem}; train anew without --resume"));
    let whole = |e| damaged(format!("is no whole safetensors file ({e})"));
    let (_, header) = SafeTensors::read_metadata(&raw).map_err(whole)?;
    let file = SafeTensors::deserialize(&raw).map_err(whole)?;
    // The checksum is of the arrays in the order in which they lie, an empty one before what begins where it does.
    let mut views = file.tensors();
    views.sort_by_key(|(_, view)| (view.data().as_ptr(), view.data().len()));
    let metadata = header.metadata().as_ref();
    let sum = checksum(&views.iter().map(|(_, view)| view.data()).collect::<Vec<_>>());
    if metadata.and_then(|m| m.get("checksum")).is_none_or(|expected| *expected != sum) {
        return Err(damaged("does not match its checksum".into()));
    }
    let text = metadata.and_then(|m| m.get("text")).cloned().ok_or_else(|| damaged("lacks its text".into()))?;
    let floats = |view: &TensorView| view.data().as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
    Ok((views.iter().map(|(name, view)| (name.clone(), floats(view))).collect(), text))
}

/// Writes the arena's tensors, named, with a checksum and, if given, a text in the header.
pub(crate) fn write_params(path: &Path, params: &Params, text: Option<&str>) -> Result<()> {
    let arrays = params.tensors.iter().map(|t| (t.name.as_str(), t.shape.clone(), &params.data[t.range.clone()]));
    write_arrays(path, arrays, text)
}

fn write_arrays<'a>(
    path: &Path,
    arrays: impl Iterator<Item = (&'a str, Vec<usize>, &'a [f32])>,
    text: Option<&str>,
) -> Result<()> {
    let arrays: Vec<_> = arrays.map(|(name, shape, values)| (name, shape, little_endian(values))).collect();
    let mut views = Vec::new();
    for (name, shape, bytes) in &arrays {
        let view = TensorView::new(Dtype::F32, shape.clone(), bytes);
        views.push((name.to_string(), view.map_err(|e| Error::damaged(path, e.to_string()))?));
    }
    write_views(path, views, text)
}

/// The bytes as the format has them: where they lie, on all but a few machines.
pub(crate) fn little_endian(values: &[f32]) -> Cow<'_, [u8]> {
    if cfg!(target_endian = "little") {
        Cow::Borrowed(bytemuck::cast_slice(values))
    } else {
        values.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<_>>().into()
    }
}

/// Writes arrays of any type, named, with the checksum of all in this order.
pub(crate) fn write_views(path: &Path, views: Vec<(String, TensorView)>, text: Option<&str>) -> Result<()> {
    let checksum = checksum(&views.iter().map(|(_, view)| view.data()).collect::<Vec<_>>());
    let mut metadata = BTreeMap::from([("format", "pt".to_string()), ("checksum", checksum)]);
    metadata.extend(text.map(|text| ("text", text.to_string())));
    let header = header(&views, &metadata);
    write_streamed(path, |file| {
        let start = [&(header.len() as u64).to_le_bytes(), header.as_bytes()].concat();
        let mut parts = std::iter::once(&start[..]).chain(views.iter().map(|(_, view)| view.data()));
        parts.try_for_each(|part| file.write_all(part)).map_err(Error::io("write", path))
    })
}

/// The header of a file whose arrays follow each other in this order. The library's own writer keeps metadata in a
/// random order and makes the whole file in memory; equal weights shall make equal files, and there are large ones.
fn header(views: &[(String, TensorView)], metadata: &BTreeMap<&str, String>) -> String {
    let mut entries = BTreeMap::from([("__metadata__", json!(metadata))]);
    let mut at = 0;
    for (name, view) in views {
        let (begin, end) = (at, at + view.data().len());
        entries.insert(name, json!({"dtype": view.dtype(), "shape": view.shape(), "data_offsets": [begin, end]}));
        at = end;
    }
    let mut header = json!(entries).to_string();
    while !header.len().is_multiple_of(8) {
        header.push(' '); // keeps the data aligned, as the format asks
    }
    header
}

/// The checksum of arrays in their order.
pub(crate) fn checksum(arrays: &[&[u8]]) -> String {
    let sums: Vec<u64> = arrays.par_iter().map(|bytes| xxh3_64(bytes)).collect();
    let sum = sums.iter().zip(0..).fold(0, |sum, (part, n)| sum ^ part.rotate_left(n));
    format!("{sum:016x}")
}

/// Reads tensors into the arena, which must have exactly the same names and shapes.
pub(crate) fn read_params(path: &Path, raw: &[u8], params: &mut Params) -> Result<()> {
    let damaged = |e: String| Error::damaged(path, format!("{e}; copy it again or train anew"));
    let (_, header) =
        SafeTensors::read_metadata(raw).map_err(|e| damaged(format!("is no whole safetensors file ({e})")))?;
    let file = SafeTensors::deserialize(raw).map_err(|e| damaged(format!("is no whole safetensors file ({e})")))?;
    let mut arrays = Vec::new();
    for tensor in &params.tensors {
        let view = file.tensor(&tensor.name).map_err(|_| damaged(format!("lacks the tensor {}", tensor.name)))?;
        if view.shape() != tensor.shape || view.dtype() != Dtype::F32 {
            let problem = format!("has {} as {:?}, not {:?}", tensor.name, view.shape(), tensor.shape);
            return Err(damaged(problem));
        }
        arrays.push(view.data());
        for (x, bytes) in params.data[tensor.range.clone()].iter_mut().zip(view.data().as_chunks::<4>().0) {
            *x = f32::from_le_bytes(*bytes);
        }
        if params.data[tensor.range.clone()].iter().any(|x| !x.is_finite()) {
            return Err(damaged(format!("has NaN or infinite values in {}", tensor.name)));
        }
    }
    let expected = header.metadata().as_ref().and_then(|m| m.get("checksum"));
    if expected.is_some_and(|e| *e != checksum(&arrays)) {
        return Err(damaged("does not match its checksum".into()));
    }
    Ok(())
}
