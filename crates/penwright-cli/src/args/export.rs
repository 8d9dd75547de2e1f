//! Flags of `export`.

use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, ValueEnum};
use penwright::export::GgufType;

/// Whose format is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum To {
    /// A folder for Hugging Face's transformers (GPT-2)
    Hf,
    /// A file for llama.cpp (GPT-2)
    Gguf,
    /// A folder with the weights and a Python file that rebuilds the model with torch.nn.LSTM (LSTM)
    Pytorch,
}

/// Types of numbers in a Hugging Face directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum DtypeName {
    F32,
    F16,
    Bf16,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  penwright export runs/book --to hf book-gpt2
  penwright export runs/book --to hf book-gpt2 --dtype bf16 --force
  penwright export runs/book --to gguf book.gguf --type q8_0
  penwright export runs/book-lstm --to pytorch book-lstm")]
pub(crate) struct Export {
    /// Run, Hugging Face directory, .gguf file or hub id such as gpt2
    pub(crate) run: PathBuf,
    /// Whose format
    #[arg(long, value_enum)]
    pub(crate) to: To,
    /// The folder, or with --to gguf the file, that is written
    pub(crate) path: PathBuf,
    /// Numbers of the weights with --to hf [default: f32]
    #[arg(long, value_enum)]
    pub(crate) dtype: Option<DtypeName>,
    /// Numbers of the weights with --to gguf [default: f16]
    #[arg(long = "type", value_name = "TYPE")]
    #[arg(value_parser = PossibleValuesParser::new(GgufType::NAMES).try_map(|name| name.parse::<GgufType>()))]
    pub(crate) kind: Option<GgufType>,
    /// Replaces an earlier export in PATH
    #[arg(long)]
    pub(crate) force: bool,
}
