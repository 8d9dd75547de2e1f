//! The commands: each calls the library and prints what it says.

mod bench;
mod chat;
mod compare;
mod demo;
mod doctor;
mod eval;
mod export;
mod generate;
mod inspect;
mod interactive;
mod report;
mod score;
mod serve;
mod summarize;
mod tokenize;
mod train;

use std::io;
use std::path::{Path, PathBuf};

use penwright::run::Run;
use penwright::train::{Averaging, Settings};

use crate::args::{Cli, Command, Precision};
use crate::live::Status;

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
        Command::Chat(args) => chat::run(cli, args),
        Command::Eval(args) => eval::run(cli, args),
        Command::Score(args) => score::run(cli, args),
        Command::Serve(args) => serve::run(cli, args),
        Command::Compare(args) => compare::run(cli, args),
        Command::Report(args) => report::run(cli, args),
        Command::Export(args) => export::run(cli, args),
        Command::Inspect(args) => inspect::run(cli, args),
        Command::Tokenize(args) => tokenize::run(cli, args),
        Command::Bench(args) => bench::run(cli, args),
        Command::Doctor(args) => doctor::run(cli, args),
    }
}

/// Whether there is a folder for a file that a flag names: better known before the work than after it.
fn check_folder(flag: &str, file: Option<&Path>) -> Result<(), Failure> {
    let folder = file.and_then(Path::parent).filter(|folder| !folder.as_os_str().is_empty());
    match folder.filter(|folder| !folder.is_dir()) {
        Some(missing) => {
            Err(Failure::Failed(format!("--{flag}: there is no folder {}; create it first", name(missing))))
        }
        None => Ok(()),
    }
}

fn name(path: &Path) -> String {
    path.display().to_string()
}

/// `muon, learning rate 0.002, momentum 0.95, weight decay 0.1`: how the weights of a run move.
fn optimizer_words(settings: &Settings) -> String {
    let numbers = [
        ("learning rate", settings.lr),
        ("of the hidden matrices", settings.muon_lr),
        ("momentum", settings.momentum.filter(|&momentum| momentum > 0.0)),
        ("weight decay", settings.weight_decay),
    ];
    let mut words = vec![settings.optimizer.unwrap_or_default().to_string()];
    words.extend(numbers.into_iter().filter_map(|(name, number)| Some(format!("{name} {}", number?))));
    words.extend(settings.muon_iterations.map(|n| format!("iterations {n}")));
    words.extend(settings.spelling.filter(|&rate| rate > 0.0).map(|rate| format!("spelling {rate}")));
    match settings.average {
        None | Some(Averaging::Off) => {}
        Some(Averaging::Decay(decay)) => words.push(format!("weights averaged with decay {decay}")),
        Some(Averaging::Triggered) => words.push("weights averaged once validation no longer improves".into()),
    }
    words.extend((settings.calibrate == Some(true)).then(|| "calibrated".into()));
    words.join(", ")
}

/// Where a model lies that a person names: a path, or the folder that a hub id was fetched into.
fn locate(cli: &Cli, run: &Path) -> Result<PathBuf, Failure> {
    let Some(given) = run.to_str() else { return Ok(run.to_path_buf()) };
    let mut status: Option<(String, Status)> = None;
    let path = penwright::run::locate(given, &mut |file, done, total| {
        if status.as_ref().is_none_or(|(shown, _)| shown != file) {
            status = Some((file.to_string(), Status::new(cli, &format!("fetching {file} of {given}"))));
        }
        if let Some((_, status)) = &status {
            status.set(done, total);
        }
    })?;
    Ok(path)
}

/// Opens a model that a person names.
fn open(cli: &Cli, run: &Path) -> Result<Run, Failure> {
    Ok(Run::open(&locate(cli, run)?)?)
}

/// The same with the weights as they are stored while writing.
fn open_to_write(cli: &Cli, run: &Path, precision: Precision) -> Result<Run, Failure> {
    Ok(Run::open_to_write(&locate(cli, run)?, precision.into())?)
}
