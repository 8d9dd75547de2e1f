//! The cleaned text of all documents: in memory while it is small, else in a nameless mapped file.

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::ops::Range;
use std::path::PathBuf;

use penwright_kernels::Mapped;
use xxhash_rust::xxh3::xxh3_128;

use super::ReadOptions;
use super::report::{ReadFile, Report};
use crate::{Error, Result};

/// The texts that were read, ready to be tokenized.
#[derive(Debug)]
pub struct Corpus {
    text: Text,
    entries: Vec<Entry>,
    chars: u64,
    report: Report,
}

/// One document of a corpus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document<'a> {
    /// The file it comes from; of JSON Lines with `:` and the line, counted from one.
    pub name: String,
    /// Its text: NFC, line ends `\n`, not empty.
    pub text: &'a str,
}

#[derive(Debug)]
enum Text {
    Memory(String),
    Mapped(Mapped),
}

#[derive(Clone, Debug)]
struct Entry {
    hash: u128,
    bytes: Range<u64>,
    /// Index into the report's files.
    file: u32,
    /// Of JSON Lines; 0 for a file that is one document.
    line: u64,
}

impl Corpus {
    /// One document that is there already, taken as it is.
    pub fn from_text(name: &str, text: String) -> Corpus {
        let hash = xxh3_128(text.as_bytes());
        let entries = vec![Entry { hash, bytes: 0..text.len() as u64, file: 0, line: 0 }];
        let chars = text.chars().count() as u64;
        let (format, encoding, bytes) = ("text", "UTF-8", text.len() as u64);
        let file = ReadFile { name: name.into(), format, encoding, documents: 1, chars, bytes, ..ReadFile::default() };
        Corpus { text: Text::Memory(text), entries, chars, report: Report { read: vec![file], ..Report::default() } }
    }

    /// The documents in the order in which they were read.
    pub fn documents(&self) -> impl Iterator<Item = Document<'_>> {
        self.entries.iter().map(|entry| Document { name: name(&self.report, entry), text: self.text(entry) })
    }

    /// The documents' texts, in the same order. Each call checks mapped text to be UTF-8, that is, reads it once.
    pub fn texts(&self) -> Vec<&str> {
        self.entries.iter().map(|entry| self.text(entry)).collect()
    }

    /// Characters (Unicode scalar values) of all documents.
    pub fn chars(&self) -> u64 {
        self.chars
    }

    /// Bytes of all documents, as UTF-8.
    pub fn bytes(&self) -> u64 {
        self.entries.last().map_or(0, |entry| entry.bytes.end)
    }

    /// What was read, cleaned and skipped.
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// The XXH3 128-bit hashes of the documents, for [`ReadOptions::except`].
    pub fn hashes(&self) -> BTreeSet<u128> {
        self.entries.iter().map(|entry| entry.hash).collect()
    }

    fn text(&self, entry: &Entry) -> &str {
        let range = entry.bytes.start as usize..entry.bytes.end as usize;
        let text = match &self.text {
            Text::Memory(text) => text.get(range),
            Text::Mapped(map) => map.bytes().get(range).and_then(|bytes| std::str::from_utf8(bytes).ok()),
        };
        // The file holds what was written, and no one else can open it.
        text.unwrap_or_default()
    }
}

fn name(report: &Report, entry: &Entry) -> String {
    let file = report.read.get(entry.file as usize).map(|file| file.name.as_str()).unwrap_or_default();
    if entry.line == 0 { file.to_string() } else { format!("{file}:{}", entry.line) }
}

/// What became of a document.
pub(super) enum Added {
    Kept,
    Empty,
    /// The same text was there already, under this name.
    Copy(String),
}

/// A corpus in the making.
pub(super) struct Store<'a> {
    options: &'a ReadOptions,
    memory: String,
    file: Option<BufWriter<File>>,
    /// Bytes taken so far, in memory or in the file.
    bytes: u64,
    chars: u64,
    entries: Vec<Entry>,
    /// From hash to index of entry.
    known: HashMap<u128, usize>,
    pub(super) report: Report,
}

/// A state of a store to which it can go back.
pub(super) struct Mark {
    entries: usize,
    bytes: u64,
    chars: u64,
}

