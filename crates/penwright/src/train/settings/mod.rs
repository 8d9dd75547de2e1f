//! All that a person can choose about a run: what `penwright.toml` holds and the flags of `train` set.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::defaults::TUNING_EVALS;
use super::{Averaging, Length, OptimizerKind, Schedule, TrainOptions};
use crate::corpus::{self, ReadOptions, WordFormat};
use crate::files::write;
use crate::model::{self, Gpt2Config, LoraConfig, LstmConfig, ModelKind, NgramConfig, Regularization};
use crate::run::ModelConfig;
use crate::tokenizer::Level;
use crate::{Error, Result};

mod check;
mod merged;
#[cfg(test)]
mod tests;

/// The name of the settings in a run directory.
pub const SETTINGS: &str = "penwright.toml";

/// The arithmetic of products in training.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// bfloat16 where the processor multiplies it faster than f32, else f32.
    #[default]
    Auto,
    /// 32-bit floating point.
    F32,
    /// bfloat16 products on f32 weights; slow where the processor has no fast instructions for it.
    Bf16,
}

impl Precision {
    /// What it means on this processor.
    fn choose(self) -> model::Precision {
        match self {
            Precision::Auto => model::Precision::fastest(),
            Precision::F32 => model::Precision::F32,
            Precision::Bf16 => model::Precision::Bf16,
        }
    }
}

/// The settings of a run. What is `None` takes the default of the model's family; the names in a file are those of
/// the flags.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Settings {
    /// Files and folders to train on; `-` is standard input.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub text: Vec<PathBuf>,
    /// The field of `.jsonl` files that holds the text.
    pub field: Option<String>,
    /// Leaves hard-wrapped lines as they are.
    pub keep_wrapping: Option<bool>,
    /// What the words are at the word level.
    pub word_format: Option<WordFormat>,
    /// Family of the model: GPT-2 unless said otherwise.
    pub model: Option<ModelKind>,
    /// Unit that the model predicts: `bpe` for GPT-2, `char` for the others.
    pub level: Option<Level>,
    /// Number of ids of a word or sub-word tokenizer.
    pub vocab_size: Option<usize>,
    /// The model to train on: a run, a Hugging Face directory, a hub id or a `.gguf` file.
    pub from: Option<String>,
    /// Rank of adapters that are trained beside the frozen weights.
    pub lora: Option<usize>,
    /// α of the adapters: their product counts α / rank times.
    pub lora_alpha: Option<f32>,
    /// The matrices that have adapters.
    pub lora_targets: Option<Vec<String>>,
    /// Blocks, from the first on, that are left as they are.
    pub freeze_layers: Option<usize>,
    /// Leaves the embeddings as they are.
    pub freeze_embeddings: Option<bool>,
    /// Keeps less for the backward and computes it once more.
    pub checkpoint_activations: Option<bool>,
    /// Time to train.
    #[serde(with = "crate::duration::text", skip_serializing_if = "Option::is_none")]
    pub budget: Option<Duration>,
    /// Optimizer steps to train.
    pub steps: Option<u64>,
    /// Passes over the training text.
    pub epochs: Option<f64>,
    /// A text to validate on.
    pub val: Option<PathBuf>,
    /// The last part of each text to validate on.
    pub val_fraction: Option<f64>,
    /// Texts side by side.
    pub batch: Option<usize>,
    /// Tokens of each text a step.
    pub context: Option<usize>,
    /// Batches whose gradients are averaged for one step.
    pub accumulate: Option<usize>,
    /// Whether an LSTM's windows are of random length around the context.
    pub random_length: Option<bool>,
    /// Blocks or layers.
    pub layers: Option<usize>,
    /// Attention heads of a GPT-2.
    pub heads: Option<usize>,
    /// Embedding size of a GPT-2, hidden size of an LSTM.
    pub width: Option<usize>,
    /// Embedding size of an LSTM.
    pub embed: Option<usize>,
    /// Whether an LSTM's output layer is its embedding.
    pub tied: Option<bool>,
    /// Rounds of gating before an LSTM's cells (the Mogrifier).
    pub mogrifier: Option<usize>,
    /// Rank of the matrices of those rounds.
    pub mogrifier_rank: Option<usize>,
    /// Bias of a new LSTM's forget gates before its first step.
    pub forget_bias: Option<f32>,
    /// Whether a new LSTM's output layer begins with the frequencies of the tokens as its biases.
    pub unigram_bias: Option<bool>,
    /// Order of an n-gram model: tokens of a context and the next.
    pub order: Option<usize>,
    /// Dropout rate; of an LSTM the variational one of input, hidden layers and output where theirs is not given.
    pub dropout: Option<f32>,
    /// Chance that a merge of the tokens read is undone, at first; it falls linearly to nothing.
    pub bpe_dropout: Option<f32>,
    /// Variational dropout of an LSTM's embedding.
    pub dropout_input: Option<f32>,
    /// Variational dropout between an LSTM's layers.
    pub dropout_hidden: Option<f32>,
    /// Variational dropout of an LSTM's last output.
    pub dropout_output: Option<f32>,
    /// Dropout of whole rows of an LSTM's embedding.
    pub dropout_embed: Option<f32>,
    /// Dropout of an LSTM's recurrent weights.
    pub weight_drop: Option<f32>,
    /// Activation regularisation of an LSTM, α.
    pub ar: Option<f32>,
    /// Temporal activation regularisation of an LSTM, β.
    pub tar: Option<f32>,
    /// Peak learning rate.
    pub lr: Option<f32>,
    /// The optimizer.
    pub optimizer: Option<OptimizerKind>,
    /// Momentum of Muon or SGD.
    pub momentum: Option<f32>,
    /// AdamW's decay rate of the first moment.
    pub beta1: Option<f32>,
    /// AdamW's decay rate of the second moment.
    pub beta2: Option<f32>,
    /// Peak learning rate of Muon's matrices.
    pub muon_lr: Option<f32>,
    /// Iterations that bring Muon's step near an orthogonal matrix.
    pub muon_iterations: Option<usize>,
    /// Learning rate of what tokens share by their spelling, beside that of all.
    pub spelling: Option<f32>,
    /// The average of the weights that is validated and saved in their place.
    pub average: Option<Averaging>,
    /// Whether the logits are divided by what suits the validation text best.
    pub calibrate: Option<bool>,
    /// Form of the learning rate.
    pub schedule: Option<Schedule>,
    /// The part of the training over which the learning rate of `wsd` falls.
    pub lr_decay: Option<f32>,
    /// Steps of warm-up.
    pub warmup: Option<u64>,
    /// Weight decay on matrices.
    pub weight_decay: Option<f32>,
    /// Largest global norm of the gradient.
    pub clip: Option<f32>,
    /// Arithmetic of products.
    pub precision: Option<Precision>,
    /// Seed of weights, batches and dropout.
    pub seed: Option<u64>,
    /// Steps between validations.
    pub eval_every: Option<u64>,
    /// Steps between samples.
    pub sample_every: Option<u64>,
    /// Validations without improvement after which training stops.
    pub patience: Option<u64>,
    /// Time between checkpoints.
    #[serde(with = "crate::duration::text", skip_serializing_if = "Option::is_none")]
    pub checkpoint_every: Option<Duration>,
}

