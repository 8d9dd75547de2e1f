//! The commands: each calls the library and prints what it says.

mod compare;
mod demo;
mod doctor;
mod eval;
mod export;
mod generate;
mod inspect;
mod interactive;
mod score;
mod tokenize;
mod train;

use std::io;
use std::path::Path;

use crate::args::{Cli, Command};

/// How a command fails.
pub(crate) enum Failure {
    /// Stopped by the person, with what was done saved.
    Interrupted(String),
    Usage(String),
    Failed(String),
    ClosedPipe,
}

impl From<penwright::Error> for Failure {
    fn from(error: penwright::Error) -> Self {
        match error {
            penwright::Error::Setting { .. } => Failure::Usage(error.to_string()),
            _ => Failure::Failed(error.to_string()),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Failure::ClosedPipe,
            _ => Failure::Failed(format!("cannot write to standard output: {error}")),
        }
    }
}

pub(crate) fn run(cli: &Cli) -> Result<(), Failure> {
    match &cli.command {
        Command::Demo(args) => demo::run(cli, args),
        Command::Train(args) => train::run(cli, args),
        Command::Generate(args) => generate::run(cli, args),
        Command::Eval(args) => eval::run(cli, args),
        Command::Score(args) => score::run(cli, args),
        Command::Compare(args) => compare::run(cli, args),
        Command::Export(args) => export::run(cli, args),
        Command::Inspect(args) => inspect::run(cli, args),
        Command::Tokenize(args) => tokenize::run(cli, args),
        Command::Doctor(args) => doctor::run(cli, args),
    }
}

fn name(path: &Path) -> String {
    path.display().to_string()
}
