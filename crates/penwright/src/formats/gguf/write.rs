//! Writing: the head, then the tensors one after the other, encoded a band of rows at a time.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::str::FromStr;

use rayon::prelude::*;

use super::blocks::Type;
use super::header::{ALIGNMENT, ARRAY, BOOL, F32, I32, MAGIC, STRING, U32};
use super::{names, vocab};
use crate::files::write_streamed;
use crate::model::{Gpt2Config, Params, Tensor};
use crate::tokenizer::{self, Lists, Tokenizer};
use crate::{Error, Result};

const VERSION: u32 = 3;
/// Version of the layout of quantised blocks.
const QUANTIZATION: u32 = 2;
/// Values that are encoded at once; the only copy of weights in memory. Rows that one thread encodes at once.
const BAND: usize = 1 << 21;
const STRIP: usize = 32;

/// The type of the weights of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// As they are.
    F32,
    /// IEEE half precision.
    F16,
    /// The upper half of an f32.
    Bf16,
    /// Eight bits, in blocks of 32 with a scale.
    Q8_0,
    /// Four bits, in blocks of 32 with a scale; the token embedding and the output layer have eight.
    Q4_0,
}

impl Kind {
    const ALL: [(Kind, &str); 5] =
        [(Kind::F32, "f32"), (Kind::F16, "f16"), (Kind::Bf16, "bf16"), (Kind::Q8_0, "q8_0"), (Kind::Q4_0, "q4_0")];

    /// The names of all types, as they are read.
    pub const NAMES: [&'static str; 5] = {
        let [a, b, c, d, e] = Kind::ALL;
        [a.1, b.1, c.1, d.1, e.1]
    };

    /// llama.cpp's number for a file of this type.
    fn file_type(self) -> u32 {
        match self {
            Kind::F32 => 0,
            Kind::F16 => 1,
            Kind::Bf16 => 32,
            Kind::Q8_0 => 7,
            Kind::Q4_0 => 2,
        }
    }

    /// The type of a tensor. Vectors and the position embedding stay f32, as llama.cpp keeps them. Four bits would cost
    /// the token embedding, which is the output layer as well, too much: it has eight. Rows that are no whole blocks are
    /// F16, as llama.cpp's quantiser falls back.
    fn of(self, name: &str, shape: &[usize]) -> Type {
        if shape.len() < 2 || name == names::POSITIONS {
            return Type::F32;
        }
        let embedding = name == names::TOKENS || name == names::OUTPUT;
        let kind = match self {
            Kind::F32 => Type::F32,
            Kind::F16 => Type::F16,
            Kind::Bf16 => Type::Bf16,
            Kind::Q4_0 if !embedding => Type::Q4_0,
            Kind::Q8_0 | Kind::Q4_0 => Type::Q8_0,
        };
        let whole = shape.last().is_some_and(|row| row.is_multiple_of(kind.values()));
        if whole { kind } else { Type::F16 }
    }
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(Kind::ALL.iter().find(|(kind, _)| kind == self).map_or("", |(_, name)| name))
    }
}

impl FromStr for Kind {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let kind = Kind::ALL.iter().find(|(_, known)| *known == name).map(|(kind, _)| *kind);
        kind.ok_or_else(|| {
            let problem = format!("{name:?} is no type that GGUF is written in; give f32, f16, bf16, q8_0 or q4_0");
            Error::Unsupported(problem)
        })
    }
}

/// A tensor on its way into the file.
struct Output<'a> {
    name: String,
    /// Rows first, as in [`super::header::Entry`].
    shape: Vec<usize>,
    kind: Type,
    turned: bool,
    values: &'a [f32],
    bytes: usize,
}

