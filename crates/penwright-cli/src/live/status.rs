//! One line about something that takes its time before training begins: reading, counting, encoding.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use ratatui::buffer::Buffer;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Style, Stylize};
use ratatui::text::Line;
use ratatui::widgets::{LineGauge, Widget};

use super::chart::TRAIN;
use super::words::{clock, short, width};
use super::{Painter, Scene, can_paint};
use crate::args::Cli;

/// Seconds after which something is worth a line, in a pipe and on a terminal.
const SLOW: f64 = 1.0;
const SHOWN: Duration = Duration::from_millis(300);

/// The progress of one piece of work; it vanishes from a terminal when dropped.
pub(crate) struct Status {
    shown: Shown,
}

enum Shown {
    Nothing,
    Painted(Painter<Bar>),
    Line { what: String, started: Instant, said: Mutex<bool> },
}

impl Status {
    /// Begins to show a piece of work, named like "Reading the texts".
    pub(crate) fn new(cli: &Cli, what: &str) -> Self {
        let shown = if cli.quiet || cli.json {
            Shown::Nothing
        } else if can_paint() {
            let bar = Bar { what: what.into(), done: 0, total: 0 };
            Shown::Painted(Painter::new(bar, cli.color.on(&std::io::stderr()), SHOWN))
        } else {
            Shown::Line { what: what.into(), started: Instant::now(), said: Mutex::new(false) }
        };
        Status { shown }
    }

    /// So much of it is done, in any unit; a total of 0 is not known. Cheap enough to be called often.
    pub(crate) fn set(&self, done: u64, total: u64) {
        match &self.shown {
            Shown::Nothing => {}
            Shown::Painted(painter) => painter.update(|bar, _| {
                (bar.done, bar.total) = (done, total);
                Vec::new()
            }),
            Shown::Line { what, started, said } => {
                let Ok(mut said) = said.lock() else { return };
                if !*said && started.elapsed().as_secs_f64() > SLOW && done < total.max(1) {
                    eprintln!("{what} …");
                    *said = true;
                }
            }
        }
    }
}

impl Drop for Status {
    fn drop(&mut self) {
        match &mut self.shown {
            Shown::Painted(painter) => painter.end(false),
            Shown::Line { what, started, said } if started.elapsed().as_secs_f64() > SLOW => {
                let again = if said.get_mut().is_ok_and(|said| *said) { "  … " } else { &format!("{what}: ") };
                eprintln!("{again}done in {:.1} s", started.elapsed().as_secs_f64());
            }
            _ => {}
        }
    }
}

struct Bar {
    what: String,
    done: u64,
    total: u64,
}

impl Scene for Bar {
    fn height(&self, _columns: u16, _rows: u16) -> u16 {
        1
    }

    fn draw(&mut self, now: f64, area: Rect, buffer: &mut Buffer) {
        let words = format!("{} ", self.what);
        let [text, gauge] =
            Layout::horizontal([Constraint::Length(width(&words) as u16), Constraint::Fill(1)]).areas(area);
        Line::raw(words).render(text, buffer);
        if self.total == 0 {
            Line::raw(format!("… {}", clock(now))).dim().render(gauge, buffer);
            return;
        }
        let ratio = (self.done as f64 / self.total as f64).clamp(0.0, 1.0);
        let amount = format!("  {} / {}", short(self.done as f64), short(self.total as f64));
        let wide = if gauge.width > 40 { width(&amount) as u16 } else { 0 };
        let [gauge, text] = Layout::horizontal([Constraint::Max(60), Constraint::Length(wide)]).areas(gauge);
        LineGauge::default()
            .label(format!("{:3.0} %", (100.0 * ratio).floor()))
            .ratio(ratio)
            .filled_symbol("━")
            .unfilled_symbol("─")
            .filled_style(Style::new().fg(TRAIN))
            .unfilled_style(Style::new().dim())
            .render(gauge, buffer);
        Line::raw(amount).dim().render(text, buffer);
    }
}
