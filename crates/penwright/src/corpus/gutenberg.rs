//! Removing the header and the licence that Project Gutenberg puts around a book.
//!
//! Both stand outside two lines, of which many forms were in use since 1990:
//! `*** START OF THE PROJECT GUTENBERG EBOOK …`, `***START OF …`, `*END*THE SMALL PRINT! …*END*` (which ends an old
//! header); `*** END OF …`, `End of Project Gutenberg's …`, `End of the Project Gutenberg Etext of …`. A line alone proves
//! nothing: something is removed only when what would go reads like the notices, and never when no text would be left.

use std::ops::Range;

/// No header or licence is longer, in bytes (the longest seen has about 20 KiB).
const LONGEST: usize = 64 << 10;

const HEADER_SIGNS: [&str; 9] = [
    "title:",
    "release date",
    "[etext",
    "[ebook",
    "this ebook is for the use of anyone",
    "this etext",
    "small print",
    "these ebooks were prepared",
    "copyright laws are changing",
];
const FOOTER_SIGNS: [&str; 8] = [
    "full license",
    "small print",
    "electronic works",
    "gutenberg-tm",
    "project gutenberg\u{2122}",
    "literary archive",
    "updated editions will replace",
    "this and all associated files",
];
const CREDITS: [&str; 8] = [
    "produced by",
    "e-text prepared by",
    "etext prepared by",
    "this etext was prepared by",
    "this etext was produced by",
    "this ebook was prepared by",
    "this ebook was produced by",
    "transcribed from",
];

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Start,
    End,
}

struct Marker {
    kind: Kind,
    at: Range<usize>,
}

/// The text without the notices, or nothing when there are none. Several books in one file are all freed of theirs.
pub(super) fn strip(text: &str) -> Option<String> {
    let markers = markers(text);
    let mut kept: Vec<&str> = Vec::new();
    let mut begin = 0;
    let mut removed = false;
    let mut markers = markers.iter();
    while let Some(marker) = markers.next() {
        if marker.at.start < begin {
            continue;
        }
        if marker.kind == Kind::Start {
            if is_notice(&text[begin..marker.at.start], &HEADER_SIGNS) {
                begin = marker.at.end;
                removed = true;
            }
            continue;
        }
        // Behind the end of a book: the licence, and the next book's header if there is one.
        let next = markers.clone().find(|next| next.kind == Kind::Start);
        let next = next.map_or(text.len()..text.len(), |next| next.at.clone());
        let behind = &text[marker.at.end..next.start];
        if behind.trim().is_empty() || is_notice(behind, &FOOTER_SIGNS) || is_notice(behind, &HEADER_SIGNS) {
            kept.push(&text[begin..marker.at.start]);
            begin = next.end;
            removed = true;
        }
    }
    kept.push(text.get(begin..).unwrap_or_default());
    let books: Vec<&str> = kept.iter().map(|book| trim(without_credits(book))).filter(|b| !b.is_empty()).collect();
    (removed && !books.is_empty()).then(|| books.join("\n\n\n") + "\n")
}

fn is_notice(text: &str, signs: &[&str]) -> bool {
    if text.len() > LONGEST {
        return false;
    }
    let lower = text.to_lowercase();
    lower.contains("gutenberg") && signs.iter().any(|sign| lower.contains(sign))
}

/// Without empty lines around it; the first line keeps its indentation.
fn trim(book: &str) -> &str {
    let book = book.trim_end();
    let first = book.len() - book.trim_start().len();
    &book[book[..first].rfind('\n').map_or(0, |at| at + 1)..]
}

/// Without the paragraph of credits that follows the start line.
fn without_credits(book: &str) -> &str {
    let trimmed = book.trim_start();
    let end = trimmed.find("\n\n").unwrap_or(trimmed.len());
    let paragraph = &trimmed[..end];
    let lower = paragraph.get(..paragraph.len().min(40)).unwrap_or(paragraph).to_lowercase();
    let credits = CREDITS.iter().any(|sign| lower.starts_with(sign));
    if credits && paragraph.lines().count() <= 8 && end < trimmed.len() { &trimmed[end..] } else { book }
}

/// Every line that may bound a book, in order.
fn markers(text: &str) -> Vec<Marker> {
    // Most texts have none, and this is quick.
    if !text.contains("utenberg") && !text.contains("UTENBERG") && !text.contains("SMALL PRINT") {
        return Vec::new();
    }
    let mut found = Vec::new();
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let start = at;
        at += line.len();
        let Some((kind, starred)) = kind(line) else { continue };
        let title = if starred && !line.trim_end().ends_with('*') { rest_of_title(&text[at..]) } else { 0 };
        found.push(Marker { kind, at: start..at + title });
    }
    found
}

