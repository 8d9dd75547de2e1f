//! The report of a run: what happened, what it means and what to do next, as one web page; and event files for
//! TensorBoard.
//!
//! ```text
//! metrics.jsonl or events as they come ─► Record ─► judge ─► Verdict ─► Report ─► JSON, html() for a page
//! ```

mod advice;
mod page;
mod record;
mod recorder;
pub mod tensorboard;
mod verdict;
mod words;

use std::path::Path;

use serde::Serialize;

pub use advice::{Advice, advise};
pub use page::html;
pub use record::{Ending, Planned, Record, Sample, Steps, Validation};
pub use recorder::{REPORT, Recorder};
pub use verdict::{
    AFTER_BEST, CLIMB, Evidence, FALL, Finding, GAP, READ, RISE, SHARP_RISE, SMALL_TEXT, Verdict, judge,
};

use crate::Result;
use crate::train::{SETTINGS, Settings};

/// A run, judged. It serialises to the JSON of `report`.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The run directory.
    pub run: String,
    /// The verdict in a few words.
    pub headline: String,
    /// Plain sentences: what was seen, and what it means.
    pub explanation: Vec<String>,
    /// What to do next, the most useful first.
    pub next: Vec<Advice>,
    /// The verdict and what it was measured by.
    pub verdict: Verdict,
    /// The course of the run.
    #[serde(skip)]
    pub record: Record,
    /// The settings it was started with, as far as they are known.
    #[serde(skip)]
    pub settings: Settings,
}

impl Report {
    /// The report of a run directory.
    ///
    /// # Errors
    /// When it has no record of its training.
    pub fn read(run: &Path) -> Result<Report> {
        Ok(Report::of(Record::read(run)?, run))
    }

    /// The report of a record; the settings are read from the run directory.
    pub fn of(record: Record, run: &Path) -> Report {
        // Of a run whose settings are gone or another version's, the report has less to tell.
        let settings = Settings::load(&run.join(SETTINGS)).unwrap_or_default();
        let verdict = judge(&Evidence::from(&record));
        Report {
            run: run.display().to_string(),
            headline: verdict.headline(&record),
            explanation: verdict.explanation(&record),
            next: advise(&verdict, &record, &settings, run),
            verdict,
            record,
            settings,
        }
    }
}

#[cfg(test)]
mod tests;
