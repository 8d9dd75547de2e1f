//! Keeps the report of a run, and its event files where they are asked for, as the training goes on.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::record::{Ending, Record};
use super::tensorboard::{self, EventFile};
use super::{Report, html};
use crate::train::{Event, Outcome, append, read_metrics};
use crate::{Error, Result, files};

/// The name of the page in a run directory.
pub const REPORT: &str = "report.html";

/// The page is written while training goes on as long as that takes less than this share of the time.
const SHARE: f64 = 0.005;

/// Takes the events of a training and writes the page into its run directory: at validations and at the end.
///
/// What cannot be written stops no training; [`finish`](Recorder::finish) tells of it.
pub struct Recorder {
    run: PathBuf,
    record: Record,
    tensorboard: bool,
    events: Option<EventFile>,
    /// When the page was written last, and how long that took.
    written: Option<(Instant, Duration)>,
    failed: Option<Error>,
}

impl Recorder {
    /// For the run directory `run`. With `tensorboard`, or when a resumed run has such files, event files are written.
    pub fn new(run: &Path, tensorboard: bool) -> Self {
        let (record, run) = (Record::default(), run.to_path_buf());
        Recorder { run, record, tensorboard, events: None, written: None, failed: None }
    }

    /// Takes in what happened, as [`Job::run`](crate::train::Job::run) tells it.
    pub fn on_event(&mut self, event: &Event) {
        if self.failed.is_none() {
            self.failed = self.take(event).err();
        }
    }

    fn take(&mut self, event: &Event) -> Result<()> {
        if let Event::Plan { resumed_at, .. } = event {
            self.begin(*resumed_at)?;
        }
        self.record.add(event);
        if let Some(events) = &mut self.events {
            events.add(event)?;
        }
        match event {
            Event::Eval { .. } if self.is_cheap() => self.write(),
            // The end is written by `finish`.
            _ => Ok(()),
        }
    }

    /// A new run forgets what lies there of an old one; a resumed run takes up its record, which has been cut back to
    /// where the checkpoint was taken.
    fn begin(&mut self, resumed_at: u64) -> Result<()> {
        let mut before = Vec::new();
        if resumed_at > 0 {
            before = read_metrics(&self.run)?;
            self.record = Record::default();
            before.iter().for_each(|event| self.record.add(event));
        } else {
            files::remove(&self.run.join(REPORT))?;
            tensorboard::forget(&self.run)?;
        }
        let had = tensorboard::files(&self.run)?;
        if self.tensorboard || !had.is_empty() {
            let mut file = EventFile::create(&self.run, resumed_at, self.record.done.2)?;
            if had.is_empty() {
                before.iter().try_for_each(|event| file.add(event))?;
            }
            self.events = Some(file);
        }
        Ok(())
    }

    fn is_cheap(&self) -> bool {
        self.written.is_none_or(|(at, took)| took.as_secs_f64() <= SHARE * at.elapsed().as_secs_f64())
    }

    fn write(&mut self) -> Result<()> {
        let began = Instant::now();
        let report = Report::of(self.record.clone(), &self.run);
        files::write(&self.run.join(REPORT), html(&report).as_bytes())?;
        self.written = Some((Instant::now(), began.elapsed()));
        Ok(())
    }

    /// Writes the page as the training has ended. Of a training that diverged, the record is given its end.
    ///
    /// # Errors
    /// When the page, or an event file before it, could not be written.
    pub fn finish(mut self, outcome: &Result<Outcome>) -> Result<()> {
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        match outcome {
            Err(Error::Diverged { step, .. }) => {
                let end = self.diverged(step.saturating_sub(1));
                append(&self.run, &end)?;
                self.record.add(&end);
            }
            // Nothing has begun, or it failed in a way that says nothing about the run.
            Err(_) if self.record.ending == Ending::Open => return Ok(()),
            _ => {}
        }
        if let Some(events) = self.events.take() {
            events.finish()?;
        }
        self.write()
    }

    fn diverged(&self, steps: u64) -> Event {
        let (done, best) = (self.record.done, self.record.best());
        Event::Done {
            run: self.run.display().to_string(),
            reason: "diverged".into(),
            steps,
            tokens: done.1,
            elapsed_s: done.2,
            best_val_loss: best.map(|best| best.loss),
            best_val_bits_per_char: best.map(|best| best.bits_per_char),
            params: self.record.plan.params,
        }
    }
}
