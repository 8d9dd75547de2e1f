//! `penwright generate --summarize`.

use std::io::{self, Write};
use std::ops::ControlFlow;
use std::sync::atomic::Ordering;

use penwright::generate::{Draft, Generation, Sampling, SummaryOptions, summarize};
use penwright::run::Run;

use super::Failure;
use super::generate::print_json;
use super::train::stop_on_interrupt;
use crate::args::{Cli, Generate};

pub(super) fn run(
    cli: &Cli,
    args: &Generate,
    run: &Run,
    passage: &str,
    sampling: Sampling,
    draft: Draft,
    load_s: f64,
) -> Result<Generation, Failure> {
    let paper = SummaryOptions::default();
    let options = SummaryOptions {
        sentences: args.sentences.unwrap_or(paper.sentences),
        tokens: args.tokens.unwrap_or(paper.tokens),
        samples: args.samples,
        sampling: Sampling {
            temperature: if args.greedy { 0.0 } else { args.choice.temperature.unwrap_or(paper.sampling.temperature) },
            top_k: args.choice.top_k.unwrap_or(paper.sampling.top_k),
            ..sampling
        },
        stop: args.stop.clone(),
        draft,
        draft_tokens: args.draft_tokens(),
    };
    let stop = stop_on_interrupt()?;
    let summary = summarize(&run.model, &run.tokenizer, passage, &options, &mut |_, _| {
        if stop.load(Ordering::Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    let (read, whole) = summary.read;
    if read < whole && !cli.quiet {
        let share = 100.0 * read as f64 / whole as f64;
        eprintln!(
            "the passage is longer than the model can see: its first {share:.1} % are summarized ({read} of {whole} bytes)"
        );
    }
    if cli.json {
        print_json(&summary.generation, load_s)?;
        return Ok(summary.generation);
    }
    let mut out = io::stdout();
    for (i, sample) in summary.generation.samples.iter().enumerate() {
        if i > 0 {
            writeln!(out, "{}", "-".repeat(40))?;
        }
        writeln!(out, "{}", sample.text)?;
    }
    Ok(summary.generation)
}
