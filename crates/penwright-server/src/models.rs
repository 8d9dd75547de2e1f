//! The models that are served.

use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use penwright::generate::{ChatFormat, Length, shared_vocab};
use penwright::memory::free_memory;
use penwright::run::{ModelConfig, Run};
use serde_json::{Value, json};

use crate::metrics::ModelMetrics;
use crate::{Error, Result};

/// The most streams that are chosen by themselves.
const STREAMS: u64 = 64;

/// A model with its name, its streams and what is counted of it.
pub(crate) struct Model {
    /// The name that requests give.
    pub(crate) name: String,
    /// Its place among the models.
    pub(crate) index: usize,
    pub(crate) run: Run,
    /// Texts that can be written side by side.
    pub(crate) streams: usize,
    /// How turns are written.
    pub(crate) chat: ChatFormat,
    pub(crate) metrics: ModelMetrics,
    /// When it was loaded, in seconds of Unix time.
    created: u64,
}

impl Model {
    /// Prepares runs, opened to be written with, for serving. Without `streams`, as many as a quarter of the free memory
    /// holds at their longest, at most 64 for each model.
    ///
    /// # Errors
    /// When there is none, or two have one name.
    pub(crate) fn prepare(runs: Vec<(String, Run)>, streams: Option<usize>) -> Result<Vec<Arc<Model>>> {
        if runs.is_empty() {
            return Err(Error::Setting { name: "runs", problem: "there is nothing to serve; name a run".into() });
        }
        let share = share(runs.len());
        let mut models: Vec<Arc<Model>> = Vec::new();
        for (index, (name, run)) in runs.into_iter().enumerate() {
            if models.iter().any(|model| model.name == name) {
                let problem = format!("two runs are called {name}; name one of them otherwise, as in other={name}");
                return Err(Error::Setting { name: "runs", problem });
            }
            models.push(Arc::new(Model::new(name, run, index, streams, share)?));
        }
        Ok(models)
    }

    /// The model at place `index`, with so many streams, or as many as `share` bytes hold.
    pub(crate) fn new(name: String, run: Run, index: usize, streams: Option<usize>, share: u64) -> Result<Self> {
        let streams = match streams {
            Some(streams) => streams,
            None => (share / run.model.clone().session(1)?.stream_bytes().max(1)).clamp(1, STREAMS) as usize,
        };
        let chat = match ChatFormat::of_model(&run.dir, &run.tokenizer) {
            Some(format) => format,
            None => ChatFormat::names("User", "Assistant")?,
        };
        let created = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
        Ok(Model { name, index, run, streams, chat, metrics: ModelMetrics::default(), created })
    }

    /// Number of ids that both the model and its tokenizer know.
    pub(crate) fn vocab(&self) -> usize {
        shared_vocab(&self.run.model, &self.run.tokenizer)
    }

    /// Tokens of a reply when nobody says.
    pub(crate) fn usual_tokens(&self) -> usize {
        Length::default_for(self.run.tokenizer.level()).most_tokens()
    }

    /// As OpenAI describes a model.
    pub(crate) fn card(&self) -> Value {
        json!({"id": self.name, "object": "model", "created": self.created, "owned_by": "penwright"})
    }

    /// What the page wants to know.
    pub(crate) fn shape(&self) -> Value {
        let (layers, width, heads, context) = match &self.run.config {
            ModelConfig::Ngram(c) => (None, None, None, Some(c.order.saturating_sub(1))),
            ModelConfig::Lstm(c) => (Some(c.layers), Some(c.hidden), None, None),
            ModelConfig::Gpt2(c) => (Some(c.layers), Some(c.width), Some(c.heads), Some(c.context)),
        };
        json!({
            "id": self.name, "kind": self.run.model.kind(), "level": self.run.tokenizer.level(),
            "params": self.run.model.num_params(), "layers": layers, "width": width, "heads": heads,
            "context": context, "vocab_size": self.vocab(), "streams": self.streams
        })
    }
}

/// Bytes for the streams of each of so many models: together, a quarter of the free memory.
pub(crate) fn share(models: usize) -> u64 {
    free_memory() / 4 / models as u64
}

/// The name of the run that a person gives: what stands before `=`, else the folder's or file's own, or the hub's id.
/// And what is to be opened.
pub fn name_of(given: &str) -> (String, &str) {
    if let Some((name, path)) = given.split_once('=').filter(|(name, _)| !name.is_empty() && !name.contains('/')) {
        return (name.to_string(), path);
    }
    if penwright::hub::is_id(given) {
        return (given.to_string(), given);
    }
    let path = Path::new(given);
    let whole = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
    let name = if whole.is_file() { whole.file_stem() } else { whole.file_name() };
    (name.map_or_else(|| given.to_string(), |name| name.to_string_lossy().into_owned()), given)
}
