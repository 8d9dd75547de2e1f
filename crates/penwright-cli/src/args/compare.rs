//! Flags of `compare`.

use std::path::PathBuf;

use clap::Args;

#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  penwright compare runs/lstm runs/gpt2 --text held-out.txt --training-text book.txt --html report.html"
)]
pub(crate) struct Compare {
    /// Runs, Hugging Face directories, .gguf files or hub ids
    #[arg(required = true)]
    pub(crate) run: Vec<PathBuf>,
    /// Text that the models have not seen: a file, a folder or - for standard input; may be given again
    #[arg(long, required = true)]
    pub(crate) text: Vec<PathBuf>,
    /// Writes the comparison as one web page
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
    /// Text the models were trained on, to find copied passages; may be given again
    #[arg(long, value_name = "FILE")]
    pub(crate) training_text: Vec<PathBuf>,
    /// Tokens that each model writes [default: about 900 characters]
    #[arg(long, value_name = "N")]
    pub(crate) sample_tokens: Option<usize>,
    /// What each model goes on from [default: the beginning of the text]
    #[arg(long)]
    pub(crate) prompt: Option<String>,
    /// Below 1 likelier, above 1 bolder
    #[arg(long, default_value_t = 0.8)]
    pub(crate) temperature: f32,
    /// Same seed, same samples
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u64,
    /// Tokens by which a GPT-2's window slides in scoring [default: its context]
    #[arg(long)]
    pub(crate) stride: Option<usize>,
}