/// Writes a GPT-2 with its tokenizer as a GGUF file that llama.cpp loads, whole or not at all. `general.name` is the
/// file's name. Ids that the model has beyond the tokenizer's are written as unused tokens, `[PAD…]`.
///
/// # Errors
/// When the model or the tokenizer has something that GGUF cannot say, a weight is too large for the type, NaN or
/// infinite, or the disk does not take the file.
pub(crate) fn write(
    path: &Path,
    config: &Gpt2Config,
    params: &Params,
    tokenizer: &Tokenizer,
    kind: Kind,
) -> Result<()> {
    if let Some(name) = config.oddity() {
        return Err(Error::Unsupported(format!(
            "the model has another {name} than GPT-2, which GGUF cannot say; export it to hf instead"
        )));
    }
    let lists = tokenizer.lists("GGUF")?;
    if lists.tokens.len() > config.vocab {
        let (ids, vocab) = (lists.tokens.len(), config.vocab);
        return Err(Error::Unsupported(format!(
            "the tokenizer has {ids} tokens and the model only {vocab}; export the model with the tokenizer it was trained with"
        )));
    }
    let outputs = outputs(config, params, kind)?;
    let head = head(path, config, &lists, kind, &outputs);
    write_streamed(path, |file| {
        put(path, file, &head)?;
        for output in &outputs {
            write_tensor(path, file, output)?;
        }
        Ok(())
    })
}

fn put(path: &Path, file: &mut File, bytes: &[u8]) -> Result<()> {
    file.write_all(bytes).map_err(Error::io("write", path))
}

fn outputs<'a>(config: &Gpt2Config, params: &'a Params, kind: Kind) -> Result<Vec<Output<'a>>> {
    let output = |(name, shape): (String, Vec<usize>)| {
        let problem = || Error::Unsupported(format!("the weights have no {name} of the shape {shape:?}"));
        let tensor: &Tensor = params.find(&name).filter(|tensor| tensor.shape == shape).ok_or_else(problem)?;
        let values = params.data.get(tensor.range.clone()).ok_or_else(problem)?;
        let theirs = names::of(&name).ok_or_else(problem)?;
        let turned = names::turned(&name, &shape);
        let shape: Vec<usize> = if turned { shape.iter().rev().copied().collect() } else { shape.clone() };
        let kind = kind.of(&theirs, &shape);
        let bytes = kind.bytes(values.len()).ok_or_else(problem)?;
        Ok(Output { name: theirs, shape, kind, turned, values, bytes })
    };
    config.tensors().into_iter().map(output).collect()
}

/// The head, up to where tensors begin.
fn head(path: &Path, config: &Gpt2Config, lists: &Lists, kind: Kind, outputs: &[Output]) -> Vec<u8> {
    let mut keys = Keys::default();
    let name = path.file_stem().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    keys.text("general.architecture", "gpt2");
    keys.text("general.type", "model");
    keys.text("general.name", &name);
    keys.number("general.file_type", kind.file_type());
    if matches!(kind, Kind::Q8_0 | Kind::Q4_0) {
        keys.number("general.quantization_version", QUANTIZATION);
    }
    for (key, size) in [
        ("context_length", config.context),
        ("embedding_length", config.width),
        ("block_count", config.layers),
        ("feed_forward_length", config.inner()),
        ("attention.head_count", config.heads),
        ("vocab_size", config.vocab),
    ] {
        keys.number(&format!("gpt2.{key}"), size as u32);
    }
    keys.value("gpt2.attention.layer_norm_epsilon", F32, &config.epsilon.to_le_bytes());
    write_vocab(&mut keys, config.vocab, lists);

    let mut head = MAGIC.to_vec();
    head.extend(VERSION.to_le_bytes());
    head.extend((outputs.len() as u64).to_le_bytes());
    head.extend(keys.count.to_le_bytes());
    head.extend(keys.bytes);
    let mut offset = 0;
    for output in outputs {
        text(&mut head, &output.name);
        head.extend((output.shape.len() as u32).to_le_bytes());
        output.shape.iter().rev().for_each(|&size| head.extend((size as u64).to_le_bytes()));
        head.extend(output.kind.id().to_le_bytes());
        head.extend((offset as u64).to_le_bytes());
        offset += output.bytes.next_multiple_of(ALIGNMENT);
    }
    head.resize(head.len().next_multiple_of(ALIGNMENT), 0);
    head
}

