//! `penwright inspect`.

use std::path::PathBuf;

use clap::Args;

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  penwright inspect runs/book\n  penwright inspect gpt2 --tensors\n  penwright inspect runs/book --json"
)]
pub(crate) struct Inspect {
    /// Run, Hugging Face directory, .gguf file or hub id such as gpt2
    pub(crate) run: PathBuf,
    /// Every tensor with its shape
    #[arg(long)]
    pub(crate) tensors: bool,
}
