//! From a file to its bytes: gzip and zstd undone, and a guess at the form from the first bytes.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read};

use flate2::bufread::MultiGzDecoder;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

use super::find::{Format, Source, is_packed};
use crate::{Error, Result, error};

/// Bytes looked at to tell the form.
const PEEK: usize = 4096;
/// Text packs to no less than a few hundredths of its size; what unpacks to more than this many times its size, and to
/// more than [`BOMB_FLOOR`], is no text.
const BOMB_RATIO: u64 = 250;
const BOMB_FLOOR: u64 = 64 << 20;

/// An opened file: its bytes, unpacked as they are read.
pub(super) struct Opened {
    reader: Box<dyn BufRead>,
    /// What unpacks it: "gz", "zst" or nothing.
    pub(super) packed: Option<&'static str>,
    pub(super) format: Format,
}

impl Opened {
    /// Opens a source and finds its form: from its name, or for standard input and unknown names from its content.
    /// The first bytes tell gzip, zstd and zip whatever the name says.
    pub(super) fn open(source: &Source, field: &str) -> Result<Opened> {
        let raw: Box<dyn Read> = if source.is_stdin() {
            Box::new(io::stdin())
        } else {
            Box::new(File::open(&source.path).map_err(Error::io("read", &source.path))?)
        };
        let (start, raw) = peek(raw).map_err(Error::io("read", source.name()))?;
        let packed = match start.as_slice() {
            [0x1f, 0x8b, ..] => Some("gz"),
            // The second is a skippable frame, which may stand first.
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Some("zst"),
            _ => None,
        };
        let unpacked: Box<dyn Read> = match packed {
            Some("gz") => Box::new(MultiGzDecoder::new(raw)),
            Some(_) => Box::new(Zstd::new(raw)),
            None => {
                refuse_unpacked(source, start.is_empty())?;
                let format = form(source, &start, field)?;
                return Ok(Opened { reader: raw, packed, format });
            }
        };
        let allowed = source.bytes.map_or(u64::MAX, |bytes| bytes.saturating_mul(BOMB_RATIO).max(BOMB_FLOOR));
        let unpacked = Box::new(Guard { inner: unpacked, left: allowed });
        let (start, reader) = peek(unpacked).map_err(|e| fault(source, packed, e))?;
        let format = form(source, &start, field)?;
        Ok(Opened { reader, packed, format })
    }

    /// All of it, when it is no longer than `limit`.
    pub(super) fn whole(mut self, source: &Source, limit: u64) -> Result<Vec<u8>> {
        if let (None, Some(bytes)) = (self.packed, source.bytes)
            && bytes > limit
        {
            return Err(too_large(source, limit));
        }
        let mut bytes = Vec::new();
        let read = (&mut self.reader).take(limit.saturating_add(1)).read_to_end(&mut bytes);
        read.map_err(|e| fault(source, self.packed, e))?;
        if bytes.len() as u64 > limit { Err(too_large(source, limit)) } else { Ok(bytes) }
    }

    /// The next line with its end, when it is no longer than `limit`; `false` at the end.
    pub(super) fn line(&mut self, line: &mut Vec<u8>, source: &Source, limit: u64) -> Result<bool> {
        let read = (&mut self.reader).take(limit.saturating_add(1)).read_until(b'\n', line);
        read.map_err(|e| fault(source, self.packed, e))?;
        if line.len() as u64 > limit { Err(too_large(source, limit)) } else { Ok(!line.is_empty()) }
    }
}

fn too_large(source: &Source, limit: u64) -> Error {
    source.damaged(format!(
        "one document is larger than {}, what may be read at once on this machine; cut it into parts, or give it as \
         .jsonl with a document a line, which is read line by line",
        error::bytes(limit)
    ))
}

fn fault(source: &Source, packed: Option<&'static str>, error: io::Error) -> Error {
    match packed {
        None => Error::io("read", source.name())(error),
        Some(_) if error.get_ref().is_some_and(|e| e.is::<Bomb>()) => source.damaged(error.to_string()),
        Some(kind) if error.kind() == io::ErrorKind::UnexpectedEof => {
            source.damaged(format!("the {kind} file ends too early; get it again"))
        }
        Some(kind) => source.damaged(format!("the {kind} file is damaged ({error}); get it again")),
    }
}

/// The first bytes, and a reader that still begins with them.
fn peek<'a>(mut reader: Box<dyn Read + 'a>) -> io::Result<(Vec<u8>, Box<dyn BufRead + 'a>)> {
    let mut start = Vec::with_capacity(PEEK);
    (&mut reader).take(PEEK as u64).read_to_end(&mut start)?;
    let again = BufReader::with_capacity(1 << 16, Cursor::new(start.clone()).chain(reader));
    Ok((start, Box::new(again)))
}

fn refuse_unpacked(source: &Source, empty: bool) -> Result<()> {
    if !is_packed(&source.path) {
        return Ok(());
    }
    Err(source.damaged(if empty {
        "the packed file is empty; get it again"
    } else {
        "is not packed as its name says; rename it after what it is"
    }))
}

