//! The record of a run: `metrics.jsonl`, one event a line.

use std::fs::{File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::Event;
use crate::files;
use crate::{Error, Result};

const FILE: &str = "metrics.jsonl";

/// The record being written.
pub(super) struct Metrics {
    file: File,
    path: PathBuf,
    length: u64,
}

impl Metrics {
    /// Opens the record and cuts it back to `length` bytes: what came after a checkpoint will be written again.
    pub(super) fn open(run: &Path, length: u64) -> Result<Self> {
        let path = run.join(FILE);
        let open = || -> std::io::Result<File> {
            let mut file = OpenOptions::new().create(true).truncate(false).write(true).open(&path)?;
            file.set_len(length.min(file.metadata()?.len()))?;
            file.seek(SeekFrom::End(0))?;
            Ok(file)
        };
        let file = open().map_err(Error::io("write", &path))?;
        Ok(Metrics { file, path, length })
    }

    pub(super) fn add(&mut self, event: &Event) -> Result<()> {
        let line = serde_json::to_string(event).unwrap_or_default() + "\n";
        self.file.write_all(line.as_bytes()).map_err(Error::io("write", &self.path))?;
        self.length = self.length.saturating_add(line.len() as u64);
        Ok(())
    }

    pub(super) fn length(&self) -> u64 {
        self.length
    }
}

/// Adds an event to the record of a run that is over.
///
/// # Errors
/// When the file cannot be written.
pub(crate) fn append(run: &Path, event: &Event) -> Result<()> {
    Metrics::open(run, u64::MAX)?.add(event)
}

/// Reads the record of a run; a last line broken off by a kill is left out.
///
/// # Errors
/// When the file cannot be read.
pub fn read_metrics(run: &Path) -> Result<Vec<Event>> {
    let path = run.join(FILE);
    let text = std::fs::read_to_string(&path).map_err(Error::io("read", &path))?;
    Ok(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
}

/// Writes the record's samples, oldest first, as a text for people; nothing when there are none.
pub(super) fn write_samples(run: &Path) -> Result<()> {
    let samples: String = read_metrics(run)?
        .iter()
        .filter_map(|event| match event {
            Event::Sample { step, text } => Some(format!("=== step {step}\n\n{}\n\n", text.trim_end())),
            _ => None,
        })
        .collect();
    if samples.is_empty() { Ok(()) } else { files::write(&run.join("samples.txt"), samples.as_bytes()) }
}
