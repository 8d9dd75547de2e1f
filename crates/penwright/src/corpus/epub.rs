//! EPUB to plain text by rbook: the documents of the spine in reading order.

use std::io::{self, Cursor, Write};

use rbook::Epub;

use super::decode::{Decoded, decode};
use super::find::Format;
use super::html;

/// The text of a book: each document of the spine but the table of contents, apart by two empty lines, and the first
/// one's encoding. What the book marks as outside the reading order is left out.
///
/// # Errors
/// What is wrong, when the book cannot be read, one of its chapters is missing, or its text exceeds `limit` bytes.
pub(super) fn text(bytes: Vec<u8>, limit: u64) -> Result<Decoded, String> {
    let damaged = |what: String| format!("is no EPUB book or a damaged one ({what}); get it again");
    let book = Epub::options()
        .skip_metadata(true)
        .skip_toc(true)
        .read(Cursor::new(bytes))
        .map_err(|error| damaged(reason(&error)))?;
    let mut left = limit;
    let mut chapters = Vec::new();
    let mut encoding = None;
    let mut replaced = 0;
    for entry in book.spine().iter().filter(|entry| entry.is_linear()) {
        let Some(item) = entry.manifest_entry() else {
            return Err(damaged(format!("its contents list no {}", entry.idref())));
        };
        let markup = matches!(item.media_type(), "application/xhtml+xml" | "text/html" | "text/x-oeb1-document");
        if !markup || item.properties().iter().any(|property| property == "nav") {
            continue;
        }
        let mut page = Page { bytes: Vec::new(), left };
        if let Err(error) = item.copy_bytes(&mut page) {
            let full = page.left == 0;
            let problem = || format!("its text exceeds {}; cut it into parts", crate::error::bytes(limit));
            return Err(if full { problem() } else { damaged(reason(&error)) });
        }
        left = page.left;
        let chapter = decode(page.bytes, Format::Epub)?;
        encoding = encoding.or(Some(chapter.encoding));
        replaced += chapter.damaged;
        let chapter = html::text(&chapter.text)?;
        if !chapter.is_empty() {
            chapters.push(chapter);
        }
    }
    Ok(Decoded { text: chapters.join("\n\n"), encoding: encoding.unwrap_or("UTF-8"), damaged: replaced })
}

/// An error with its causes, which say more than itself.
fn reason(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

/// Takes at most `left` bytes more.
struct Page {
    bytes: Vec<u8>,
    left: u64,
}

impl Write for Page {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self.left.checked_sub(buf.len() as u64) {
            Some(left) => self.left = left,
            None => {
                self.left = 0;
                return Err(io::Error::other("too large"));
            }
        }
        self.bytes.extend_from_slice(buf);
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
