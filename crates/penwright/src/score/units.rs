//! Cutting a text into words, sentences and paragraphs, without a gap.

use std::ops::Range;

use unicode_segmentation::UnicodeSegmentation;

/// The parts of a text that are scored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// The model's own tokens.
    Token,
    /// Words and punctuation marks as Unicode defines them, each with the white space before it.
    Word,
    /// Sentences as Unicode defines them, each with the white space after it. A single line end inside a paragraph
    /// ends no sentence.
    Sentence,
    /// Passages between blank lines; lines, in a text without blank lines.
    Paragraph,
    /// The whole text.
    Text,
}

impl Unit {
    /// All, from the smallest to the largest.
    pub const ALL: [Unit; 5] = [Unit::Token, Unit::Word, Unit::Sentence, Unit::Paragraph, Unit::Text];
}

/// The byte ranges of a text's parts, in order, together the whole text. (Tokens are not known here: as
/// [`Unit::Text`].)
pub fn units(text: &str, unit: Unit) -> Vec<Range<usize>> {
    let mut parts = match unit {
        Unit::Word => words(text),
        Unit::Sentence => sentences(text),
        Unit::Paragraph => paragraphs(text),
        Unit::Token | Unit::Text => std::iter::once(0..text.len()).collect(),
    };
    parts.retain(|range| !range.is_empty());
    parts
}

fn words(text: &str) -> Vec<Range<usize>> {
    let (mut words, mut start) = (Vec::<Range<usize>>::new(), 0);
    for (at, word) in text.split_word_bound_indices() {
        if !word.trim().is_empty() {
            words.push(start..at + word.len());
            start = at + word.len();
        }
    }
    to_the_end(&mut words, text);
    words
}

fn sentences(text: &str) -> Vec<Range<usize>> {
    let mut parts = Vec::new();
    for paragraph in paragraphs(text) {
        let Some(slice) = text.get(paragraph.clone()) else { continue };
        // A line end is a byte, as is a space: places stay the same.
        let flat = slice.trim_end().replace('\n', " ");
        let begin = parts.len();
        for (at, sentence) in flat.split_sentence_bound_indices() {
            let start = paragraph.start + at;
            parts.push(start..start + sentence.len());
        }
        match parts.get_mut(begin..).and_then(|new| new.last_mut()) {
            Some(last) => last.end = paragraph.end,
            None => parts.push(paragraph),
        }
    }
    parts
}

/// A paragraph ends before the first line with text after a blank one.
fn paragraphs(text: &str) -> Vec<Range<usize>> {
    let blank = |line: &str| line.trim().is_empty();
    let inner_blank = text.trim().lines().any(blank);
    let (mut parts, mut start, mut at, mut after_blank) = (Vec::new(), 0, 0, false);
    for line in text.split_inclusive('\n') {
        let begins = !blank(line) && (after_blank || !inner_blank);
        if begins && text.get(start..at).is_some_and(|before| !blank(before)) {
            parts.push(start..at);
            start = at;
        }
        after_blank = blank(line);
        at += line.len();
    }
    parts.push(start..text.len());
    parts
}

/// Adds what is left at the end to the last part.
fn to_the_end(parts: &mut Vec<Range<usize>>, text: &str) {
    match parts.last_mut() {
        Some(last) => last.end = text.len(),
        None => parts.push(0..text.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(text: &str, unit: Unit) -> Vec<&str> {
        units(text, unit).into_iter().map(|range| &text[range]).collect()
    }

    #[test]
    fn cuts_where_a_reader_would() {
        assert_eq!(cut("It's  3.5 m,\nso.\n", Unit::Word), ["It's", "  3.5", " m", ",", "\nso", ".\n"]);
        assert_eq!(cut(" \n", Unit::Word), [" \n"]);
        assert!(cut("", Unit::Word).is_empty() && cut("", Unit::Sentence).is_empty());
        let text = "One line\ngoes on. Then (so)?\n\n\nNew here.\nEnd\n";
        assert_eq!(cut(text, Unit::Sentence), ["One line\ngoes on. ", "Then (so)?\n\n\n", "New here.\n", "End\n"]);
        assert_eq!(cut(text, Unit::Paragraph), ["One line\ngoes on. Then (so)?\n\n\n", "New here.\nEnd\n"]);
        assert_eq!(cut("\n\nA.\nB.", Unit::Paragraph), ["\n\nA.\n", "B."]);
    }
}
