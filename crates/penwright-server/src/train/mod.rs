//! Training at the page's wish, where the server allows it: one run at a time, watched while it goes.

mod run;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::http::StatusCode;
use penwright::model::{DecodePrecision, ModelKind};
use penwright::run::Run as OpenRun;

use crate::engine::{Engine, Failure};
use crate::http::ApiError;
pub(crate) use run::{Following, Run};

/// Where trained models join the others.
#[derive(Clone)]
struct Place {
    engine: Arc<Engine>,
    precision: DecodePrecision,
}

impl Place {
    /// # Errors
    /// When the run cannot be opened, or the model's streams do not fit beside the others.
    fn take_in(&self, name: &str, dir: &Path) -> crate::Result<()> {
        self.engine.join(name, OpenRun::open_to_write(dir, self.precision)?)
    }
}

/// Where runs are trained, and those since the server began.
pub(crate) struct Trainer {
    folder: PathBuf,
    place: Place,
    runs: Mutex<Runs>,
}

#[derive(Default)]
struct Runs {
    /// The oldest first.
    all: Vec<Arc<Run>>,
    /// Whether no more may begin.
    closed: bool,
}

impl Trainer {
    /// With run directories in `folder`.
    pub(crate) fn new(folder: PathBuf, engine: Arc<Engine>, precision: DecodePrecision) -> Self {
        Trainer { folder, place: Place { engine, precision }, runs: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Runs> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The runs, the oldest first.
    pub(crate) fn runs(&self) -> Vec<Arc<Run>> {
        self.lock().all.clone()
    }

    /// Begins a run in the folder `name`, which the caller has found to be nothing but a name.
    ///
    /// # Errors
    /// When another is going on, there is a run or a model of the name, the server is about to leave, or no thread can be
    /// had.
    pub(crate) fn begin(
        &self,
        name: &str,
        kind: ModelKind,
        text: String,
        budget: Duration,
    ) -> Result<Arc<Run>, ApiError> {
        let conflict = |message: String| ApiError::new(StatusCode::CONFLICT, message).code("conflict");
        let mut runs = self.lock();
        if runs.closed {
            return Err(Failure::Stopping.into());
        }
        if runs.all.iter().any(|run| run.is_going()) {
            return Err(conflict("another run is being trained; stop it, or wait for its end".into()));
        }
        let out = self.folder.join(name);
        if self.place.engine.models().iter().any(|model| model.name == name) {
            return Err(conflict(format!("there is a model called {name} already; choose another name")));
        }
        if out.exists() {
            return Err(conflict(format!("there is a run called {name} already; choose another name")));
        }
        let run = Arc::new(Run::new(name, kind, out));
        run.start(text, budget, self.place.clone())?;
        runs.all.push(run.clone());
        Ok(run)
    }

    /// Ends what is going on after the step at hand, for good: a request whose text was still on its way begins nothing.
    pub(crate) fn close(&self) {
        let mut runs = self.lock();
        runs.closed = true;
        runs.all.iter().for_each(|run| run.stop());
    }

    /// Waits until all is saved.
    pub(crate) fn wait(&self) {
        self.runs().iter().for_each(|run| run.wait());
    }

    /// The run of an id.
    ///
    /// # Errors
    /// When there is none.
    pub(crate) fn find(&self, id: &str) -> Result<Arc<Run>, ApiError> {
        let found = self.runs().into_iter().find(|run| run.id == id);
        found.ok_or_else(|| ApiError::new(StatusCode::NOT_FOUND, "there is no such run").code("not_found"))
    }
}
