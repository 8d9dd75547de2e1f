//! Reading texts: find, decode, clean, split.

use std::io::Read;
use std::path::{Path, PathBuf};

use unicode_normalization::UnicodeNormalization;

use crate::{Error, Result};

/// One document.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    /// Where it comes from.
    pub name: String,
    /// Its text: NFC, line ends `\n`.
    pub text: String,
}

/// Reads files, folders (every `.txt` and `.md` below, in order of name) and `-`, standard input.
///
/// # Errors
/// When a file cannot be read, is not UTF-8, or nothing with text is found.
pub fn read(inputs: &[PathBuf]) -> Result<Vec<Document>> {
    let mut documents = Vec::new();
    for input in inputs {
        if input.as_os_str() == "-" {
            let mut raw = Vec::new();
            std::io::stdin().read_to_end(&mut raw).map_err(Error::io("read", "standard input"))?;
            documents.push(document(input, raw)?);
        } else {
            for file in files_of(input)? {
                let raw = std::fs::read(&file).map_err(Error::io("read", &file))?;
                documents.push(document(&file, raw)?);
            }
        }
    }
    documents.retain(|d| !d.text.trim().is_empty());
    if documents.is_empty() {
        let names: Vec<_> = inputs.iter().map(|p| p.display().to_string()).collect();
        return Err(Error::Text(format!("no text in {}; give .txt or .md files that are not empty", names.join(", "))));
    }
    Ok(documents)
}

fn files_of(path: &Path) -> Result<Vec<PathBuf>> {
    if !std::fs::metadata(path).map_err(Error::io("read", path))?.is_dir() {
        return Ok(vec![path.to_path_buf()]);
    }
    let mut entries = std::fs::read_dir(path)
        .and_then(|entries| entries.map(|e| e.map(|e| e.path())).collect::<std::io::Result<Vec<_>>>())
        .map_err(Error::io("read", path))?;
    entries.sort();
    let mut files = Vec::new();
    for entry in entries {
        let is_text = entry.extension().is_some_and(|e| e == "txt" || e == "md");
        if entry.is_dir() && !entry.is_symlink() {
            files.extend(files_of(&entry)?);
        } else if is_text {
            files.push(entry);
        }
    }
    Ok(files)
}

fn document(path: &Path, raw: Vec<u8>) -> Result<Document> {
    let text = String::from_utf8(raw).map_err(|e| {
        Error::damaged(
            path,
            format!("is not UTF-8 text (byte {}); convert it to UTF-8 first", e.utf8_error().valid_up_to()),
        )
    })?;
    if text.contains('\0') {
        return Err(Error::damaged(path, "is not text (it contains zero bytes); give a text file"));
    }
    let text = text.trim_start_matches('\u{feff}').replace("\r\n", "\n").replace('\r', "\n");
    Ok(Document { name: path.display().to_string(), text: text.nfc().collect() })
}

/// Splits each document into its first part, for training, and its last `fraction` of characters, for validation.
///
/// # Errors
/// When the fraction is not between 0 and 1.
pub fn split(documents: &[Document], fraction: f64) -> Result<(Vec<&str>, Vec<&str>)> {
    if !(fraction > 0.0 && fraction < 1.0) {
        return Err(Error::setting("val-fraction", format!("{fraction} is not between 0 and 1; try 0.1")));
    }
    let parts = documents.iter().map(|document| {
        let chars = document.text.chars().count();
        let train = (chars as f64 * (1.0 - fraction)) as usize;
        let at = document.text.char_indices().nth(train).map_or(document.text.len(), |(i, _)| i);
        document.text.split_at(at)
    });
    let (train, val): (Vec<_>, Vec<_>) = parts.unzip();
    Ok((train.into_iter().filter(|t| !t.is_empty()).collect(), val.into_iter().filter(|t| !t.is_empty()).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn split_is_contiguous_and_complete() {
        let documents = [Document { name: "a".into(), text: "ääääääääbc".into() }];
        assert_eq!(split(&documents, 0.2).unwrap(), (vec!["ääääääää"], vec!["bc"]));
        assert!(split(&documents, 1.0).is_err() && split(&documents, f64::NAN).is_err());
    }

    #[test]
    fn cleans_and_refuses() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, bytes: &[u8]| {
            let path = dir.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            path
        };
        let good = write("b.txt", "\u{feff}e\u{301}t\r\ne".as_bytes());
        assert_eq!(read(&[good]).unwrap()[0].text, "ét\ne");
        assert!(read(&[write("c.bin", &[0xff, 0xfe, 0x80])]).unwrap_err().to_string().contains("UTF-8"));
        assert!(read(&[write("d.bin", b"a\0b")]).unwrap_err().to_string().contains("not text"));
        assert!(read(&[write("e.text", b"")]).unwrap_err().to_string().contains("no text"));
        assert!(read(&[dir.path().join("none")]).unwrap_err().to_string().contains("check the path"));
        assert_eq!(read(&[dir.path().to_path_buf()]).unwrap().len(), 1);
    }
}
