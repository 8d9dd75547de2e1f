//! `penwright train`.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use penwright::report::Recorder;
use penwright::train::{Job, Outcome, Plan, SETTINGS, Settings, read_metrics};

use super::{Failure, name, optimizer_words};
use crate::args::{Cli, Train};
use crate::live::{self, Status};
use crate::progress::Progress;

pub(super) fn run(cli: &Cli, args: &Train) -> Result<(), Failure> {
    let out = args.out.clone().unwrap_or_else(|| PathBuf::from("runs/latest"));
    let mut settings = settings(args, &out)?;
    if cli.json || cli.quiet {
        settings.sample_every = settings.sample_every.or(Some(0));
    }
    let budget = settings.budget;
    let job = prepare(cli, settings, started(args, &out).is_some())?;
    if args.dry_run {
        return show_plan(cli, &job.plan()?, job.settings());
    }
    let stop = stop_on_interrupt()?;
    let record = if args.resume { read_metrics(&out).unwrap_or_default() } else { Vec::new() };
    let mut progress = Progress::new(cli, &name(&out), budget, &record, &stop);
    let mut recorder = Recorder::new(&out, args.tensorboard);
    let outcome = job.run(&out, args.resume, &stop, &mut |event| {
        progress.on_event(event);
        recorder.on_event(event);
    });
    let written = progress.finish();
    let recorded = recorder.finish(&outcome);
    let outcome = outcome?;
    written?;
    recorded?;
    match outcome {
        Outcome::Interrupted => Err(Failure::Interrupted(format!(
            "interrupted; the run is saved in {}; go on with: penwright train --out {} --resume",
            name(&out),
            name(&out)
        ))),
        Outcome::Finished | Outcome::OutOfPatience => Ok(()),
    }
}

/// Reads the texts and prepares the run, showing how far it is.
fn prepare(cli: &Cli, settings: Settings, resumed: bool) -> Result<Job, Failure> {
    let mut status: Option<(&str, Status)> = None;
    let prepare = if resumed { Job::prepare_resumed } else { Job::prepare };
    let job = prepare(settings, &mut |now| {
        if status.as_ref().is_none_or(|(stage, _)| *stage != now.stage) {
            status = Some((now.stage, Status::new(cli, now.stage)));
        }
        if let Some((_, status)) = &status {
            status.set(now.done, now.total);
        }
    })?;
    drop(status);
    if !cli.quiet && !cli.json {
        eprintln!("{}", job.corpus().report());
        job.reasons().iter().for_each(|reason| eprintln!("chosen: {reason}"));
    }
    Ok(job)
}

/// The settings of the run that is to be resumed, if there is one.
fn started(args: &Train, out: &Path) -> Option<PathBuf> {
    Some(out.join(SETTINGS)).filter(|path| args.resume && path.exists())
}

/// Flags before --set before --config; a resumed run has the settings that it was started with below them.
fn settings(args: &Train, out: &Path) -> Result<Settings, Failure> {
    let mut settings = Settings::default();
    if let Some(started) = started(args, out) {
        settings = Settings::load(&started)?;
    }
    if let Some(path) = &args.config {
        settings = Settings::load(path)?.over(settings);
    }
    for assignment in &args.set {
        settings = settings.set(assignment)?;
    }
    settings = args.settings()?.over(settings);
    if settings.text.is_empty() {
        let message = "no text was given; name files or folders to train on, or - for standard input";
        return Err(Failure::Usage(message.into()));
    }
    Ok(settings)
}

fn show_plan(cli: &Cli, plan: &Plan, settings: &Settings) -> Result<(), Failure> {
    let mut out = io::stdout();
    if cli.json {
        let mut json = serde_json::to_value(plan).unwrap_or_default();
        json["event"] = "plan".into();
        json["optimizer"] = settings.optimizer.map(|optimizer| optimizer.to_string()).into();
        writeln!(out, "{json}")?;
        return Ok(());
    }
    let bytes = penwright::error::bytes;
    writeln!(out, "model         {}, vocabulary of {}", plan.model, plan.vocab)?;
    writeln!(out, "tokens        {} to train on, {} to validate on", plan.train_tokens, plan.val_tokens)?;
    if let (Some(step), Some(steps), Some(seconds)) = (plan.step_seconds, plan.steps, plan.seconds) {
        let trained = match plan.trained_params == plan.params {
            true => String::new(),
            false => format!(", {} of them trained", plan.trained_params),
        };
        writeln!(out, "parameters    {}{trained}", plan.params)?;
        writeln!(out, "memory        {} of {} free", bytes(plan.memory_bytes), bytes(plan.free_bytes))?;
        writeln!(out, "optimizer     {}", optimizer_words(settings))?;
        writeln!(out, "computation   {:.1} MFLOP a token", plan.flops_per_token / 1e6)?;
        writeln!(out, "time          {steps} steps of {:.1} ms: {seconds:.0} s, and the validations", step * 1e3)?;
    } else {
        writeln!(out, "time          seconds: an n-gram model is counted, not trained in steps")?;
    }
    Ok(())
}

/// A flag that Ctrl-C or a request to terminate raises; a second Ctrl-C ends the program at once.
pub(super) fn stop_on_interrupt() -> Result<Arc<AtomicBool>, Failure> {
    let stop = Arc::new(AtomicBool::new(false));
    let raised = stop.clone();
    on_interrupt(move || raised.store(true, Ordering::Relaxed))?;
    Ok(stop)
}

/// Calls `first` at Ctrl-C or a request to terminate; a second one ends the program at once.
pub(super) fn on_interrupt(first: impl Fn() + Send + 'static) -> Result<(), Failure> {
    let asked = AtomicBool::new(false);
    listen(move || {
        if asked.swap(true, Ordering::Relaxed) {
            live::restore();
            std::process::exit(130);
        }
        first();
    })
}

/// Calls `handler` at every Ctrl-C or request to terminate.
pub(super) fn listen(handler: impl Fn() + Send + 'static) -> Result<(), Failure> {
    ctrlc::set_handler(handler).map_err(|e| Failure::Failed(format!("cannot listen for Ctrl-C: {e}")))
}
