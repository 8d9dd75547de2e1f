//! `penwright bench`.

use clap::Args;

#[derive(Debug, Args)]
#[command(after_help = "Figures: peak, products, train, decode, threads; each by its name or the beginning of one.

Examples:
  penwright bench                              a selection, in about a minute
  penwright bench peak                         what the processor and its memory can do
  penwright bench train.gpt2-124m-4x64 decode.gpt2-124m --threads 2
  penwright bench --list")]
pub(crate) struct Bench {
    /// What to measure: a group, a name or the beginning of one [default: a short selection]
    pub(crate) names: Vec<String>,
    /// Fewer repetitions
    #[arg(long)]
    pub(crate) quick: bool,
    /// Only the names of all figures
    #[arg(long)]
    pub(crate) list: bool,
}
