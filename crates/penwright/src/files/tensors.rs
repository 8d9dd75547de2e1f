//! Weights as safetensors, with a checksum that loading verifies.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde_json::{Value, json};
use xxhash_rust::xxh3::xxh3_64;

use super::write;
use crate::model::Params;
use crate::{Error, Result};

/// Writes flat arrays and a text into one file, with a checksum.
pub(crate) fn write_floats(path: &Path, arrays: &[(&str, &[f32])], text: &str) -> Result<()> {
    let arrays = arrays.iter().map(|&(name, values)| (name, vec![values.len()], values));
    write_arrays(path, arrays, Some(text))
}

/// Reads the arrays of the names and the text that [`write_floats`] wrote.
pub(crate) fn read_floats(path: &Path, names: &[&str]) -> Result<(Vec<Vec<f32>>, String)> {
    let raw = std::fs::read(path).map_err(Error::io("read", path))?;
    let damaged = |problem: String| Error::damaged(path, format!("{problem}; train anew without --resume"));
    let whole = |e| damaged(format!("is no whole safetensors file ({e})"));
    let (_, header) = SafeTensors::read_metadata(&raw).map_err(whole)?;
    let file = SafeTensors::deserialize(&raw).map_err(whole)?;
    let mut params = Params::default();
    for name in names {
        let view = file.tensor(name).map_err(|_| damaged(format!("lacks {name}")))?;
        params.add(*name, view.shape());
    }
    read_params(path, &raw, &mut params)?;
    let text = header.metadata().as_ref().and_then(|m| m.get("text")).cloned();
    let arrays = params.tensors.iter().map(|t| params.data[t.range.clone()].to_vec()).collect();
    Ok((arrays, text.ok_or_else(|| damaged("lacks its text".into()))?))
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
    let checksum = checksum(views.iter().map(|(_, view)| view.data()));
    let mut metadata = HashMap::from([("format".into(), "pt".into()), ("checksum".into(), checksum)]);
    metadata.extend(text.map(|text| ("text".into(), text.into())));
    let file = safetensors::serialize(views, Some(metadata)).map_err(|e| Error::damaged(path, e.to_string()))?;
    write(path, &sorted_header(path, file)?)
}

/// The checksum of arrays in their order.
pub(crate) fn checksum<'a>(arrays: impl Iterator<Item = &'a [u8]>) -> String {
    let sum = arrays.enumerate().fold(0, |sum, (n, bytes)| sum ^ xxh3_64(bytes).rotate_left(n as u32));
    format!("{sum:016x}")
}

/// The same file with its header's keys sorted: the library writes metadata in a random order, and equal weights
/// shall make equal files. Offsets in the header count from its end, so the data stays as it is.
fn sorted_header(path: &Path, mut file: Vec<u8>) -> Result<Vec<u8>> {
    let unreadable = || Error::damaged(path, "could not be written: its header is not readable again");
    let (length, rest) = file.split_first_chunk::<8>().ok_or_else(unreadable)?;
    let length = u64::from_le_bytes(*length) as usize;
    let header = rest.get(..length).ok_or_else(unreadable)?;
    let header: BTreeMap<String, BTreeMap<String, Value>> = serde_json::from_slice(header).map_err(|_| unreadable())?;
    let mut header = json!(header).to_string();
    while !header.len().is_multiple_of(8) {
        header.push(' '); // keeps the data aligned, as the format asks
    }
    file.splice(..8 + length, (header.len() as u64).to_le_bytes().into_iter().chain(header.into_bytes()));
    Ok(file)
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
    if expected.is_some_and(|e| *e != checksum(arrays.into_iter())) {
        return Err(damaged("does not match its checksum".into()));
    }
    Ok(())
}