impl<'a> Store<'a> {
    pub(super) fn new(options: &'a ReadOptions) -> Self {
        Store {
            options,
            memory: String::new(),
            file: None,
            bytes: 0,
            chars: 0,
            entries: Vec::new(),
            known: HashMap::new(),
            report: Report::default(),
        }
    }

    /// Adds a document of the file that will be the report's next.
    pub(super) fn add(&mut self, line: u64, text: &str) -> Result<Added> {
        if text.trim().is_empty() {
            return Ok(Added::Empty);
        }
        let hash = xxh3_128(text.as_bytes());
        if self.options.except.contains(&hash) {
            return Ok(Added::Copy("a text that is held out".into()));
        }
        if let Some(first) = self.known.get(&hash).and_then(|&i| self.entries.get(i)) {
            let same_file = first.file as usize == self.report.read.len();
            return Ok(Added::Copy(if same_file { format!("line {}", first.line) } else { name(&self.report, first) }));
        }
        self.write(text)?;
        self.known.insert(hash, self.entries.len());
        let begin = self.bytes;
        self.bytes += text.len() as u64;
        self.chars += text.chars().count() as u64;
        let file = u32::try_from(self.report.read.len())
            .map_err(|_| Error::Text("more than 4,294,967,295 files; read them as .jsonl".into()))?;
        self.entries.push(Entry { hash, bytes: begin..self.bytes, file, line });
        Ok(Added::Kept)
    }

    fn write(&mut self, text: &str) -> Result<()> {
        if self.file.is_none() && self.bytes + text.len() as u64 > self.options.memory {
            let mut file = BufWriter::with_capacity(1 << 20, self.create()?);
            file.write_all(self.memory.as_bytes()).map_err(self.write_error())?;
            self.memory = String::new();
            self.file = Some(file);
        }
        let written = match &mut self.file {
            Some(file) => file.write_all(text.as_bytes()),
            None => {
                self.memory.push_str(text);
                Ok(())
            }
        };
        written.map_err(self.write_error())
    }

    fn create(&self) -> Result<File> {
        let folder = self.folder();
        tempfile::tempfile_in(&folder).map_err(Error::io("create a temporary file in", &folder))
    }

    fn folder(&self) -> PathBuf {
        self.options.scratch.clone().unwrap_or_else(std::env::temp_dir)
    }

    fn write_error(&self) -> impl FnOnce(std::io::Error) -> Error + use<> {
        Error::io("write a temporary file in", self.folder())
    }

    pub(super) fn mark(&self) -> Mark {
        Mark { entries: self.entries.len(), bytes: self.bytes, chars: self.chars }
    }

    /// Forgets the documents added since the mark.
    pub(super) fn back_to(&mut self, mark: &Mark) -> Result<()> {
        for entry in self.entries.drain(mark.entries..) {
            self.known.remove(&entry.hash);
        }
        (self.bytes, self.chars) = (mark.bytes, mark.chars);
        match self.file.take() {
            None => self.memory.truncate(mark.bytes as usize),
            Some(file) => {
                use std::io::{Seek, SeekFrom};
                let mut file = file.into_inner().map_err(|e| self.write_error()(e.into_error()))?;
                file.set_len(mark.bytes)
                    .and_then(|()| file.seek(SeekFrom::Start(mark.bytes)))
                    .map_err(self.write_error())?;
                self.file = Some(BufWriter::with_capacity(1 << 20, file));
            }
        }
        Ok(())
    }

    pub(super) fn finish(mut self) -> Result<Corpus> {
        let text = match self.file.take() {
            None => Text::Memory(std::mem::take(&mut self.memory)),
            Some(file) => {
                let file = file.into_inner().map_err(|e| self.write_error()(e.into_error()))?;
                Text::Mapped(Mapped::from_file(file).map_err(Error::io("map a temporary file in", self.folder()))?)
            }
        };
        Ok(Corpus { text, entries: self.entries, chars: self.chars, report: self.report })
    }

    pub(super) fn documents(&self) -> u64 {
        self.entries.len() as u64
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn chars(&self) -> u64 {
        self.chars
    }
}
