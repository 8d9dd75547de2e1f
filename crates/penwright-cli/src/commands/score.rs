//! `penwright score`.

use std::io::{self, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};

use crossterm::style::{Color, Stylize};
use penwright::compare::table::{Table, fit};
use penwright::corpus;
use penwright::score::{RankBy, Scored, Unit, rank, score};
use penwright::train::Settings;

use super::{Failure, name, open};
use crate::args::{By, Cli, Score};

/// Bits per character from which a colour of the 256-colour palette stands for them, from green to red.
const COLOURS: [(f64, u8); 6] = [(0.0, 71), (1.0, 107), (2.0, 143), (3.0, 179), (4.5, 173), (6.5, 167)];

pub(super) fn run(cli: &Cli, args: &Score) -> Result<(), Failure> {
    let run = open(cli, &args.run)?;
    let inputs = if args.text.is_empty() { vec![PathBuf::from("-")] } else { args.text.clone() };
    let scored = if args.rank {
        let by = match (args.per_token, args.per_char) {
            (true, _) => RankBy::PerToken,
            (_, true) => RankBy::PerChar,
            _ => RankBy::Total,
        };
        let text = lines(&inputs)?;
        let hypotheses: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
        if hypotheses.is_empty() {
            return Err(Failure::Failed("there is no line to rank; give one text a line".into()));
        }
        rank(&*run.model, &run.tokenizer, &hypotheses, by)?.into_iter().map(|(_, scored)| scored).collect()
    } else {
        let unit = match args.by {
            By::Token => Unit::Token,
            By::Word => Unit::Word,
            By::Sentence => Unit::Sentence,
            By::Paragraph => Unit::Paragraph,
            By::Text => Unit::Text,
        };
        let mut parts = Vec::new();
        let corpus = corpus::read(&inputs, &Settings::read_options_of(&run.dir)?, &mut |_| {})?;
        for text in corpus.texts() {
            parts.extend(score(&*run.model, &run.tokenizer, text, unit, args.stride)?);
        }
        parts
    };
    if cli.json {
        let json = serde_json::to_string(&scored).map_err(|e| Failure::Failed(e.to_string()))?;
        writeln!(io::stdout(), "{json}")?;
        return Ok(());
    }
    print(cli, &scored)
}

/// The texts as they stand, one after the other: a line is a text, so nothing is cleaned or joined.
fn lines(inputs: &[PathBuf]) -> Result<String, Failure> {
    let mut text = String::new();
    for input in inputs {
        let mut raw = Vec::new();
        let read = match input.as_os_str() == "-" {
            true => io::stdin().read_to_end(&mut raw).map(|_| ()),
            false => std::fs::read(input).map(|bytes| raw = bytes),
        };
        read.map_err(|error| Failure::Failed(format!("cannot read {}: {error}; check the path", name(input))))?;
        text.push_str(&utf8(input, raw)?);
        text.push('\n');
    }
    Ok(text)
}

fn utf8(input: &Path, raw: Vec<u8>) -> Result<String, Failure> {
    String::from_utf8(raw)
        .map_err(|_| Failure::Failed(format!("{} is not UTF-8 text; convert it to UTF-8 first", name(input))))
}

fn print(cli: &Cli, scored: &[Scored]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    let colour = cli.color.on(&io::stdout());
    let width = match io::stdout().is_terminal() {
        true => crossterm::terminal::size().map_or(80, |(columns, _)| usize::from(columns)),
        false => usize::MAX,
    };
    let mut table = Table::new(["log p", "tokens", "bits/char"].map(|head| format!("{head:>9}")));
    for part in scored {
        let cells = [format!("{:.3}", part.log_prob), part.tokens.to_string(), format!("{:.3}", part.bits_per_char)];
        table.row(cells.map(|cell| format!("{cell:>9}")));
    }
    let mut rows = table.lines().into_iter();
    for head in rows.by_ref().take(2) {
        writeln!(out, "{head}")?;
    }
    for (numbers, part) in rows.zip(scored) {
        let text = fit(part.text.trim_matches('\n'), width.saturating_sub(numbers.chars().count() + 2).max(8));
        match colour {
            true => writeln!(out, "{numbers}  {}", text.with(surprise(part.bits_per_char)))?,
            false => writeln!(out, "{numbers}  {text}")?,
        }
    }
    let (log_prob, tokens) =
        (scored.iter().map(|p| p.log_prob).sum::<f64>(), scored.iter().map(|p| p.tokens).sum::<usize>());
    let chars: usize = scored.iter().map(|p| p.text.chars().count()).sum();
    let bits = -log_prob / std::f64::consts::LN_2 / chars.max(1) as f64;
    writeln!(out, "\nall: log p {log_prob:.3} over {tokens} tokens, {bits:.3} bits per character")?;
    Ok(())
}

fn surprise(bits: f64) -> Color {
    let step = COLOURS.iter().rev().find(|(from, _)| bits >= *from).unwrap_or(&COLOURS[0]);
    Color::AnsiValue(step.1)
}
