//! The binary `penwright`: flags in, library calls, lines out.

mod args;
mod commands;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let cli = args::Cli::parse();
    if let Some(threads) = cli.threads {
        // Fails only when a pool exists already, which it does not yet.
        let _ = rayon::ThreadPoolBuilder::new().num_threads(threads.get()).build_global();
    }
    match commands::run(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        // A reader that closed the pipe (`| head`) has all it wanted.
        Err(commands::Failure::ClosedPipe) => ExitCode::SUCCESS,
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
