//! What the server counts.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A number that grows.
#[derive(Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, n: u64) {
        self.0.fetch_add(n, Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// A number that comes and goes.
#[derive(Default)]
pub(crate) struct Gauge(AtomicU64);

impl Gauge {
    pub(crate) fn set(&self, n: u64) {
        self.0.store(n, Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Upper ends of the buckets of durations, in seconds.
const BOUNDS: [f64; 16] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

/// How durations are distributed.
#[derive(Default)]
pub(crate) struct Histogram {
    buckets: [AtomicU64; BOUNDS.len() + 1],
    micros: AtomicU64,
}

impl Histogram {
    fn note(&self, duration: Duration) {
        let seconds = duration.as_secs_f64();
        let bucket = BOUNDS.iter().position(|&bound| seconds <= bound).unwrap_or(BOUNDS.len());
        self.buckets[bucket].fetch_add(1, Relaxed);
        self.micros.fetch_add(duration.as_micros() as u64, Relaxed);
    }

    /// How many were at most as long as each bound, which is in seconds and for the last of them `+Inf`; and their sum.
    pub(crate) fn cumulative(&self) -> (Vec<(String, u64)>, f64) {
        let mut sum = 0;
        let bounds = BOUNDS.iter().map(ToString::to_string).chain(["+Inf".into()]);
        let counts = bounds.zip(&self.buckets).map(|(bound, bucket)| {
            sum += bucket.load(Relaxed);
            (bound, sum)
        });
        (counts.collect(), self.micros.load(Relaxed) as f64 / 1e6)
    }
}

/// What is counted of a model.
#[derive(Default)]
pub(crate) struct ModelMetrics {
    /// Tokens of prompts read, end-of-text before them included.
    pub(crate) read: Counter,
    /// Tokens written.
    pub(crate) written: Counter,
    /// Texts given up, because the client had gone or it took too long.
    pub(crate) cancelled: Counter,
    /// Requests that wait.
    pub(crate) waiting: Gauge,
    /// Streams in use.
    pub(crate) busy: Gauge,
    /// From the request to its first token, and from token to token.
    pub(crate) first_token: Histogram,
    pub(crate) token: Histogram,
    /// The mean time a text takes, of late, in microseconds.
    text: AtomicU64,
}

impl ModelMetrics {
    /// A token has come, of a text queued at `queued` whose last one came at `last`.
    pub(crate) fn note_token(&self, now: Instant, queued: Instant, last: Option<Instant>) {
        self.written.add(1);
        match last {
            None => self.first_token.note(now.saturating_duration_since(queued)),
            Some(last) => self.token.note(now.saturating_duration_since(last)),
        }
    }

    /// A text is complete.
    pub(crate) fn note_done(&self, took: Duration) {
        let (mean, took) = (self.text.load(Relaxed), took.as_micros() as u64);
        self.text.store(if mean == 0 { took } else { (7 * mean + took) / 8 }, Relaxed);
    }

    /// Seconds until a request may find room behind `waiting` others, roughly: 1 to 60.
    pub(crate) fn wait_estimate(&self, waiting: usize, streams: usize) -> u64 {
        let rounds = (waiting / streams.max(1)) as u64 + 1;
        (rounds * self.text.load(Relaxed) / 1_000_000).clamp(1, 60)
    }
}

/// Requests by route and status.
#[derive(Default)]
pub(crate) struct Requests(Mutex<BTreeMap<(String, u16), u64>>);

impl Requests {
    pub(crate) fn note(&self, route: &str, status: u16) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry((route.to_string(), status)).or_default() += 1;
    }

    /// All there have been, in order.
    pub(crate) fn all(&self) -> BTreeMap<(String, u16), u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
