//! What training begins with: a new model of a shape, or one that is there, whole or through adapters.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::optimizer::{muon_memory, spelling_memory};
use super::{Averaging, OptimizerKind, Settings, TrainOptions};
use crate::files::{checksum, create_dir};
use crate::formats::peft;
use crate::memory::free_memory;
use crate::model::{FORGET_BIAS, Frozen, Gpt2, Lora, LoraConfig, Lstm, Params, Tensor, Trainable, Tuning};
use crate::run::{self, ModelConfig, Parts, Weights, gpt2, locate, save_weights};
use crate::tokenizer::Tokenizer;
use crate::{Error, Result};

/// A model that is there to be trained on.
#[derive(Clone, Debug)]
pub struct Base {
    /// As a person named it.
    pub name: String,
    path: PathBuf,
    /// Of its weights, without adapters.
    digest: String,
    /// What of it is trained.
    pub tuning: Tuning,
    /// Its own adapters and the name of their base, where it has any.
    adapter: Option<(LoraConfig, String)>,
}

/// What training begins with.
#[derive(Clone, Debug)]
pub struct Start {
    /// The model's shape.
    pub config: ModelConfig,
    /// The tokenizer.
    pub tokenizer: Tokenizer,
    /// The model to go on from; a new one without.
    pub base: Option<Base>,
    /// Bias of the forget gates of a new LSTM.
    pub forget_bias: f32,
    /// Biases of the output layer of a new LSTM, one for each token; zeros without.
    pub output_bias: Option<Vec<f32>>,
}

impl Start {
    /// A new model.
    pub fn scratch(config: ModelConfig, tokenizer: Tokenizer) -> Self {
        Start { config, tokenizer, base: None, forget_bias: FORGET_BIAS, output_bias: None }
    }

    /// A model by its name: a run, a Hugging Face directory, a file or a hub id. `progress` is told of what is fetched:
    /// a name, the bytes done and in all.
    ///
    /// # Errors
    /// When it cannot be found, is damaged, or is of a kind that is not trained on.
    pub fn from(name: &str, progress: &mut dyn FnMut(&str, u64, u64)) -> Result<Self> {
        let path = locate(name, progress)?;
        let Parts { config, tokenizer, weights, adapter } = Parts::read(&path)?;
        let Weights::Neural(params) = weights else {
            let problem = format!("{name} is an n-gram model, which is counted anew, not trained on; leave out --from");
            return Err(Error::setting("from", problem));
        };
        let values = |tensor: &Tensor| bytemuck::cast_slice(&params.data[tensor.range.clone()]);
        let digest = checksum(&params.tensors.iter().map(values).collect::<Vec<_>>());
        let adapter = adapter.map(|adapter| (adapter.lora.config, adapter.base));
        let base = Base { name: name.to_string(), path, digest, tuning: Tuning::default(), adapter };
        Ok(Start { base: Some(base), ..Start::scratch(config, tokenizer) })
    }

    /// Sets what of the base is trained, as the settings say.
    ///
    /// # Errors
    /// When the base cannot be trained so.
    pub fn tune(&mut self, settings: &Settings) -> Result<()> {
        let Some(base) = &mut self.base else { return Ok(()) };
        let frozen = Frozen {
            layers: settings.freeze_layers.unwrap_or(0),
            embeddings: settings.freeze_embeddings == Some(true),
        };
        base.tuning = Tuning { lora: settings.lora_config(), frozen };
        let ModelConfig::Gpt2(config) = &self.config else {
            let asked = [("lora", base.tuning.lora.is_some()), ("freeze-layers", frozen != Frozen::default())];
            return match asked.into_iter().find(|asked| asked.1) {
                Some((flag, _)) => Err(Error::setting(flag, "is for a GPT-2; the base is an LSTM")),
                None => Ok(()),
            };
        };
        frozen.check(config)?;
        let Some(lora) = &base.tuning.lora else { return Ok(()) };
        if frozen != Frozen::default() {
            let problem = "adapters leave all weights as they are; leave out --freeze-layers and --freeze-embeddings";
            return Err(Error::setting("lora", problem));
        }
        match &base.adapter {
            Some((own, _)) if (own.rank, own.alpha) != (lora.rank, lora.alpha) => {
                let problem = format!(
                    "the base has adapters of rank {} and alpha {}; give the same to go on, or leave out --lora to \
                     train the merged weights",
                    own.rank, own.alpha
                );
                Err(Error::setting("lora", problem))
            }
            _ => lora.check(),
        }
    }

