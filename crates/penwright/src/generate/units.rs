//! Where a word, a sentence or a paragraph ends, found while the text is still being written.

use unicode_segmentation::UnicodeSegmentation;

/// A unit in which lengths can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    /// A word of Unicode's UAX 29: letters and digits, `don't` and `3.14` being one.
    Word,
    /// A sentence of UAX 29 with its closing quotes and brackets. Beyond that rule, a line's end is a space unless
    /// the next line is empty; and no sentence ends before a small letter (`“Why?” she asked.`) or after `Mr.` and
    /// the like.
    Sentence,
    /// Up to an empty line. In a text that has none and whose longest line has more than [`LONG_LINE`] characters,
    /// so that its lines are not wrapped: up to the line's end.
    Paragraph,
}

/// Characters of a line that nobody wrapped.
const LONG_LINE: usize = 100;

/// Titles that are followed by a name.
const TITLES: [&str; 7] = ["Mr", "Mrs", "Ms", "Dr", "St", "Prof", "Mt"];

/// Counts units of a text as it comes.
#[derive(Clone, Debug)]
pub(super) struct Counter {
    unit: Unit,
    /// Units still wanted, the present one included.
    left: usize,
    /// Where the present unit begins; up to where line ends have been found to be inside a paragraph.
    begin: usize,
    passed: usize,
    /// Of the prompt and the text: whether there was an empty line, a long one, and the characters of the last.
    empty_line: bool,
    long_line: bool,
    line: usize,
}

impl Counter {
    pub(super) fn new(unit: Unit, count: usize, prompt: &str) -> Self {
        let (begin, passed, line) = (0, 0, 0);
        let mut counter = Counter { unit, left: count, begin, passed, empty_line: false, long_line: false, line };
        prompt.chars().for_each(|c| counter.note(c));
        counter
    }

    /// Takes notice of the next character, for the layout of the text.
    pub(super) fn note(&mut self, c: char) {
        if c == '\n' {
            self.empty_line |= self.line == 0;
            self.line = 0;
        } else {
            self.line += 1;
            self.long_line |= self.line > LONG_LINE;
        }
    }

    /// Looks at the text as it is after one more character, or at its end (`over`). Returns where the last unit
    /// wanted ends as far as one can see, and whether that is certain.
    pub(super) fn look(&mut self, text: &str, over: bool) -> Option<(usize, bool)> {
        loop {
            let rest = &text[self.begin..];
            let (end, certain) = match self.unit {
                Unit::Word => word(rest, over),
                Unit::Sentence => sentence(rest, over),
                Unit::Paragraph => self.paragraph(rest, over),
            }?;
            if self.left == 1 {
                return Some((self.begin + end, certain));
            }
            if !certain {
                return None;
            }
            self.left -= 1;
            self.begin += end;
            self.passed = 0;
        }
    }

    fn paragraph(&mut self, text: &str, over: bool) -> Option<(usize, bool)> {
        let begin = text.len() - text.trim_start().len();
        let mut from = begin.max(self.passed);
        while let Some(at) = text.get(from..).and_then(|rest| rest.find('\n')).map(|i| from + i) {
            let after = text[at + 1..].trim_start_matches([' ', '\t']);
            let end = text[..at].trim_end().len();
            if after.starts_with('\n') || (self.long_line && !self.empty_line) {
                return Some((end, true));
            }
            if after.is_empty() {
                return Some((end, over)); // an empty line may follow
            }
            from = at + 1;
            self.passed = from;
        }
        (begin < text.len()).then(|| (text.trim_end().len(), over))
    }
}

/// The end of the first word.
fn word(text: &str, over: bool) -> Option<(usize, bool)> {
    let (start, word) = text.unicode_word_indices().next()?;
    let end = start + word.len();
    let mut after = text[end..].chars();
    // One character may join the word to what follows it, as in `don't`; a space joins nothing.
    let certain = match (after.next(), after.next()) {
        (Some(c), None) => c.is_whitespace(),
        (first, _) => first.is_some(),
    };
    Some((end, certain || over))
}

