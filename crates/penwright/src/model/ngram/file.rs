//! The file of an n-gram model: the arrays of each level as they lie in memory, checked when they are read.
//!
//! For each length k from 1 to the order: `k.token` u32 (not for k = 1, where every id has its place), `k.prob` f32,
//! and below the highest order `k.backoff` f32 and `k.children` u32, one longer. `discounts` f32 `[order, 3]`, `eot` u32.

use std::borrow::Cow;
use std::path::Path;

use bytemuck::NoUninit;
use rayon::prelude::*;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};

use super::{Level, Ngram, NgramConfig};
use crate::files::{WEIGHTS, checksum, write_views};
use crate::{Error, Result};

/// Name, type, shape and bytes.
type Array<'a> = (String, Dtype, Vec<usize>, Cow<'a, [u8]>);

impl Ngram {
    /// Writes `model.safetensors` into a folder, whole or not at all. Equal models make equal files.
    ///
    /// # Errors
    /// When writing fails.
    pub fn save(&self, dir: &Path) -> Result<()> {
        let path = dir.join(WEIGHTS);
        let mut arrays: Vec<Array> = Vec::new();
        let mut add = |name: String, dtype, shape: Vec<usize>, bytes| arrays.push((name, dtype, shape, bytes));
        for (k, level) in (1..).zip(&self.levels) {
            if k > 1 {
                add(format!("{k}.token"), Dtype::U32, vec![level.token.len()], little(&level.token, u32::to_le_bytes));
            }
            add(format!("{k}.prob"), Dtype::F32, vec![level.prob.len()], little(&level.prob, f32::to_le_bytes));
            if k < self.config.order {
                let (backoff, children) = (&level.backoff, &level.children);
                add(format!("{k}.backoff"), Dtype::F32, vec![backoff.len()], little(backoff, f32::to_le_bytes));
                add(format!("{k}.children"), Dtype::U32, vec![children.len()], little(children, u32::to_le_bytes));
            }
        }
        let shape = vec![self.config.order, 3];
        add("discounts".into(), Dtype::F32, shape, little(self.discounts.as_flattened(), f32::to_le_bytes));
        add("eot".into(), Dtype::U32, vec![1], little(std::slice::from_ref(&self.eot), u32::to_le_bytes));
        let views = arrays.iter().map(|(name, dtype, shape, bytes)| {
            let view = TensorView::new(*dtype, shape.clone(), bytes);
            Ok((name.clone(), view.map_err(|e| Error::damaged(&path, e.to_string()))?))
        });
        write_views(&path, views.collect::<Result<_>>()?, None)
    }

    /// Reads `model.safetensors` of a folder. Everything in it is checked; what it claims beyond its own size is
    /// never allocated.
    ///
    /// # Errors
    /// When the file is missing, damaged, or of another shape than `config`.
    pub fn load(dir: &Path, config: NgramConfig) -> Result<Ngram> {
        config.check()?;
        let path = dir.join(WEIGHTS);
        let raw = std::fs::read(&path).map_err(Error::io("read", &path))?;
        let damaged = |problem: String| Error::damaged(&path, format!("{problem}; copy it again or train anew"));
        read(&raw, config).map_err(damaged)
    }
}

type Checked<T> = std::result::Result<T, String>;