    /// The model as training begins, its new parts from the seed.
    ///
    /// # Errors
    /// When the shape is impossible or the base has changed or gone.
    pub fn build(&self, seed: u64) -> Result<Box<dyn Trainable>> {
        let Some(base) = &self.base else {
            return match &self.config {
                ModelConfig::Lstm(config) => {
                    let model = Lstm::new(config.clone(), seed)?.with_forget_bias(self.forget_bias);
                    Ok(Box::new(match &self.output_bias {
                        Some(biases) => model.with_output_bias(biases),
                        None => model,
                    }))
                }
                config => config.build(seed),
            };
        };
        let parts = Parts::read(&base.path)?;
        if parts.config != self.config {
            return Err(Error::damaged(&base.path, "has become another model since it was read; start again"));
        }
        let Parts { config: ModelConfig::Gpt2(config), weights: Weights::Neural(params), adapter, .. } = parts else {
            return parts.trainable();
        };
        let model = gpt2(config.clone(), params, adapter)?;
        Ok(Box::new(match &base.tuning.lora {
            Some(_) if model.lora().is_some() => model,
            Some(lora) => model.with_lora(Lora::new(lora.clone(), &config, seed)?),
            None => {
                // In memory of its own, so that the file's pages are given back before training takes more.
                let params = model.merged().compact();
                drop(model);
                let mut model = Gpt2::with_params(config, params)?;
                model.freeze(base.tuning.frozen)?;
                model
            }
        }))
    }

    /// Number of parameters, new adapters included.
    pub fn num_params(&self) -> u64 {
        self.config.num_params() + self.num_adapted().unwrap_or(0)
    }

    /// Number of parameters that are trained.
    pub fn num_trained(&self) -> u64 {
        let frozen = match (&self.base, &self.config) {
            (Some(base), ModelConfig::Gpt2(config)) => base.tuning.frozen.num_params(config),
            _ => 0,
        };
        self.num_adapted().unwrap_or(self.config.num_params() - frozen)
    }

    fn num_adapted(&self) -> Option<u64> {
        match (&self.base.as_ref()?.tuning.lora, &self.config) {
            (Some(lora), ModelConfig::Gpt2(config)) => Some(lora.num_params(config)),
            _ => None,
        }
    }

    /// # Errors
    /// When the run directory is the base itself, which would be written over while it is needed.
    pub(super) fn refuse_own_base(&self, out: &Path) -> Result<()> {
        let Some(base) = &self.base else { return Ok(()) };
        match (base.path.canonicalize(), out.canonicalize()) {
            (Ok(base), Ok(out)) if base == out => {
                Err(Error::setting("out", "is the model that --from names; choose another folder"))
            }
            _ => Ok(()),
        }
    }

    /// Whether the weights stay as they are and adapters are trained.
    pub fn is_adapting(&self) -> bool {
        self.base.as_ref().is_some_and(|base| base.tuning.lora.is_some())
    }

    /// What must be equal for a run to be resumed. Adapters need the base as it was; trained weights are in the
    /// checkpoint whole.
    pub(super) fn fingerprint(&self) -> Value {
        match &self.base {
            Some(base) => json!({"shape": self.config, "base": base.digest, "tuning": base.tuning}),
            None => json!({"shape": self.config}),
        }
    }

    /// Creates the run directory with what does not change in training.
    pub(super) fn create(&self, out: &Path) -> Result<()> {
        match self.adapted() {
            Some((lora, name)) => {
                create_dir(out)?;
                peft::write_config(out, lora, &name)?;
                self.tokenizer.save(out)
            }
            None => run::create(out, &self.config, &self.tokenizer),
        }
    }

