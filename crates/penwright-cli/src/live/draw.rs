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
        let numbers = self.numbers(columns).len() as u16;
        let rest = match columns {
            WIDE.. => 11,
            NARROW.. => 9 + 4,
            _ => 7 + 3,
        };
        let curve = if columns < 20 { 0 } else { rest };
        (2 + numbers + curve).min(rows)
    }

    fn draw(&mut self, clock: f64, area: Rect, buffer: &mut Buffer) {
        let numbers = self.numbers(area.width);
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
        let (curve, sample) = match (area.width >= WIDE, self.sample.is_some()) {
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
        let mut spans = vec![Span::raw(self.title.clone()).bold()];
        let Some(plan) = &self.plan else { return Line::from(spans) };
        let details = [
            plan.model.clone(),
            format!("{} parameters", short(plan.params as f64)),
            format!("{} tokens", short(plan.train_tokens as f64)),
            format!("{} held out", short(plan.val_tokens as f64)),
            format!("{} of memory", penwright::error::bytes(plan.memory_bytes)),
        ];
        let mut used = width(&self.title);
        for (i, detail) in details.into_iter().enumerate() {
            let detail = format!("{}{detail}", if i == 0 { "  " } else { " · " });
            used += width(&detail);
            if used > usize::from(columns) {
                break;
            }
            spans.push(Span::raw(detail).dim());
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
        let color = match (&self.end, self.stopping) {
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
        let mut items: Vec<Vec<Span<'static>>> = Vec::new();
        let named = |name: &str, value: String, color: Option<Color>| {
            let value = Span::raw(value).bold();
            vec![Span::raw(format!("{name} ")).dim(), color.map_or(value.clone(), |c| value.fg(c))]
        };
        let bits = |bits: f64| Span::raw(format!(" ({bits:.3} bits/char)"));
        let report = self.report.as_ref();
        items.push(named("training loss", report.map_or("–".into(), |r| format!("{:.4}", r.train_loss)), Some(TRAIN)));
        let mut validation = named("validation", self.last.map_or("–".into(), |v| format!("{:.4}", v.loss)), Some(VAL));
        validation.extend(self.last.map(|v| bits(v.bits)));
        items.push(validation);
        let mut best = named("★ best", self.best.map_or("–".into(), |v| format!("{:.4}", v.loss)), Some(BEST));
        best.extend(self.best.filter(|v| v.step > 0).map(|v| Span::raw(format!(" at step {}", thousands(v.step)))));
        items.push(best);
        if let Some(r) = report {
            items.push(named("learning rate", format!("{:.2e}", r.lr), None));
            items.push(named("gradient norm", format!("{:.2}", r.grad_norm), None));
            items.push(named("tokens/s", thousands(r.tokens_per_s.max(0.0) as u64), None));
            items.push(named("passes", format!("{:.2}", r.epoch), None));
        }
        let (mut lines, mut line, mut used) = (Vec::new(), Vec::new(), 0);
        for item in items {
            let wide: usize = item.iter().map(Span::width).sum();
            if used > 0 && used + 3 + wide > usize::from(columns) {
                lines.push(Line::from(std::mem::take(&mut line)));
                used = 0;
            }
            if used > 0 {
                line.push(Span::raw("   "));
                used += 3;
            }
            line.extend(item);
            used += wide;
        }
        lines.push(Line::from(line));
        lines
    }

    fn curve(&self, area: Rect, buffer: &mut Buffer) {
        let [legend, curve] = Layout::vertical([Constraint::Length(1), Constraint::Fill(1)]).areas(area);
        if curve.height < 4 {
            return;
        }
        let mut spans = vec![Span::raw("loss  ").dim(), Span::raw("⠒⠂ training").fg(TRAIN), Span::raw("  ")];
        spans.extend([Span::raw("•─ validation").fg(VAL), Span::raw("  "), Span::raw("★ best").fg(BEST)]);
        spans.push(Span::raw("  over steps").dim());
        Line::from(spans).render(legend, buffer);
        chart::draw(self, curve, buffer);
    }

    fn newest_sample(&self, area: Rect, buffer: &mut Buffer) {
        let (Some((step, text)), false) = (&self.sample, area.is_empty()) else { return };
        let mut rows = area.rows();
        if let Some(row) = rows.next() {
            Line::raw(format!("it writes, at step {}", thousands(*step))).dim().render(row, buffer);
        }
        let lines = wrap(text.trim(), usize::from(area.width));
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
            lines.push(format!("Best validation {:.4} ({:.3} bits per character)", best.loss, best.bits));
        }
        lines.push(format!("The run is in {}", end.run));
        lines
    }
}
