//! Flags of `score`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum By {
    Token,
    Word,
    Sentence,
    Paragraph,
    Text,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  penwright score runs/book chapter.txt --by sentence\n  penwright score runs/book --rank --per-token < guesses.txt"
)]
pub(crate) struct Score {
    /// Run, Hugging Face directory, .gguf file or hub id such as gpt2
    pub(crate) run: PathBuf,
    /// Files and folders of texts; - is standard input [default: -]
    pub(crate) text: Vec<PathBuf>,
    /// Parts that are scored, each in the context of all before it
    #[arg(long, value_enum, default_value = "sentence", conflicts_with = "rank")]
    pub(crate) by: By,
    /// Each line is a text of its own; the likeliest comes first
    #[arg(long)]
    pub(crate) rank: bool,
    /// Ranks by the mean of a token instead of the whole, so that length does not matter
    #[arg(long, requires = "rank", conflicts_with = "per_char")]
    pub(crate) per_token: bool,
    /// Ranks by bits per character
    #[arg(long, requires = "rank")]
    pub(crate) per_char: bool,
    /// Tokens by which a GPT-2's window slides [default: half its context]
    #[arg(long, conflicts_with = "rank")]
    pub(crate) stride: Option<usize>,
}