/// The bytes of the lines on which a long title goes on, up to the closing stars; none when there are no stars.
fn rest_of_title(text: &str) -> usize {
    let mut bytes = 0;
    for line in text.split_inclusive('\n').take(3).take_while(|line| !line.trim().is_empty()) {
        bytes += line.len();
        if line.trim_end().ends_with('*') {
            return bytes;
        }
    }
    0
}

/// What a line bounds, and whether it is of the form with stars.
fn kind(line: &str) -> Option<(Kind, bool)> {
    let line = line.trim();
    let bare = line.trim_start_matches(['*', ' ']);
    if !bare.starts_with(['E', 'e', 'S', 's']) {
        return None;
    }
    let upper: String = bare.chars().take(120).collect::<String>().to_uppercase();
    let starred = line.starts_with('*');
    let after = |word: &str| upper.strip_prefix(word).map(|rest| rest.trim_start_matches(['*', ' ', '!']));
    if starred && after("END").is_some_and(|rest| rest.starts_with("THE SMALL PRINT")) {
        return Some((Kind::Start, true));
    }
    let names = |rest: &str| {
        let rest = rest.strip_prefix("THE ").or_else(|| rest.strip_prefix("THIS ")).unwrap_or(rest);
        rest.starts_with("PROJECT GUTENBERG")
    };
    if starred && after("START OF ").is_some_and(names) {
        return Some((Kind::Start, true));
    }
    after("END OF ").is_some_and(names).then_some((Kind::End, starred))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOOK: &str = "    THE TITLE\n\nIt began.\n\nIt ended.";

    fn modern(book: &str) -> String {
        format!(
            "The Project Gutenberg eBook of The Title\n\nTitle: The Title\n\n*** START OF THE PROJECT GUTENBERG EBOOK THE \
             TITLE,\nOR THE LONGER TITLE ***\n\nProduced by A. Person and\nothers\n\n\n{book}\n\nEnd of the Project \
             Gutenberg EBook of The Title\n\n*** END OF THE PROJECT GUTENBERG EBOOK THE TITLE ***\n\nUpdated editions will \
             replace the previous one.\nProject Gutenberg-tm\n"
        )
    }

    fn old(book: &str) -> String {
        format!(
            "**The Project Gutenberg Etext of The Title**\n\nCopyright laws are changing\n\n***START**THE SMALL PRINT!**FOR \
             PUBLIC DOMAIN ETEXTS**START***\nWhy is this here?\n*END*THE SMALL PRINT! FOR PUBLIC DOMAIN ETEXTS*Ver.04.29.93\
             *END*\n\n\n{book}\n\n\nEnd of Project Gutenberg's The Title, by An Author\n"
        )
    }

    #[test]
    fn notices_of_all_ages_go() {
        let clean = format!("{BOOK}\n");
        assert_eq!(strip(&modern(BOOK)).unwrap(), clean);
        assert_eq!(strip(&old(BOOK)).unwrap(), clean);
        assert_eq!(
            strip(&(modern(BOOK) + &old("Second.") + &modern("Third."))).unwrap(),
            format!("{BOOK}\n\n\nSecond.\n\n\nThird.\n")
        );
        let small_print_last =
            format!("{BOOK}\n\nEnd of this Project Gutenberg Etext\n\n*END*THE SMALL PRINT! *END*\n");
        assert_eq!(strip(&small_print_last).unwrap(), clean);
    }

    #[test]
    fn texts_about_gutenberg_stay_whole() {
        let essay = "Johannes Gutenberg printed. Project Gutenberg digitises: its files begin with the line\n\n\
                     *** START OF THE PROJECT GUTENBERG EBOOK HAMLET ***\n\nand end with\n\n\
                     *** END OF THE PROJECT GUTENBERG EBOOK HAMLET ***\n\nwhich I find handsome.\n";
        assert_eq!(strip(essay), None);
        assert_eq!(strip("End of Project Gutenberg's glory, he wrote; then came\nmore years, and more books.\n"), None);
        let long =
            format!("Project Gutenberg, title: x\n{}\n*END*THE SMALL PRINT! *END*\nrest\n", "A line.\n".repeat(10_000));
        assert_eq!(strip(&long), None, "a header has an end");
        let nothing_left = "Title: x Gutenberg\n*** START OF THE PROJECT GUTENBERG EBOOK X ***\n\n";
        assert_eq!(strip(nothing_left), None);
    }
}
