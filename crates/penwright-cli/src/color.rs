//! Colours in what is printed: when, and which.

use std::io::IsTerminal;

use clap::ValueEnum;
use ratatui::crossterm::style::{Attribute, Color, ContentStyle, StyledContent, force_color_output};

/// When to use colours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum ColorChoice {
    // Comments, not documentation: that would make the help of every command longer.
    #[default]
    Auto,
    Always,
    Never,
}

impl ColorChoice {
    /// Whether what goes to `stream` has colours.
    pub(crate) fn on(self, stream: &impl IsTerminal) -> bool {
        match self {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto => stream.is_terminal() && !no_color() && !dumb(),
        }
    }

    /// The brush for what goes to `stream`.
    pub(crate) fn brush(self, stream: &impl IsTerminal) -> Brush {
        let on = self.on(stream);
        if on {
            force_color_output(true); // the decision is made here, not in the library below
        }
        Brush { on }
    }

    /// The choice on the command line, before it is parsed: messages about a wrong command line obey it too.
    pub(crate) fn for_clap(args: impl Iterator<Item = std::ffi::OsString>) -> clap::ColorChoice {
        let args: Vec<_> = args.filter_map(|a| a.into_string().ok()).take_while(|a| a != "--").collect();
        let after = args.windows(2).filter(|w| w[0] == "--color").map(|w| w[1].as_str());
        match after.chain(args.iter().filter_map(|a| a.strip_prefix("--color="))).last() {
            Some("always") => clap::ColorChoice::Always,
            Some("never") => clap::ColorChoice::Never,
            _ => clap::ColorChoice::Auto,
        }
    }
}

/// Whether the person asked all programs for no colours (<https://no-color.org>).
pub(crate) fn no_color() -> bool {
    std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
}

/// Whether the terminal can do no more than a typewriter.
pub(crate) fn dumb() -> bool {
    std::env::var_os("TERM").is_some_and(|term| term == "dumb")
}

/// Paints words, or leaves them as they are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Brush {
    on: bool,
}

impl Brush {
    pub(crate) fn bold(self, text: impl ToString) -> String {
        self.paint(text, None, Some(Attribute::Bold))
    }

    pub(crate) fn dim(self, text: impl ToString) -> String {
        self.paint(text, None, Some(Attribute::Dim))
    }

    pub(crate) fn color(self, text: impl ToString, color: Color) -> String {
        self.paint(text, Some(color), None)
    }

    fn paint(self, text: impl ToString, color: Option<Color>, attribute: Option<Attribute>) -> String {
        let text = text.to_string();
        if !self.on || text.is_empty() {
            return text;
        }
        let mut style = ContentStyle { foreground_color: color, ..ContentStyle::default() };
        if let Some(attribute) = attribute {
            style.attributes.set(attribute);
        }
        StyledContent::new(style, text).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn obeys_the_flag() {
        let file = tempfile::tempfile().unwrap();
        assert!(ColorChoice::Always.brush(&file).bold("a").contains('\u{1b}'));
        assert!(ColorChoice::Always.brush(&file).color("a", Color::Green).contains("\u{1b}[38;5;10m"));
        for choice in [ColorChoice::Never, ColorChoice::Auto] {
            assert_eq!(choice.brush(&file).bold("a"), "a");
        }
    }

    #[test]
    fn is_found_before_parsing() {
        let of = |line: &str| ColorChoice::for_clap(line.split(' ').map(Into::into));
        assert_eq!(of("penwright eval --color never"), clap::ColorChoice::Never);
        assert_eq!(of("penwright --color=always eval"), clap::ColorChoice::Always);
        assert_eq!(of("penwright tokenize -- --color never"), clap::ColorChoice::Auto);
    }
}
