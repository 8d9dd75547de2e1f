//! Runs in other tools' formats, written whole or not at all.
//!
//! ```text
//!                          ┌─► hf       a folder that transformers' AutoModelForCausalLM opens   (GPT-2)
//! run ─► weights, tokenizer┼─► gguf     a file that llama.cpp opens                              (GPT-2)
//!                          └─► pytorch  a folder with weights and the Python file to load them   (LSTM)
//! ```

mod card;
mod hf;
mod place;
mod pytorch;
mod tensors;

use std::path::Path;

use crate::formats::gguf;
use crate::model::Params;
use crate::run::{ModelConfig, Parts, Weights, gpt2};
use crate::tokenizer::Tokenizer;
use crate::{Error, Result};

pub use crate::formats::gguf::Kind as GgufType;
pub use tensors::Dtype;

/// Whose format is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A Hugging Face directory, with numbers of this type.
    Hf(Dtype),
    /// A file of llama.cpp's, with numbers of this type.
    Gguf(GgufType),
    /// A folder with weights and a Python file that rebuilds the model with `torch.nn.LSTM`.
    Pytorch,
}

impl Format {
    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Format::Hf(_) => "hf",
            Format::Gguf(_) => "gguf",
            Format::Pytorch => "pytorch",
        }
    }
}

/// What is written, and over what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExportOptions {
    /// The format.
    pub format: Format,
    /// Whether an earlier export at the same place is replaced.
    pub force: bool,
}

/// A file that [`export`] wrote.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct ExportedFile {
    /// Its name, without folders.
    pub name: String,
    /// Its size.
    pub bytes: u64,
}

/// Writes the run at `source` to `out`, a folder (for GGUF a file) that is there whole afterwards or not at all, and
/// says what lies in it, in order of name.
///
/// # Errors
/// When the format cannot hold such a model, `out` holds something else or an earlier export without `force`, the
/// source is damaged, a weight is too large for the type, or the disk does not take it.
pub fn export(source: &Path, options: &ExportOptions, out: &Path) -> Result<Vec<ExportedFile>> {
    let as_file = matches!(options.format, Format::Gguf(_));
    let place = place::Place::find(out, source, as_file, options.force)?;
    let (config, params, tokenizer) = weights(source)?;
    place.write(|to| match (options.format, &config) {
        (Format::Hf(dtype), ModelConfig::Gpt2(shape)) => {
            let card = card::Card { name: place.name(), shape, params: &params, tokenizer: &tokenizer, source };
            hf::write_folder(to, &card, dtype)
        }
        (Format::Gguf(kind), ModelConfig::Gpt2(shape)) => gguf::write(to, shape, &params, &tokenizer, kind),
        (Format::Pytorch, ModelConfig::Lstm(shape)) => pytorch::write_folder(to, shape, &params, &tokenizer),
        (format, _) => Err(no_such_form(format, &config)),
    })
}

/// What a run's family has instead of the format asked for.
fn no_such_form(format: Format, config: &ModelConfig) -> Error {
    let problem = match (config, format) {
        (ModelConfig::Ngram(_), _) => {
            "an n-gram model is tables of counts, for which no other tool has a form; only LSTM and GPT-2 runs are exported"
        }
        (ModelConfig::Lstm(_), Format::Hf(_)) => "transformers has no LSTM language model; use --to pytorch",
        (ModelConfig::Lstm(_), _) => "llama.cpp has no LSTM; use --to pytorch",
        (ModelConfig::Gpt2(_), _) => {
            "a GPT-2 opens in PyTorch through transformers; use --to hf and AutoModelForCausalLM.from_pretrained"
        }
    };
    Error::setting("to", problem)
}

/// A model's shape, weights and tokenizer, adapters merged; an n-gram model's counts, which no format takes, are left out.
fn weights(source: &Path) -> Result<(ModelConfig, Params, Tokenizer)> {
    let Parts { config, tokenizer, weights, adapter } = Parts::read(source)?;
    let params = match (weights, adapter, &config) {
        (Weights::Ngram(_), ..) => Params::default(),
        (Weights::Neural(params), adapter, ModelConfig::Gpt2(shape)) => gpt2(shape.clone(), params, adapter)?.merged(),
        (Weights::Neural(params), ..) => params,
    };
    Ok((config, params, tokenizer))
}
