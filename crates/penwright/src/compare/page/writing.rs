//! Samples side by side, and the text coloured by surprise.

use maud::{Markup, html};

use super::key;
use crate::compare::{Comparison, Entry};
use crate::page::format::{characters, percent};
use crate::page::{cell, section};

/// Bits per character at which a word's colour becomes the next stronger one.
const STEPS: [f64; 5] = [1.0, 2.0, 3.0, 4.5, 6.5];

pub(super) fn samples(comparison: &Comparison, names: &[String]) -> Markup {
    let any_copy = comparison.models.iter().any(|m| m.copied.as_ref().is_some_and(|c| !c.is_empty()));
    let marked =
        if any_copy { " The longest passage that stands word for word in the training text is marked." } else { "" };
    let intro = format!(
        "Each model goes on from the same beginning, with the same seed and temperature {}.{marked}",
        comparison.options.temperature
    );
    section(
        "samples",
        "What they write",
        &intro,
        html! {
            div.cards {
                @for (style, (model, name)) in comparison.models.iter().zip(names).enumerate() {
                    article {
                        h3 { (key(style)) (name) }
                        p.prose lang="" { b.prompt { (comparison.prompt) } (sample(model)) }
                        dl.facts {
                            div { dt { "Distinct word pairs" } dd { (cell(model.distinct_2.map(percent))) } }
                            div { dt { "Repeated four-word runs" } dd { (cell(model.repetition.map(percent))) } }
                            div {
                                dt { "Longest copied passage" }
                                dd { (cell(model.longest_copy_chars.map(characters))) }
                            }
                        }
                    }
                }
            }
        },
    )
}

fn sample(model: &Entry) -> Markup {
    let parts = model.copied.clone().filter(|c| !c.is_empty()).and_then(|copied| {
        let (before, after) = (model.sample.get(..copied.start)?, model.sample.get(copied.end..)?);
        Some((before, model.sample.get(copied)?, after))
    });
    html! {
        @match parts {
            _ if model.sample.is_empty() => { i { " (it ended the text at once)" } }
            Some((before, copied, after)) => {
                (before)
                mark title={ "also in the training text: " (characters(copied.chars().count())) } { (copied) }
                (after)
            }
            None => { (model.sample) }
        }
    }
}

pub(super) fn surprise(comparison: &Comparison, names: &[String]) -> Markup {
    if comparison.passage.is_empty() {
        return html! {};
    }
    let intro = "A passage of the held-out text. The stronger a word's colour, the less the model expected it there, having \
                 read the text up to it. Point at a word, tap it, or move with the arrow keys, to read its bits under every model.";
    section(
        "surprise",
        "What surprises them",
        intro,
        html! {
            (legend())
            p.readout id="readout" role="status" { "Choose a word." }
            div.cards id="passages" {
                @for (style, (model, name)) in comparison.models.iter().zip(names).enumerate() {
                    article {
                        h3 { (key(style)) (name) small { (average(comparison, model)) } }
                        p.prose.heat tabindex="0" role="group" data-name=(name) aria-label={ "The passage as " (name) " sees it; arrow keys move from word to word" } {
                            @for (word, bits) in comparison.passage.iter().zip(&model.surprise) { (coloured(word, *bits)) }
                        }
                        p.note { "Most surprising: " (hardest(comparison, model)) "." }
                    }
                }
            }
        },
    )
}

/// A word with the white space before it; the colour stands for its bits per character, the title tells both.
fn coloured(word: &str, bits: f64) -> Markup {
    let text = word.trim_start();
    let each = bits / word.chars().count().max(1) as f64;
    let step = STEPS.iter().filter(|limit| each >= **limit).count();
    html! {
        (word.strip_suffix(text).unwrap_or(""))
        span class={ "w" (step) } title=(format!("{bits:.1} bits ({each:.1} a character)")) { (text) }
    }
}

fn legend() -> Markup {
    let text = |i: usize| match i {
        0 => format!("below {}", STEPS[0]),
        5 => format!("{} and more", STEPS[4]),
        _ => format!("{} to {}", STEPS[i - 1], STEPS[i]),
    };
    html! {
        div.scale {
            span id="scale-name" { "Bits per character of the word:" }
            ul aria-labelledby="scale-name" { @for i in 0..=STEPS.len() { li class={ "w" (i) } { (text(i)) } } }
        }
    }
}

fn average(comparison: &Comparison, model: &Entry) -> String {
    let chars: usize = comparison.passage.iter().map(|word| word.chars().count()).sum();
    let bits: f64 = model.surprise.iter().sum();
    format!("{:.2} bits a character here", bits / chars.max(1) as f64)
}

/// The most surprising words with their bits: what the colours show, in words.
fn hardest(comparison: &Comparison, model: &Entry) -> String {
    let mut words: Vec<(&str, f64)> =
        comparison.passage.iter().map(|word| word.trim()).zip(model.surprise.iter().copied()).collect();
    words.sort_by(|a, b| b.1.total_cmp(&a.1));
    let mut seen = std::collections::BTreeSet::new();
    words.retain(|(word, _)| word.chars().any(char::is_alphanumeric) && seen.insert(*word));
    words.iter().take(5).map(|(word, bits)| format!("“{word}” {bits:.0}")).collect::<Vec<_>>().join(", ")
}
