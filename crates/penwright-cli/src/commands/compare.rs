//! `penwright compare`.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use penwright::compare::{Contender, HeldOut, Options, SampleLength, Stage, compare, html};
use penwright::corpus::{self, ReadOptions};
use penwright::files;
use penwright::train::{SETTINGS, Settings};

use super::{Failure, check_folder, locate, name};
use crate::args::{Cli, Compare};

pub(super) fn run(cli: &Cli, args: &Compare) -> Result<(), Failure> {
    check_folder("html", args.html.as_deref())?;
    let runs: Vec<PathBuf> = args.run.iter().map(|run| locate(cli, run)).collect::<Result<_, _>>()?;
    let options = runs.first().map_or(Ok(ReadOptions::default()), |run| Settings::read_options_of(run))?;
    let corpus = corpus::read(&args.text, &options, &mut |_| {})?;
    let mut known = Vec::new();
    let mut contenders = Vec::new();
    for (run, given) in runs.iter().zip(&args.run) {
        let contender = Contender::open(run, training(args, run, &mut known)?)?;
        contenders.push(Contender { name: name(given), ..contender });
    }
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
    let text = HeldOut { name: &title, documents: &corpus.texts() };
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
        files::write(path, page.as_bytes())?;
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

/// Texts read for one run that others were trained on too: where they lie, how much of them, and what they are.
type Known = Vec<(Settings, Vec<Arc<str>>)>;

/// What a run was trained on: the files named, or those that its record names, if they are still there.
fn training(args: &Compare, run: &Path, known: &mut Known) -> Result<Vec<Arc<str>>, penwright::Error> {
    let settings = if args.training_text.is_empty() {
        Settings::load(&run.join(SETTINGS)).unwrap_or_default()
    } else {
        Settings { text: args.training_text.clone(), ..Settings::default() }
    };
    let of_texts = Settings {
        text: settings.text.clone(),
        field: settings.field,
        keep_wrapping: settings.keep_wrapping,
        word_format: settings.word_format,
        val: settings.val,
        val_fraction: settings.val_fraction,
        ..Settings::default()
    };
    if let Some((_, texts)) = known.iter().find(|(settings, _)| *settings == of_texts) {
        return Ok(texts.clone());
    }
    let texts: Vec<Arc<str>> = if !args.training_text.is_empty() {
        let corpus = corpus::read(&args.training_text, &of_texts.read_options(), &mut |_| {})?;
        corpus.texts().into_iter().map(Arc::from).collect()
    } else if of_texts.text.iter().all(|path: &PathBuf| path.exists()) && !of_texts.text.is_empty() {
        of_texts.training_texts()?
    } else {
        Vec::new()
    };
    known.push((of_texts, texts.clone()));
    Ok(texts)
}
