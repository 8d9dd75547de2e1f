//! How training is shown: as JSON, as plain lines, as a live view on a terminal, or not at all.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use penwright::train::Event;
use ratatui::crossterm::style::Color as Crossterm;
use ratatui::style::{Color, Style, Stylize};
use ratatui::text::{Line, Span};

use crate::args::Cli;
use crate::color::Brush;
use crate::live::words::{clock, duration, printable, short, thousands};
use crate::live::{Painter, View, can_paint};

/// Seconds between plain lines of steps; `--verbose` shows them all.
const PLAIN_EVERY: f64 = 2.0;
/// What ends sooner, a wrong setting for one, shows no view.
const SHOWN: Duration = Duration::from_millis(200);

/// Shows the training of one model.
pub(crate) struct Progress {
    shown: Shown,
    lines: Lines,
}

enum Shown {
    Nothing,
    Json(io::Result<()>),
    Plain { verbose: bool, brush: Brush, last: Option<Instant> },
    Live(Painter<View>),
}

impl Progress {
    /// Begins to show a training under a title. `record` is what a resumed run did before; `stop` is the flag that
    /// Ctrl-C raises.
    pub(crate) fn new(
        cli: &Cli,
        title: &str,
        budget: Option<Duration>,
        record: &[Event],
        stop: &Arc<AtomicBool>,
    ) -> Self {
        let shown = if cli.json {
            Shown::Json(Ok(()))
        } else if cli.quiet {
            Shown::Nothing
        } else if can_paint() {
            let mut view = View::new(title, budget.map(|b| b.as_secs_f64()), stop.clone());
            view.recall(record);
            Shown::Live(Painter::new(view, cli.color.on(&io::stderr()), SHOWN))
        } else {
            Shown::Plain { verbose: cli.verbose, brush: cli.color.brush(&io::stderr()), last: None }
        };
        Progress { shown, lines: Lines::default() }
    }

    /// Shows one event.
    pub(crate) fn on_event(&mut self, event: &Event) {
        let text = self.lines.of(event);
        match &mut self.shown {
            Shown::Nothing => {}
            Shown::Json(written) => {
                let line = serde_json::to_string(event).unwrap_or_default();
                if written.is_ok() {
                    *written = writeln!(io::stdout(), "{line}");
                }
            }
            Shown::Plain { verbose, brush, last } => {
                if matches!(event, Event::Step { .. }) && !*verbose {
                    if last.is_some_and(|last| last.elapsed().as_secs_f64() < PLAIN_EVERY) {
                        return;
                    }
                    *last = Some(Instant::now());
                }
                match event {
                    Event::Eval { .. } => eprintln!("{}", brush.color(&text, Crossterm::Yellow)),
                    Event::Sample { .. } => text.lines().for_each(|line| eprintln!("{}", brush.dim(line))),
                    _ => eprintln!("{text}"),
                }
            }
            Shown::Live(painter) => {
                let above = match event {
                    Event::Eval { .. } => validation_line(&text),
                    Event::Excerpt { .. } | Event::Sample { .. } => {
                        text.lines().map(|l| Line::raw(l.to_string()).dim()).collect()
                    }
                    _ => Vec::new(),
                };
                painter.update(|view, clock| {
                    view.on_event(event, clock);
                    above
                });
            }
        }
    }

    /// Ends the show; the last picture stays.
    ///
    /// # Errors
    /// When standard output took no more lines.
    pub(crate) fn finish(self) -> io::Result<()> {
        match self.shown {
            Shown::Json(written) => written,
            Shown::Live(mut painter) => {
                let (mut begun, mut summary) = (false, Vec::new());
                painter.update(|view, _| {
                    (begun, summary) = (view.has_begun(), view.summary());
                    Vec::new()
                });
                painter.end(begun);
                summary.iter().for_each(|line| eprintln!("{line}"));
                Ok(())
            }
            Shown::Nothing | Shown::Plain { .. } => Ok(()),
        }
    }
}

fn validation_line(text: &str) -> Vec<Line<'static>> {
    let style = Style::new().fg(Color::Yellow);
    let line = match text.strip_suffix(BEST) {
        Some(start) => vec![Span::styled(start.to_string(), style), Span::raw(BEST).fg(Color::Green)],
        None => vec![Span::styled(text.to_string(), style)],
    };
    vec![Line::from(line)]
}

const BEST: &str = "  ★ best";

/// Events as lines of text. It remembers what a line says beyond its event.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    steps: Option<u64>,
    best: Option<f64>,
}

