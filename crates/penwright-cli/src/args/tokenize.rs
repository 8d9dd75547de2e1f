//! `penwright tokenize`.

use std::path::PathBuf;

use clap::Args;

use super::LevelName;

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  penwright tokenize runs/book \"The door was open.\"\n  penwright tokenize --level char --count --file book.txt\n  echo \"The door\" | penwright tokenize runs/book --json"
)]
pub(crate) struct Tokenize {
    /// Run (or directory, .gguf file, hub id) whose tokenizer is used (none with --level), then the text; without a text, standard input
    #[arg(value_name = "RUN|TEXT")]
    pub(crate) words: Vec<String>,
    /// A tokenizer of this level instead of a run's, with its vocabulary from the text itself
    #[arg(long, value_enum)]
    pub(crate) level: Option<LevelName>,
    /// File with the text; - is standard input
    #[arg(long)]
    pub(crate) file: Option<PathBuf>,
    /// Only how many tokens and characters
    #[arg(long)]
    pub(crate) count: bool,
}
