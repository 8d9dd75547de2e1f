//! The command line.

mod doctor;
mod inspect;
mod tokenize;

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::color::ColorChoice;

pub(crate) use doctor::Doctor;
pub(crate) use inspect::Inspect;
pub(crate) use tokenize::Tokenize;

/// Train an LSTM and a GPT-2 on your own text and write with them.
#[derive(Debug, Parser)]
#[command(
    version,
    about,
    after_help = "Example:\n  penwright train book.txt --model lstm --budget 5m --out runs/book\n  penwright generate runs/book --prompt \"The door\""
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
    /// Trains a model on texts and writes a run directory
    Train(Box<Train>),
    /// Writes from a run, streaming
    Generate(Generate),
    /// Loss, perplexity and bits per character of a run on a text
    Eval(Eval),
    /// What a run is: model, shape, size, tokenizer, training history
    Inspect(Inspect),
    /// Shows the tokens and ids of a text, or counts them
    Tokenize(Tokenize),
    /// What this machine can do, what is missing, and whether training works here
    Doctor(Doctor),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Model {
    Lstm,
    Gpt2,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Level {
    Char,
}

impl From<Level> for penwright::tokenizer::Level {
    fn from(level: Level) -> Self {
        match level {
            Level::Char => penwright::tokenizer::Level::Char,
        }
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Schedule {
    Cosine,
    Wsd,
    Constant,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  penwright train book.txt --model gpt2 --layers 4 --heads 4 --width 128 --steps 2000"
)]
pub(crate) struct Train {
    /// Files and folders of .txt and .md; - is standard input
    #[arg(required = true)]
    pub(crate) text: Vec<PathBuf>,
    /// Family of the model
    #[arg(long, value_enum, default_value = "gpt2")]
    pub(crate) model: Model,
    /// Unit that the model predicts
    #[arg(long, value_enum, default_value = "char")]
    pub(crate) level: Level,
    /// Run directory to write
    #[arg(long, default_value = "runs/latest")]
    pub(crate) out: PathBuf,
    /// Time to train, such as 90s, 10m or 1h30m
    #[arg(long, value_parser = duration, conflicts_with_all = ["steps", "epochs"])]
    pub(crate) budget: Option<Duration>,
    /// Optimizer steps to train [default: 2000]
    #[arg(long)]
    pub(crate) steps: Option<u64>,
    /// Passes over the training text
    #[arg(long, conflicts_with = "steps")]
    pub(crate) epochs: Option<f64>,
    /// Text to validate on
    #[arg(long, conflicts_with = "val_fraction")]
    pub(crate) val: Option<PathBuf>,
    /// Last part of each text to validate on
    #[arg(long, default_value_t = 0.1)]
    pub(crate) val_fraction: f64,
    /// Texts side by side [default: 12 for GPT-2, 32 for LSTM]
    #[arg(long)]
    pub(crate) batch: Option<usize>,
    /// Batches whose gradients are averaged for one step
    #[arg(long, default_value_t = 1)]
    pub(crate) accumulate: usize,
    /// Tokens of each text a step
    #[arg(long, default_value_t = 64)]
    pub(crate) context: usize,
    /// Blocks or layers [default: 4 for GPT-2, 2 for LSTM]
    #[arg(long)]
    pub(crate) layers: Option<usize>,
    /// Attention heads (GPT-2)
    #[arg(long, default_value_t = 4)]
    pub(crate) heads: usize,
    /// Embedding size of GPT-2, hidden size of an LSTM [default: 128 for GPT-2, 256 for LSTM]
    #[arg(long)]
    pub(crate) width: Option<usize>,
    /// Embedding size of an LSTM
    #[arg(long, default_value_t = 64)]
    pub(crate) embed: usize,
    /// The embedding is the output layer too; the LSTM's last layer is as wide as it
    #[arg(long)]
    pub(crate) tied: bool,
    /// Dropout rate [default: 0 for GPT-2, 0.2 for LSTM]
    #[arg(long)]
    pub(crate) dropout: Option<f32>,
    /// Peak learning rate [default: 1e-3 for GPT-2, 3e-3 for LSTM]
    #[arg(long)]
    pub(crate) lr: Option<f32>,
    /// Form of the learning rate
    #[arg(long, value_enum, default_value = "cosine")]
    pub(crate) schedule: Schedule,
    /// Steps of warm-up
    #[arg(long, default_value_t = 100)]
    pub(crate) warmup: u64,
    /// Weight decay on matrices [default: 0.1 for GPT-2, 0.01 for LSTM]
    #[arg(long)]
    pub(crate) weight_decay: Option<f32>,
    /// Largest norm of the gradient
    #[arg(long, default_value_t = 1.0)]
    pub(crate) clip: f32,
    /// Seed of weights, batches and dropout
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u64,
    /// Steps between validations [default: twenty validations in all]
    #[arg(long)]
    pub(crate) eval_every: Option<u64>,
    /// Steps between samples, 0 for none [default: at each validation; none with --json or --quiet]
    #[arg(long)]
    pub(crate) sample_every: Option<u64>,
    /// Validations without improvement after which training stops [default: never]
    #[arg(long)]
    pub(crate) patience: Option<u64>,
    /// Time between checkpoints to resume from
    #[arg(long, value_parser = duration, default_value = "60s")]
    pub(crate) checkpoint_every: Duration,
    /// Goes on from the last checkpoint in --out, with the same bits as if never interrupted
    #[arg(long)]
    pub(crate) resume: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  penwright generate runs/book --prompt \"The door\" --tokens 300 --temperature 0.7")]
pub(crate) struct Generate {
    /// Run directory
    pub(crate) run: PathBuf,
    /// Text to go on from
    #[arg(long, default_value = "")]
    pub(crate) prompt: String,
    /// Tokens to write
    #[arg(long, default_value_t = 400)]
    pub(crate) tokens: usize,
    /// Below 1 likelier, above 1 bolder
    #[arg(long, default_value_t = 0.8)]
    pub(crate) temperature: f32,
    /// The likeliest token always
    #[arg(long, conflicts_with = "temperature")]
    pub(crate) greedy: bool,
    /// Only the K likeliest tokens; 0 for all
    #[arg(long, default_value_t = 0)]
    pub(crate) top_k: usize,
    /// Only the likeliest tokens that together have this probability
    #[arg(long, default_value_t = 1.0)]
    pub(crate) top_p: f32,
    /// Same seed, same text
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u64,
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

/// `90s`, `10m`, `1h30m`.
fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is no duration; write it like 90s, 10m or 1h30m");
    let (mut seconds, mut number) = (0.0, String::new());
    for c in text.chars() {
        let unit = match c {
            '0'..='9' | '.' => {
                number.push(c);
                continue;
            }
            's' => 1.0,
            'm' => 60.0,
            'h' => 3600.0,
            'd' => 86400.0,
            _ => return Err(wrong()),
        };
        seconds += unit * number.parse::<f64>().map_err(|_| wrong())?;
        number.clear();
    }
    if !number.is_empty() || seconds <= 0.0 {
        return Err(wrong());
    }
    Duration::try_from_secs_f64(seconds).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_documented() {
        assert_eq!(duration("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("1h30m"), Ok(Duration::from_secs(5400)));
        for wrong in ["", "10", "m", "-3s", "1x", "0s", "1h30"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }
}