impl Settings {
    /// The settings that a run was started with.
    ///
    /// # Errors
    /// When the file is missing or not what it should be.
    pub fn load(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(Error::io("read", path))?;
        toml::from_str(&text).map_err(|e| Error::damaged(path, one_line(&e)))
    }

    /// How texts for a run are to be read: as its training texts were, where that is recorded.
    ///
    /// # Errors
    /// When the run's settings are damaged.
    pub fn read_options_of(run: &Path) -> Result<ReadOptions> {
        let path = run.join(SETTINGS);
        Ok(if path.exists() { Settings::load(&path)?.read_options() } else { ReadOptions::default() })
    }

    /// The texts to train on, read anew, without the part held out.
    ///
    /// # Errors
    /// When a text cannot be read.
    pub fn training_texts(&self) -> Result<Vec<Arc<str>>> {
        let corpus = corpus::read(&self.text, &self.read_options(), &mut |_| {})?;
        let texts = if self.val.is_some() { corpus.texts() } else { corpus.split(self.val_fraction())?.0 };
        Ok(texts.into_iter().map(Arc::from).collect())
    }

    /// Writes the settings into a run directory.
    pub(crate) fn save(&self, run: &Path) -> Result<()> {
        let path = run.join(SETTINGS);
        let text = toml::to_string(self).map_err(|e| Error::damaged(&path, e.to_string()))?;
        write(&path, format!("# How this run was trained; `penwright train --config` takes it.\n{text}").as_bytes())
    }

    /// The family of the model.
    pub fn kind(&self) -> ModelKind {
        self.model.unwrap_or(ModelKind::Gpt2)
    }

    /// The unit that the model predicts.
    pub fn level(&self) -> Level {
        self.level.unwrap_or(if self.kind() == ModelKind::Gpt2 { Level::Bpe } else { Level::Char })
    }

