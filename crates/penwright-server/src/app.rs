//! What the handlers share.

use std::sync::Arc;

use axum::http::StatusCode;
use tokio::sync::watch;

use crate::engine::Engine;
use crate::http::ApiError;
use crate::metrics::Requests;
use crate::models::Model;
use crate::options::Options;
use crate::train::Trainer;

/// The engine, and what was asked for on the command line.
pub(crate) struct App {
    pub(crate) engine: Arc<Engine>,
    pub(crate) options: Options,
    pub(crate) requests: Requests,
    /// What trains, if it is allowed.
    pub(crate) trainer: Option<Trainer>,
    stop: watch::Receiver<bool>,
}

impl App {
    pub(crate) fn new(engine: Engine, options: Options, stop: watch::Receiver<bool>) -> Self {
        let engine = Arc::new(engine);
        let trainer = options.training.clone().map(|folder| Trainer::new(folder, engine.clone(), options.precision));
        App { engine, options, requests: Requests::default(), trainer, stop }
    }

    /// Whether the server is about to leave.
    pub(crate) fn stopping(&self) -> bool {
        *self.stop.borrow()
    }

    /// The model of a name; without one, the first.
    pub(crate) fn model(&self, name: Option<&str>) -> Result<Arc<Model>, ApiError> {
        let models = self.engine.models();
        let found = match name {
            Some(name) => models.iter().find(|model| model.name == name),
            None => models.first(),
        };
        found.cloned().ok_or_else(|| {
            let names: Vec<&str> = models.iter().map(|model| model.name.as_str()).collect();
            let asked: String = name.unwrap_or_default().chars().take(80).collect();
            let message = format!("there is no model {asked:?}; there are: {}", names.join(", "));
            ApiError::field("model", message).status(StatusCode::NOT_FOUND).code("model_not_found")
        })
    }
}
