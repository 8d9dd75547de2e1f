//! `penwright compare`.

use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use penwright::compare::{Contender, HeldOut, Options, SampleLength, Stage, compare, html};
use penwright::corpus;

use super::{Failure, name, texts};
use crate::args::{Cli, Compare};

pub(super) fn run(cli: &Cli, args: &Compare) -> Result<(), Failure> {
    // Better known before the work than after it.
    let folder = args.html.as_ref().and_then(|path| path.parent()).filter(|folder| !folder.as_os_str().is_empty());
    if let Some(missing) = folder.filter(|folder| !folder.is_dir()) {
        return Err(Failure::Failed(format!("--html: there is no folder {}; create it first", name(missing))));
    }
    let documents = corpus::read(&args.text)?;
    let training: Vec<Arc<str>> = match args.training_text.is_empty() {
        true => Vec::new(),
        false => corpus::read(&args.training_text)?.into_iter().map(|d| d.text.into()).collect(),
    };
    let contenders: Vec<Contender> =
        args.run.iter().map(|run| Contender::open(run, training.clone())).collect::<Result<_, _>>()?;
    let defaults = Options::default();
    let options = Options {
        prompt: args.prompt.clone(),
        sample: args.sample_tokens.map_or(defaults.sample, SampleLength::Tokens),
        temperature: args.temperature,
        seed: args.seed,
        stride: args.stride,
        ..defaults
    };
    let title = args.text.iter().map(|path| name(path)).collect::<Vec<_>>().join(", ");
    let text = HeldOut { name: &title, documents: &texts(&documents) };
    let comparison = compare(&contenders, text, &options, &mut |progress| {
        if !cli.quiet {
            let doing = match progress.stage {
                Stage::Score => "reads the text",
                Stage::Write => "writes",
                Stage::Search => "is searched for copied passages",
            };
            eprintln!("[{}/{}] {} {doing}", progress.index + 1, progress.of, progress.name);
        }
    })?;
    let mut out = io::stdout();
    if let Some(path) = &args.html {
        let page = html(&comparison, &format!("Comparison on {title}"));
        write_page(path, &page)?;
    }
    if cli.json {
        writeln!(out, "{}", serde_json::to_string(&comparison).map_err(|e| Failure::Failed(e.to_string()))?)?;
    } else {
        write!(out, "{}", comparison.table())?;
    }
    if let (Some(path), false) = (&args.html, cli.quiet) {
        eprintln!("the page is in {}", name(path));
    }
    Ok(())
}

fn write_page(path: &Path, page: &str) -> Result<(), Failure> {
    std::fs::write(path, page)
        .map_err(|error| Failure::Failed(format!("cannot write {}: {error}; choose another --html", name(path))))
}
