//! How varied a text is: distinct and repeated sequences of words.

use std::collections::BTreeSet;

use unicode_segmentation::UnicodeSegmentation;

/// The words of a text, in small letters, without punctuation.
fn words(text: &str) -> Vec<String> {
    text.unicode_words().map(str::to_lowercase).collect()
}

/// Distinct sequences of `n` words divided by all (Li et al. 2016 call it distinct-n); `None` for too few words.
pub(crate) fn distinct(text: &str, n: usize) -> Option<f64> {
    let words = words(text);
    let all = words.windows(n.max(1));
    let count = all.len();
    let set: BTreeSet<&[String]> = all.collect();
    (count > 0).then(|| set.len() as f64 / count as f64)
}

/// The share of sequences of `n` words that stood in the text before; `None` for too few words.
pub(crate) fn repeated(text: &str, n: usize) -> Option<f64> {
    distinct(text, n).map(|distinct| 1.0 - distinct)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_examples() {
        // the·cat cat·sat sat·the the·cat cat·sat: three distinct of five
        assert_eq!(distinct("The cat sat. The cat sat!", 2), Some(0.6));
        assert_eq!(distinct("one", 2), None);
        assert_eq!(distinct("", 2), None);
        assert_eq!(repeated("a b c d e f", 4), Some(0.0));
        // abcd bcda cdab dabc abcd: the last stood before
        assert!((repeated("a b c d a b c d", 4).unwrap() - 0.2).abs() < 1e-12);
        assert_eq!(repeated("a b c", 4), None);
    }
}
