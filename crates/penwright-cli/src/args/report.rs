//! Flags of `report`.

use std::path::PathBuf;

use clap::Args;

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  penwright report runs/book\n  penwright report runs/book --html book.html\n  penwright report runs/book --json"
)]
pub(crate) struct Report {
    /// Run directory that penwright train wrote
    pub(crate) run: PathBuf,
    /// Page to write [default: report.html in the run directory]
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
}
