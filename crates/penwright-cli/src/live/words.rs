//! Numbers, times and long lines as people read them.

use penwright::error::grouped;
use ratatui::text::{Line, Span};
use unicode_segmentation::UnicodeSegmentation;

/// Columns that a text takes.
pub(crate) fn width(text: &str) -> usize {
    Span::raw(text).width()
}

/// `1,003,854`.
pub(crate) fn thousands(count: u64) -> String {
    grouped(count, ',')
}

/// `824 K`, `1.25 M`: three digits and a unit.
pub(crate) fn short(count: f64) -> String {
    let mut value = count;
    for unit in ["", " K", " M", " G", " T"] {
        if value < 999.5 || unit == " T" {
            let decimals = if unit.is_empty() || value >= 99.95 {
                0
            } else if value >= 9.995 {
                1
            } else {
                2
            };
            return format!("{value:.decimals$}{unit}");
        }
        value /= 1000.0;
    }
    String::new()
}

/// `0:42`, `12:07`, `1:02:03`.
pub(crate) fn clock(seconds: f64) -> String {
    if !seconds.is_finite() {
        return "?".into();
    }
    let s = seconds.max(0.0).round() as u64;
    let (hours, minutes, s) = (s / 3600, s / 60 % 60, s % 60);
    if hours > 0 { format!("{hours}:{minutes:02}:{s:02}") } else { format!("{minutes}:{s:02}") }
}

/// A time in words: `0.4 s`, `42 s`, `2 min 07 s`, `1 h 02 min`.
pub(crate) fn duration(seconds: f64) -> String {
    let s = seconds.max(0.0).round() as u64;
    match s {
        _ if !seconds.is_finite() => "?".into(),
        0..10 => format!("{:.1} s", seconds.max(0.0)),
        10..60 => format!("{s} s"),
        60..3600 => format!("{} min {:02} s", s / 60, s % 60),
        _ => format!("{} h {:02} min", s / 3600, s / 60 % 60),
    }
}

/// A text that is safe to print: tabs as spaces, no other control characters.
pub(crate) fn printable(text: &str) -> String {
    text.chars()
        .flat_map(|c| {
            match c {
                '\t' => "    ".chars(),
                c if c.is_control() => "\u{fffd}".chars(),
                _ => "".chars(),
            }
            .chain(Some(c).filter(|c| !c.is_control()))
        })
        .collect()
}

/// Breaks a text into lines of at most `columns`, at spaces where it can; empty lines stay.
pub(crate) fn wrap(text: &str, columns: usize) -> Vec<String> {
    let mut lines = Vec::new();
    for line in text.lines().map(printable) {
        let (mut row, mut used) = (String::new(), 0);
        let mut add = |piece: &str, space: usize| {
            let wide = width(piece);
            if used > 0 && used + wide > columns + space {
                lines.push(std::mem::take(&mut row).trim_end().to_string());
                used = 0;
            }
            row.push_str(piece);
            used += wide;
        };
        for piece in line.split_inclusive(' ') {
            // The space at the end may stand outside: it is cut off.
            let space = usize::from(piece.ends_with(' '));
            match width(piece) <= columns + space {
                true => add(piece, space),
                false => piece.graphemes(true).for_each(|grapheme| add(grapheme, usize::from(grapheme == " "))),
            }
        }
        lines.push(row.trim_end().to_string());
    }
    lines
}

/// Breaks a line into lines of at most `columns`; all but the first are indented as the first is.
pub(super) fn wrapped(line: Line<'static>, columns: u16) -> Vec<Line<'static>> {
    let columns = usize::from(columns);
    if line.width() <= columns || columns < 16 {
        return vec![line];
    }
    let (style, text): (_, String) =
        (line.spans.first().map(|s| s.style), line.spans.iter().map(|s| &*s.content).collect());
    let content = text.trim_start_matches([' ', '|', '│']);
    let indent = text.get(..text.len() - content.len()).unwrap_or_default();
    let rows = wrap(content, columns.saturating_sub(width(indent)).max(8));
    rows.into_iter().map(|row| Line::styled(format!("{indent}{row}"), style.unwrap_or_default())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers_and_times() {
        assert_eq!([0, 999, 1000, 1_003_854].map(thousands), ["0", "999", "1,000", "1,003,854"]);
        assert_eq!([0.0, 999.0, 999.7, 28_600.0, 1_003_854.0].map(short), ["0", "999", "1.00 K", "28.6 K", "1.00 M"]);
        assert_eq!([0.4, 59.6, 3723.0, f64::NAN].map(clock), ["0:00", "1:00", "1:02:03", "?"]);
        assert_eq!([0.44, 42.0, 127.0, 3723.0].map(duration), ["0.4 s", "42 s", "2 min 07 s", "1 h 02 min"]);
    }

    #[test]
    fn lines_are_indented_as_they_begin() {
        let lines = wrapped(Line::raw("    │ one two three four"), 18);
        assert_eq!(lines.iter().map(ToString::to_string).collect::<Vec<_>>(), ["    │ one two", "    │ three four"]);
    }

    proptest! {
        #[test]
        fn wrapped_lines_fit_and_keep_their_words(text in "\\PC{0,60}", columns in 2usize..30) {
            let lines = wrap(&text, columns);
            // One grapheme may be wider than a very narrow terminal.
            let fits = |line: &String| width(line) <= columns || line.graphemes(true).count() == 1;
            prop_assert!(lines.iter().all(fits), "{:?}", lines);
            let letters = |text: &str| text.split_whitespace().collect::<String>();
            prop_assert_eq!(letters(&lines.concat()), letters(&printable(&text)));
        }
    }
}
