//! `penwright demo`: the whole story on the embedded book.

use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use penwright::compare::{Comparison, Contender, HeldOut, Options, compare, html};
use penwright::corpus::Corpus;
use penwright::files;
use penwright::model::ModelKind;
use penwright::report::Recorder;
use penwright::train::{Job, Outcome, Settings};

use super::train::stop_on_interrupt;
use super::{Failure, name};
use crate::args::{Cli, Demo};
use crate::book;
use crate::progress::Progress;

/// The part of the budget that is left to the samples, the comparison and the page.
const REST: f64 = 0.06;

pub(super) fn run(cli: &Cli, args: &Demo) -> Result<(), Failure> {
    let started = Instant::now();
    let stop = stop_on_interrupt()?;
    let corpus = || Corpus::from_text("the embedded book", book::text());
    let held_out = corpus();
    let (train_part, val) = held_out.split(Settings::default().val_fraction())?;
    let training: Vec<Arc<str>> = train_part.iter().map(|&text| text.into()).collect();
    say(cli, &format!("The embedded book has {} characters; its last tenth is held out.", held_out.chars()));
    let mut contenders = Vec::new();
    for kind in [ModelKind::Ngram, ModelKind::Lstm, ModelKind::Gpt2] {
        let left = args.budget.mul_f64(1.0 - REST).saturating_sub(started.elapsed());
        // The two that train in steps have equal shares.
        let share = if kind == ModelKind::Lstm { left / 2 } else { left };
        let out = args.out.join(kind.to_string());
        train(cli, settings(kind, share), corpus(), &out, &stop)?;
        contenders.push(Contender::open(&out, training.clone())?);
    }
    say(cli, "Comparing them on the held-out part.");
    let text = HeldOut { name: "the last tenth of the embedded book", documents: &val };
    let comparison = compare(&contenders, text, &Options::default(), &mut |_| {})?;
    let report = args.out.join("report.html");
    files::write(&report, html(&comparison, "Three models, one book").as_bytes())?;
    show(cli, args, &comparison, &report)?;
    say(cli, &format!("All in {:.0} s.", started.elapsed().as_secs_f64()));
    Ok(())
}

/// What is not said here is chosen by the rules of a budget (docs/recipes.md).
fn settings(kind: ModelKind, share: Duration) -> Settings {
    let budget = (kind != ModelKind::Ngram).then_some(share.max(Duration::from_secs(2)));
    Settings { model: Some(kind), budget, sample_every: Some(0), ..Settings::default() }
}

fn train(cli: &Cli, settings: Settings, corpus: Corpus, out: &Path, stop: &Arc<AtomicBool>) -> Result<(), Failure> {
    let (kind, budget) = (settings.kind(), settings.budget);
    let job = Job::from_corpus(settings, corpus, None, &mut |_| {})?;
    let mut progress = Progress::new(cli, &kind.to_string(), budget, &[], stop);
    let mut recorder = Recorder::new(out, false);
    let outcome = job.run(out, false, stop, &mut |event| {
        recorder.on_event(event);
        // The one JSON object of a demo is the comparison.
        if !cli.json {
            progress.on_event(event);
        }
    });
    let recorded = recorder.finish(&outcome);
    progress.finish()?;
    let outcome = outcome?;
    recorded?;
    match outcome {
        Outcome::Interrupted => {
            Err(Failure::Interrupted(format!("interrupted; what was trained so far is in {}", name(out))))
        }
        Outcome::Finished | Outcome::OutOfPatience => Ok(()),
    }
}

fn show(cli: &Cli, args: &Demo, comparison: &Comparison, report: &Path) -> Result<(), Failure> {
    let mut out = io::stdout();
    if cli.json {
        writeln!(out, "{}", serde_json::to_string(comparison).unwrap_or_default())?;
        return Ok(());
    }
    for model in &comparison.models {
        writeln!(out, "\n{} goes on from \"{}\":\n", model.model, comparison.prompt)?;
        for line in model.sample.lines() {
            writeln!(out, "    {line}")?;
        }
    }
    writeln!(out, "\n{}", comparison.table())?;
    writeln!(out, "Open {} to see it all; the runs are beside it. Now your own book:\n", name(report))?;
    let mut ranked = comparison.ranking().into_iter().map(|place| comparison.models[place].model);
    let best = ranked.find(|&kind| kind != ModelKind::Ngram).unwrap_or(ModelKind::Lstm).to_string();
    writeln!(out, "    penwright generate {} --prompt \"The door\"", name(&args.out.join(&best)))?;
    writeln!(out, "    penwright train book.txt --model {best} --budget 10m --out runs/book")?;
    Ok(())
}

fn say(cli: &Cli, line: &str) {
    if !cli.quiet {
        eprintln!("{line}");
    }
}
