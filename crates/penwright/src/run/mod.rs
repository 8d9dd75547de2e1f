//! The run directory: what `train` writes and everything else reads. Every file is written whole or not at all.

mod config;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::json;

use crate::files::{create_dir, read_json, read_params, write_json, write_params};
use crate::model::{LanguageModel, Ngram, Params};
use crate::tokenizer::Tokenizer;
use crate::{Error, Result};

pub use config::ModelConfig;

pub(crate) use crate::files::WEIGHTS;

/// A run opened for use.
pub struct Run {
    /// The directory.
    pub dir: PathBuf,
    /// The model's shape.
    pub config: ModelConfig,
    /// The model.
    pub model: Arc<dyn LanguageModel>,
    /// Its tokenizer.
    pub tokenizer: Tokenizer,
}

impl Run {
    /// Opens a run directory.
    ///
    /// # Errors
    /// When a file is missing, damaged, or of another shape than the configuration says.
    pub fn open(dir: &Path) -> Result<Run> {
        let path = dir.join("config.json");
        let config = ModelConfig::from_json(&path, &read_json(&path)?)?;
        let tokenizer = Tokenizer::load(dir)?;
        let model: Arc<dyn LanguageModel> = match &config {
            ModelConfig::Ngram(shape) => Arc::new(Ngram::load(dir, shape.clone())?),
            _ => load_neural(dir, &config)?,
        };
        if tokenizer.vocab_size() != model.vocab_size() {
            return Err(Error::damaged(
                dir.join("tokenizer.json"),
                "has another vocabulary than the model; copy the run again",
            ));
        }
        Ok(Run { dir: dir.to_path_buf(), config, model, tokenizer })
    }
}

fn load_neural(dir: &Path, config: &ModelConfig) -> Result<Arc<dyn LanguageModel>> {
    let path = dir.join(WEIGHTS);
    let raw = std::fs::read(&path).map_err(Error::io("read", &path))?;
    // The weights are on disk already: a header that claims more than the file holds allocates nothing.
    if config.num_params().saturating_mul(4) > raw.len() as u64 {
        return Err(Error::damaged(&path, "is shorter than config.json says; copy the run again"));
    }
    let mut model = config.build(0)?;
    read_params(&path, &raw, model.params_mut())?;
    Ok(model.into_model())
}

/// Writes the weights of a run.
pub(crate) fn save_weights(dir: &Path, params: &Params) -> Result<()> {
    write_params(&dir.join(WEIGHTS), params, None)
}

/// Creates the directory with what does not change in training.
pub(crate) fn create(dir: &Path, config: &ModelConfig, tokenizer: &Tokenizer) -> Result<()> {
    create_dir(dir)?;
    write_json(&dir.join("config.json"), &config.to_json(tokenizer.eot()))?;
    let (bos, eos) = (tokenizer.eot(), tokenizer.eot());
    let generation = json!({"bos_token_id": bos, "eos_token_id": eos, "do_sample": true, "temperature": 0.8});
    write_json(&dir.join("generation_config.json"), &generation)?;
    tokenizer.save(dir)
}
