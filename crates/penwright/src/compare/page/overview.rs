//! The head of the page and the table.

use maud::{Markup, html};

use super::key;
use crate::compare::{Comparison, Entry};
use crate::page::format::{count, duration, percent, si, significant};
use crate::page::{cell, section};

pub(super) fn header(comparison: &Comparison, names: &[String], title: &str) -> Markup {
    html! {
        header {
            p.brand { span { "Penwright" } " " (title) }
            h1 { (comparison.headline()) }
            p.lede { (comparison.verdict()) }
            dl.tiles {
                (tile(comparison, names, "Predicts best", &|m| Some(m.bits_per_char), &|x| format!("{x:.2} bits a character")))
                (tile(comparison, names, "Quickest to train", &|m| m.train_seconds, &duration))
                (tile(comparison, names, "Writes fastest", &|m| m.decode_chars_per_s.map(|r| -r), &|x| {
                    format!("{} characters a second", count((-x).round() as u64))
                }))
                (tile(comparison, names, "Smallest", &|m| Some(m.size_bytes as f64), &|x| crate::error::bytes(x as u64)))
            }
        }
    }
}

/// The model with the least value, and the value.
fn tile(
    comparison: &Comparison,
    names: &[String],
    label: &str,
    value: &dyn Fn(&Entry) -> Option<f64>,
    show: &dyn Fn(f64) -> String,
) -> Markup {
    let values = comparison.models.iter().zip(names).enumerate();
    let known = values.filter_map(|(style, (m, name))| Some((style, name, value(m).filter(|v| v.is_finite())?)));
    let least = known.min_by(|a, b| a.2.total_cmp(&b.2));
    html! {
        @if let Some((style, name, value)) = least {
            div {
                dt { (label) }
                dd { strong { (key(style)) (name) } span { (show(value)) } }
            }
        }
    }
}

/// A row of the table: its name, whether less or more of it is better, and how it reads.
struct Row<'a> {
    name: &'a str,
    hint: &'a str,
    /// −1 less is better, 1 more is better, 0 neither.
    better: i8,
    value: &'a dyn Fn(&Entry) -> Option<f64>,
    show: &'a dyn Fn(f64) -> String,
    /// What the held-out text itself has.
    reference: Option<f64>,
}

pub(super) fn table(comparison: &Comparison, names: &[String]) -> Markup {
    let reference = &comparison.reference;
    let one_level = comparison.models.windows(2).all(|pair| pair[0].level == pair[1].level);
    let share = |x: f64| percent(x);
    let whole = |x: f64| count(x.round() as u64);
    let flops = |x: f64| si(x, "FLOP");
    let size = |x: f64| crate::error::bytes(x as u64);
    let row = |name, hint, better, value, show| Row { name, hint, better, value, show, reference: None };
    let groups: [(&str, Vec<Row<'_>>); 4] = [
        (
            "Predicting the text",
            vec![
                row("Bits per character", "less is better", -1, &|m| Some(m.bits_per_char), &|x| format!("{x:.3}")),
                row(
                    "Perplexity of a token",
                    if one_level { "less is better" } else { "tokens differ: not comparable" },
                    if one_level { -1 } else { 0 },
                    &|m| Some(m.perplexity),
                    &significant,
                ),
            ],
        ),
        (
            "Training",
            vec![
                row("Time", "less is better", -1, &|m| m.train_seconds, &duration),
                row("Computation", "less is better", -1, &|m| m.train_flops, &flops),
            ],
        ),
        (
            "Using it",
            vec![
                row("Characters a second", "more is better", 1, &|m| m.decode_chars_per_s, &whole),
                row("Tokens a second", "", 0, &|m| m.decode_tokens_per_s, &whole),
                row("Size on disk", "less is better", -1, &|m| Some(m.size_bytes as f64), &size),
                row("Parameters", "", 0, &|m| Some(m.params as f64), &whole),
            ],
        ),
        (
            "The sample",
            vec![
                Row {
                    reference: reference.distinct_2,
                    ..row("Distinct word pairs", "near the text's own is natural", 0, &|m| m.distinct_2, &share)
                },
                Row {
                    reference: reference.repetition,
                    ..row("Repeated four-word runs", "less is better", -1, &|m| m.repetition, &share)
                },
                Row {
                    reference: reference.longest_copy_chars.map(|n| n as f64),
                    ..row(
                        "Longest copied passage",
                        "characters",
                        0,
                        &|m| m.longest_copy_chars.map(|n| n as f64),
                        &whole,
                    )
                },
            ],
        ),
    ];
    let intro = "The best of each row is marked. The last column is the held-out text's own passage of the samples' length, to compare with.";
    section(
        "table",
        "Side by side",
        intro,
        html! {
            div.scroll tabindex="0" role="region" aria-label="Table of all measurements" {
                table.main {
                    thead {
                        tr {
                            td {}
                            @for (style, (name, model)) in names.iter().zip(&comparison.models).enumerate() {
                                th scope="col" { (key(style)) (name) small { (model.model) ", " (model.level) } }
                            }
                            th scope="col" { "The text" small { "itself" } }
                        }
                    }
                    @for (group, rows) in &groups {
                        tbody {
                            tr.group { th scope="rowgroup" colspan=(comparison.models.len() + 2) { (group) } }
                            @for row in rows { (table_row(comparison, row)) }
                        }
                    }
                }
            }
        },
    )
}

fn table_row(comparison: &Comparison, row: &Row<'_>) -> Markup {
    let values: Vec<Option<f64>> = comparison.models.iter().map(row.value).collect();
    let merit = |v: f64| v * f64::from(row.better);
    let best = values.iter().flatten().map(|v| merit(*v)).fold(f64::NEG_INFINITY, f64::max);
    let all_equal = values.iter().flatten().all(|v| merit(*v) == best);
    let is_best = |v: &Option<f64>| row.better != 0 && !all_equal && v.is_some_and(|v| merit(v) == best);
    html! {
        tr {
            th scope="row" { (row.name) @if !row.hint.is_empty() { small { (row.hint) } } }
            @for value in &values {
                td.best[is_best(value)] {
                    (cell(value.map(row.show)))
                    @if is_best(value) { span.hidden { " (best)" } }
                }
            }
            td.reference { @if row.reference.is_some() { (cell(row.reference.map(row.show))) } }
        }
    }
}
