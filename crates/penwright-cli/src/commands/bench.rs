//! `penwright bench`.

use std::io::{self, IsTerminal, Write};
use std::ops::ControlFlow;
use std::sync::atomic::Ordering;

use penwright::bench::{Case, Event, Figure, cases, run as measure, select};
use ratatui::crossterm::style::Color;
use serde_json::json;

use super::Failure;
use super::train::stop_on_interrupt;
use crate::args::{Bench, Cli};
use crate::color::Brush;

/// Columns of the bar that shows how much of a limit was reached.
const BAR: usize = 20;

pub(super) fn run(cli: &Cli, args: &Bench) -> Result<(), Failure> {
    let mut out = io::stdout();
    if args.list {
        for case in cases() {
            match cli.json {
                true => writeln!(out, "{}", json!({"name": case.name(), "group": case.group()}))?,
                false => writeln!(out, "{}", case.name())?,
            }
        }
        return Ok(());
    }
    let chosen = select(&args.names).map_err(|error| Failure::Usage(error.to_string()))?;
    let stop = stop_on_interrupt()?;
    let table = Table::new(cli, &chosen);
    let (mut failed, mut measured) = (None, 0);
    if !cli.json {
        table.head(&mut out)?;
    }
    measure(&chosen, args.quick, &mut |event| {
        let shown = match event {
            Event::Begins(name) => {
                table.begin(name);
                Ok(())
            }
            Event::Measured(figure) => {
                measured += 1;
                table.clear();
                table.show(&mut out, figure)
            }
            Event::Skipped(name, reason) => {
                table.clear();
                eprintln!("{name}: left out: {reason}");
                Ok(())
            }
        };
        failed = shown.err();
        let end = failed.is_some() || stop.load(Ordering::Relaxed);
        if end { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    match failed {
        Some(error) => Err(error.into()),
        None if stop.load(Ordering::Relaxed) => Err(Failure::Interrupted("interrupted".into())),
        None if measured == 0 => Err(Failure::Failed("nothing could be measured; the reasons are above".into())),
        None => Ok(()),
    }
}

/// The figures as lines, aligned; in colours, with bars, on a terminal.
struct Table {
    json: bool,
    progress: bool,
    /// Whether the progress is a line that vanishes again.
    vanishes: bool,
    bars: bool,
    brush: Brush,
    name: usize,
}

impl Table {
    fn new(cli: &Cli, cases: &[Case]) -> Self {
        let (out, err) = (io::stdout(), io::stderr());
        Table {
            json: cli.json,
            progress: !cli.quiet,
            vanishes: err.is_terminal(),
            bars: out.is_terminal(),
            brush: cli.color.brush(&out),
            name: cases.iter().map(|case| case.name().len()).max().unwrap_or(0).max(4),
        }
    }

    fn begin(&self, name: &str) {
        if self.progress && self.vanishes {
            eprint!("measuring {name} …");
        } else if self.progress {
            eprintln!("measuring {name}");
        }
    }

    fn clear(&self) {
        if self.progress && self.vanishes {
            eprint!("\r\u{1b}[2K");
        }
    }

    fn head(&self, out: &mut impl Write) -> io::Result<()> {
        let wide = self.name;
        let line =
            format!("{:wide$}  {:>9} {:8}  {:>9}  {:>6}  {:>4}  spread", "name", "value", "", "limit", "of it", "n");
        writeln!(out, "{}", self.brush.dim(line))
    }

    fn show(&self, out: &mut impl Write, figure: &Figure) -> io::Result<()> {
        if self.json {
            let line = serde_json::to_string(figure).unwrap_or_default();
            writeln!(out, "{line}")?;
            return out.flush();
        }
        let wide = self.name;
        let limit = figure.limit.map_or(String::new(), digits);
        let part = figure.fraction.map_or(String::new(), |part| format!("{:.0} %", 100.0 * part));
        write!(out, "{:wide$}  {:>9} {:8}  {limit:>9}  {part:>6}  ", figure.name, digits(figure.value), figure.unit)?;
        write!(out, "{:4}  {:4.1} %", figure.repetitions, 100.0 * figure.spread)?;
        if let Some(part) = figure.fraction.filter(|_| self.bars) {
            let full = ((part * BAR as f64).round() as usize).min(BAR);
            let color = if part >= 0.8 { Color::Green } else { Color::Yellow };
            let (full, rest) = ("━".repeat(full), "─".repeat(BAR - full));
            write!(out, "  {}{}", self.brush.color(full, color), self.brush.dim(rest))?;
        }
        writeln!(out)?;
        out.flush()
    }
}

/// Three or four digits that count.
fn digits(value: f64) -> String {
    let decimals = match value.abs() {
        0.0..10.0 => 2,
        10.0..1000.0 => 1,
        _ => 0,
    };
    format!("{value:.decimals$}")
}
