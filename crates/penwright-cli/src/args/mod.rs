//! The command line.

mod compare;
mod generate;
mod score;
mod train;

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

pub(crate) use train::Train;

pub(crate) use compare::Compare;
pub(crate) use score::{By, Score};

pub(crate) use generate::{Generate, Precision};

/// Train an LSTM and a GPT-2 on your own text and write with them.
#[derive(Debug, Parser)]
#[command(
    version,
    about,
    after_help = "Example:\n  penwright train book.txt --model lstm --budget 5m --out runs/book\n  penwright generate runs/book --prompt \"The door\""
)]
pub(crate) struct Cli {
    /// Machine-readable results on standard output, nothing else there
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Number of threads [default: all]
    #[arg(long, global = true, value_name = "N")]
    pub(crate) threads: Option<NonZeroUsize>,
    /// No progress on standard error
    #[arg(short, long, global = true)]
    pub(crate) quiet: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Trains a model on texts and writes a run directory
    Train(Box<Train>),
    /// Writes from a run, streaming
    Generate(Box<Generate>),
    /// Loss, perplexity and bits per character of a run on a text
    Eval(Eval),
    /// Log-likelihood of each part of a text, or texts ranked by it
    Score(Score),
    /// Models side by side on one held-out text: quality, cost, speed, size, samples
    Compare(Compare),
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  penwright eval runs/book other.txt --json")]
pub(crate) struct Eval {
    /// Run directory
    pub(crate) run: PathBuf,
    /// Files and folders of .txt and .md; - is standard input
    #[arg(required = true)]
    pub(crate) text: Vec<PathBuf>,
    /// Tokens by which a GPT-2's window slides [default: its context]
    #[arg(long)]
    pub(crate) stride: Option<usize>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }
}
