//! All that a model is made of, from wherever it lies: a run, a Hugging Face directory, adapters on a base, a GGUF file.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{ModelConfig, Run, locate};
use crate::files::{WEIGHTS, read_json, read_params};
use crate::formats::gguf::Gguf;
use crate::formats::{hf, peft};
use crate::model::{DecodePrecision, Gpt2, Gpt2Config, LanguageModel, Lora, Lstm, Ngram, Params, Tensor, Trainable};
use crate::tokenizer::Tokenizer;
use crate::{Error, Result};

/// A model taken apart.
pub(crate) struct Parts {
    /// The shape.
    pub(crate) config: ModelConfig,
    /// The tokenizer.
    pub(crate) tokenizer: Tokenizer,
    /// What it has learned.
    pub(crate) weights: Weights,
    /// Adapters on the weights.
    pub(crate) adapter: Option<Adapter>,
}

/// What a model has learned.
pub(crate) enum Weights {
    /// Counts.
    Ngram(Arc<Ngram>),
    /// An arena of parameters.
    Neural(Params),
}

/// Adapters and the base they belong to.
pub(crate) struct Adapter {
    /// The base as it was named.
    pub(crate) base: String,
    /// The adapters.
    pub(crate) lora: Lora,
}

impl Parts {
    /// Reads what lies at a path.
    ///
    /// # Errors
    /// When a file is missing, damaged, or of another shape than the configuration says.
    pub(crate) fn read(path: &Path) -> Result<Parts> {
        if path.is_file() {
            return Self::read_file(path);
        }
        if path.join(peft::CONFIG).exists() {
            return Self::read_adapter(path);
        }
        let config_path = path.join("config.json");
        let config = ModelConfig::from_json(&config_path, &read_json(&config_path)?)?;
        let weights = || -> Result<Weights> {
            Ok(match &config {
                ModelConfig::Ngram(shape) => Weights::Ngram(Arc::new(Ngram::load(path, shape.clone())?)),
                ModelConfig::Lstm(_) => Weights::Neural(read_own(path, &config)?),
                ModelConfig::Gpt2(shape) => Weights::Neural(hf::weights::load(path, shape)?),
            })
        };
        let (weights, tokenizer) = rayon::join(weights, || tokenizer_of(path, &config));
        let (weights, tokenizer) = (weights?, tokenizer?);
        let parts = Parts { config, tokenizer, weights, adapter: None };
        parts.check(path)?;
        Ok(parts)
    }

    fn read_file(path: &Path) -> Result<Parts> {
        if path.extension().is_none_or(|extension| !extension.eq_ignore_ascii_case("gguf")) {
            return Err(Error::damaged(
                path,
                "is a file; name a run's folder, a Hugging Face directory or a .gguf file",
            ));
        }
        let file = Gguf::open(path)?;
        let config = file.config()?;
        let weights = Weights::Neural(file.params(&config)?);
        let parts = Parts { config: ModelConfig::Gpt2(config), tokenizer: file.tokenizer()?, weights, adapter: None };
        parts.check(path)?;
        Ok(parts)
    }

    /// Adapters, with the tokenizer beside them or else their base's.
    fn read_adapter(dir: &Path) -> Result<Parts> {
        let base = peft::base_name(dir)?;
        let parts = Parts::read(&locate_base(dir, &base)?)?;
        let ModelConfig::Gpt2(config) = &parts.config else {
            return Err(Error::damaged(dir.join(peft::CONFIG), format!("adapts {base}, which is no GPT-2")));
        };
        if parts.adapter.is_some() {
            return Err(Error::damaged(dir.join(peft::CONFIG), format!("adapts {base}, which is an adapter itself")));
        }
        let lora = peft::read(dir, config)?;
        let tokenizer = if dir.join("tokenizer.json").exists() { Tokenizer::load(dir)? } else { parts.tokenizer };
        let parts = Parts { tokenizer, adapter: Some(Adapter { base, lora }), ..parts };
        parts.check(dir)?;
        Ok(parts)
    }

