//! Reading texts, in the order of the files here: find the files, unpack them, decode and extract their text, clean it,
//! store it, split it.
//!
//! | input | what is read |
//! | --- | --- |
//! | `.txt`, `.md` | the text as it is |
//! | `.html`, `.htm`, `.xhtml` | the text without markup |
//! | `.epub` | the chapters in reading order |
//! | `.jsonl` | one document a line, in the field `text` or another |
//! | any of these with `.gz` or `.zst` | the same, unpacked as it is read |
//! | a folder | all such files below it, in order of name |
//! | `-` | standard input; packing and form are told from the content |
//!
//! A file that is named may have any name; what it holds decides. One document at a time, or a few small ones, is held in
//! memory; a single document must fit into about a quarter of it. The cleaned text is kept in memory up to
//! [`ReadOptions::memory`] and beyond that in a temporary file that is mapped, so a corpus may be larger than memory.

mod clean;
mod decode;
mod epub;
mod find;
mod gutenberg;
mod html;
mod jsonl;
mod report;
mod split;
mod store;
#[cfg(test)]
mod tests;
mod unpack;
mod wrapping;

use std::collections::BTreeSet;
use std::path::PathBuf;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

pub use clean::Cleaned;
pub use report::{ReadFile, Report, Skipped};
pub use store::{Corpus, Document};

use crate::memory::free_memory;
use crate::{Error, Result};
use find::{Format, Source};
use store::{Added, Store};
use unpack::Opened;

/// What a text's words are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WordFormat {
    /// Text as people write it.
    #[default]
    Text,
    /// Text cut into words already, as the files of Penn Treebank and WikiText are: white space stands between words,
    /// rare ones are `<unk>`, and the end of a line counts as a word.
    Ptb,
}

/// How to read.
#[derive(Clone, Debug)]
pub struct ReadOptions {
    /// The field of a JSON Lines record that holds the text.
    pub field: String,
    /// Leave hard-wrapped lines as they are instead of joining them into paragraphs.
    pub keep_wrapping: bool,
    /// What the words are. Of text that is cut already only white space is changed, so that a word looks the same
    /// wherever it stands: each line is its words with one space before each.
    pub word_format: WordFormat,
    /// Bytes of cleaned text kept in memory; a larger corpus goes to a temporary file that is mapped.
    pub memory: u64,
    /// The longest document, in bytes after unpacking; `None` for a quarter of the memory that is free.
    pub max_document: Option<u64>,
    /// The folder for the temporary file; `None` for the system's, which may be too small for a large corpus.
    pub scratch: Option<PathBuf>,
    /// Documents to leave out, by [`Corpus::hashes`]: those of the validation text, so that it has no copy here.
    pub except: BTreeSet<u128>,
}

impl Default for ReadOptions {
    fn default() -> Self {
        ReadOptions {
            field: "text".into(),
            keep_wrapping: false,
            word_format: WordFormat::Text,
            memory: 1 << 30,
            max_document: None,
            scratch: None,
            except: BTreeSet::new(),
        }
    }
}

/// How far a reading is, reported after each file and each portion of a large one.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// The file just read or being read.
    pub name: String,
    /// Files dealt with.
    pub files: usize,
    /// Files to deal with.
    pub of: usize,
    /// Documents kept so far.
    pub documents: u64,
    /// Bytes of cleaned text so far.
    pub bytes: u64,
}

/// Reads files, folders and standard input (`-`) into one corpus, as the [module](self) says.
///
/// A file met in a folder that cannot be read is skipped and stands in the report; so does a document whose text came
/// before. A file is read whole or not at all.
///
/// # Errors
/// When a file that was named cannot be read or is no text, and when there is no text in all of them.
pub fn read(inputs: &[PathBuf], options: &ReadOptions, progress: &mut dyn FnMut(&Progress)) -> Result<Corpus> {
    let (sources, skipped) = find::sources(inputs)?;
    let limit = options.max_document.unwrap_or_else(quarter_of_free_memory);
    let mut store = Store::new(options);
    store.report.skipped = skipped;
    let mut rest = sources.as_slice();
    while let Some(first) = rest.first() {
        let several = small_files(rest);
        let (now, later) = rest.split_at(several.max(1));
        rest = later;
        let before = sources.len() - later.len() - now.len();
        if several > 0 {
            let documents: Vec<_> = now.par_iter().map(|source| read_document(source, options, limit)).collect();
            for (i, (source, document)) in now.iter().zip(documents).enumerate() {
                add_document(&mut store, source, document)?;
                progress(&progress_of(&store, source, before + i + 1, sources.len()));
            }
        } else {
            let mut portion = |store: &Store| progress(&progress_of(store, first, before, sources.len()));
            read_alone(&mut store, first, options, limit, &mut portion)?;
            progress(&progress_of(&store, first, before + 1, sources.len()));
        }
    }
    if store.documents() == 0 {
        return Err(no_text(inputs, sources.is_empty(), &store.report));
    }
    store.finish()
}

/// Bytes on disk that are read together; packed files count eightfold.
const TOGETHER: u64 = 32 << 20;

/// How many of the next files are small and hold one document each, so that they may be read in parallel.
fn small_files(sources: &[Source]) -> usize {
    let mut total = 0;
    let fits = |source: &&Source| {
        let packed = source.format == Some(Format::Epub) || find::is_packed(&source.path);
        let one = !matches!(source.format, None | Some(Format::Jsonl));
        total += source.bytes.unwrap_or(u64::MAX / 16).saturating_mul(if packed { 8 } else { 1 });
        one && total <= TOGETHER
    };
    sources.iter().take_while(fits).count()
}

