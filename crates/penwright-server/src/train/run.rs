//! One run: its thread, its state and its events.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use axum::http::StatusCode;
use penwright::model::ModelKind;
use penwright::report::Recorder;
use penwright::train::{Event, Job, Outcome, Settings};
use penwright::{Error, files};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::Place;
use crate::http::{ApiError, Events};
use crate::random::random;

/// The name of the text in a run's folder.
const TEXT: &str = "text.txt";

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Preparing,
    Training,
    Done,
    Stopped,
    Failed,
}

/// What has happened: all events but steps, of which only the last is of use to who comes later.
struct Log {
    state: State,
    events: Vec<Value>,
    step: (u64, Value),
}

/// A run being trained, or one that was.
pub(crate) struct Run {
    /// Not to be guessed.
    pub(crate) id: String,
    name: String,
    kind: ModelKind,
    /// Its directory.
    pub(crate) out: PathBuf,
    asked_to_stop: AtomicBool,
    thread: Mutex<Option<JoinHandle<()>>>,
    log: Mutex<Log>,
    /// Counts what happens.
    news: watch::Sender<u64>,
}

impl Run {
    pub(super) fn new(name: &str, kind: ModelKind, out: PathBuf) -> Self {
        let log = Log { state: State::Preparing, events: Vec::new(), step: (0, Value::Null) };
        Run {
            id: format!("{:016x}{:016x}", random(), random()),
            name: name.to_string(),
            kind,
            out,
            asked_to_stop: AtomicBool::new(false),
            thread: Mutex::default(),
            log: Mutex::new(log),
            news: watch::channel(0).0,
        }
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn card(&self) -> Value {
        json!({"id": self.id, "name": self.name, "kind": self.kind, "state": self.log().state})
    }

    pub(super) fn is_going(&self) -> bool {
        matches!(self.log().state, State::Preparing | State::Training)
    }

    pub(crate) fn stop(&self) {
        self.asked_to_stop.store(true, Ordering::Relaxed);
    }

    /// Waits until it has ended and is saved.
    pub(super) fn wait(&self) {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        // Panics are caught within it.
        let _ = thread.map(JoinHandle::join);
    }

    /// The events from `seen` on and the last step after number `step`, which both move on; and whether that was all
    /// there will be.
    fn since(&self, seen: &mut usize, step: &mut u64) -> (Vec<Value>, bool) {
        let log = self.log();
        let mut found: Vec<Value> = log.events.iter().skip(*seen).cloned().collect();
        *seen = log.events.len();
        if log.step.0 > *step {
            // Before the end, if that is there already.
            let end = found.len() - usize::from(found.last().is_some_and(is_end));
            found.insert(end, log.step.1.clone());
            *step = log.step.0;
        }
        (found, !matches!(log.state, State::Preparing | State::Training))
    }

    fn tell(&self, event: Value, state: State) {
        let mut log = self.log();
        log.state = state;
        match event["event"] == "step" {
            true => log.step = (log.step.0 + 1, event),
            false => log.events.push(event),
        }
        drop(log);
        self.news.send_modify(|count| *count += 1);
    }

    /// Trains in a thread of its own.
    ///
    /// # Errors
    /// When the thread cannot be had.
    pub(super) fn start(self: &Arc<Self>, text: String, budget: Duration, place: Place) -> Result<(), ApiError> {
        let run = self.clone();
        let train = move || {
            // A panic must not leave a run that seems to go on for ever.
            let work = std::panic::AssertUnwindSafe(|| run.train(&text, budget, &place));
            let message = match std::panic::catch_unwind(work) {
                Ok(Ok((end, state))) => return run.tell(end, state),
                Ok(Err(error)) => error.to_string(),
                Err(_) => "the training broke off by a fault of the program".into(),
            };
            run.tell(json!({"event": "failed", "message": message}), State::Failed);
        };
        let failed = |error| {
            ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, format!("no thread to train in can be had: {error}"))
        };
        let thread = std::thread::Builder::new().name("train".into()).spawn(train).map_err(failed)?;
        *self.thread.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread);
        Ok(())
    }

    /// Trains; the last event, and the state that the run is in then.
    fn train(&self, text: &str, budget: Duration, place: &Place) -> penwright::Result<(Value, State)> {
        std::fs::create_dir_all(&self.out).map_err(Error::io("create", &self.out))?;
        let path = self.out.join(TEXT);
        files::write(&path, text.as_bytes())?;
        let prepared = Job::prepare(self.settings(&path, budget), &mut |now| self.stage(now.stage));
        let job = prepared.inspect_err(|_| {
            // A text that cannot be trained on leaves nothing behind, so that the name is free again.
            let _ = std::fs::remove_file(&path).and_then(|()| std::fs::remove_dir(&self.out));
        })?;
        let (mut recorder, mut end) = (Recorder::new(&self.out, false), Value::Null);
        let outcome = job.run(&self.out, false, &self.asked_to_stop, &mut |event: &Event| {
            recorder.on_event(event);
            let told = serde_json::to_value(event).unwrap_or_default();
            // The end is told when the report is written.
            match event {
                Event::Done { .. } => end = told,
                _ => self.tell(told, State::Training),
            }
        });
        let recorded = recorder.finish(&outcome);
        let outcome = outcome?;
        recorded?;
        // The name by which it can be asked from now on.
        end["model"] = place.take_in(&self.name, &self.out).map_or(Value::Null, |()| json!(self.name));
        Ok((end, if outcome == Outcome::Interrupted { State::Stopped } else { State::Done }))
    }

    fn settings(&self, text: &Path, budget: Duration) -> Settings {
        Settings { text: vec![text.to_path_buf()], model: Some(self.kind), budget: Some(budget), ..Settings::default() }
    }

    fn stage(&self, stage: &str) {
        let last = self.log().events.last().is_some_and(|event| event["stage"] == stage);
        if !last {
            self.tell(json!({"event": "preparing", "stage": stage}), State::Preparing);
        }
    }
}

/// Somebody who watches a run.
pub(crate) struct Following {
    run: Arc<Run>,
    news: watch::Receiver<u64>,
    /// Events seen, and the number of the last step seen.
    seen: usize,
    step: u64,
}

impl Following {
    /// From the beginning of the run on.
    pub(crate) fn new(run: Arc<Run>) -> Self {
        let news = run.news.subscribe();
        Following { run, news, seen: 0, step: 0 }
    }
}

impl Events for Following {
    async fn next(&mut self) -> Option<Vec<Value>> {
        loop {
            self.news.mark_unchanged();
            let (found, over) = self.run.since(&mut self.seen, &mut self.step);
            if !found.is_empty() {
                return Some(found);
            }
            // The sender lives as long as the run, so that an error cannot be.
            if over || self.news.changed().await.is_err() {
                return None;
            }
        }
    }
}

fn is_end(event: &Value) -> bool {
    event["event"] == "done" || event["event"] == "failed"
}
