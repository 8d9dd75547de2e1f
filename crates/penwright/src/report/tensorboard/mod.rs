//! Event files for TensorBoard, `events.out.tfevents.…`: the losses, learning rate, gradient norm and speed as scalars,
//! the samples as text.
//!
//! Each start of a training writes a file of its own, as TensorFlow's writers do. A resumed run begins it with a
//! session start at the step after its checkpoint, at which TensorBoard drops what files before it hold from that step
//! on: what a killed run had written past its checkpoint is shown once, as the resumed run repeats it. Nothing that is
//! being watched is ever written over or cut.

mod proto;
mod wire;

use std::ffi::OsStr;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use proto::{Content, Value};

pub use wire::{frame, frames};

use crate::train::Event;
use crate::{Error, Result};

/// How the names begin; TensorBoard looks for it.
const PREFIX: &str = "events.out.tfevents.";
/// How our own end: no other program's files are touched.
const SUFFIX: &str = ".penwright";

/// Whether a file of a run directory is an event file that Penwright wrote.
pub(crate) fn is_ours(name: &OsStr) -> bool {
    second(name).is_some()
}

/// The second in the name of an event file of ours.
fn second(name: &OsStr) -> Option<u64> {
    name.to_str()?.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?.parse().ok()
}

/// The event files that Penwright wrote in a run directory, the oldest first.
///
/// # Errors
/// When the directory cannot be read.
pub fn files(run: &Path) -> Result<Vec<PathBuf>> {
    Ok(by_second(run)?.into_iter().map(|(_, path)| path).collect())
}

/// The event files with the seconds in their names, in order.
fn by_second(run: &Path) -> Result<Vec<(u64, PathBuf)>> {
    let read = || -> std::io::Result<Vec<(u64, PathBuf)>> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(run)? {
            let entry = entry?;
            found.extend(second(&entry.file_name()).map(|second| (second, entry.path())));
        }
        found.sort_unstable();
        Ok(found)
    };
    read().map_err(Error::io("read", run))
}

fn name(run: &Path, second: u64) -> PathBuf {
    run.join(format!("{PREFIX}{second:010}{SUFFIX}"))
}

/// Removes the event files of an old run, that a new one in its directory is not mistaken for it.
pub(super) fn forget(run: &Path) -> Result<()> {
    files(run)?.iter().try_for_each(|path| std::fs::remove_file(path).map_err(Error::io("replace", path)))
}

/// An event file being written.
pub struct EventFile {
    file: File,
    path: PathBuf,
    /// Seconds since 1970 at which training would have begun had it never been interrupted.
    began: f64,
    /// Seconds of the run, of the last event that told them.
    elapsed: f64,
}

impl EventFile {
    /// Begins a file in a run directory, of a run that goes on from the step `resumed_at` after so many seconds; both
    /// are 0 for a new one.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn create(run: &Path, resumed_at: u64, elapsed: f64) -> Result<Self> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        // TensorBoard reads files in the order of their names: after all that are there, whatever the clock says.
        let second = by_second(run)?.last().map_or(0, |last| last.0.saturating_add(1)).max(now.as_secs());
        let path = name(run, second);
        let file = File::create_new(&path).map_err(Error::io("create", &path))?;
        let mut file = EventFile { file, path, began: now.as_secs_f64() - elapsed, elapsed };
        file.write(0, &Content::Version)?;
        if resumed_at > 0 {
            file.write(resumed_at + 1, &Content::Start)?;
        }
        Ok(file)
    }

    /// Writes what TensorBoard can show of an event.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn add(&mut self, event: &Event) -> Result<()> {
        match event {
            Event::Step { step, epoch, elapsed_s, train_loss, lr, grad_norm, tokens_per_s, .. } => {
                self.elapsed = *elapsed_s;
                let values = [
                    ("loss/train", *train_loss as f32),
                    ("learning_rate", *lr),
                    ("gradient_norm", *grad_norm),
                    ("tokens_per_second", *tokens_per_s as f32),
                    ("epoch", *epoch as f32),
                ];
                self.write(*step, &Content::Summary(&values.map(|(tag, value)| Value::scalar(tag, value))))
            }
            Event::Eval { step, elapsed_s, val_loss, val_bits_per_char, .. } => {
                self.elapsed = *elapsed_s;
                let values = [("loss/validation", *val_loss), ("bits_per_char/validation", *val_bits_per_char)];
                let values = values.map(|(tag, value)| Value::scalar(tag, value as f32));
                self.write(*step, &Content::Summary(&values))
            }
            Event::Sample { step, text } => {
                // TensorBoard reads Markdown: as a block of code the lines stay as they are.
                let lines: String = text.lines().map(|line| format!("    {line}\n")).collect();
                self.write(*step, &Content::Summary(&[Value::text("sample", &lines)]))
            }
            Event::Plan { .. } | Event::Excerpt { .. } | Event::Done { .. } => Ok(()),
        }
    }

    fn write(&mut self, step: u64, content: &Content<'_>) -> Result<()> {
        let event = proto::event(self.began + self.elapsed, step, content);
        self.file.write_all(&wire::frame(&event)).map_err(Error::io("write", &self.path))
    }

    /// Brings all to the disk.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub fn finish(self) -> Result<()> {
        self.file.sync_all().map_err(Error::io("write", &self.path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::record::tests::{eval, plan, step};

    #[test]
    fn files_follow_each_other_and_only_our_own_are_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let foreign = dir.path().join("events.out.tfevents.1.host");
        std::fs::write(&foreign, "x").unwrap();
        // One from a clock that was ahead.
        std::fs::write(name(dir.path(), 9_000_000_000), "").unwrap();
        for resumed_at in [0, 20] {
            let mut file = EventFile::create(dir.path(), resumed_at, 0.0).unwrap();
            for event in [plan(0), step(30, 2.0), eval(30, 2.5), Event::Sample { step: 30, text: "a\nb".into() }] {
                file.add(&event).unwrap();
            }
            file.finish().unwrap();
        }
        let written = files(dir.path()).unwrap();
        assert!(written.len() == 3 && written.windows(2).all(|pair| pair[0] < pair[1]));
        let count = |path: &PathBuf| frames(&std::fs::read(path).unwrap()).unwrap().len();
        // The version, the values of a step, of a validation and of a sample; a session start when resumed.
        assert_eq!((count(&written[1]), count(&written[2])), (4, 5));
        forget(dir.path()).unwrap();
        assert!(files(dir.path()).unwrap().is_empty() && foreign.exists());
    }
}
