//! `penwright generate`.

use std::io::{self, Read, Write};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Instant;

use penwright::Error;
use penwright::generate::{Draft, GenerateOptions, Generation, Length, Sampling, clean_prompt, generate};
use penwright::run::Run;
use penwright::tokenizer::Level;
use serde_json::json;

use super::train::stop_on_interrupt;
use super::{Failure, interactive, open_to_write, summarize};
use crate::args::{Cli, Generate};

pub(super) fn run(cli: &Cli, args: &Generate) -> Result<(), Failure> {
    let sampling = sampling(args);
    sampling.check()?;
    if args.interactive && args.prompt_file.as_deref().is_some_and(|path| path.as_os_str() == "-") {
        return Err(Failure::Usage("--interactive reads standard input itself; give the prompt with --prompt".into()));
    }
    if args.tokens.is_some() && args.sentences.is_some() && args.summarize.is_none() {
        let problem = "--tokens and --sentences go together with --summarize alone; leave one of them out";
        return Err(Failure::Usage(problem.into()));
    }
    let prompt = match args.prompt_file.as_ref().or(args.summarize.as_ref()) {
        Some(path) => read_prompt(path)?,
        None => clean_prompt(&args.prompt),
    };
    let start = Instant::now();
    let run = open_to_write(cli, &args.run, args.choice.precision)?;
    let load_s = start.elapsed().as_secs_f64();
    if args.interactive {
        return interactive::run(&run, &prompt, &sampling);
    }
    let draft = match args.draft.to_str() {
        Some("off") => Draft::Off,
        Some("prompt") => Draft::Prompt,
        _ => Draft::open(&args.draft, &run.tokenizer)?,
    };
    let generation = if args.summarize.is_some() {
        summarize::run(cli, args, &run, &prompt, sampling, draft, load_s)?
    } else {
        let options = GenerateOptions { draft, ..options(args, sampling, run.tokenizer.level()) };
        options.check()?;
        match cli.json {
            true => write_json(&run, &prompt, &options, load_s)?,
            false => write_text(&run, &prompt, &options, args)?,
        }
    };
    if args.stats {
        eprintln!("{}{}", stats(&generation, load_s), drafted(&generation));
    }
    match generation.was_cancelled() {
        true => Err(Failure::Interrupted("interrupted; what was written is above".into())),
        false => Ok(()),
    }
}

pub(super) fn read_prompt(path: &Path) -> Result<String, Failure> {
    let (name, mut raw) = (if path.as_os_str() == "-" { "standard input".as_ref() } else { path }, Vec::new());
    let read = match path.as_os_str() == "-" {
        true => io::stdin().read_to_end(&mut raw).map(drop),
        false => std::fs::read(path).map(|bytes| raw = bytes),
    };
    read.map_err(Error::io("read", name))?;
    let text = String::from_utf8(raw).map_err(|_| Error::damaged(name, "is not UTF-8 text; convert it first"))?;
    let text = clean_prompt(&text);
    Ok(text.strip_suffix('\n').map(String::from).unwrap_or(text))
}

fn sampling(args: &Generate) -> Sampling {
    let chosen = args.choice.sampling(args.seed);
    Sampling {
        temperature: if args.greedy { 0.0 } else { chosen.temperature },
        typical: args.typical,
        no_repeat_ngram: args.no_repeat_ngram,
        ..chosen
    }
}

fn options(args: &Generate, sampling: Sampling, level: Level) -> GenerateOptions {
    let length = [
        args.tokens.map(Length::Tokens),
        args.words.map(Length::Words),
        args.sentences.map(Length::Sentences),
        args.paragraphs.map(Length::Paragraphs),
    ];
    GenerateOptions {
        length: length.into_iter().flatten().next().unwrap_or(Length::default_for(level)),
        samples: args.samples,
        sampling,
        beams: args.beams.unwrap_or(0) as usize,
        stop: args.stop.clone(),
        draft_tokens: args.draft_tokens(),
        ..GenerateOptions::default()
    }
}

/// Writes; `show` receives what comes, until Ctrl-C or a closed pipe.
fn write(
    run: &Run,
    prompt: &str,
    options: &GenerateOptions,
    mut show: impl FnMut(usize, &str) -> io::Result<()>,
) -> Result<Generation, Failure> {
    let stop = stop_on_interrupt()?;
    let mut shown = Ok(());
    let generation = generate(&run.model, &run.tokenizer, prompt, options, &mut |sample, piece| {
        if !piece.is_empty() {
            shown = show(sample, piece);
        }
        if shown.is_err() || stop.load(Ordering::Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    shown?;
    Ok(generation)
}

/// The first text as it comes, unless told otherwise; then the others, a line of dashes before each.
fn write_text(run: &Run, prompt: &str, options: &GenerateOptions, args: &Generate) -> Result<Generation, Failure> {
    let mut out = io::stdout();
    let streams = !args.no_stream;
    if streams {
        write!(out, "{prompt}")?;
        out.flush()?;
    }
    let generation = write(run, prompt, options, |sample, piece| {
        if streams && sample == 0 {
            write!(out, "{piece}").and_then(|()| out.flush())?;
        }
        Ok(())
    })?;
    for (i, sample) in generation.samples.iter().enumerate() {
        if i > 0 {
            writeln!(out, "{}", "-".repeat(40))?;
        }
        match streams && i == 0 {
            true => writeln!(out)?,
            false => writeln!(out, "{prompt}{}", sample.text)?,
        }
    }
    out.flush()?;
    Ok(generation)
}

fn write_json(run: &Run, prompt: &str, options: &GenerateOptions, load_s: f64) -> Result<Generation, Failure> {
    let generation = write(run, prompt, options, |_, _| Ok(()))?;
    print_json(&generation, load_s)?;
    Ok(generation)
}

pub(super) fn print_json(generation: &Generation, load_s: f64) -> Result<(), Failure> {
    let samples = generation
        .samples
        .iter()
        .map(|s| json!({"text": s.text, "tokens": s.tokens, "finish_reason": s.finish_reason, "log_prob": s.log_prob}));
    let result = json!({
        "samples": samples.collect::<Vec<_>>(),
        "prompt_tokens": generation.prompt_tokens,
        "prefill_tokens_per_s": generation.prefill_tokens_per_s(),
        "decode_tokens_per_s": generation.decode_tokens_per_s(),
        "load_s": load_s,
        "drafted": generation.drafted,
        "accepted": generation.accepted
    });
    writeln!(io::stdout(), "{result}")?;
    Ok(())
}

fn stats(generation: &Generation, load_s: f64) -> String {
    let written: usize = generation.samples.iter().map(|sample| sample.tokens).sum();
    format!(
        "loaded in {load_s:.3} s; prompt: {} tokens in {:.3} s ({:.0} tokens/s); written: {written} tokens in {:.3} s ({:.0} tokens/s)",
        generation.prompt_tokens,
        generation.prefill_seconds,
        generation.prefill_tokens_per_s(),
        generation.decode_seconds,
        generation.decode_tokens_per_s()
    )
}

/// What a draft has brought, if there was one.
fn drafted(generation: &Generation) -> String {
    let (drafted, accepted) = (generation.drafted, generation.accepted);
    match drafted {
        0 => String::new(),
        _ => format!("; drafted: {drafted} tokens, {accepted} of them right"),
    }
}