    /// How texts are read.
    pub fn read_options(&self) -> ReadOptions {
        let defaults = ReadOptions::default();
        ReadOptions {
            field: self.field.clone().unwrap_or(defaults.field),
            keep_wrapping: self.keep_wrapping.unwrap_or(defaults.keep_wrapping),
            word_format: self.word_format.unwrap_or_default(),
            ..ReadOptions::default()
        }
    }

    /// The part of each text to validate on.
    pub fn val_fraction(&self) -> f64 {
        self.val_fraction.unwrap_or(0.1)
    }

    /// What adapters are asked for.
    pub(crate) fn lora_config(&self) -> Option<LoraConfig> {
        let rank = self.lora?;
        Some(LoraConfig {
            rank,
            alpha: self.lora_alpha.unwrap_or(2.0 * rank as f32),
            targets: self.lora_targets.clone().unwrap_or(LoraConfig::TARGETS.map(String::from).to_vec()),
            rank_stabilized: false,
        })
    }

    /// The model's shape for a vocabulary. Of filled settings.
    pub(crate) fn model_config(&self, vocab: usize) -> ModelConfig {
        let size = |value: Option<usize>| value.unwrap_or(1);
        match self.kind() {
            ModelKind::Ngram => ModelConfig::Ngram(NgramConfig { vocab, order: size(self.order) }),
            ModelKind::Lstm => ModelConfig::Lstm(LstmConfig {
                vocab,
                embed: size(self.embed),
                hidden: size(self.width),
                layers: size(self.layers),
                tied: self.tied.unwrap_or(false),
                mogrifier: self.mogrifier.unwrap_or(0),
                mogrifier_rank: self.mogrifier_rank.unwrap_or(0),
            }),
            ModelKind::Gpt2 => ModelConfig::Gpt2(Gpt2Config {
                vocab,
                context: size(self.context),
                layers: size(self.layers),
                heads: size(self.heads),
                width: size(self.width),
                ..Gpt2Config::default()
            }),
        }
    }

    /// The settings of the training loop. Of filled settings.
    pub(crate) fn train_options(&self) -> TrainOptions {
        let defaults = TrainOptions::default();
        TrainOptions {
            length: match (self.budget, self.epochs, self.steps) {
                (Some(budget), _, _) => Length::Budget(budget),
                (None, Some(epochs), _) => Length::Epochs(epochs),
                (None, None, steps) => steps.map_or(defaults.length, Length::Steps),
            },
            batch: self.batch.unwrap_or(defaults.batch),
            context: self.context.unwrap_or(defaults.context),
            accumulate: self.accumulate.unwrap_or(defaults.accumulate),
            random_length: self.random_length.unwrap_or(defaults.random_length),
            lr: self.lr.unwrap_or(defaults.lr),
            optimizer: self.optimizer.unwrap_or_default(),
            momentum: self.momentum,
            beta1: self.beta1,
            beta2: self.beta2,
            muon_lr: self.muon_lr,
            muon_iterations: self.muon_iterations,
            spelling: self.spelling.unwrap_or(0.0),
            average: self.average.unwrap_or_default(),
            calibrate: self.calibrate.unwrap_or(false),
            schedule: self.schedule.unwrap_or(defaults.schedule),
            lr_decay: self.lr_decay,
            warmup: self.warmup.unwrap_or(defaults.warmup),
            weight_decay: self.weight_decay.unwrap_or(defaults.weight_decay),
            clip: self.clip.unwrap_or(defaults.clip),
            dropout: self.dropout.unwrap_or(defaults.dropout),
            bpe_dropout: self.bpe_dropout.unwrap_or(0.0),
            regularization: Regularization {
                dropout_input: self.dropout_input,
                dropout_hidden: self.dropout_hidden,
                dropout_output: self.dropout_output,
                dropout_embed: self.dropout_embed.unwrap_or(0.0),
                weight_drop: self.weight_drop.unwrap_or(0.0),
                ar: self.ar.unwrap_or(0.0),
                tar: self.tar.unwrap_or(0.0),
            },
            seed: self.seed.unwrap_or(defaults.seed),
            eval_every: self.eval_every,
            sample_every: self.sample_every,
            patience: self.patience,
            evals: if self.from.is_some() { TUNING_EVALS } else { defaults.evals },
            precision: self.precision.unwrap_or_default().choose(),
            checkpoint_activations: self.checkpoint_activations.unwrap_or(false),
            checkpoint_every: self.checkpoint_every.unwrap_or(defaults.checkpoint_every),
            spent: Duration::ZERO,
            reasons: Vec::new(),
            resume: false,
        }
    }
}

/// The first sentence of what the TOML library says, without its picture of the line.
fn one_line(error: &toml::de::Error) -> String {
    error.message().lines().next().unwrap_or_default().to_string()
}
