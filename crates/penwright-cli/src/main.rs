//! The binary `penwright`: flags in, library calls, lines out.

mod args;
mod book;
mod color;
mod commands;
mod live;
mod progress;

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches};

fn main() -> ExitCode {
    let command = args::Cli::command().color(color::ColorChoice::for_clap(std::env::args_os()));
    let cli = args::Cli::from_arg_matches(&command.get_matches()).unwrap_or_else(|e| e.exit());
    // Zero asks for as many threads as there are cores. The whole command runs inside the pool, so that no thread
    // beyond them waits or works.
    let threads = cli.threads.map_or(0, |n| n.get());
    let outcome = match rayon::ThreadPoolBuilder::new().num_threads(threads).build() {
        Ok(pool) => pool.install(|| commands::run(&cli)),
        Err(error) => Err(commands::Failure::Failed(format!("cannot start {threads} threads: {error}"))),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        // A reader that closed the pipe (`| head`) has all it wanted.
        Err(commands::Failure::ClosedPipe) => ExitCode::SUCCESS,
        Err(commands::Failure::Interrupted(message)) => {
            eprintln!("penwright: {message}");
            ExitCode::from(130)
        }
        Err(commands::Failure::Failed(message)) => {
            eprintln!("penwright: {message}");
            ExitCode::from(1)
        }
        Err(commands::Failure::Usage(message)) => {
            eprintln!("penwright: {message}");
            ExitCode::from(2)
        }
    }
}
