//! Cutting text into the pieces that the byte-level tokenizers encode one by one, and into parts that may be encoded
//! apart. Pieces, joined, are the text.

use std::sync::LazyLock;

/// How a text is cut into pieces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scheme {
    /// GPT-2's pattern, [`GPT2_PATTERN`].
    Gpt2,
    /// Words as people see them, [`WORD_PATTERN`].
    Word,
    /// Words of a text that is cut into words already, [`PTB_PATTERN`].
    Ptb,
}

impl Scheme {
    /// Whether a piece that is a token is one whatever the merges say.
    pub(super) fn is_words(self) -> bool {
        self != Scheme::Gpt2
    }

    pub(super) fn pattern(self) -> &'static str {
        match self {
            Scheme::Gpt2 => GPT2_PATTERN,
            Scheme::Word => WORD_PATTERN,
            Scheme::Ptb => PTB_PATTERN,
        }
    }
}

/// The pattern of GPT-2's `encoder.py` (Radford et al. 2019). [`gpt2_piece`] does the same without a regex engine.
pub(super) const GPT2_PATTERN: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";

/// The same pattern as tiktoken and later tokenizers write it.
pub(super) const GPT2_PATTERN_ALIKE: &str =
    r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s";

/// The units of the word level, each with the space before it: words with their inner apostrophes ("don't"), the
/// possessive 's apart; single characters where a script writes no spaces; numbers; a run of dashes or dots, any
/// other sign alone. Then one or two line ends, further spaces, any other white space.
/// [`word_piece`] does the same without a regex engine.
pub(super) const WORD_PATTERN: &str = concat!(
    r"['’][sS](?![\p{L}\p{M}])",
    r"| ?(?:",
    r"[\p{L}&&[^\p{Han}\p{Hiragana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]]\p{M}*)+",
    r"(?:['’](?![sS](?![\p{L}\p{M}]))(?:",
    r"[\p{L}&&[^\p{Han}\p{Hiragana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]]\p{M}*)+)*",
    r"| ?[\p{L}&&[\p{Han}\p{Hiragana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]]\p{M}*",
    r"| ?\p{N}+| ?(?:-+|\.+|[^\s\p{L}\p{N}])|(?:\r?\n){1,2}| +(?!\S)|\s",
);

/// The units of text that is cut already: what stands between white space, with the space before it; a line end.
/// [`ptb_piece`] does the same without a regex engine.
pub(super) const PTB_PATTERN: &str = r" ?\S+|\s";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Other,
    /// Letters of scripts with spaces between words.
    Letter,
    /// Letters of scripts without.
    Solo,
    Mark,
    Number,
    Space,
}

/// The class of every code point, from the tables that the regex crates use.
static CLASSES: LazyLock<Vec<Class>> = LazyLock::new(|| {
    let mut classes = vec![Class::Other; 0x11_0000];
    for (pattern, class) in [
        (r"\p{M}", Class::Mark),
        (r"\p{N}", Class::Number),
        (r"\s", Class::Space),
        (r"\p{L}", Class::Letter),
        (r"[\p{L}&&[\p{Han}\p{Hiragana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]]", Class::Solo),
    ] {
        let hir = regex_syntax::parse(pattern).expect("a class of Unicode");
        if let regex_syntax::hir::HirKind::Class(regex_syntax::hir::Class::Unicode(set)) = hir.kind() {
            for range in set.ranges() {
                classes[range.start() as usize..=range.end() as usize].fill(class);
            }
        }
    }
    classes
});

/// The character at byte `at` and its class; `None` at the end.
fn at(text: &str, at: usize) -> Option<(char, Class)> {
    let c = text[at..].chars().next()?;
    Some((c, CLASSES[c as usize]))
}

/// The end of the run of characters from byte `from` that satisfy the test.
fn run(text: &str, from: usize, test: impl Fn(char, Class) -> bool) -> usize {
    let rest = &text[from..];
    from + rest.find(|c| !test(c, CLASSES[c as usize])).unwrap_or(rest.len())
}

/// Where the piece begins without the one space that may precede it.
fn after_space(text: &str) -> usize {
    let joined = text.starts_with(' ') && at(text, 1).is_some_and(|(_, class)| class != Class::Space);
    usize::from(joined)
}