fn read(raw: &[u8], config: NgramConfig) -> Checked<Ngram> {
    let whole = |e| format!("is no whole safetensors file ({e})");
    let (_, header) = SafeTensors::read_metadata(raw).map_err(whole)?;
    let mut file = Arrays { file: SafeTensors::deserialize(raw).map_err(whole)?, read: Vec::new() };
    let NgramConfig { vocab, order } = config;
    let arrays = 4 * order - 1;
    if file.file.len() != arrays {
        return Err(format!("has {} arrays, not the {arrays} of order {order}", file.file.len()));
    }
    let mut levels: Vec<Level> = Vec::new();
    for k in 1..=order {
        let size = levels.last().map_or(vocab, |below| below.children.last().map_or(0, |&n| n as usize));
        let token = match k {
            1 => (0..vocab as u32).collect(),
            _ => file.array(&format!("{k}.token"), Dtype::U32, size, u32::from_le_bytes)?,
        };
        let prob = file.array(&format!("{k}.prob"), Dtype::F32, size, f32::from_le_bytes)?;
        let mut level = Level { token, prob, ..Level::default() };
        if k < order {
            level.backoff = file.array(&format!("{k}.backoff"), Dtype::F32, size, f32::from_le_bytes)?;
            level.children = file.array(&format!("{k}.children"), Dtype::U32, size + 1, u32::from_le_bytes)?;
        }
        check(k, &level, levels.last(), vocab)?;
        levels.push(level);
    }
    let discounts: Vec<f32> = file.array("discounts", Dtype::F32, 3 * order, f32::from_le_bytes)?;
    let eot = file.array("eot", Dtype::U32, 1, u32::from_le_bytes)?[0];
    if eot as usize >= vocab || !discounts.iter().all(|d| (0.0..=3.0).contains(d)) {
        return Err("has an impossible end-of-text token or discount".into());
    }
    let expected = header.metadata().as_ref().and_then(|m| m.get("checksum"));
    if expected.is_some_and(|expected| *expected != checksum(&file.read)) {
        return Err("does not match its checksum".into());
    }
    Ok(Ngram::assemble(config, eot, levels, discounts.as_chunks().0.to_vec()))
}

/// Whether a level can be walked and has probabilities; `below` is the level whose children it holds.
fn check(k: usize, level: &Level, below: Option<&Level>, vocab: usize) -> Checked<()> {
    let possible = |values: &[f32]| values.par_iter().all(|p| *p > 0.0 && *p <= 1.0);
    let rising = level.children.windows(2).all(|pair| pair[0] <= pair[1]);
    let sorted = |range: &[u32]| {
        let own = level.token.get(range[0] as usize..range[1] as usize).unwrap_or_default();
        own.windows(2).all(|pair| pair[0] < pair[1]) && own.last().is_none_or(|&t| (t as usize) < vocab)
    };
    if !possible(&level.prob) || !possible(&level.backoff) {
        Err(format!("has values that are no probabilities in the n-grams of length {k}"))
    } else if !rising || level.children.first().is_some_and(|&first| first != 0) {
        Err(format!("has disordered children of the n-grams of length {k}"))
    } else if !below.is_none_or(|below| below.children.par_windows(2).all(sorted)) {
        Err(format!("has disordered tokens in the n-grams of length {k}"))
    } else {
        Ok(())
    }
}

/// The arrays of a file, and the bytes of those read so far.
struct Arrays<'a> {
    file: SafeTensors<'a>,
    read: Vec<&'a [u8]>,
}

impl Arrays<'_> {
    /// The array of a name, which must have exactly so many values.
    fn array<T: Send>(&mut self, name: &str, dtype: Dtype, size: usize, value: fn([u8; 4]) -> T) -> Checked<Vec<T>> {
        let view = self.file.tensor(name).map_err(|_| format!("lacks the array {name}"))?;
        let (chunks, rest) = view.data().as_chunks::<4>();
        if view.dtype() != dtype || chunks.len() != size || !rest.is_empty() {
            return Err(format!("has {name} as {:?} {:?}, not {dtype:?} [{size}]", view.dtype(), view.shape()));
        }
        self.read.push(view.data());
        Ok(chunks.par_iter().map(|bytes| value(*bytes)).collect())
    }
}

/// The bytes of numbers, the lowest first; the numbers themselves where the machine has them so.
fn little<T: NoUninit + Sync>(values: &[T], bytes: fn(T) -> [u8; 4]) -> Cow<'_, [u8]> {
    if cfg!(target_endian = "little") {
        return Cow::Borrowed(bytemuck::cast_slice(values));
    }
    Cow::Owned(values.iter().flat_map(|&value| bytes(value)).collect())
}
