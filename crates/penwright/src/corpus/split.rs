//! Training and validation parts.

use super::Corpus;
use crate::{Error, Result};

impl Corpus {
    /// Splits each document into its first part, for training, and its last `fraction` of characters, for validation.
    ///
    /// A document of n characters is cut after the first ⌊n · (1 − fraction)⌋, to the character, so that two programs
    /// that hold out "the last tenth" hold out the same. Since no two documents of a corpus are equal, no validation
    /// text has a copy among the training texts that is a whole document. Parts without a character are left out.
    ///
    /// # Errors
    /// When the fraction is not between 0 and 1, or no document is long enough to leave something to train on.
    pub fn split(&self, fraction: f64) -> Result<(Vec<&str>, Vec<&str>)> {
        if !(fraction > 0.0 && fraction < 1.0) {
            return Err(Error::setting("val-fraction", format!("{fraction} is not between 0 and 1; try 0.1")));
        }
        let (mut train, mut val) = (Vec::new(), Vec::new());
        for text in self.texts() {
            let (first, last) = split_text(text, fraction);
            train.extend((!first.is_empty()).then_some(first));
            val.extend((!last.is_empty()).then_some(last));
        }
        if train.is_empty() {
            return Err(Error::Text(format!(
                "the text is too short to hold out {fraction} of it ({} characters); give a longer one",
                self.chars()
            )));
        }
        Ok((train, val))
    }
}

fn split_text(text: &str, fraction: f64) -> (&str, &str) {
    let chars = text.chars().count();
    let train = (chars as f64 * (1.0 - fraction)) as usize;
    let at = text.char_indices().nth(train).map_or(text.len(), |(at, _)| at);
    text.split_at(at)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn cut_at_the_character() {
        assert_eq!(split_text("ääääääääbc", 0.2), ("ääääääää", "bc"));
        let text = "x".repeat(1_115_394);
        let (train, val) = split_text(&text, 0.1);
        assert_eq!((train.len(), val.len()), (1_003_854, 111_540));
    }

    proptest! {
        #[test]
        fn contiguous_and_complete(text in ".{0,60}", fraction in 0.001..0.999) {
            let (train, val) = split_text(&text, fraction);
            prop_assert_eq!(format!("{train}{val}"), text);
        }
    }
}