fn quarter_of_free_memory() -> u64 {
    (free_memory() / 4).max(64 << 20)
}

fn progress_of(store: &Store, source: &Source, files: usize, of: usize) -> Progress {
    Progress { name: source.name(), files, of, documents: store.documents(), bytes: store.bytes() }
}

/// A file that is one document, read and cleaned.
struct Whole {
    text: String,
    file: ReadFile,
}

fn read_document(source: &Source, options: &ReadOptions, limit: u64) -> Result<Whole> {
    whole_document(source, Opened::open(source, &options.field)?, options, limit)
}

fn whole_document(source: &Source, opened: Opened, options: &ReadOptions, limit: u64) -> Result<Whole> {
    let Opened { format, packed, .. } = opened;
    let bytes = opened.whole(source, limit)?;
    let extracted = match format {
        Format::Epub => epub::text(bytes, limit),
        _ => decode::decode(bytes, format),
    };
    let extracted = match format {
        Format::Html => extracted.and_then(|page| Ok(decode::Decoded { text: html::text(&page.text)?, ..page })),
        _ => extracted,
    };
    let decode::Decoded { text, encoding, damaged } = extracted.map_err(|problem| source.damaged(problem))?;
    let (text, mut cleaned) = clean::clean(text, format, options);
    cleaned.damaged = damaged;
    let file =
        ReadFile { name: source.name(), format: format.name(), packed, encoding, cleaned, ..ReadFile::default() };
    Ok(Whole { text, file })
}

fn add_document(store: &mut Store, source: &Source, document: Result<Whole>) -> Result<()> {
    let Whole { text, mut file } = match document {
        Ok(document) => document,
        Err(error) => return skip_or_fail(store, source, error),
    };
    let chars = store.chars();
    let reason = match store.add(0, &text)? {
        Added::Kept => {
            (file.documents, file.chars, file.bytes) = (1, store.chars() - chars, text.len() as u64);
            store.report.read.push(file);
            return Ok(());
        }
        Added::Empty => "there is no text in it".into(),
        Added::Copy(of) => format!("the same text as {of}"),
    };
    store.report.skipped.push(Skipped { name: source.name(), reason });
    Ok(())
}

/// Reads a large file, one of an unknown form, or JSON Lines.
fn read_alone(
    store: &mut Store,
    source: &Source,
    options: &ReadOptions,
    limit: u64,
    portion: &mut dyn FnMut(&Store),
) -> Result<()> {
    let opened = match Opened::open(source, &options.field) {
        Ok(opened) if opened.format == Format::Jsonl => opened,
        Ok(opened) => return add_document(store, source, whole_document(source, opened, options, limit)),
        Err(error) => return skip_or_fail(store, source, error),
    };
    let mark = store.mark();
    let mut file = ReadFile {
        name: source.name(),
        format: Format::Jsonl.name(),
        packed: opened.packed,
        encoding: "UTF-8",
        ..ReadFile::default()
    };
    let (chars, bytes) = (store.chars(), store.bytes());
    let mut failed_to_store = false;
    let read = jsonl::each(source, opened, options, limit, |records| {
        for record in records {
            file.cleaned.add(&record.cleaned);
            match store.add(record.line, &record.text).inspect_err(|_| failed_to_store = true)? {
                Added::Kept => file.documents += 1,
                Added::Empty => file.empty += 1,
                Added::Copy(_) => file.copies += 1,
            }
        }
        portion(store);
        Ok(())
    });
    match read {
        Ok(()) if file.documents > 0 => {
            (file.chars, file.bytes) = (store.chars() - chars, store.bytes() - bytes);
            store.report.read.push(file);
        }
        Ok(()) => {
            let reason = if file.copies > 0 { "all its texts came before" } else { "there is no text in it" };
            store.report.skipped.push(Skipped { name: source.name(), reason: reason.into() });
        }
        Err(error) if failed_to_store => return Err(error),
        Err(error) => {
            store.back_to(&mark)?;
            return skip_or_fail(store, source, error);
        }
    }
    Ok(())
}

fn skip_or_fail(store: &mut Store, source: &Source, error: Error) -> Result<()> {
    if source.explicit {
        return Err(error);
    }
    let reason = match error {
        Error::Damaged { problem, .. } => problem,
        Error::Io { source, .. } => source.to_string(),
        other => other.to_string(),
    };
    store.report.skipped.push(Skipped { name: source.name(), reason });
    Ok(())
}

fn no_text(inputs: &[PathBuf], no_files: bool, report: &Report) -> Error {
    let names: Vec<_> = inputs.iter().map(|input| input.display().to_string()).collect();
    let names = if names.is_empty() { "nothing".into() } else { names.join(", ") };
    Error::Text(match report.skipped.iter().find(|_| !no_files) {
        _ if no_files => format!(
            "no text in {names}: there is no .txt, .md, .html, .epub or .jsonl file (hidden files are passed over); give \
             a file or a folder with such files"
        ),
        Some(Skipped { name, reason }) if inputs.len() > 1 || *name != names => {
            format!("no text in {names}: {name}: {reason}; give a text file that is not empty")
        }
        Some(Skipped { reason, .. }) => format!("no text in {names}: {reason}; give a text file that is not empty"),
        None => format!("no text in {names}; give a text file that is not empty"),
    })
}