fn write_vocab(keys: &mut Keys, vocab: usize, lists: &Lists) {
    let padding = |id: usize| format!("[PAD{id}]");
    let token = |id: usize| match lists.tokens.get(id) {
        Some((text, kind)) if *kind != tokenizer::Kind::Unused => (text.clone(), *kind),
        _ => (padding(id), tokenizer::Kind::Unused),
    };
    let (mut tokens, mut types) = (Vec::new(), Vec::new());
    for id in 0..vocab {
        let (content, kind) = token(id);
        text(&mut tokens, &content);
        let kind = match kind {
            tokenizer::Kind::Bytes => vocab::NORMAL,
            tokenizer::Kind::Added => vocab::USER_DEFINED,
            tokenizer::Kind::Special => vocab::CONTROL,
            tokenizer::Kind::Unused => vocab::UNUSED,
        };
        types.extend(kind.to_le_bytes());
    }
    let mut merges = Vec::new();
    lists.merges.iter().for_each(|(a, b)| text(&mut merges, &format!("{a} {b}")));
    keys.text("tokenizer.ggml.model", "gpt2");
    keys.text("tokenizer.ggml.pre", "gpt-2");
    keys.array("tokenizer.ggml.tokens", STRING, vocab, &tokens);
    keys.array("tokenizer.ggml.token_type", I32, vocab, &types);
    keys.array("tokenizer.ggml.merges", STRING, lists.merges.len(), &merges);
    for key in ["bos_token_id", "eos_token_id"] {
        lists.eot.iter().for_each(|&eot| keys.number(&format!("tokenizer.ggml.{key}"), eot));
    }
    // A prompt is taken as it is.
    for key in ["add_bos_token", "add_eos_token", "add_space_prefix"] {
        keys.value(&format!("tokenizer.ggml.{key}"), BOOL, &[0]);
    }
}

/// A text, its length before it.
fn text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

/// Metadata on its way into the file.
#[derive(Default)]
struct Keys {
    count: u64,
    bytes: Vec<u8>,
}

impl Keys {
    fn value(&mut self, key: &str, kind: u32, value: &[u8]) {
        self.count += 1;
        text(&mut self.bytes, key);
        self.bytes.extend(kind.to_le_bytes());
        self.bytes.extend(value);
    }

    fn number(&mut self, key: &str, value: u32) {
        self.value(key, U32, &value.to_le_bytes());
    }

    fn text(&mut self, key: &str, value: &str) {
        self.value(key, STRING, &[]);
        text(&mut self.bytes, value);
    }

    fn array(&mut self, key: &str, kind: u32, count: usize, values: &[u8]) {
        self.value(key, ARRAY, &kind.to_le_bytes());
        self.bytes.extend((count as u64).to_le_bytes());
        self.bytes.extend(values);
    }
}

/// Encodes and writes a tensor, a band of rows at a time, and fills up to the alignment.
fn write_tensor(path: &Path, file: &mut File, output: &Output) -> Result<()> {
    let columns = output.shape.last().copied().unwrap_or(1).max(1);
    let rows = output.values.len() / columns;
    let row_bytes = output.kind.bytes(columns).unwrap_or_default();
    let band = (BAND / columns).next_multiple_of(STRIP).min(rows.max(1));
    let mut bytes = vec![0; band * row_bytes];
    for first in (0..rows).step_by(band) {
        let bytes = &mut bytes[..band.min(rows - first) * row_bytes];
        let strips = bytes.par_chunks_mut(STRIP * row_bytes).enumerate();
        let fit = strips.map(|(strip, bytes)| encode_rows(output, first + strip * STRIP, rows, columns, bytes));
        if !fit.reduce(|| true, |a, b| a & b) {
            let (name, kind) = (&output.name, output.kind.name());
            return Err(Error::Unsupported(format!(
                "{name} has weights that are NaN, infinite or too large for {kind}; if the model works, export it as f32"
            )));
        }
        put(path, file, bytes)?;
    }
    put(path, file, &[0; ALIGNMENT][..output.bytes.next_multiple_of(ALIGNMENT) - output.bytes])
}

/// Encodes the rows from `first` on that the bytes have room for; whether all values fit.
fn encode_rows(output: &Output, first: usize, rows: usize, columns: usize, bytes: &mut [u8]) -> bool {
    let count = STRIP.min(rows - first);
    let values = output.values;
    if !output.turned {
        return finite_and_encoded(output.kind, &values[first * columns..][..count * columns], bytes);
    }
    let mut turned = vec![0.0; count * columns];
    for (column, values) in values.chunks_exact(rows).enumerate() {
        for (row, x) in values[first..first + count].iter().enumerate() {
            turned[row * columns + column] = *x;
        }
    }
    finite_and_encoded(output.kind, &turned, bytes)
}

fn finite_and_encoded(kind: Type, values: &[f32], bytes: &mut [u8]) -> bool {
    values.iter().fold(true, |finite, x| finite & x.is_finite()) && kind.encode(values, bytes)
}
