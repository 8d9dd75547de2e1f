//! Joining the lines of hard-wrapped prose into paragraphs.
//!
//! A wrapping program fills greedily: it ends a line because the next word would have passed the width. So a line end is
//! *full* for a width W when `length ≤ W < length + 1 + length of the next line's first word`. Over 90 % of the line ends
//! within paragraphs of wrapped prose are full for one W (70 % in the most ragged novel tried); of a play in verse, 23 %.
//! A document is taken for wrapped when most of its line ends are full for one W, and then each paragraph is judged by
//! its own line ends. Empty lines always part paragraphs; so does a deeper indentation.

use std::ops::Range;

const WIDTHS: Range<usize> = 40..121;

/// One line, measured in characters.
struct Line<'a> {
    raw: &'a str,
    text: &'a str,
    indent: usize,
    /// From the margin to the last visible character.
    len: usize,
    /// Length of the first word; of Chinese and Japanese, which are cut anywhere, one.
    word: usize,
    /// Begins with a capital, quotation marks aside.
    capital: bool,
    /// Part of a table, a heading, a quotation or code: left alone.
    fixed: bool,
    /// Begins like an item of a list.
    item: bool,
}

impl<'a> Line<'a> {
    fn new(raw: &'a str) -> Line<'a> {
        let body = raw.trim_end();
        let text = body.trim_start();
        let indent = body[..body.len() - text.len()].chars().map(|c| if c == '\t' { 8 } else { 1 }).sum();
        let word = match text.chars().next() {
            Some(c) if is_cjk(c) => 1,
            _ => text.chars().take_while(|c| !c.is_whitespace()).count(),
        };
        Line {
            raw,
            text,
            indent,
            len: indent + text.chars().count(),
            word,
            capital: text.chars().find(|c| c.is_alphanumeric()).is_some_and(char::is_uppercase),
            fixed: is_fixed(text),
            item: is_item(text),
        }
    }

    fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// Ends as a sentence ends, closing quotation marks and brackets aside.
    fn ends_sentence(&self) -> bool {
        let end = self.text.trim_end_matches(['"', '\'', '\u{201d}', '\u{2019}', '\u{bb}', ')', ']', '_', '*']);
        end.ends_with(['.', '!', '?', ':', '\u{2026}', '\u{3002}', '\u{ff01}', '\u{ff1f}'])
    }
}

fn is_cjk(c: char) -> bool {
    matches!(c, '\u{3000}'..='\u{30ff}' | '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}' | '\u{ff00}'..='\u{ffef}'
        | '\u{20000}'..='\u{3ffff}')
}

fn is_fixed(text: &str) -> bool {
    let heading = text.trim_start_matches('#');
    text.starts_with(['|', '>'])
        || (heading.len() < text.len() && heading.starts_with(' '))
        || text.contains('\t')
        || text.contains("   ")
}

fn is_item(text: &str) -> bool {
    let number = text.trim_start_matches(|c: char| c.is_ascii_digit());
    let digits = text.len() - number.len();
    let rest = if (1..=3).contains(&digits) {
        number.strip_prefix(['.', ')'])
    } else {
        text.strip_prefix(['-', '*', '+', '\u{2022}', '\u{2013}', '\u{2014}'])
    };
    rest.is_some_and(|rest| rest.starts_with(' '))
}

/// What is known of a whole wrapped document.
struct Shape {
    width: usize,
    /// Paragraphs are parted by empty lines, so that a somewhat short line need not be a paragraph's last.
    airy: bool,
}

/// The text with the lines of its paragraphs joined, and how many line ends went. Only whitespace changes.
pub(super) fn join(text: &str) -> (String, u64) {
    let lines: Vec<Line> = text.split('\n').map(Line::new).collect();
    let Some(shape) = shape(&lines) else { return (String::new(), 0) };
    let mut joined = vec![false; lines.len()];
    let mut fenced = false;
    let mut begin = 0;
    for i in 0..=lines.len() {
        let fence = lines.get(i).is_some_and(|line| line.text.starts_with("```") || line.text.starts_with("~~~"));
        let parts = match (lines.get(i), i.checked_sub(1).and_then(|i| lines.get(i))) {
            (Some(line), Some(before)) => {
                let structure = line.fixed || before.fixed || fence;
                structure || line.is_empty() || before.is_empty() || line.indent > before.indent
            }
            _ => true,
        };
        if parts {
            if !fenced && begin + 1 < i {
                paragraph(&lines[begin..i], &mut joined[begin..i - 1], &shape);
            }
            begin = i;
        }
        if fence {
            fenced = !fenced;
            begin = i + 1;
        }
    }
    render(&lines, &joined, text.len())
}

/// Whether the document is hard-wrapped, and to which width.
fn shape(lines: &[Line]) -> Option<Shape> {
    // full[w]: ends full for w, as a running sum over differences; likewise those before a small letter.
    let mut full = [[0_i64; 2]; WIDTHS.end + 1];
    let mut lengths = [0_u64; WIDTHS.end];
    let mut blocks = 0_u64;
    for pair in lines.windows(2) {
        let [a, b] = pair else { continue };
        if a.is_empty() || b.is_empty() {
            blocks += u64::from(!a.is_empty());
            continue;
        }
        if a.fixed || b.fixed || b.item || b.indent > a.indent {
            continue;
        }
        lengths[a.len.min(WIDTHS.end - 1)] += 1;
        let small = usize::from(!b.capital);
        let (from, to) = (a.len.max(WIDTHS.start), (a.len + b.word + 1).min(WIDTHS.end));
        if from < to {
            full[from][small] += 1;
            full[to][small] -= 1;
        }
    }
    let (mut capitals, mut small) = (0, 0);
    let mut best = (0, 0, 0);
    for width in WIDTHS {
        capitals += full[width][0];
        small += full[width][1];
        if capitals + small > best.0 {
            best = (capitals + small, small, width);
        }
    }
    let (fulls, small, width) = (best.0 as u64, best.1 as u64, best.2);
    // Much shorter lines (headings, addresses, the names of speakers) say nothing about the width.
    let ends: u64 = lengths.iter().skip(width * 2 / 3).sum();
    let share = if ends < 30 { 8 } else { 6 };
    // Verse begins each line with a capital; prose rarely does.
    let wrapped = ends >= 6 && fulls * 10 >= ends * share && small * 10 >= fulls * 4;
    wrapped.then_some(Shape { width, airy: lengths.iter().sum::<u64>() < 25 * blocks.max(1) })
}

/// Judges the line ends of one paragraph: lines of which none is empty or deeper than the one before.
fn paragraph(lines: &[Line], joined: &mut [bool], shape: &Shape) {
    let ends = || lines.windows(2).map(|pair| (&pair[0], &pair[1]));
    let width = shape.width;
    let is_full = |a: &Line, b: &Line| a.len <= width + width / 8 && a.len + 1 + b.word > width;
    let is_near = |a: &Line| a.len <= width + width / 8 && a.len + width / 5 >= width;
    let count = ends().count();
    let full = ends().filter(|(a, b)| is_full(a, b)).count();
    let near = ends().filter(|(a, b)| !is_full(a, b) && is_near(a) && !b.capital && !a.ends_sentence()).count();
    let capitals = ends().filter(|(_, b)| b.capital).count();
    // Wrapped to a width of its own: a letter or a quotation, or a part of another origin.
    let longest = lines.iter().map(|line| line.len).max().unwrap_or(0);
    let own = count >= 3 && longest >= WIDTHS.start && ends().all(|(a, b)| a.len + 1 + b.word > longest);
    let prose = if lines.get(1).is_some_and(|line| line.indent > 1) {
        own && capitals * 2 <= count
    } else {
        let verse = count >= 3 && capitals * 5 >= count * 4 && full < count;
        ((full * 2 + near) * 10 >= count * 12 && !verse)
            || (own && count >= 4 && capitals * 2 <= count)
            || (shape.airy && capitals < count && full + near > 0 && ends().all(|(a, _)| is_near(a)))
    };
    if !prose {
        return;
    }
    for ((a, b), joined) in ends().zip(joined) {
        let full = is_full(a, b) || (own && a.len + 1 + b.word > longest);
        let new_sentence = a.ends_sentence() && b.capital;
        let list = b.item && (a.item || a.ends_sentence() || !(full || is_near(a)));
        let almost = a.len + width / 8 >= width;
        let ragged = (is_near(a) && (!new_sentence || (shape.airy && almost)))
            || (a.len * 2 >= width && a.len <= width && !a.ends_sentence() && !b.capital);
        *joined = !list && (full || ragged);
    }
}

fn render(lines: &[Line], joined: &[bool], bytes: usize) -> (String, u64) {
    let mut out = String::with_capacity(bytes);
    let mut count = 0;
    let mut continues = false;
    for (i, (line, &join)) in lines.iter().zip(joined).enumerate() {
        match (continues, join) {
            (false, false) => out.push_str(line.raw),
            (true, false) => out.push_str(line.raw.trim_start()),
            (false, true) => out.push_str(line.raw.trim_end()),
            (true, true) => out.push_str(line.text),
        }
        continues = join;
        match lines.get(i + 1) {
            Some(next) if join => {
                count += 1;
                if !is_glued(line.text, next.text) {
                    out.push(' ');
                }
            }
            Some(_) => out.push('\n'),
            None => {}
        }
    }
    (out, count)
}

/// Whether two lines join without a space: at the hyphen of a compound (which stays), at a dash set without spaces, and
/// between Chinese or Japanese characters.
fn is_glued(a: &str, b: &str) -> bool {
    let (Some(last), Some(first)) = (a.chars().next_back(), b.chars().next()) else { return false };
    if is_cjk(last) && is_cjk(first) {
        return true;
    }
    let stem = a.trim_end_matches(['-', '\u{2014}']);
    if stem.len() < a.len() && !stem.is_empty() && !stem.ends_with(char::is_whitespace) {
        let word: String = b.chars().take_while(|c| c.is_alphabetic()).collect();
        // "two- and three-fold" has a hyphen that ends a word.
        let ends_word =
            a.ends_with('-') && stem.len() + 1 == a.len() && matches!(&*word, "and" | "or" | "to" | "und" | "oder");
        return !ends_word;
    }
    let after = b.trim_start_matches(['-', '\u{2014}']);
    let dash = b.len() - after.len() >= 2 && !after.is_empty() && !after.starts_with(char::is_whitespace);
    dash && last.is_alphanumeric()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PROSE: &str = "The house was three miles from the station, but before the dusty hired fly had rattled along for five \
        minutes the children began to put their heads out of the carriage window and to say, 'Aren't we nearly there?' And every \
        time they passed a house, which was not very often, they all said, 'Oh, is THIS it?' But it never was, till they reached \
        the very top of the hill, just past the chalk-quarry and before you come to the gravel-pit.";

    /// Greedy filling, as wrapping programs do it.
    fn wrap(text: &str, width: usize) -> String {
        let mut out = String::new();
        let mut column = 0;
        for word in text.split(' ') {
            let len = word.chars().count();
            if column > 0 && column + 1 + len > width {
                out.push('\n');
                column = 0;
            } else if column > 0 {
                out.push(' ');
                column += 1;
            }
            out.push_str(word);
            column += len;
        }
        out
    }

    fn joined(text: &str) -> String {
        match join(text) {
            (_, 0) => text.to_string(),
            (joined, _) => joined,
        }
    }

    #[test]
    fn paragraphs_become_lines_and_the_rest_stays() {
        let kept = "CHAPTER I\nTHE BEGINNING\n\n    One, two,\n    buckle my shoe.\n\nRoses are red,\nViolets are blue,\nSugar is \
            sweet\nAnd so are you.\n\n- an item of a list\n- another\n1. and one more\n\n| a | table |\n| b | row |\n\n```\ncode is \
            long enough to look like a line of prose that was wrapped\nby a program\n```\n\nYours truly,\nAnne\n";
        for width in [60, 66, 72, 79] {
            let text = format!("{}\n\n{kept}\n{}\n\n\"Yes,\" he said.\n", wrap(PROSE, width), wrap(PROSE, width));
            assert_eq!(joined(&text), format!("{PROSE}\n\n{kept}\n{PROSE}\n\n\"Yes,\" he said.\n"));
        }
    }

    #[test]
    fn indented_beginnings_and_quotations() {
        let first = format!("   {PROSE}");
        let wrapped = wrap(&format!("...{PROSE}"), 70).replace("...", "   ");
        let text = format!("{wrapped}\n{wrapped}\n").repeat(3);
        assert_eq!(joined(&text), format!("{first}\n{first}\n").repeat(3));
        let quotation = wrap(PROSE, 50).lines().map(|line| format!("    {line}\n")).collect::<String>();
        let text = format!("{}\n\n", wrap(PROSE, 70)).repeat(4) + &quotation;
        assert_eq!(joined(&text), format!("{PROSE}\n\n").repeat(4) + &format!("    {PROSE}\n"));
    }

    #[test]
    fn hyphens_dashes_and_languages() {
        for (a, b, glued) in [
            ("the chalk-", "quarry", true),
            ("pre-", "and postwar", false),
            ("he said--", "nothing", true),
            ("he said --", "nothing", false),
            ("he said", "--nothing", true),
            ("he said", "- nothing", false),
            ("吾輩は猫で", "ある。", true),
            ("word", "word", false),
        ] {
            assert_eq!(is_glued(a, b), glued, "{a} | {b}");
        }
    }

    #[test]
    fn unwrapped_texts_stay() {
        for text in
            [format!("{PROSE}\n{PROSE}\n\n{PROSE}"), "short\nlines\nonly\n".repeat(50), String::new(), "\n\n".into()]
        {
            assert_eq!(join(&text).1, 0);
        }
    }

    proptest! {
        /// Only whitespace changes, no line end at an empty line goes, and a second pass finds nothing to join.
        #[test]
        fn only_line_ends_change(
            paragraphs in proptest::collection::vec("[a-z]{1,9}([ ,.-]{1,2}[A-Za-z]{1,9}){0,80}", 1..12),
            width in 45_usize..90,
        ) {
            let text: Vec<_> = paragraphs.iter().map(|p| wrap(p, width)).collect();
            let text = text.join("\n\n");
            let joined = joined(&text);
            prop_assert!(text.split_whitespace().collect::<String>() == joined.split_whitespace().collect::<String>());
            prop_assert_eq!(text.split("\n\n").count(), joined.split("\n\n").count());
        }

        #[test]
        fn any_text_is_survived(text in "[ \\na-zA-Z.,|#>`1\t-]{0,300}") {
            let joined = joined(&text);
            prop_assert!(text.split_whitespace().collect::<String>() == joined.split_whitespace().collect::<String>());
        }
    }
}