    /// Names and shapes of all tensors.
    pub(super) fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        let own = if let Weights::Neural(params) = &self.weights { &params.tensors[..] } else { &[] };
        let adapters = self.adapter.as_ref().map_or(&[][..], |adapter| &adapter.lora.params.tensors);
        [tensors_of(own), tensors_of(adapters)].concat()
    }

    /// A GPT-2 in a folder, its weights laid out for writing while its tokenizer is read; `None` where something else
    /// lies.
    pub(super) fn open_gpt2(path: &Path, precision: DecodePrecision) -> Result<Option<Run>> {
        if path.is_file() || path.join(peft::CONFIG).exists() {
            return Ok(None);
        }
        let config_path = path.join("config.json");
        let config = ModelConfig::from_json(&config_path, &read_json(&config_path)?)?;
        let ModelConfig::Gpt2(shape) = &config else { return Ok(None) };
        let model = || {
            let model = gpt2(shape.clone(), hf::weights::load_to_lay_out(path, shape)?, None)?;
            let tensors = tensors_of(&model.params().tensors);
            let (model, finite) = Arc::new(model).decoder(precision)?;
            if !finite {
                // Says where.
                hf::weights::load(path, shape)?;
            }
            Ok((model, tensors))
        };
        let (model, tokenizer): (Result<_>, _) = rayon::join(model, || tokenizer_of(path, &config));
        let ((model, tensors), tokenizer) = (model?, tokenizer?);
        check_ids(path, &config, &tokenizer)?;
        Ok(Some(Run { dir: path.to_path_buf(), config, model, tokenizer, tensors, adapter: None }))
    }

    fn check(&self, path: &Path) -> Result<()> {
        check_ids(path, &self.config, &self.tokenizer)
    }

    /// The model, to be trained on.
    ///
    /// # Errors
    /// When it is an n-gram model, which has nothing to train.
    pub(crate) fn trainable(self) -> Result<Box<dyn Trainable>> {
        let Weights::Neural(params) = self.weights else {
            return Err(Error::Unsupported("an n-gram model is counted anew, not trained on; leave out --from".into()));
        };
        match self.config {
            ModelConfig::Lstm(config) => {
                let mut model = Lstm::new(config, 0)?;
                *model.params_mut() = params;
                Ok(Box::new(model))
            }
            ModelConfig::Gpt2(config) => Ok(Box::new(gpt2(config, params, self.adapter)?)),
            ModelConfig::Ngram(_) => Err(Error::Unsupported("an n-gram model has no weights".into())),
        }
    }

    /// The model, to be used.
    pub(crate) fn model(self) -> Result<Arc<dyn LanguageModel>> {
        match self.weights {
            Weights::Ngram(model) => Ok(model),
            Weights::Neural(_) => Ok(self.trainable()?.into_model()),
        }
    }
}

/// A model may have more ids than its tokenizer (some are padded to a round number), never fewer.
fn check_ids(path: &Path, config: &ModelConfig, tokenizer: &Tokenizer) -> Result<()> {
    let (ids, tokens) = (config.vocab(), tokenizer.vocab_size());
    let fits = if matches!(config, ModelConfig::Gpt2(_)) { tokens <= ids } else { tokens == ids };
    if !fits {
        let problem = format!("the tokenizer has {tokens} tokens but the model {ids}; they do not belong together");
        let path = if path.is_file() { path.to_path_buf() } else { path.join("tokenizer.json") };
        return Err(Error::damaged(path, problem));
    }
    Ok(())
}

/// Names and shapes.
fn tensors_of(tensors: &[Tensor]) -> Vec<(String, Vec<usize>)> {
    tensors.iter().map(|tensor| (tensor.name.clone(), tensor.shape.clone())).collect()
}

/// A GPT-2 of its parts.
pub(crate) fn gpt2(config: Gpt2Config, params: Params, adapter: Option<Adapter>) -> Result<Gpt2> {
    let model = Gpt2::with_params(config, params)?;
    Ok(match adapter {
        Some(adapter) => model.with_lora(adapter.lora),
        None => model,
    })
}

/// Weights in the form that only Penwright writes.
fn read_own(dir: &Path, config: &ModelConfig) -> Result<Params> {
    let path = dir.join(WEIGHTS);
    let raw = std::fs::read(&path).map_err(Error::io("read", &path))?;
    // The weights are on disk already: a header that claims more than the file holds allocates nothing.
    if config.num_params().saturating_mul(4) > raw.len() as u64 {
        return Err(Error::damaged(
            &path,
            "is no whole safetensors file: config.json asks for more than it holds; copy the run again",
        ));
    }
    let mut model = config.build(0)?;
    read_params(&path, &raw, model.params_mut())?;
    Ok(model.params().clone())
}

/// The tokenizer of what lies at a path, without its weights.
///
/// # Errors
/// When a file is missing or damaged.
pub fn tokenizer(path: &Path) -> Result<Tokenizer> {
    if path.is_file() {
        return Gguf::open(path)?.tokenizer();
    }
    if path.join(peft::CONFIG).exists() && !path.join("tokenizer.json").exists() {
        return tokenizer(&locate_base(path, &peft::base_name(path)?)?);
    }
    let config = path.join("config.json");
    match config.exists() {
        true => tokenizer_of(path, &ModelConfig::from_json(&config, &read_json(&config)?)?),
        false => Tokenizer::load(path),
    }
}

/// The tokenizer in a folder; a GPT-2 of the published vocabulary's size needs none.
fn tokenizer_of(dir: &Path, config: &ModelConfig) -> Result<Tokenizer> {
    let bare = ["tokenizer.json", "vocab.json", "merges.txt"].iter().all(|file| !dir.join(file).exists());
    match config {
        ModelConfig::Gpt2(shape) if bare && shape.vocab == Gpt2Config::default().vocab => Tokenizer::gpt2(),
        _ => Tokenizer::load(dir),
    }
}

/// The base of adapters: a path from here, from the adapters' folder or from the one around it, or whatever else a name
/// may be.
fn locate_base(dir: &Path, name: &str) -> Result<PathBuf> {
    let near = [Some(dir), dir.parent()].into_iter().flatten().map(|folder| folder.join(name));
    match near.into_iter().find(|path| !Path::new(name).exists() && path.exists()) {
        Some(path) => Ok(path),
        None => locate(name, &mut |_, _, _| {}),
    }
}
