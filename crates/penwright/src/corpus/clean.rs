//! Cleaning a decoded text: line ends, control characters, NFC, Gutenberg's notices, hard-wrapped lines.

use serde::Serialize;
use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick};

use super::find::Format;
use super::{ReadOptions, WordFormat, gutenberg, wrapping};

/// What cleaning did to one or more documents.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Cleaned {
    /// Documents from which Project Gutenberg's header or footer was removed.
    pub notices: u64,
    /// Line ends inside hard-wrapped paragraphs that became spaces.
    pub joined_lines: u64,
    /// Control characters and byte order marks removed.
    pub control_characters: u64,
    /// Undecodable places, now U+FFFD.
    pub damaged: u64,
}

impl Cleaned {
    pub(super) fn add(&mut self, other: &Cleaned) {
        self.notices += other.notices;
        self.joined_lines += other.joined_lines;
        self.control_characters += other.control_characters;
        self.damaged += other.damaged;
    }
}

/// Cleans one document. Text that is clean already comes back as it is.
pub(super) fn clean(text: String, format: Format, options: &ReadOptions) -> (String, Cleaned) {
    let mut cleaned = Cleaned::default();
    let mut text = normalize(text, format, &mut cleaned.control_characters);
    if options.word_format == WordFormat::Ptb {
        return (one_space_before_words(&text), cleaned);
    }
    if let Some(book) = gutenberg::strip(&text) {
        text = book;
        cleaned.notices = 1;
    }
    // The paragraphs of HTML and EPUB are known; a break within one was meant.
    if !options.keep_wrapping && !matches!(format, Format::Html | Format::Epub) {
        let (joined, count) = wrapping::join(&text);
        if count > 0 {
            text = joined;
            cleaned.joined_lines = count;
        }
    }
    (text, cleaned)
}

/// Each line as its words with one space before each, its end included; the last line has one too.
fn one_space_before_words(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + text.len() / 64);
    for line in text.lines() {
        for word in line.split_whitespace() {
            out.push(' ');
            out.push_str(word);
        }
        out.push('\n');
    }
    out
}

/// Line ends `\n`, no control characters but tabs, no marks of byte order; NFC. Of HTML and EPUB also no soft hyphens:
/// they are instructions for setting lines, not text.
fn normalize(text: String, format: Format, removed: &mut u64) -> String {
    let soft = matches!(format, Format::Html | Format::Epub);
    let odd = |c: char| (c.is_control() && c != '\n' && c != '\t') || matches!(c, '\u{feff}' | '\u{2028}' | '\u{2029}');
    let text = if text.contains(|c| odd(c) || (soft && c == '\u{ad}')) {
        let mut kept = String::with_capacity(text.len());
        let mut chars = text.chars().peekable();
        while let Some(c) = chars.next() {
            match c {
                '\r' => {
                    chars.next_if_eq(&'\n');
                    kept.push('\n');
                }
                '\x0b' | '\x0c' | '\u{85}' | '\u{2028}' => kept.push('\n'),
                '\u{2029}' => kept.push_str("\n\n"),
                '\u{ad}' if soft => {}
                c if odd(c) => *removed += 1,
                c => kept.push(c),
            }
        }
        kept
    } else {
        text
    };
    match is_nfc_quick(text.chars()) {
        IsNormalized::Yes => text,
        _ => text.nfc().collect(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn line_ends_marks_controls_and_nfc() {
        let mut removed = 0;
        let text = "\u{feff}e\u{301}t\r\na\rb\x0cc\u{2029}d\x07\x1b \u{ad}\t";
        assert_eq!(normalize(text.into(), Format::Text, &mut removed), "ét\na\nb\nc\n\nd \u{ad}\t");
        assert_eq!(removed, 3);
        assert_eq!(normalize("hy\u{ad}phen".into(), Format::Html, &mut removed), "hyphen");
    }

    #[test]
    fn words_look_the_same_wherever_they_stand() {
        let options = ReadOptions { word_format: WordFormat::Ptb, ..ReadOptions::default() };
        let text = "no it was n't\n\n = <unk> =\t N  <unk> \r\nthe end";
        let (text, _) = clean(text.into(), Format::Text, &options);
        assert_eq!(text, " no it was n't\n\n = <unk> = N <unk>\n the end\n");
    }

    proptest! {
        #[test]
        fn what_is_clean_stays(text in "\\PC{0,40}(\r\n|\n|\\PC){0,40}") {
            let mut removed = 0;
            let once = normalize(text, Format::Text, &mut removed);
            removed = 0;
            prop_assert_eq!(&normalize(once.clone(), Format::Text, &mut removed), &once);
            prop_assert!(removed == 0 && !once.contains('\r'));
        }
    }
}
