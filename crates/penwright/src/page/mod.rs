//! What the pages that people open in a browser share: the frame, the style, charts, tables and numbers in words.
//!
//! A page is one file that needs nothing else: styles, charts and scripts are inside it.

pub mod chart;
pub(crate) mod format;
pub mod table;

use maud::{DOCTYPE, Markup, PreEscaped, html};

const STYLE: &str = include_str!("assets/page.css");

/// A page: its title, what it adds to the style, its head and its sections, and a script where it has one.
pub(crate) struct Page<'a> {
    /// What it is called.
    pub(crate) title: &'a str,
    /// Rules after those that all pages share.
    pub(crate) style: &'a str,
    /// The part above the sections.
    pub(crate) header: Markup,
    /// The sections.
    pub(crate) main: Markup,
    /// What makes it easier to use; it can be read without.
    pub(crate) script: Option<&'a str>,
}

impl Page<'_> {
    /// The page as HTML.
    pub(crate) fn html(&self) -> String {
        let page = html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    meta name="color-scheme" content="light dark";
                    meta name="generator" content=(concat!("penwright ", env!("CARGO_PKG_VERSION")));
                    title { (self.title) }
                    style { (PreEscaped(chart::STYLE)) (PreEscaped(STYLE)) (PreEscaped(self.style)) }
                }
                body {
                    a.skip href="#main" { "Skip to the results" }
                    (self.header)
                    main id="main" { (self.main) }
                    footer {
                        p {
                            "Made by Penwright " (env!("CARGO_PKG_VERSION"))
                            ". This page stands alone: it loads nothing from anywhere."
                        }
                    }
                    @if let Some(script) = self.script { script { (PreEscaped(script)) } }
                }
            }
        };
        page.into_string()
    }
}

/// A section with a heading and a line that says what to see in it.
pub(crate) fn section(id: &str, heading: &str, intro: &str, content: Markup) -> Markup {
    html! {
        section id=(id) aria-labelledby={ (id) "-heading" } {
            h2 id={ (id) "-heading" } { (heading) }
            p.intro { (intro) }
            (content)
        }
    }
}

/// What the measures of a page mean, for those who meet them for the first time: terms and definitions.
pub(crate) fn glossary(entries: Markup) -> Markup {
    let intro = "For readers who meet them for the first time.";
    section("measures", "What the measures mean", intro, html! { dl.glossary { (entries) } })
}

/// A value, or a dash that is read as words.
pub(crate) fn cell(value: Option<String>) -> Markup {
    match value {
        Some(text) => html! { (text) },
        None => html! { span title="not known" { (format::NONE) } span.hidden { "not known" } },
    }
}
