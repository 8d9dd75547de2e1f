//! Times of repetitions.

use std::time::{Duration, Instant};

/// How long and how often one thing is measured.
#[derive(Clone, Copy, Debug)]
pub(super) struct Effort {
    /// Seconds after which no more repetitions begin.
    seconds: f64,
    least: usize,
    most: usize,
}

impl Effort {
    pub(super) const FULL: Effort = Effort { seconds: 3.0, least: 5, most: 101 };
    pub(super) const QUICK: Effort = Effort { seconds: 0.5, least: 3, most: 21 };

    /// The same for something of which many are measured.
    pub(super) fn brief(self) -> Effort {
        Effort { seconds: self.seconds / 10.0, ..self }
    }
}

impl From<Vec<Duration>> for Times {
    fn from(times: Vec<Duration>) -> Self {
        let mut times: Vec<f64> = times.iter().map(|time| time.as_secs_f64().max(1e-9)).collect();
        times.sort_by(f64::total_cmp);
        Times(times)
    }
}

/// Seconds of each repetition, sorted.
#[derive(Clone, Debug)]
pub(super) struct Times(Vec<f64>);

impl Times {
    /// Times `work` after one repetition that does not count: memory is touched, caches are filled.
    pub(super) fn of(effort: Effort, mut work: impl FnMut()) -> Times {
        work();
        Times::measured(effort, || {
            let start = Instant::now();
            work();
            start.elapsed()
        })
    }

    /// Repeats what times itself.
    pub(super) fn measured(effort: Effort, mut work: impl FnMut() -> Duration) -> Times {
        let (start, mut times) = (Instant::now(), Vec::new());
        while times.len() < effort.least || start.elapsed().as_secs_f64() < effort.seconds && times.len() < effort.most
        {
            times.push(work());
        }
        times.into()
    }

    /// The value below which a part of the times lies.
    fn at(&self, part: f64) -> f64 {
        self.0[((self.0.len() - 1) as f64 * part).round() as usize]
    }

    pub(super) fn median(&self) -> f64 {
        self.at(0.5)
    }

    pub(super) fn best(&self) -> f64 {
        self.at(0.0)
    }

    pub(super) fn spread(&self) -> f64 {
        (self.at(0.75) - self.at(0.25)) / self.median()
    }

    pub(super) fn count(&self) -> usize {
        self.0.len()
    }
}