/// The form of unpacked bytes: zip is EPUB, else what the name says, else what the content looks like.
fn form(source: &Source, start: &[u8], field: &str) -> Result<Format> {
    let refused = match start {
        [b'P', b'K', 3, 4, ..] => return Ok(Format::Epub),
        [b'%', b'P', b'D', b'F', b'-', ..] => Some("a PDF; save its text first, for instance with pdftotext"),
        [b'{', b'\\', b'r', b't', b'f', ..] => Some("a rich-text document; save it as plain text first"),
        [0xd0, 0xcf, 0x11, 0xe0, ..] => Some("an old Office document; save it as plain text first"),
        _ if start.get(257..262) == Some(b"ustar") => Some("a tar archive; unpack it and give the folder"),
        _ if start.get(60..68) == Some(b"BOOKMOBI") => Some("a Kindle book; convert it to EPUB first"),
        _ => None,
    };
    if let Some(kind) = refused {
        return Err(source.damaged(format!("is {kind}")));
    }
    Ok(source.format.unwrap_or_else(|| {
        let start = start.strip_prefix(b"\xef\xbb\xbf").unwrap_or(start).trim_ascii_start();
        let begins = |tag: &[u8]| start.get(..tag.len()).is_some_and(|s| s.eq_ignore_ascii_case(tag));
        let first_line = start.split(|&b| b == b'\n').next().unwrap_or_default();
        if begins(b"<!doctype html") || begins(b"<html") {
            Format::Html
        } else if start.first() == Some(&b'{') && (is_record(first_line, field) || unfinished_record(start, field)) {
            Format::Jsonl
        } else {
            Format::Text
        }
    }))
}

fn is_record(line: &[u8], field: &str) -> bool {
    serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(line)
        .is_ok_and(|record| record.get(field).is_some_and(|value| value.is_string()))
}

/// A first record longer than the bytes looked at: it begins `{"field"`.
fn unfinished_record(start: &[u8], field: &str) -> bool {
    let Ok(quoted) = serde_json::to_string(field) else { return false };
    !start.contains(&b'\n') && start.get(1..).is_some_and(|s| s.trim_ascii_start().starts_with(quoted.as_bytes()))
}

#[derive(Debug, thiserror::Error)]
#[error("unpacks to more than {BOMB_RATIO} times its size, as no text does; give the text itself")]
struct Bomb;

/// Fails once more than `left` bytes came out.
struct Guard<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Read for Guard<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buf)?;
        self.left = self.left.checked_sub(read as u64).ok_or_else(|| io::Error::other(Bomb))?;
        Ok(read)
    }
}

/// Decodes zstd frames one after another, checking their checksums; ruzstd's own reader stops after the first.
struct Zstd<R> {
    source: R,
    decoder: FrameDecoder,
    inside: bool,
}

impl<R: BufRead> Zstd<R> {
    fn new(source: R) -> Self {
        Zstd { source, decoder: FrameDecoder::new(), inside: false }
    }

    /// Begins the next frame; `false` at the end.
    fn next_frame(&mut self) -> io::Result<bool> {
        loop {
            if self.source.fill_buf()?.is_empty() {
                return Ok(false);
            }
            match self.decoder.reset(&mut self.source) {
                Ok(()) => return Ok(true),
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame { length, .. })) => {
                    let skipped = io::copy(&mut (&mut self.source).take(u64::from(length)), &mut io::sink())?;
                    if skipped < u64::from(length) {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                }
                Err(error) => return Err(self.zstd_error(error)),
            }
        }
    }

    /// A decoder's error, told apart from the end of the input, which it reports in many forms.
    fn zstd_error(&mut self, error: FrameDecoderError) -> io::Error {
        match self.source.fill_buf() {
            Ok([]) => io::ErrorKind::UnexpectedEof.into(),
            Ok(_) => io::Error::new(io::ErrorKind::InvalidData, error.to_string()),
            Err(error) => error,
        }
    }
}

impl<R: BufRead> Read for Zstd<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        loop {
            if self.inside {
                while self.decoder.can_collect() == 0 && !self.decoder.is_finished() {
                    let decoded = self.decoder.decode_blocks(&mut self.source, BlockDecodingStrategy::UptoBlocks(1));
                    if let Err(error) = decoded {
                        return Err(self.zstd_error(error));
                    }
                }
                if self.decoder.can_collect() > 0 {
                    return self.decoder.read(buf);
                }
                let (stored, computed) =
                    (self.decoder.get_checksum_from_data(), self.decoder.get_calculated_checksum());
                if stored.is_some() && stored != computed {
                    return Err(io::Error::new(io::ErrorKind::InvalidData, "the checksum differs"));
                }
            }
            self.inside = self.next_frame()?;
            if !self.inside {
                return Ok(0);
            }
        }
    }
}
