//! The run directory: what `train` writes and everything else reads. Every file is written whole or not at all.
//!
//! What is read may also be a model from elsewhere: a Hugging Face directory, adapters on a base, a GGUF file.

mod config;
mod parts;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::Result;
use crate::files::{create_dir, write_json, write_params};
use crate::formats::hf;
use crate::hub;
use crate::model::{DecodePrecision, LanguageModel, LoraConfig, Params};
use crate::tokenizer::Tokenizer;

pub use config::ModelConfig;
pub use parts::tokenizer;
pub(crate) use parts::{Parts, Weights, gpt2};

pub(crate) use crate::files::WEIGHTS;

/// A run opened for use.
pub struct Run {
    /// Where it lies: a folder or a file.
    pub dir: PathBuf,
    /// The model's shape.
    pub config: ModelConfig,
    /// The model.
    pub model: Arc<dyn LanguageModel>,
    /// Its tokenizer.
    pub tokenizer: Tokenizer,
    /// Names and shapes of the model's tensors, adapters' after the base's; none of an n-gram model.
    pub tensors: Vec<(String, Vec<usize>)>,
    /// What adapters it has, and the name of the base they belong to.
    pub adapter: Option<(LoraConfig, String)>,
}

impl Run {
    /// Opens a run directory, a Hugging Face directory of a GPT-2, adapters on one, or a `.gguf` file.
    ///
    /// # Errors
    /// When a file is missing, damaged, or of another shape than the configuration says.
    pub fn open(path: &Path) -> Result<Run> {
        let parts = Parts::read(path)?;
        Ok(Run {
            dir: path.to_path_buf(),
            config: parts.config.clone(),
            tokenizer: parts.tokenizer.clone(),
            tensors: parts.tensors(),
            adapter: parts.adapter.as_ref().map(|adapter| (adapter.lora.config.clone(), adapter.base.clone())),
            model: parts.model()?,
        })
    }
}

impl Run {
    /// The same with the weights as they are stored while writing; quicker than [`Run::open`] and
    /// [`LanguageModel::with_precision`] after it.
    ///
    /// # Errors
    /// As for [`Run::open`], and when the weights do not fit into memory.
    pub fn open_to_write(path: &Path, precision: DecodePrecision) -> Result<Run> {
        if let Some(run) = Parts::open_gpt2(path, precision)? {
            return Ok(run);
        }
        let run = Run::open(path)?;
        Ok(Run { model: run.model.clone().with_precision(precision)?, ..run })
    }
}

/// Where a model lies that a person names: a path, or an id of the Hugging Face hub (see [`hub::is_id`]), which is
/// fetched. `progress` is told the file's name, the bytes done and in all.
///
/// # Errors
/// When it cannot be fetched.
pub fn locate(name: &str, progress: &mut dyn FnMut(&str, u64, u64)) -> Result<PathBuf> {
    match hub::is_id(name) {
        true => hub::fetch(name, &mut |now| progress(now.file, now.done, now.total)),
        false => Ok(PathBuf::from(name)),
    }
}

/// Writes the weights of a run.
pub(crate) fn save_weights(dir: &Path, params: &Params) -> Result<()> {
    write_params(&dir.join(WEIGHTS), params, None)
}

/// Creates the directory with what does not change in training.
pub(crate) fn create(dir: &Path, config: &ModelConfig, tokenizer: &Tokenizer) -> Result<()> {
    create_dir(dir)?;
    write_json(&dir.join("config.json"), &config.to_json(tokenizer.eot()))?;
    write_json(&dir.join("generation_config.json"), &hf::config::generation(tokenizer))?;
    tokenizer.save(dir)
}