    /// Writes what was trained.
    pub(super) fn save(&self, out: &Path, params: &Params) -> Result<()> {
        if self.is_adapting() { peft::write_weights(out, params) } else { save_weights(out, params) }
    }

    /// Adapters to be trained, and the name that their base is to be found by: a folder by its whole path.
    fn adapted(&self) -> Option<(&LoraConfig, String)> {
        let base = self.base.as_ref()?;
        let lora = base.tuning.lora.as_ref()?;
        let name = base.adapter.as_ref().map_or(&base.name, |(_, name)| name);
        let path = Path::new(name);
        let whole = if path.exists() { std::path::absolute(path).ok() } else { None };
        Some((lora, whole.map_or(name.clone(), |path| path.display().to_string())))
    }

    /// Bytes that training takes.
    pub fn memory(&self, options: &TrainOptions) -> u64 {
        let tuning = self.base.as_ref().map(|base| &base.tuning);
        let with_adamw = self.config.memory(options.batch, options.longest(), tuning, options.checkpoint_activations);
        let trained = 4 * self.num_trained();
        let moments = match options.optimizer {
            OptimizerKind::AdamW => 2 * trained,
            OptimizerKind::Muon => muon_memory(&self.matrices(), self.num_trained(), options.precision),
            OptimizerKind::Sgd => trained * u64::from(options.momentum() > 0.0),
        };
        let spelling = if options.spelling > 0.0 && !self.is_adapting() {
            spelling_memory(&self.tokenizer, self.config.token_columns())
        } else {
            0
        };
        let average = match options.average {
            Averaging::Off => 0,
            _ if self.is_adapting() => trained,
            _ => 4 * self.config.num_params(),
        };
        with_adamw.saturating_sub(2 * trained) + moments + spelling + average
    }

    /// Names and shapes of the layers' matrices that are trained.
    fn matrices(&self) -> Vec<(String, Vec<usize>)> {
        let frozen = self.base.as_ref().map_or(0, |base| base.tuning.frozen.layers);
        match &self.config {
            ModelConfig::Ngram(_) => Vec::new(),
            ModelConfig::Gpt2(config) => {
                let is_frozen = |name: &str| (0..frozen).any(|l| name.starts_with(&format!("transformer.h.{l}.")));
                config.tensors().into_iter().filter(|(name, shape)| shape.len() == 2 && !is_frozen(name)).collect()
            }
            ModelConfig::Lstm(config) => (0..config.layers)
                .flat_map(|l| {
                    let inputs = if l == 0 { config.embed } else { config.layer_width(l - 1) };
                    let width = config.layer_width(l);
                    let weight = |kind: &str, inputs| (format!("lstm.weight_{kind}_l{l}"), vec![4 * width, inputs]);
                    [weight("ih", inputs), weight("hh", width)]
                })
                .collect(),
        }
    }

    /// # Errors
    /// When training needs more memory than is free.
    pub(super) fn check_memory(&self, options: &TrainOptions) -> Result<()> {
        let (needed, free) = (self.memory(options), free_memory());
        if needed > free {
            let what = "training".to_string();
            let remedy = match self.base {
                Some(_) => {
                    "--batch or --context (--accumulate makes up for it), give --checkpoint-activations or --lora"
                }
                None => "--batch, --context, --width or --layers",
            };
            return Err(Error::Memory { what, needed, free, remedy });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::LstmConfig;
    use crate::tokenizer::Level;

    #[test]
    fn a_new_lstm_begins_with_the_bias_that_was_asked_for() {
        let tokenizer = Tokenizer::train(Level::Char, &["ab"], None).unwrap();
        let shape =
            LstmConfig { vocab: tokenizer.vocab_size(), embed: 3, hidden: 5, layers: 2, ..LstmConfig::default() };
        let output_bias = Some(vec![-7.5; shape.vocab]);
        let vocab = shape.vocab;
        let start = Start { forget_bias: 0.5, output_bias, ..Start::scratch(ModelConfig::Lstm(shape), tokenizer) };
        let model = start.build(1).unwrap();
        let count = |value: f32| model.params().data.iter().filter(|&&x| x == value).count();
        assert_eq!((count(0.5), count(-7.5)), (2 * 5, vocab));
    }
}