/// Length of the first piece of GPT-2's pattern.
fn gpt2_piece(text: &str) -> usize {
    if text.starts_with('\'') {
        let short = ["'s", "'t", "'re", "'ve", "'m", "'ll", "'d"].into_iter().find(|s| text.starts_with(s));
        if let Some(short) = short {
            return short.len();
        }
    }
    let start = after_space(text);
    let Some((_, class)) = at(text, start) else { return text.len() };
    match class {
        Class::Letter | Class::Solo => run(text, start, |_, c| matches!(c, Class::Letter | Class::Solo)),
        Class::Number => run(text, start, |_, c| c == Class::Number),
        Class::Other | Class::Mark => run(text, start, |_, c| matches!(c, Class::Other | Class::Mark)),
        Class::Space => {
            let end = run(text, 0, |_, c| c == Class::Space);
            let last = text[..end].chars().next_back().map_or(0, char::len_utf8);
            // The last one before a word stays for the word, unless it is the only one.
            if end == text.len() || last == end { end } else { end - last }
        }
    }
}

/// Length of the first unit of the word level.
fn word_piece(text: &str) -> usize {
    if let Some(end) = possessive(text, 0) {
        return end;
    }
    let start = after_space(text);
    let Some((first, class)) = at(text, start) else { return text.len() };
    let after = start + first.len_utf8();
    match class {
        Class::Letter => {
            let letters = |from| run(text, from, |_, c| matches!(c, Class::Letter | Class::Mark));
            let mut end = letters(after);
            while let Some(next) = apostrophe(text, end).filter(|_| possessive(text, end).is_none()) {
                if at(text, next).is_none_or(|(_, c)| c != Class::Letter) {
                    break;
                }
                end = letters(next);
            }
            end
        }
        Class::Solo => run(text, after, |_, c| c == Class::Mark),
        Class::Number => run(text, after, |_, c| c == Class::Number),
        Class::Other | Class::Mark if first == '-' || first == '.' => run(text, after, |c, _| c == first),
        Class::Other | Class::Mark => after,
        Class::Space => white_space(text).unwrap_or(after),
    }
}

/// Length of the first unit of text that is cut already.
fn ptb_piece(text: &str) -> usize {
    let start = after_space(text);
    match at(text, start) {
        Some((c, Class::Space)) => start + c.len_utf8(),
        _ => run(text, start, |_, class| class != Class::Space),
    }
}

/// Line ends, one or two, or spaces but for the one that belongs to a word.
fn white_space(text: &str) -> Option<usize> {
    let line_end = |from: usize| {
        let rest = &text[from..];
        let length = if rest.starts_with('\n') { 1 } else { 2 };
        (rest.starts_with('\n') || rest.starts_with("\r\n")).then_some(from + length)
    };
    if let Some(first) = line_end(0) {
        return Some(line_end(first).unwrap_or(first));
    }
    let spaces = run(text, 0, |c, _| c == ' ');
    let word_follows = at(text, spaces).is_some_and(|(_, class)| class != Class::Space);
    Some(spaces - usize::from(word_follows && spaces > 1)).filter(|&n| n > 0)
}

fn apostrophe(text: &str, from: usize) -> Option<usize> {
    at(text, from).filter(|(c, _)| matches!(c, '\'' | '’')).map(|(c, _)| from + c.len_utf8())
}

/// The end of a possessive `'s` at byte `from`.
fn possessive(text: &str, from: usize) -> Option<usize> {
    let s = apostrophe(text, from)?;
    at(text, s).filter(|(c, _)| matches!(c, 's' | 'S'))?;
    let goes_on = at(text, s + 1).is_some_and(|(_, c)| matches!(c, Class::Letter | Class::Solo | Class::Mark));
    (!goes_on).then_some(s + 1)
}

/// The pieces of a text, in order.
pub(super) fn pieces(text: &str, scheme: Scheme) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let length = match scheme {
            Scheme::Gpt2 => gpt2_piece(rest),
            Scheme::Word => word_piece(rest),
            Scheme::Ptb => ptb_piece(rest),
        };
        let (piece, after) = rest.split_at(length);
        rest = after;
        Some(piece)
    })
}

