//! Reading: metadata to a configuration, tensors into the arena.

use std::ops::Range;
use std::path::{Path, PathBuf};

use penwright_kernels::Mapped;
use rayon::prelude::*;

use super::header::{Cursor, Entry, Header, STRING, Value, scalar};
use super::names;
use crate::formats::hf::config::LARGEST;
use crate::model::{Gpt2Config, Params};
use crate::{Error, Result};

/// Tensors of a block, which bound the number of layers that a file can claim.
const BLOCK_TENSORS: usize = 12;
/// Rows and columns that are decoded at once before they are turned; whole blocks of every type.
const TILE_ROWS: usize = 64;
const TILE_COLUMNS: usize = 256;

/// A GGUF file, mapped; its head is read and checked.
pub(crate) struct Gguf {
    pub(super) path: PathBuf,
    file: Mapped,
    pub(super) header: Header,
}

impl Gguf {
    /// Maps a file and reads its head. The weights are read by [`Gguf::params`].
    ///
    /// # Errors
    /// When it cannot be read, or is damaged or of a version or type that is not known.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let file = Mapped::open(path).map_err(Error::io("read", path))?;
        let header = Header::read(&file).map_err(|e| Error::damaged(path, e))?;
        let gguf = Gguf { path: path.to_path_buf(), file, header };
        match gguf.integer("split.count") {
            Some(parts) if parts > 1 => Err(gguf.damaged(format!(
                "is one of {parts} parts of a model; put them together with llama.cpp's gguf-split --merge"
            ))),
            _ => Ok(gguf),
        }
    }

    pub(super) fn damaged(&self, problem: impl Into<String>) -> Error {
        Error::damaged(&self.path, problem)
    }

    pub(super) fn bytes(&self, range: &Range<usize>) -> &[u8] {
        self.file.get(range.clone()).unwrap_or_default()
    }

    pub(super) fn integer(&self, key: &str) -> Option<i128> {
        match self.header.metadata.get(key)? {
            Value::Integer(n) => Some(*n),
            _ => None,
        }
    }

    /// A text of the metadata; `None` where there is none.
    pub(super) fn text(&self, key: &str) -> Option<&str> {
        match self.header.metadata.get(key)? {
            Value::Text(range) => std::str::from_utf8(self.bytes(range)).ok(),
            _ => None,
        }
    }

    /// The texts of an array, or of what else is under the key none.
    pub(super) fn texts(&self, key: &str) -> impl ExactSizeIterator<Item = Result<&str>> {
        let (count, range) = match self.header.metadata.get(key) {
            Some(Value::Array { kind: STRING, count, range }) => (*count, range.clone()),
            _ => (0, 0..0),
        };
        let mut cursor = Cursor { bytes: &self.file, at: range.start };
        (0..count).map(move |_| {
            let text = cursor.text().ok().and_then(|range| std::str::from_utf8(self.bytes(&range)).ok());
            text.ok_or_else(|| {
                self.damaged(format!("has a text under {key} that is not UTF-8; convert the model again"))
            })
        })
    }

    /// The numbers of an array of integers, `None` for what is none; nothing where there is no array.
    pub(super) fn integers(&self, key: &str) -> Option<impl Iterator<Item = Option<i128>>> {
        let Some(Value::Array { kind, count, range }) = self.header.metadata.get(key) else { return None };
        let bytes = self.bytes(range);
        let size = bytes.len() / (*count).max(1);
        let number = |bytes| match scalar(*kind, bytes) {
            Value::Integer(n) => Some(n),
            _ => None,
        };
        (*kind != STRING && size > 0).then(|| bytes.chunks_exact(size).map(number))
    }

    /// The model's shape: sizes from the metadata, the vocabulary from the token embedding, checked with all tensors.
    /// An `output.weight` whose bytes are the token embedding's, as some converters write it, is no other output layer.
    ///
    /// # Errors
    /// When it is no GPT-2, or a size or a tensor is missing or does not fit.
    pub(crate) fn config(&self) -> Result<Gpt2Config> {
        match self.text("general.architecture") {
            Some("gpt2") => {}
            Some(other) => {
                let problem = format!("is a model of the architecture {other:?}; Penwright reads gpt2 alone");
                return Err(self.damaged(problem));
            }
            None => return Err(self.damaged("does not name its architecture; convert the model again")),
        }
        let width = self.size("embedding_length")?;
        let heads = self.size("attention.head_count")?;
        if !width.is_multiple_of(heads) {
            return Err(self.damaged(format!("has {heads} heads, which do not divide the width {width}")));
        }
        let layers = self.size("block_count")?;
        if layers > self.header.tensors.len() / BLOCK_TENSORS {
            return Err(self.damaged(format!("has fewer tensors than {layers} layers need; copy it again")));
        }
        let epsilon = match self.header.metadata.get("gpt2.attention.layer_norm_epsilon") {
            Some(Value::Float(epsilon)) if (0.0..1.0).contains(epsilon) => *epsilon as f32,
            _ => return Err(self.damaged("has no gpt2.attention.layer_norm_epsilon between 0 and 1")),
        };
        let config = Gpt2Config {
            vocab: self.entry(names::TOKENS)?.shape[0],
            context: self.size("context_length")?,
            layers,
            heads,
            width,
            inner: Some(self.size("feed_forward_length")?).filter(|&inner| inner != 4 * width),
            epsilon,
            tied: self.tied()?,
            ..Gpt2Config::default()
        };
        self.sources(&config)?;
        Ok(config)
    }

    /// The weights as f32, named and laid out as Hugging Face has them.
    ///
    /// # Errors
    /// When a tensor is missing, of another shape, or has values that are NaN or infinite.
    pub(crate) fn params(&self, config: &Gpt2Config) -> Result<Params> {
        let sources = self.sources(config)?;
        let mut params = Params::default();
        for (name, shape) in config.tensors() {
            params.add(name, &shape);
        }
        let Params { tensors, data } = &mut params;
        let mut rest: &mut [f32] = data;
        let mut end = 0;
        let mut work = Vec::with_capacity(sources.len());
        for (tensor, source) in tensors.iter().zip(&sources) {
            let (_, after) = rest.split_at_mut(tensor.range.start - end);
            let (values, after) = after.split_at_mut(tensor.range.len());
            (rest, end) = (after, tensor.range.end);
            work.push((values, source, names::turned(&tensor.name, &tensor.shape)));
        }
        let good: Vec<bool> =
            work.into_par_iter().map(|(values, source, turned)| self.decode(source.1, turned, values)).collect();
        match good.iter().zip(&sources).find(|(good, _)| !**good) {
            Some((_, (name, _))) => {
                Err(self.damaged(format!("has NaN or infinite values in {name}; convert the model again")))
            }
            None => Ok(params),
        }
    }

    /// Decodes a tensor into its place; whether all values are finite.
    fn decode(&self, entry: &Entry, turned: bool, out: &mut [f32]) -> bool {
        let bytes = self.bytes(&entry.range);
        let (columns, kind) = (entry.shape[entry.shape.len() - 1], entry.kind);
        let row_bytes = kind.bytes(columns).unwrap_or_default();
        if !turned {
            let rows = (TILE_ROWS * TILE_COLUMNS).div_ceil(columns);
            let parts = out.par_chunks_mut(rows * columns).zip(bytes.par_chunks(rows * row_bytes));
            parts.for_each(|(out, bytes)| kind.decode(bytes, out));
        } else {
            // Each part is a strip of columns of the file, rows of the arena.
            let rows = entry.shape[0];
            let decode_strip = |(strip, out): (usize, &mut [f32])| {
                let first = strip * TILE_COLUMNS;
                let width = TILE_COLUMNS.min(columns - first);
                let at = kind.bytes(first).unwrap_or_default()..kind.bytes(first + width).unwrap_or_default();
                let mut tile = vec![0.0; TILE_ROWS * width];
                for row in (0..rows).step_by(TILE_ROWS) {
                    let height = TILE_ROWS.min(rows - row);
                    for (r, tile) in (row..row + height).zip(tile.chunks_mut(width)) {
                        kind.decode(&bytes[r * row_bytes..][at.clone()], tile);
                    }
                    for (column, out) in out.chunks_mut(rows).enumerate() {
                        for (r, x) in out[row..row + height].iter_mut().enumerate() {
                            *x = tile[r * width + column];
                        }
                    }
                }
            };
            out.par_chunks_mut(TILE_COLUMNS * rows).enumerate().for_each(decode_strip);
        }
        out.par_chunks(1 << 16).all(|part| part.iter().fold(true, |finite, x| finite & x.is_finite()))
    }

    /// The file's tensors, with their names there, in the order of the arena.
    fn sources(&self, config: &Gpt2Config) -> Result<Vec<(String, &Entry)>> {
        let find = |(name, mut shape): (String, Vec<usize>)| {
            let theirs = names::of(&name).unwrap_or(name.clone());
            if names::turned(&name, &shape) {
                shape.reverse();
            }
            let entry = self.entry(&theirs)?;
            if entry.shape != shape {
                let problem =
                    format!("has {theirs} of the shape {:?}, not {shape:?}; convert the model again", entry.shape);
                return Err(self.damaged(problem));
            }
            Ok((theirs, entry))
        };
        config.tensors().into_iter().map(find).collect()
    }

    fn entry(&self, name: &str) -> Result<&Entry> {
        let entry = self.header.tensors.get(name);
        entry.ok_or_else(|| self.damaged(format!("lacks the tensor {name}; convert the model again")))
    }

    /// A size of the model.
    fn size(&self, key: &str) -> Result<usize> {
        let key = format!("gpt2.{key}");
        let size = self.integer(&key).filter(|&n| n > 0 && n < LARGEST.into());
        size.map(|n| n as usize)
            .ok_or_else(|| self.damaged(format!("has no size under {key}; convert the model again")))
    }

    /// Whether the output layer is the token embedding: it is absent, or its bytes are the same.
    fn tied(&self) -> Result<bool> {
        let tokens = self.entry(names::TOKENS)?;
        Ok(self.header.tensors.get(names::OUTPUT).is_none_or(|output| {
            output.kind == tokens.kind
                && output.shape == tokens.shape
                && self.bytes(&output.range) == self.bytes(&tokens.range)
        }))
    }
}
