//! `penwright serve`.

use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use penwright::duration;
use penwright_server::{Keys, Options, Server, name_of};
use serde_json::json;

use super::train::on_interrupt;
use super::{Failure, open_to_write};
use crate::args::{Cli, Serve};

impl From<penwright_server::Error> for Failure {
    fn from(error: penwright_server::Error) -> Self {
        match error {
            penwright_server::Error::Model(error) => error.into(),
            penwright_server::Error::Setting { .. } => Failure::Usage(error.to_string()),
            error => Failure::Failed(error.to_string()),
        }
    }
}

pub(super) fn run(cli: &Cli, args: &Serve) -> Result<(), Failure> {
    let options = options(cli, args)?;
    options.check()?;
    let mut runs = Vec::new();
    for given in &args.runs {
        let (name, path) = name_of(given);
        runs.push((name, open_to_write(cli, Path::new(path), args.precision)?));
    }
    if options.is_open() {
        eprintln!(
            "penwright: anyone who reaches {} can use the models; give keys with --api-key-file, or listen on 127.0.0.1",
            options.addr
        );
    }
    let server = Server::bind(runs, options)?;
    let stopper = server.stopper();
    on_interrupt(move || stopper.stop())?;
    announce(cli, &server)?;
    let given_up = server.run()?.given_up;
    Err(Failure::Interrupted(match given_up {
        0 => "stopped; all requests were answered".into(),
        n => format!("stopped; {n} texts were not complete in time (--stop-timeout)"),
    }))
}

fn options(cli: &Cli, args: &Serve) -> Result<Options, Failure> {
    let keys = args.api_key_file.as_deref().map(Keys::read).transpose()?.unwrap_or_default();
    Ok(Options {
        addr: args.addr,
        streams: args.streams,
        queue: args.queue,
        threads: cli.threads.map_or(0, |n| n.get()),
        max_body: args.max_body,
        max_prompt: args.max_prompt,
        max_tokens: args.max_tokens,
        request_timeout: time("request-timeout", &args.request_timeout)?,
        client_timeout: time("client-timeout", &args.client_timeout)?,
        stop_timeout: time("stop-timeout", &args.stop_timeout)?,
        keys,
        training: args.allow_training.clone(),
        precision: args.precision.into(),
        cors_origins: args.cors_origin.clone(),
    })
}

fn time(flag: &'static str, given: &str) -> Result<Duration, Failure> {
    duration::parse(given).map_err(|problem| Failure::Usage(format!("--{flag}: {problem}")))
}

/// Where it listens, once it does.
fn announce(cli: &Cli, server: &Server) -> Result<(), Failure> {
    let addr = server.local_addr()?;
    if cli.json {
        let models: Vec<_> =
            server.models().into_iter().map(|(name, streams)| json!({"id": name, "streams": streams})).collect();
        writeln!(io::stdout(), "{}", json!({"event": "listening", "addr": addr.to_string(), "models": models}))?;
        io::stdout().flush()?;
    } else if !cli.quiet {
        for (name, streams) in server.models() {
            eprintln!("{name}: {streams} texts at once");
        }
        eprintln!("listening at http://{addr}; Ctrl-C stops");
    }
    Ok(())
}
