//! What was read, what was done to it, what was left out and why.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use super::clean::Cleaned;
use crate::error::{bytes, grouped};

/// The record of one reading, in the order of the inputs. `Display` gives a few lines for people.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Report {
    /// The files that were read.
    pub read: Vec<ReadFile>,
    /// The files that were not, and why.
    pub skipped: Vec<Skipped>,
}

/// A file that was read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ReadFile {
    /// Its path as given, or "standard input".
    pub name: String,
    /// "text", "markdown", "html", "epub" or "jsonl".
    pub format: &'static str,
    /// "gz" or "zst" when it was packed.
    pub packed: Option<&'static str>,
    /// The encoding's name in the web standard, such as "UTF-8" or "windows-1252".
    pub encoding: &'static str,
    /// Documents kept.
    pub documents: u64,
    /// Characters kept.
    pub chars: u64,
    /// Bytes kept, as UTF-8.
    pub bytes: u64,
    /// Documents dropped because the same text came before (a JSON Lines file's; a whole file is in `skipped`).
    pub copies: u64,
    /// Documents dropped because nothing was in them.
    pub empty: u64,
    /// What cleaning did to the documents read.
    pub cleaned: Cleaned,
}

/// A file that was not read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Skipped {
    /// Its path.
    pub name: String,
    /// Why, as words that follow "because" or a colon.
    pub reason: String,
}

/// Skipped files that `Display` names.
const NAMED: usize = 8;

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sum = |count: fn(&ReadFile) -> u64| self.read.iter().map(count).sum::<u64>();
        let files = plural(self.read.len() as u64, "file");
        let documents = plural(sum(|file| file.documents), "document");
        let (chars, size) = (plural(sum(|file| file.chars), "character"), bytes(sum(|file| file.bytes)));
        write!(f, "read {files}: {documents}, {chars} ({size}); ")?;
        let formats = self.tally(|file| match file.packed {
            Some(packed) => format!("{}.{packed}", file.format),
            None => file.format.to_string(),
        });
        write!(f, "{formats}; {}", self.tally(|file| file.encoding.to_string()))?;
        let mut cleaned = Cleaned::default();
        self.read.iter().for_each(|file| cleaned.add(&file.cleaned));
        let mut done = Vec::new();
        let mut note = |count: u64, one: &str, what: &str| {
            if count > 0 {
                done.push(format!("{} {what}", plural(count, one)));
            }
        };
        note(cleaned.joined_lines, "hard-wrapped line", "joined");
        note(cleaned.notices, "document", "freed of Project Gutenberg's notices");
        note(cleaned.control_characters, "control character", "removed");
        note(cleaned.damaged, "undecodable place", "replaced by U+FFFD");
        note(sum(|file| file.copies), "copy", "of earlier documents dropped");
        note(sum(|file| file.empty), "empty document", "dropped");
        if !done.is_empty() {
            write!(f, "\ncleaned: {}", done.join(", "))?;
        }
        for Skipped { name, reason } in self.skipped.iter().take(NAMED) {
            write!(f, "\nskipped {name}: {reason}")?;
        }
        match self.skipped.len().saturating_sub(NAMED) {
            0 => Ok(()),
            more => write!(f, "\nskipped {}", plural(more as u64, "more file")),
        }
    }
}

impl Report {
    /// "text 12, epub 1"; a single kind without its count.
    fn tally(&self, kind: impl Fn(&ReadFile) -> String) -> String {
        let mut counts = BTreeMap::new();
        for file in &self.read {
            *counts.entry(kind(file)).or_insert(0_u64) += 1;
        }
        match counts.len() {
            0 | 1 => counts.into_keys().collect(),
            _ => counts.iter().map(|(kind, count)| format!("{kind} {count}")).collect::<Vec<_>>().join(", "),
        }
    }
}

fn plural(count: u64, one: &str) -> String {
    let grouped = grouped(count, ',');
    match (count, one.strip_suffix('y')) {
        (1, _) => format!("1 {one}"),
        (_, Some(stem)) => format!("{grouped} {stem}ies"),
        _ => format!("{grouped} {one}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_readable_lines() {
        let file = |format, documents, joined_lines| ReadFile {
            format,
            documents,
            encoding: "UTF-8",
            chars: 1_234_567,
            bytes: 2_000_000,
            copies: 1,
            cleaned: Cleaned { joined_lines, ..Cleaned::default() },
            ..ReadFile::default()
        };
        let skipped = vec![Skipped { name: "a.png".into(), reason: "not a text".into() }; 10];
        let report = Report { read: vec![file("text", 1, 20), file("jsonl", 5000, 0)], skipped };
        let text = report.to_string();
        assert!(text.starts_with(
            "read 2 files: 5,001 documents, 2,469,134 characters (3.8 MiB); jsonl 1, text 1; UTF-8\n\
             cleaned: 20 hard-wrapped lines joined, 2 copies of earlier documents dropped\nskipped a.png: not a text\n"
        ));
        assert!(text.ends_with("\nskipped 2 more files"), "{text}");
    }
}