/// The first byte from `from` on where the text may be cut so that both parts have the pieces they have together:
/// before white space that follows something else. There a piece ends under every scheme, since none goes on from
/// other characters to white space; what follows is cut without regard to what precedes; and what precedes looks
/// ahead only for the end of white space or of a word, and finds it at the end of the part as well.
pub(super) fn safe_cut(text: &str, from: usize) -> usize {
    let mut from = from.clamp(1, text.len().max(1));
    while !text.is_char_boundary(from.min(text.len())) {
        from += 1;
    }
    let Some((before, after)) = text.split_at_checked(from) else { return text.len() };
    let mut previous = before.chars().next_back().map_or(Class::Space, |c| CLASSES[c as usize]);
    for (i, c) in after.char_indices() {
        let class = CLASSES[c as usize];
        if class == Class::Space && previous != Class::Space {
            return from + i;
        }
        previous = class;
    }
    text.len()
}

/// Cuts a text into parts of about `size` bytes at the places that `cut` allows.
pub(super) fn parts(text: &str, size: usize, cut: impl Fn(&str, usize) -> usize) -> Vec<&str> {
    let (mut parts, mut rest) = (Vec::new(), text);
    while !rest.is_empty() {
        let (part, after) = rest.split_at(if rest.len() <= size { rest.len() } else { cut(rest, size) });
        parts.push(part);
        rest = after;
    }
    parts
}

/// Parts of the texts, at most about `limit` bytes of them, spread evenly: what a vocabulary is learned from.
pub(super) fn sample<'a>(texts: &[&'a str], limit: usize) -> Vec<&'a str> {
    const PART: usize = 128 << 10;
    let all: Vec<&str> = texts.iter().flat_map(|text| parts(text, PART, safe_cut)).collect();
    let total: usize = texts.iter().map(|text| text.len()).sum();
    if total <= limit {
        return all;
    }
    let keep = ((all.len() as u128 * limit as u128) / total as u128).max(1) as usize;
    (0..keep).filter_map(|i| all.get(i * all.len() / keep)).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokenizer::tests::any_text;
    use proptest::prelude::*;
    use tokenizers::utils::SysRegex;

    fn by_regex<'a>(pattern: &str, text: &'a str) -> Vec<&'a str> {
        SysRegex::new(pattern).unwrap().find_iter(text).map(|(start, end)| &text[start..end]).collect()
    }

    proptest! {
        #[test]
        fn scanners_do_what_the_patterns_say(text in any_text()) {
            for (scheme, patterns) in [
                (Scheme::Gpt2, &[GPT2_PATTERN, GPT2_PATTERN_ALIKE][..]),
                (Scheme::Word, &[WORD_PATTERN]),
                (Scheme::Ptb, &[PTB_PATTERN]),
            ] {
                for pattern in patterns {
                    prop_assert_eq!(pieces(&text, scheme).collect::<Vec<_>>(), by_regex(pattern, &text));
                }
            }
        }

        #[test]
        fn cuts_change_no_piece(text in any_text(), size in 1usize..9) {
            for scheme in [Scheme::Gpt2, Scheme::Word, Scheme::Ptb] {
                let apart = parts(&text, size, safe_cut).into_iter().flat_map(|part| pieces(part, scheme));
                prop_assert_eq!(apart.collect::<Vec<_>>(), pieces(&text, scheme).collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn words_as_people_see_them() {
        let text = "“Don't,” said  Alice's cat --\n\nna\u{308}ive o’clock 3.50 ... 東京へ";
        let units = [
            "“",
            "Don't",
            ",",
            "”",
            " said",
            " ",
            " Alice",
            "'s",
            " cat",
            " --",
            "\n\n",
            "na\u{308}ive",
            " o’clock",
            " 3",
            ".",
            "50",
            " ...",
            " 東",
            "京",
            "へ",
        ];
        assert_eq!(pieces(text, Scheme::Word).collect::<Vec<_>>(), units);
    }

    #[test]
    fn samples_are_bounded_and_spread() {
        let text = "word and ".repeat(200_000);
        let sampled = sample(&[&text], 600_000);
        let bytes: usize = sampled.iter().map(|s| s.len()).sum();
        assert!((300_000..700_000).contains(&bytes), "{bytes}");
        assert_eq!(sample(&["a b", "c"], 100), ["a b", "c"]);
    }
}
