//! The flags of `demo`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  penwright demo --budget 3m --out penwright-demo")]
pub(crate) struct Demo {
    /// Time for the three models together
    #[arg(long, value_name = "DURATION", value_parser = penwright::duration::parse, default_value = "3m")]
    pub(crate) budget: Duration,
    /// Folder for the runs and report.html
    #[arg(long, value_name = "DIR", default_value = "penwright-demo")]
    pub(crate) out: PathBuf,
}