/// The end of the first sentence.
fn sentence(text: &str, over: bool) -> Option<(usize, bool)> {
    let text = join_lines(text);
    let mut begun = false;
    for (start, part) in text.split_sentence_bound_indices() {
        begun |= part.contains(char::is_alphanumeric);
        let (before, after) = text.split_at(start + part.len());
        let end = before.trim_end().len();
        if !begun || after.is_empty() {
            continue;
        }
        if part.ends_with('\n') {
            return Some((end, true));
        }
        match after.chars().find(|c| c.is_alphanumeric()) {
            None if !over => return Some((end, false)),
            Some(c) if c.is_lowercase() => {}
            _ if is_title(&before[..end]) => {}
            _ => return Some((end, true)),
        }
    }
    begun.then(|| (text.trim_end().len(), over))
}

fn is_title(text: &str) -> bool {
    let Some(text) = text.strip_suffix('.') else { return false };
    TITLES.iter().any(|title| {
        text.strip_suffix(title).is_some_and(|rest| !rest.chars().next_back().is_some_and(char::is_alphanumeric))
    })
}

/// The text with a space, of the same length, for each line end that no empty line follows or precedes.
fn join_lines(text: &str) -> String {
    let mut joined = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    let mut last = ' ';
    while let Some(c) = chars.next() {
        let single = c == '\n' && last != '\n' && chars.peek() != Some(&'\n');
        joined.push(if single { ' ' } else { c });
        last = c;
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The text up to the end of `count` units, written a character at a time, and how much had to be seen for it.
    fn up_to(unit: Unit, count: usize, prompt: &str, text: &str) -> (String, usize) {
        let mut counter = Counter::new(unit, count, prompt);
        for (i, c) in text.char_indices() {
            counter.note(c);
            let seen = i + c.len_utf8();
            if let Some((end, true)) = counter.look(&text[..seen], false) {
                return (text[..end].into(), seen);
            }
        }
        let end = counter.look(text, true).map_or(text.len(), |(end, _)| end);
        (text[..end].into(), text.len())
    }

    #[test]
    fn words() {
        let text = "or, don't say 3.14 — \"again\"";
        for (n, expected) in
            [(1, "or"), (2, "or, don't"), (4, "or, don't say 3.14"), (5, "or, don't say 3.14 — \"again")]
        {
            assert_eq!(up_to(Unit::Word, n, "The do", text).0, expected);
        }
        assert_eq!(up_to(Unit::Word, 9, "", text).0, text);
        assert_eq!(up_to(Unit::Word, 1, "", "word after"), ("word".into(), 5));
    }

    #[test]
    fn sentences() {
        let text = "“Why?” she asked\nMr. Hale. He did not\nknow. \"No!\" (He lied.) 3 bells\n\nCHAPTER";
        for (n, expected) in [
            (1, "“Why?” she asked\nMr. Hale."),
            (2, "“Why?” she asked\nMr. Hale. He did not\nknow."),
            (3, "“Why?” she asked\nMr. Hale. He did not\nknow. \"No!\""),
            (4, "“Why?” she asked\nMr. Hale. He did not\nknow. \"No!\" (He lied.)"),
            (5, "“Why?” she asked\nMr. Hale. He did not\nknow. \"No!\" (He lied.) 3 bells"),
            (6, text),
        ] {
            assert_eq!(up_to(Unit::Sentence, n, "", text).0, expected, "{n}");
        }
        assert_eq!(up_to(Unit::Sentence, 1, "", " ... "), (" ... ".into(), 5));
    }

    #[test]
    fn paragraphs() {
        let wrapped = "\n\nOne line\nand another.\n \n\nSecond.\nStill.\n\nThird.";
        assert_eq!(up_to(Unit::Paragraph, 1, "", wrapped).0, "\n\nOne line\nand another.");
        assert_eq!(up_to(Unit::Paragraph, 2, "", wrapped).0, "\n\nOne line\nand another.\n \n\nSecond.\nStill.");
        let long = "x ".repeat(60);
        let lines = format!("short\n{long}\nlast\nmore");
        assert_eq!(up_to(Unit::Paragraph, 1, "", &lines).0, lines[..lines.find("\nlast").unwrap()].trim_end());
        assert_eq!(up_to(Unit::Paragraph, 1, &format!("{long}\n"), &lines).0, "short");
        assert_eq!(up_to(Unit::Paragraph, 1, &format!("{long}\n\n"), &lines).0, lines);
    }
}
