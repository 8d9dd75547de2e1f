//! Which part of the held-out text is shown, and cutting texts between words.

use std::ops::Range;

use unicode_segmentation::UnicodeSegmentation;

use crate::score::{Unit, units};

/// Characters that are read before the passage: enough that a model has settled into the text.
const LEAD: usize = 2000;

/// A passage amid the held-out text: it begins a paragraph, and every model has read all before it.
pub(super) struct Excerpt<'a> {
    document: &'a str,
    /// The first byte of the passage in the document.
    start: usize,
    /// Characters of the passage, about.
    chars: usize,
}

impl<'a> Excerpt<'a> {
    /// A passage of about `chars` characters of the first document with text.
    pub(super) fn of(documents: &[&'a str], chars: usize) -> Self {
        let document = documents.iter().copied().find(|d| !d.trim().is_empty()).unwrap_or("");
        let quarter = beginning(document, document.chars().count() / 4);
        let lead = beginning(quarter, LEAD).len();
        let rest = document.get(lead..).unwrap_or("");
        // The next paragraph, if one begins near.
        let near = beginning(rest, LEAD);
        let to_border = near.find("\n\n").or_else(|| near.find('\n')).unwrap_or(0);
        let after = rest.get(to_border..).unwrap_or("").trim_start();
        let start = if after.is_empty() { 0 } else { document.len() - after.len() };
        Excerpt { document, start, chars }
    }

    /// The text from the passage's beginning on, at most `chars` characters of it.
    pub(super) fn opening(&self, chars: usize) -> &'a str {
        beginning(self.document.get(self.start..).unwrap_or(""), chars).trim_end()
    }

    /// The document up to the end of the passage.
    pub(super) fn with_lead(&self) -> &'a str {
        self.document.get(..self.start + self.passage().len()).unwrap_or("")
    }

    /// The passage.
    pub(super) fn passage(&self) -> &'a str {
        self.opening(self.chars)
    }

    /// The passage's words in [`Excerpt::with_lead`], each with the white space before it.
    pub(super) fn words(&self) -> Vec<Range<usize>> {
        let words = units(self.passage(), Unit::Word).into_iter();
        words.map(|word| word.start + self.start..word.end + self.start).collect()
    }

    /// The first byte of the passage in [`Excerpt::with_lead`].
    pub(super) fn start(&self) -> usize {
        self.start
    }
}

/// The beginning of a text up to `chars` characters, cut between words.
pub(super) fn beginning(text: &str, chars: usize) -> &str {
    let Some((limit, _)) = text.char_indices().nth(chars) else { return text };
    let words = text.split_word_bound_indices().map(|(at, _)| at);
    let end = words.take_while(|&at| at <= limit).last().filter(|&at| at > 0).unwrap_or(limit);
    text.get(..end).unwrap_or("")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn words_are_the_passage(text in "(?s)([a-zé海]{1,9}[ .]|\n|\n\n|.){0,80}", chars in 0usize..60) {
            let texts = ["\n ", text.as_str()];
            let excerpt = Excerpt::of(&texts, chars);
            prop_assert!(excerpt.passage().chars().count() <= chars);
            let whole = excerpt.with_lead();
            let joined: String = excerpt.words().into_iter().map(|word| &whole[word]).collect();
            prop_assert_eq!(joined.as_str(), excerpt.passage());
            prop_assert_eq!(&whole[excerpt.start()..], excerpt.passage());
        }
    }

    #[test]
    fn begins_a_paragraph() {
        let text = format!("{}\n\nIn the {}", "word ".repeat(500), "evening ".repeat(900));
        let excerpt = Excerpt::of(&["", &text], 13);
        assert_eq!((excerpt.passage(), excerpt.opening(6)), ("In the", "In the"));
        assert_eq!(excerpt.with_lead().len(), 2502 + 6);
    }
}
