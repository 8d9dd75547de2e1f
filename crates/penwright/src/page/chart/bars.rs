//! Bars.

use maud::{Markup, html};

use super::class;
use crate::page::table::fit;

/// A bar of a chart.
#[derive(Clone, Debug)]
pub struct Bar {
    /// What it shows.
    pub name: String,
    /// Which colour.
    pub style: usize,
    /// Its length, from zero; `None` where it is not known.
    pub value: Option<f64>,
    /// The value for people.
    pub text: String,
}

/// Horizontal bars, each with its name and value above it.
#[derive(Clone, Debug)]
pub struct BarChart {
    /// What it shows, in a few words.
    pub title: String,
    /// How to read it, such as "less is better".
    pub note: String,
    /// From top to bottom.
    pub bars: Vec<Bar>,
}

impl BarChart {
    /// The figure.
    pub fn figure(&self) -> Markup {
        const WIDTH: f64 = 260.0;
        const ROW: f64 = 40.0;
        let longest = self.bars.iter().filter_map(|bar| bar.value).fold(0.0, f64::max);
        let length = |value: f64| if longest > 0.0 { (value / longest * WIDTH).max(1.5) } else { 1.5 };
        let parts: Vec<String> = self.bars.iter().map(|bar| format!("{}: {}", bar.name, bar.text)).collect();
        let summary = format!("{} ({}). {}.", self.title, self.note, parts.join("; "));
        html! {
            figure.bars {
                figcaption { (self.title) " " span.note { (self.note) } }
                svg.chart viewBox={ "0 0 " (WIDTH) " " (ROW * self.bars.len() as f64) } role="img" aria-label=(summary) {
                    @for (i, bar) in self.bars.iter().enumerate() {
                        @let top = ROW * i as f64;
                        g class=(class(bar.style)) {
                            text.key x="0" y=(top + 14.0) { (fit(&bar.name, 24)) }
                            text.value x=(WIDTH) y=(top + 14.0) text-anchor="end" { (bar.text) }
                            rect.track x="0" y=(top + 21.0) width=(WIDTH) height="9" rx="2" {}
                            @if let Some(value) = bar.value {
                                rect.bar x="0" y=(top + 21.0) width=(format!("{:.1}", length(value))) height="9" rx="2" {}
                            }
                        }
                    }
                }
            }
        }
    }
}
