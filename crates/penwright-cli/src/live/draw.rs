//! The picture of a training, for any size of the terminal.

use ratatui::buffer::Buffer;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Style, Stylize};
use ratatui::text::{Line, Span};
use ratatui::widgets::{LineGauge, Widget};

use super::Scene;
use super::chart::{self, BEST, TRAIN, VAL};
use super::view::{End, View};
use super::words::{clock, duration, short, thousands, width, wrap};

/// From this width on the sample stands beside the curve, else below it.
const WIDE: u16 = 88;
/// Below this width only the most important of each line.
const NARROW: u16 = 64;

impl Scene for View {
    fn height(&self, columns: u16, rows: u16) -> u16 {
        if !self.has_begun() {
            return 2;
        }
        let numbers = self.numbers(columns).len() as u16;
        let rest = match columns {
            WIDE.. => 11,
            NARROW.. => 9 + 4,
            _ => 7 + 3,
        };
        // Before there is a curve, and where it has no place, there is no room for it.
        let curve = if columns < 20 || !self.has_curve() { 0 } else { rest };
        (2 + numbers + curve).min(rows)
    }

    fn draw(&mut self, clock: f64, area: Rect, buffer: &mut Buffer) {
        let numbers = if self.has_begun() { self.numbers(area.width) } else { Vec::new() };
        let [title, bar, text, rest] = Layout::vertical([
            Constraint::Length(1),
            Constraint::Length(1),
            Constraint::Length(numbers.len() as u16),
            Constraint::Fill(1),
        ])
        .areas(area);
        self.title_line(area.width).render(title, buffer);
        self.bar(clock, bar, buffer);
        for (row, line) in text.rows().zip(numbers) {
            line.render(row, buffer);
        }
        // A low terminal keeps the curve longest.
        let sampled = self.sample.is_some() && (area.width >= WIDE || rest.height >= 9);
        let (curve, sample) = match (area.width >= WIDE, sampled) {
            (true, true) => {
                let [curve, _, sample] =
                    Layout::horizontal([Constraint::Fill(3), Constraint::Length(3), Constraint::Fill(2)]).areas(rest);
                (curve, sample)
            }
            (false, true) => {
                let below = if area.width < NARROW { 3 } else { 4 };
                let [curve, sample] = Layout::vertical([Constraint::Fill(1), Constraint::Max(below)]).areas(rest);
                (curve, sample)
            }
            (_, false) => (rest, Rect::ZERO),
        };
        self.curve(curve, buffer);
        self.newest_sample(sample, buffer);
    }
}

