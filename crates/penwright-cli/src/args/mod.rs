//! The command line.

mod bench;
mod chat;
mod choice;
mod compare;
mod demo;
mod doctor;
mod export;
mod generate;
mod inspect;
mod report;
mod score;
mod serve;
mod tokenize;
mod train;

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::color::ColorChoice;

pub(crate) use bench::Bench;
pub(crate) use chat::Chat;
pub(crate) use choice::{Choice, Precision};
pub(crate) use compare::Compare;
pub(crate) use demo::Demo;
pub(crate) use doctor::Doctor;
pub(crate) use export::{DtypeName, Export, To};
pub(crate) use generate::Generate;
pub(crate) use inspect::Inspect;
pub(crate) use report::Report;
pub(crate) use score::{By, Score};
pub(crate) use serve::Serve;
pub(crate) use tokenize::Tokenize;
pub(crate) use train::{LevelName, Train};

/// Train an LSTM and a GPT-2 on your own text and write with them.
#[derive(Debug, Parser)]
#[command(
    version,
    about,
    after_help = "Examples:
  penwright demo                               three models on the book that comes with it, in three minutes
  penwright train book.txt --model lstm --budget 5m --out runs/book
  penwright generate runs/book --prompt \"The door\""
)]
pub(crate) struct Cli {
    /// Machine-readable results on standard output, nothing else there
    #[arg(long, global = true, help_heading = "For every command")]
    pub(crate) json: bool,
    /// Number of threads [default: all]
    #[arg(long, global = true, help_heading = "For every command", value_name = "N")]
    pub(crate) threads: Option<NonZeroUsize>,
    /// No progress on standard error
    #[arg(short, long, global = true, help_heading = "For every command")]
    pub(crate) quiet: bool,
    /// More lines on standard error
    #[arg(short, long, global = true, help_heading = "For every command", conflicts_with = "quiet")]
    pub(crate) verbose: bool,
    /// Colours: auto (on a terminal, without NO_COLOR), always or never
    #[arg(
        long,
        global = true,
        help_heading = "For every command",
        value_enum,
        value_name = "WHEN",
        default_value = "auto",
        hide_possible_values = true
    )]
    pub(crate) color: ColorChoice,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// The whole story on the embedded book: trains three models, writes with them, compares them
    Demo(Demo),
    /// Trains a model on texts and writes a run directory
    Train(Box<Train>),
    /// Writes from a run, streaming
    Generate(Box<Generate>),
    /// A conversation with a run: turns, a system prompt, history
    Chat(Box<Chat>),
    /// Loss, perplexity and bits per character of a run on a text
    Eval(Eval),
    /// Log-likelihood of each part of a text, or texts ranked by it
    Score(Score),
    /// Models side by side on one held-out text: quality, cost, speed, size, samples
    Compare(Compare),
    /// What a run was, in a page and in words: curves, samples, verdict, the next step to take
    Report(Report),
    /// Answers programs and browsers: an OpenAI-compatible API and a page
    Serve(Box<Serve>),
    /// Writes a run in another tool's format: Hugging Face, llama.cpp, PyTorch
    Export(Export),
    /// What a run is: model, shape, size, tokenizer, training history
    Inspect(Inspect),
    /// Shows the tokens and ids of a text, or counts them
    Tokenize(Tokenize),
    /// How fast it is here, beside what this machine allows: products, training steps, decoding
    Bench(Bench),
    /// What this machine can do, what is missing, and whether training works here
    Doctor(Doctor),
}

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  penwright eval runs/book other.txt --json\n  penwright eval gpt2 other.txt --precision int8\n  penwright eval runs/lstm other.txt --cache 2000\n  penwright eval runs/lstm other.txt --dynamic 5e-5 --dynamic-rms"
)]
pub(crate) struct Eval {
    /// Run, Hugging Face directory, .gguf file or hub id such as gpt2
    pub(crate) run: PathBuf,
    /// Files and folders of .txt and .md; - is standard input
    #[arg(required = true)]
    pub(crate) text: Vec<PathBuf>,
    /// Tokens by which a GPT-2's window slides [default: its context]
    #[arg(long)]
    pub(crate) stride: Option<usize>,
    /// Scores by the arithmetic that writes with the weights so stored [default: the exact one of training]
    #[arg(long, value_enum, value_name = "P", conflicts_with_all = ["cache", "dynamic"])]
    pub(crate) precision: Option<Precision>,
    // Last: the heading holds for all that follows.
    #[command(flatten)]
    pub(crate) adaptation: Adaptation,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "An LSTM that follows the text")]
pub(crate) struct Adaptation {
    /// Neural cache: a part of the probability goes to what followed like outputs among the last N tokens
    #[arg(long, value_name = "N")]
    pub(crate) cache: Option<usize>,
    /// How sharply the cache prefers like outputs
    #[arg(long, value_name = "X", default_value_t = 0.3, requires = "cache")]
    pub(crate) cache_theta: f32,
    /// The cache's part of the probability
    #[arg(long, value_name = "X", default_value_t = 0.1, requires = "cache")]
    pub(crate) cache_lambda: f32,
    /// Dynamic evaluation: a step of this learning rate after each segment, scored before it
    #[arg(long, value_name = "LR")]
    pub(crate) dynamic: Option<f32>,
    /// Steps divided by the root mean square of the gradients over the run's training text
    #[arg(long, requires = "dynamic")]
    pub(crate) dynamic_rms: bool,
    /// The part of the way back to the trained weights that each step goes
    #[arg(long, value_name = "X", default_value_t = 0.002, requires = "dynamic")]
    pub(crate) dynamic_decay: f32,
    /// Tokens of a segment
    #[arg(long, value_name = "N", default_value_t = 20, requires = "dynamic")]
    pub(crate) dynamic_segment: usize,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    /// A shell's words: quotes keep spaces, `#` begins a comment.
    fn words(line: &str) -> Vec<String> {
        let (mut words, mut quoted) = (vec![String::new()], false);
        for c in line.chars() {
            match c {
                '"' => quoted = !quoted,
                '#' if !quoted => break,
                ' ' if !quoted => words.push(String::new()),
                c => words.last_mut().unwrap().push(c),
            }
        }
        words.into_iter().filter(|word| !word.is_empty()).collect()
    }

    /// Every command that README and the help texts show is one that the program takes.
    #[test]
    fn examples_are_commands() {
        let readme = include_str!("../../../../README.md");
        let mut lines: Vec<String> = readme
            .lines()
            .filter_map(|line| line.strip_prefix("$penwright "))
            .map(|line| format!("penwright {line}"))
            .collect();
        lines.extend(
            readme.lines().filter_map(|l| l.strip_prefix("cargo run --release -- ")).map(|l| format!("penwright {l}")),
        );
        for command in std::iter::once(&mut Cli::command()).chain(Cli::command().get_subcommands_mut()) {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            let examples = help.lines().filter_map(|line| line.find("penwright ").map(|at| line[at..].to_string()));
            lines.extend(examples.map(|line| line.split("   ").next().unwrap_or_default().to_string()));
        }
        assert!(lines.len() > 20, "{lines:?}");
        for line in lines {
            if let Err(error) = Cli::try_parse_from(words(&line)) {
                assert_eq!(error.kind(), clap::error::ErrorKind::DisplayHelp, "{line}: {error}");
            }
        }
    }
}
