//! `penwright doctor`.

use clap::Args;

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  penwright doctor\n  penwright doctor --json")]
pub(crate) struct Doctor {
    /// Only looks, without training the two tiny models
    #[arg(long)]
    pub(crate) no_self_test: bool,
}