impl View {
    fn title_line(&self, columns: u16) -> Line<'static> {
        // A rule parts the view from what was said above it.
        let mut spans = vec![Span::raw("── ").dim(), Span::raw(self.title.clone()).bold()];
        let Some(plan) = &self.plan else { return Line::from(spans) };
        let details = [
            plan.model.clone(),
            format!("{} parameters", short(plan.params as f64)),
            format!("{} tokens", short(plan.train_tokens as f64)),
            format!("{} held out", short(plan.val_tokens as f64)),
            format!("{} of memory", penwright::error::bytes(plan.memory_bytes)),
        ];
        let mut used = width(&self.title) + 3;
        for (i, detail) in details.into_iter().enumerate() {
            let detail = format!("{}{detail}", if i == 0 { "  " } else { " · " });
            if used + width(&detail) > usize::from(columns) {
                break;
            }
            used += width(&detail);
            spans.push(Span::raw(detail).dim());
        }
        if used + 2 < usize::from(columns) {
            spans.push(Span::raw(format!(" {}", "─".repeat(usize::from(columns) - used - 1))).dim());
        }
        Line::from(spans)
    }

    fn bar(&self, now: f64, area: Rect, buffer: &mut Buffer) {
        let percent = self.ratio(now).map_or("".into(), |r| format!("{:3.0} %", (100.0 * r).floor()));
        let steps = match self.steps {
            Some(steps) => format!("step {} / {}", thousands(self.step), thousands(steps)),
            None => format!("step {}", thousands(self.step)),
        };
        let elapsed = clock(self.elapsed(now));
        let left = match (&self.end, self.left(now)) {
            (Some(_), _) => format!("in {elapsed}"),
            (None, Some(left)) => format!("{elapsed} · {} left", clock(left)),
            (None, None) => elapsed,
        };
        let state = self.state();
        let words = match (area.width, state) {
            (NARROW.., "") => format!("  {steps}  {left}"),
            (NARROW.., _) => format!("  {steps}  {left}  {state}"),
            (36.., _) => format!(" {left}"),
            _ => String::new(),
        };
        let [gauge, text] =
            Layout::horizontal([Constraint::Fill(1), Constraint::Length(width(&words) as u16)]).areas(area);
        let color = match (&self.end, self.stopping()) {
            (Some(End { reason, .. }), _) if reason == "interrupted" => Color::Yellow,
            (None, true) => Color::Yellow,
            (Some(_), _) => BEST,
            (None, false) => TRAIN,
        };
        LineGauge::default()
            .label(percent)
            .ratio(self.ratio(now).unwrap_or(0.0))
            .filled_symbol("━")
            .unfilled_symbol("─")
            .filled_style(Style::new().fg(color))
            .unfilled_style(Style::new().dim())
            .render(gauge, buffer);
        Line::raw(words).render(text, buffer);
    }

    /// The numbers, as many to a line as fit.
    fn numbers(&self, columns: u16) -> Vec<Line<'static>> {
        let narrow = columns < NARROW;
        let item = |long: &'static str, short: &'static str, value: Option<String>, color: Option<Color>| {
            let name = Span::raw(if narrow { short } else { long });
            let value = Span::raw(value.unwrap_or_else(|| "–".into())).bold();
            vec![
                if color == Some(BEST) { name.fg(BEST) } else { name.dim() },
                " ".into(),
                color.map_or(value.clone(), |c| value.fg(c)),
            ]
        };
        let loss = |loss: f64| if loss.is_finite() { format!("{loss:.4}") } else { "–".into() };
        let report = self.report.as_ref();
        let train = item("training", "train", report.map(|r| loss(r.train_loss)), Some(TRAIN));
        let mut val = item("validation", "val", self.last.map(|v| loss(v.loss)), Some(VAL));
        let unit = if narrow { "b/c" } else { "bits/char" };
        val.extend(self.last.map(|v| Span::raw(format!(" ({:.3} {unit})", v.bits))));
        let mut best = item("★", "★", self.best.map(|v| loss(v.loss)), Some(BEST));
        best.extend(self.best.filter(|v| v.step > 0).map(|v| Span::raw(format!(" at step {}", thousands(v.step)))));
        let mut items = vec![train, val, best];
        if let Some(r) = report {
            items.push(item("learning rate", "lr", Some(format!("{:.2e}", r.lr)), None));
            items.push(item("gradient norm", "norm", Some(format!("{:.2}", r.grad_norm)), None));
            items.push(item("tokens/s", "tok/s", Some(thousands(r.tokens_per_s.max(0.0) as u64)), None));
            items.push(item("passes", "passes", Some(format!("{:.2}", r.epoch)), None));
        }
        let gap = if narrow { "  " } else { "   " };
        let (mut lines, mut line, mut used) = (Vec::new(), Vec::new(), 0);
        for item in items {
            let wide: usize = item.iter().map(Span::width).sum();
            if used > 0 && used + gap.len() + wide > usize::from(columns) {
                lines.push(Line::from(std::mem::take(&mut line)));
                used = 0;
            }
            if used > 0 {
                line.push(gap.into());
                used += gap.len();
            }
            line.extend(item);
            used += wide;
        }
        lines.push(Line::from(line));
        lines
    }

    fn has_curve(&self) -> bool {
        !(self.train.points.is_empty() && self.val.points.is_empty())
    }

    fn curve(&self, area: Rect, buffer: &mut Buffer) {
        let [legend, curve] = Layout::vertical([Constraint::Length(1), Constraint::Fill(1)]).areas(area);
        if curve.height < 4 || !self.has_curve() {
            return;
        }
        let words = match area.width {
            NARROW.. => ["⠒⠂ training", "•─ validation", "★ best validation"],
            44.. => ["⠒⠂ training", "•─ validation", "★ best"],
            _ => ["⠒⠂ train", "•─ val", "★ best"],
        };
        let [train, val, best] = words.map(Span::raw);
        let spans = [Span::raw("loss  ").dim(), train.fg(TRAIN), "  ".into(), val.fg(VAL), "  ".into(), best.fg(BEST)];
        Line::from_iter(spans).render(legend, buffer);
        chart::draw(self, curve, buffer);
    }

    fn newest_sample(&self, area: Rect, buffer: &mut Buffer) {
        let (Some((step, text)), false) = (&self.sample, area.is_empty()) else { return };
        let mut rows = area.rows();
        if let Some(row) = rows.next() {
            Line::raw(format!("it writes, at step {}", thousands(*step))).dim().render(row, buffer);
        }
        let text = if text.trim().is_empty() { "(nothing)" } else { text.trim() };
        let lines = wrap(text, usize::from(area.width));
        for (row, line) in rows.zip(lines.iter().filter(|l| !l.trim().is_empty())) {
            Line::raw(line.clone()).render(row, buffer);
        }
    }

    /// What stays below the last picture.
    pub(crate) fn summary(&self) -> Vec<String> {
        let Some(end) = &self.end else { return Vec::new() };
        let mut lines = vec![format!(
            "{}: {} steps, {} tokens in {}",
            match end.reason.as_str() {
                "patience" => "Stopped, no longer improving",
                "interrupted" => "Interrupted",
                _ => "Finished",
            },
            thousands(end.steps),
            short(end.tokens as f64),
            duration(end.elapsed)
        )];
        if let Some(best) = self.best {
            lines.push(format!("Best validation {:.4}, {:.4} bits per character", best.loss, best.bits));
        }
        if end.reason != "interrupted" {
            lines.push(format!("Write with it: penwright generate {}", shell_word(&end.run)));
        }
        lines
    }
}