impl Lines {
    /// The line of an event, or the lines of a sample.
    pub(crate) fn of(&mut self, event: &Event) -> String {
        match event {
            Event::Plan {
                model,
                params,
                trained_params,
                train_tokens,
                val_tokens,
                steps,
                memory_bytes,
                resumed_at,
                ..
            } => {
                self.steps = *steps;
                let trained = trained_params.map_or(String::new(), |n| format!(", {} of them trained", thousands(n)));
                let resumed = match resumed_at {
                    0 => String::new(),
                    step => format!("; going on from step {}", thousands(*step)),
                };
                format!(
                    "{model}, {} parameters{trained}; {} tokens to train on, {} to validate on; {} of memory{resumed}",
                    thousands(*params),
                    thousands(*train_tokens),
                    thousands(*val_tokens),
                    penwright::error::bytes(*memory_bytes)
                )
            }
            Event::Step { step, steps, elapsed_s, train_loss, lr, grad_norm, tokens_per_s, .. } => {
                self.steps = steps.or(self.steps);
                let rate = thousands(tokens_per_s.max(0.0) as u64);
                let start = self.start(*step, *elapsed_s);
                format!("{start}  training   {train_loss:.4}  lr {lr:.2e}  norm {grad_norm:.2}  {rate:>7} tok/s")
            }
            Event::Excerpt { tokens, of, whole_s } => {
                let why = whole_s.map_or_else(
                    || "all of them each time would take longer than half of the training (--eval-every N has them all)".to_string(),
                    |seconds| format!("all of them would take {} each time", duration(seconds)),
                );
                format!("validating on {} tokens, spread over the {}: {why}", thousands(*tokens), thousands(*of))
            }
            Event::Eval { step, elapsed_s, val_loss, val_bits_per_char, .. } => {
                let best = self.best.is_none_or(|best| val_loss < &best);
                if best {
                    self.best = Some(*val_loss);
                }
                let start = self.start(*step, *elapsed_s);
                let mark = if best { BEST } else { "" };
                format!("{start}  validation {val_loss:.4}  {val_bits_per_char:.4} bits/char{mark}")
            }
            Event::Sample { text, .. } => {
                let text = if text.trim().is_empty() { "(nothing)" } else { text.trim_end() };
                let lines = text.lines().map(|line| format!("    │ {}", printable(line)).trim_end().to_string());
                lines.collect::<Vec<_>>().join("\n")
            }
            Event::Done { run, reason, steps, tokens, elapsed_s, best_val_loss, best_val_bits_per_char, .. } => {
                let best = match (best_val_loss, best_val_bits_per_char) {
                    (Some(loss), Some(bits)) => format!("best validation {loss:.4} ({bits:.4} bits per character)"),
                    _ => "not validated yet".into(),
                };
                let (steps, tokens) = (thousands(*steps), short(*tokens as f64));
                let reason = if reason == "patience" { "no longer improving" } else { reason };
                format!(
                    "{reason}: {steps} steps, {tokens} tokens in {}; {best}; the run is in {run}",
                    duration(*elapsed_s)
                )
            }
        }
    }

    /// The columns that steps and validations share.
    fn start(&self, step: u64, elapsed: f64) -> String {
        let steps = self.steps.map_or(String::new(), |steps| format!("/{steps}"));
        let wide = self.steps.map_or(6, |s| s.to_string().len());
        format!("step {step:>wide$}{steps}  {:>7}", clock(elapsed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::live::events::{done, eval, plan, step};

    #[test]
    fn plain_lines_are_aligned_and_mark_the_best() {
        let mut lines = Lines::default();
        let plan = lines.of(&plan(Some(1000), 0));
        assert!(plan.contains("824,448 parameters; 1,003,854 tokens"), "{plan}");
        let (a, b) = (lines.of(&step(90, 9.0, 2.5)), lines.of(&step(1000, 75.0, 1.5)));
        assert_eq!(a, "step   90/1000     0:09  training   2.5000  lr 1.00e-3  norm 0.50   81,240 tok/s");
        assert_eq!(a.len(), b.len());
        assert!(lines.of(&eval(100, 1.0, 2.0)).ends_with(BEST));
        assert!(!lines.of(&eval(200, 2.0, 2.1)).contains(BEST));
        assert!(
            lines
                .of(&done(1000, 75.0))
                .contains("finished: 1,000 steps, 768 K tokens in 1 min 15 s; best validation 1.7500")
        );
        let sample = Event::Sample { step: 1, text: "a\u{1b}[2J\n\nb".into() };
        assert_eq!(lines.of(&sample), "    │ a\u{fffd}[2J\n    │\n    │ b");
    }
}
