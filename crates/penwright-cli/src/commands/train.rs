//! `penwright train`.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use penwright::train::{Event, Job, Outcome, Plan, SETTINGS, Settings};

use super::{Failure, name};
use crate::args::{Cli, Train};

pub(super) fn run(cli: &Cli, args: &Train) -> Result<(), Failure> {
    let out = args.out.clone().unwrap_or_else(|| PathBuf::from("runs/latest"));
    let mut settings = settings(args, &out)?;
    if cli.json || cli.quiet {
        settings.sample_every = settings.sample_every.or(Some(0));
    }
    let job = Job::prepare(settings, &mut |_| {})?;
    if args.dry_run {
        return show_plan(cli, &job.plan()?);
    }
    let mut closed = Ok(());
    let stop = stop_on_interrupt()?;
    let outcome = job.run(&out, args.resume, &stop, &mut |event| {
        if cli.json {
            let line = serde_json::to_string(event).unwrap_or_default();
            let written = writeln!(io::stdout(), "{line}");
            if closed.is_ok() {
                closed = written;
            }
        } else if !cli.quiet {
            eprintln!("{}", progress_line(event));
        }
    })?;
    closed?;
    match outcome {
        Outcome::Interrupted => Err(Failure::Interrupted(format!(
            "interrupted; the run is saved in {}; go on with: penwright train --out {} --resume",
            name(&out),
            name(&out)
        ))),
        Outcome::Finished | Outcome::OutOfPatience => Ok(()),
    }
}

/// Flags before --set before --config; a resumed run has the settings that it was started with below them.
fn settings(args: &Train, out: &Path) -> Result<Settings, Failure> {
    let mut settings = Settings::default();
    let started = out.join(SETTINGS);
    if args.resume && started.exists() {
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

fn show_plan(cli: &Cli, plan: &Plan) -> Result<(), Failure> {
    let mut out = io::stdout();
    if cli.json {
        let mut json = serde_json::to_value(plan).unwrap_or_default();
        json["event"] = "plan".into();
        writeln!(out, "{json}")?;
        return Ok(());
    }
    let bytes = penwright::error::bytes;
    writeln!(out, "model         {}, vocabulary of {}", plan.model, plan.vocab)?;
    writeln!(out, "tokens        {} to train on, {} to validate on", plan.train_tokens, plan.val_tokens)?;
    if let (Some(step), Some(steps), Some(seconds)) = (plan.step_seconds, plan.steps, plan.seconds) {
        writeln!(out, "parameters    {}", plan.params)?;
        writeln!(out, "memory        {} of {} free", bytes(plan.memory_bytes), bytes(plan.free_bytes))?;
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
    let handler = move || {
        if raised.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
    };
    ctrlc::set_handler(handler).map_err(|e| Failure::Failed(format!("cannot listen for Ctrl-C: {e}")))?;
    Ok(stop)
}

fn progress_line(event: &Event) -> String {
    match event {
        Event::Plan { params, train_tokens, val_tokens, memory_bytes, resumed_at, .. } => {
            let resumed = if *resumed_at > 0 { format!("; going on from step {resumed_at}") } else { String::new() };
            let memory = penwright::error::bytes(*memory_bytes);
            format!(
                "{params} parameters; {train_tokens} tokens to train on, {val_tokens} to validate on; {memory} of memory{resumed}"
            )
        }
        Event::Sample { text, .. } => text.lines().map(|line| format!("    | {line}")).collect::<Vec<_>>().join("\n"),
        Event::Step { step, elapsed_s, train_loss, lr, tokens_per_s, .. } => {
            format!("step {step:>6}  {elapsed_s:>7.1} s  loss {train_loss:.4}  lr {lr:.2e}  {tokens_per_s:.0} tokens/s")
        }
        Event::Eval { step, elapsed_s, val_loss, val_bits_per_char } => {
            format!(
                "step {step:>6}  {elapsed_s:>7.1} s  validation {val_loss:.4}  ({val_bits_per_char:.4} bits per character)"
            )
        }
        Event::Done { run, reason, steps, elapsed_s, best_val_loss, .. } => {
            let best = best_val_loss.map_or("not validated yet".into(), |loss| format!("best validation {loss:.4}"));
            format!("{reason}: {steps} steps in {elapsed_s:.1} s, {best}; the run is in {run}")
        }
    }
}