/// A path as it is typed into a shell.
fn shell_word(path: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "/._-+:\\".contains(c);
    if path.chars().all(plain) && !path.starts_with('-') {
        path.into()
    } else {
        format!("'{}'", path.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::super::view::tests::{done, eval, plan, step};
    use super::*;
    use penwright::train::Event;

    /// The picture as lines of text.
    fn picture(view: &mut View, columns: u16, rows: u16, clock: f64) -> Vec<String> {
        let height = view.height(columns, rows);
        let mut terminal = Terminal::new(TestBackend::new(columns, height)).unwrap();
        terminal.draw(|frame| view.draw(clock, frame.area(), frame.buffer_mut())).unwrap();
        let buffer = terminal.backend().buffer();
        let line = |row: u16| (0..columns).map(|column| buffer[(column, row)].symbol()).collect::<String>();
        (0..height).map(line).collect()
    }

    fn halfway() -> View {
        let mut view = View::new("runs/tiny", None, Default::default());
        view.on_event(&plan(Some(1000), 0), 0.0);
        for n in 1..=50u64 {
            let seconds = n as f64;
            view.on_event(&step(10 * n, seconds, 2.0 + 2.0 / n as f64), seconds);
            if n % 10 == 0 {
                view.on_event(&eval(10 * n, seconds, if n == 40 { 2.125 } else { 2.25 }), seconds);
            }
        }
        view.on_event(&Event::Sample { step: 500, text: "The door\n\nopened\u{1b}[2J slowly.".into() }, 50.0);
        view
    }

    fn expect(lines: &[String], parts: &[&str]) {
        let all = lines.join("\n");
        parts.iter().for_each(|part| assert!(all.contains(part), "no {part:?} in\n{all}"));
    }

    #[test]
    fn wide_terminals_show_everything() {
        let lines = picture(&mut halfway(), 100, 30, 50.0);
        assert_eq!(lines.len(), 15);
        let first = ["runs/tiny", "gpt2 · 824 K parameters · 1.00 M tokens · 112 K held out · 36.0 MiB"];
        expect(&lines[..1], &first);
        expect(&lines[1..2], &["50 % ━", "─", "step 500 / 1,000", "0:50 · 0:50 left"]);
        expect(&lines, &["training 2.0400", "validation 2.2500 (3.246 bits/char)", "★ 2.1250 at step 400"]);
        expect(&lines, &["learning rate 1.00e-3", "gradient norm 0.50", "tokens/s 81,240", "500 steps"]);
        expect(&lines, &["it writes, at step 500", "The door", "opened\u{fffd}[2J slowly."]);
        assert!(lines.iter().any(|l| l.chars().any(|c| ('\u{2801}'..='\u{28ff}').contains(&c))), "no curve");
    }

    #[test]
    fn narrow_and_low_terminals_keep_what_matters() {
        let lines = picture(&mut halfway(), 79, 24, 50.0);
        expect(&lines, &["50 %", "500 / 1,000", "★ 2.1250 at step 400", "gradient norm", "The door", "500 steps"]);
        let lines = picture(&mut halfway(), 39, 24, 50.0);
        expect(&lines, &["50 %", "0:50 left", "train 2.0400", "★ 2.1250", "tok/s 81,240", "★ best", "The door"]);
        let low = picture(&mut halfway(), 79, 11, 50.0);
        expect(&low, &["50 %", "★ best", "500 steps"]);
        assert!(!low.join("").contains("The door"), "a low terminal keeps the curve rather than the sample");
    }

    #[test]
    fn no_size_and_no_number_panics() {
        let nan =
            |n: u64| [step(n, f64::NAN, f64::NAN), eval(n, f64::INFINITY, f64::NAN), step(n + 1, 1.0, f64::INFINITY)];
        let mut broken = View::new("", Some(0.0), Default::default());
        broken.on_event(&plan(None, 0), f64::NAN);
        nan(0).iter().chain(&nan(u64::MAX - 1)).for_each(|event| broken.on_event(event, 1.0));
        let mut empty = View::new("empty", None, Default::default());
        let mut begun = View::new("begun", None, Default::default());
        begun.on_event(&plan(Some(0), 0), 0.0);
        for columns in [0, 1, 2, 5, 16, 20, 39, 64, 90, 300] {
            for rows in [0, 1, 2, 3, 5, 8, 13, 60] {
                for view in [&mut halfway(), &mut broken, &mut empty, &mut begun] {
                    if columns > 0 && view.height(columns, rows) > 0 {
                        let lines = picture(view, columns, rows, 60.0).join("");
                        assert!(!lines.contains("NaN") && !lines.contains("inf"), "{lines}");
                    }
                    let area = Rect::new(0, 0, columns, rows);
                    view.draw(-1.0, area, &mut Buffer::empty(area));
                }
            }
        }
    }

    #[test]
    fn the_end_is_told() {
        let mut view = halfway();
        view.on_event(&done(1000, 99.0), 99.0);
        expect(&picture(&mut view, 100, 30, 500.0), &["100 %", "step 1,000 / 1,000", "in 1:39", "done"]);
        expect(
            &view.summary(),
            &["Finished: 1,000 steps, 768 K tokens in 1 min 39 s", "2.1250", "penwright generate runs/latest"],
        );
        assert_eq!(shell_word("runs/my book's"), r"'runs/my book'\''s'");
    }
}
