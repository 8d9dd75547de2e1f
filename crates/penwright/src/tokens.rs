//! The tokens of a corpus: in memory, or in a memory-mapped temporary file when they are many.

use std::fs::File;
use std::io::Write;
use std::ops::Deref;
use std::path::PathBuf;

use penwright_kernels::Mapped;

use crate::tokenizer::Tokenizer;
use crate::{Error, Result};

/// Bytes of text that are encoded at a time: what bounds the memory, and is split over the threads.
const BLOCK: usize = 8 << 20;

/// A sequence of token ids, read as a slice wherever it lies. A temporary file is gone with the value.
#[derive(Debug)]
pub struct Tokens {
    store: Store,
}

#[derive(Debug)]
enum Store {
    Memory(Vec<u32>),
    File(Mapped),
}

impl Tokens {
    /// Whether the ids lie in a file rather than in memory.
    pub fn is_mapped(&self) -> bool {
        matches!(self.store, Store::File(_))
    }
}

impl Deref for Tokens {
    type Target = [u32];

    fn deref(&self) -> &[u32] {
        match &self.store {
            Store::Memory(tokens) => tokens,
            Store::File(mapped) => mapped.words(),
        }
    }
}

impl From<Vec<u32>> for Tokens {
    fn from(tokens: Vec<u32>) -> Self {
        Tokens { store: Store::Memory(tokens) }
    }
}

/// Where [`token_stream`] keeps the tokens.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenStoreOptions {
    /// Bytes of tokens (four each) up to which they stay in memory.
    pub memory_limit: u64,
    /// Folder for the temporary file. It has no name there and vanishes with the process.
    pub dir: PathBuf,
}

impl Default for TokenStoreOptions {
    /// 1 GiB in memory, then the system's folder for temporary files.
    fn default() -> Self {
        TokenStoreOptions { memory_limit: 1 << 30, dir: std::env::temp_dir() }
    }
}

/// Encodes documents into one stream of tokens, each document begun by the end-of-text token: in parallel, a few
/// megabytes of text at a time, the same for any number of threads. `progress` is told the bytes of text done and
/// the bytes in all, the first time at once.
///
/// # Errors
/// When the temporary file cannot be made or written.
pub fn token_stream(
    tokenizer: &Tokenizer,
    texts: &[&str],
    options: &TokenStoreOptions,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Tokens> {
    let total: u64 = texts.iter().map(|text| text.len() as u64).sum();
    let mut writer = Writer { options, memory: Vec::new(), file: None };
    let mut done = 0;
    progress(done, total);
    for text in texts {
        writer.add(&[tokenizer.eot()])?;
        let mut rest = *text;
        while !rest.is_empty() {
            let at = if rest.len() <= BLOCK { rest.len() } else { tokenizer.safe_cut(rest, BLOCK) };
            let (block, after) = rest.split_at(at);
            writer.add(&tokenizer.encode(block))?;
            rest = after;
            done += block.len() as u64;
            progress(done, total);
        }
    }
    writer.finish()
}

/// Holds tokens in memory up to the limit, then writes all of them to a file.
struct Writer<'a> {
    options: &'a TokenStoreOptions,
    memory: Vec<u32>,
    file: Option<File>,
}

impl Writer<'_> {
    fn add(&mut self, tokens: &[u32]) -> Result<()> {
        let bytes = 4 * (self.memory.len() + tokens.len()) as u64;
        if self.file.is_none() && bytes > self.options.memory_limit {
            let file = tempfile::tempfile_in(&self.options.dir);
            self.file = Some(file.map_err(Error::io("create a temporary file in", &self.options.dir))?);
            let held = std::mem::take(&mut self.memory);
            self.write(&held)?;
        }
        if self.file.is_some() {
            return self.write(tokens);
        }
        self.memory.extend_from_slice(tokens);
        Ok(())
    }

    fn write(&mut self, tokens: &[u32]) -> Result<()> {
        let Some(file) = &mut self.file else { return Ok(()) };
        let written = file.write_all(bytemuck::cast_slice(tokens));
        written.map_err(Error::io("write the tokens to a temporary file in", &self.options.dir))
    }

    fn finish(self) -> Result<Tokens> {
        let store = match self.file {
            Some(file) => {
                let mapped = Mapped::from_file(file);
                Store::File(mapped.map_err(Error::io("map the temporary file in", &self.options.dir))?)
            }
            None => Store::Memory(self.memory),
        };
        Ok(Tokens { store })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokenizer::Level;

    #[test]
    fn memory_and_file_hold_the_same() {
        let long = "The wind and the sea. Naïve — 東京!\n".repeat(300_000);
        let texts = ["A first document.", "", &long];
        let dir = tempfile::tempdir().unwrap();
        for level in [Level::Char, Level::Word, Level::Bpe] {
            let tokenizer = Tokenizer::train(level, &[&long[..4000]], None).unwrap();
            let expected = crate::train::token_stream(&tokenizer, &texts);
            for (memory_limit, mapped) in [(100, true), (4 * expected.len() as u64, false)] {
                let options = TokenStoreOptions { memory_limit, dir: dir.path().into() };
                let mut seen = Vec::new();
                let tokens = token_stream(&tokenizer, &texts, &options, &mut |done, all| seen.push((done, all)));
                let tokens = tokens.unwrap();
                assert!(*tokens == *expected && tokens.is_mapped() == mapped);
                let all = texts.iter().map(|text| text.len() as u64).sum();
                assert!(seen.len() > 3 && seen[0] == (0, all) && seen[seen.len() - 1] == (all, all));
                assert!(seen.is_sorted());
            }
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "the file has no name");
    }

    #[test]
    fn a_missing_folder_is_an_error() {
        let tokenizer = Tokenizer::train(Level::Char, &["abc"], None).unwrap();
        let options = TokenStoreOptions { memory_limit: 0, dir: "/no/such/folder".into() };
        let error = token_stream(&tokenizer, &["abc"], &options, &mut |_, _| {}).unwrap_err().to_string();
        assert!(error.starts_with("cannot create a temporary file in /no/such/folder"), "{error}");
    }
}
