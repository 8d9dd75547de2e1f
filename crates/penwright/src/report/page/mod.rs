//! The report as one web page that needs nothing else: styles and charts are inside it, and there is no script.

mod chosen;
mod course;
mod explained;
mod samples;

use maud::{Markup, html};

use super::Report;
use crate::page::Page;
use crate::page::format::{count, duration, short_names, significant};

const STYLE: &str = include_str!("../assets/report.css");

/// The page: verdict and next steps, curves, samples, what was chosen and why, the rules, every measure explained.
pub fn html(report: &Report) -> String {
    let name = short_names(&[&report.run]).remove(0);
    let title = format!("Report of {name}");
    let main = html! {
        (next(report))
        (course::curves(report))
        (samples::section(report))
        (chosen::section(report))
        (explained::rules(report))
        (explained::measures())
    };
    Page { title: &title, style: STYLE, header: header(report, &title), main, script: None }.html()
}

fn header(report: &Report, title: &str) -> Markup {
    html! {
        header {
            p.brand { span { "Penwright" } " " (title) }
            h1 { (report.headline) }
            p.lede { (report.explanation.join(" ")) }
            dl.tiles {
                @for (label, value, more) in tiles(report) {
                    div { dt { (label) } dd { strong { (value) } span { (more) } } }
                }
            }
        }
    }
}

/// The figures that one wants first: label, value, and what stands behind it.
fn tiles(report: &Report) -> Vec<(&'static str, String, String)> {
    let (record, counted) = (&report.record, report.record.plan.model == "ngram");
    let mut tiles = Vec::new();
    if let Some(best) = record.best() {
        let when = match counted {
            true => format!("perplexity {} a token", significant(best.loss.exp())),
            false => format!("loss {:.4}, after {}", best.loss, duration(best.seconds)),
        };
        tiles.push(("Bits a character, at best", format!("{:.3}", best.bits_per_char), when));
    }
    let (steps, tokens, seconds) = record.done;
    let of =
        record.plan.steps.filter(|planned| *planned > steps).map_or(String::new(), |n| format!(" of {}", count(n)));
    let steps = if counted { "counted in one pass".into() } else { format!("{}{of} steps", count(steps)) };
    tiles.push(("Trained for", duration(seconds), steps));
    let read = match record.epochs() {
        once if counted || (once - 1.0).abs() < 0.05 => "once".into(),
        e if e < 9.95 => format!("{e:.1} times"),
        e => format!("{} times", count(e.round() as u64)),
    };
    tiles.push(("Text was read", read, format!("{} tokens", count(tokens))));
    let per_token = match (counted, report.verdict.params_per_token) {
        (true, _) => "counts and their contexts".into(),
        (false, ratio) => format!("{} for each token of the text", significant(ratio)),
    };
    tiles.push(("Parameters", count(record.plan.params), per_token));
    tiles
}

fn next(report: &Report) -> Markup {
    if report.next.is_empty() {
        return html! {};
    }
    html! {
        section.next id="next" aria-labelledby="next-heading" {
            h2 id="next-heading" { "What to do next" }
            ol.steps {
                @for step in &report.next {
                    li {
                        p { (step.text) }
                        @if let Some(command) = &step.command { pre tabindex="0" { code { (command) } } }
                    }
                }
            }
        }
    }
}
