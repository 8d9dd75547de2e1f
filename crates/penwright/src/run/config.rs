//! The shape of a model: `config.json`, its size and its cost.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::formats::hf;
use crate::model::{Gpt2, Gpt2Config, Lstm, LstmConfig, NgramConfig, Trainable, Tuning};
use crate::{Error, Result};

/// The shape of a model of any family.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "model", rename_all = "lowercase")]
pub enum ModelConfig {
    /// An n-gram model.
    Ngram(NgramConfig),
    /// An LSTM.
    Lstm(LstmConfig),
    /// A GPT-2.
    Gpt2(Gpt2Config),
}

impl ModelConfig {
    /// A new model with random weights.
    ///
    /// # Errors
    /// When the shape is impossible.
    pub fn build(&self, seed: u64) -> Result<Box<dyn Trainable>> {
        Ok(match self {
            ModelConfig::Ngram(_) => {
                return Err(Error::Unsupported("an n-gram model is counted from a text, not built of weights".into()));
            }
            ModelConfig::Lstm(config) => Box::new(Lstm::new(config.clone(), seed)?),
            ModelConfig::Gpt2(config) => Box::new(Gpt2::new(config.clone(), seed)?),
        })
    }

    /// Number of token ids.
    pub fn vocab(&self) -> usize {
        match self {
            ModelConfig::Ngram(c) => c.vocab,
            ModelConfig::Lstm(c) => c.vocab,
            ModelConfig::Gpt2(c) => c.vocab,
        }
    }

    /// Columns of all matrices that have a row for each token: of the embedding, and of the output layer and its bias where they
    /// are apart.
    pub(crate) fn token_columns(&self) -> usize {
        match self {
            ModelConfig::Ngram(_) => 0,
            ModelConfig::Lstm(c) => c.embed + 1 + if c.tied { 0 } else { c.layer_width(c.layers - 1) },
            ModelConfig::Gpt2(c) => c.width + if c.tied { 0 } else { c.width },
        }
    }

    /// Number of parameters and of those in products (a multiplication and an addition a token each); in floating
    /// point, which no size overflows.
    fn counts(&self) -> (f64, f64) {
        match self {
            ModelConfig::Ngram(_) => (0.0, 0.0),
            ModelConfig::Gpt2(c) => {
                let [vocab, context, layers, width] = [c.vocab, c.context, c.layers, c.width].map(|n| n as f64);
                let inner = c.inner.map_or(4.0 * width, |n| n as f64);
                let block = (4.0 * width + 2.0 * inner) * width;
                let head = if c.tied { 0.0 } else { vocab * width };
                let params = (vocab + context + 2.0) * width + layers * (block + 9.0 * width + inner) + head;
                // Scores and weighted values of attention, over half the context on average.
                (params, vocab * width + layers * (block + context * width))
            }
            ModelConfig::Lstm(c) => {
                let [vocab, embed, hidden, layers] = [c.vocab, c.embed, c.hidden, c.layers].map(|n| n as f64);
                let last = if c.tied { embed } else { hidden };
                let layer =
                    |inputs: f64, width: f64| 4.0 * width * (inputs + width) + c.mogrifier_params(inputs, width);
                let products = match c.layers {
                    0 | 1 => layer(embed, last),
                    _ => layer(embed, hidden) + (layers - 2.0) * layer(hidden, hidden) + layer(hidden, last),
                };
                let biases = 8.0 * ((layers - 1.0) * hidden + last) + vocab;
                let own = if c.tied { 0.0 } else { vocab * last };
                (vocab * embed + products + biases + own, products + vocab * last)
            }
        }
    }

    /// Number of parameters; 0 for an n-gram model, whose size the text decides.
    pub fn num_params(&self) -> u64 {
        self.counts().0 as u64
    }

    /// Floating-point operations a token in training: two a weight forward, four backward.
    pub fn flops_per_token(&self) -> f64 {
        6.0 * self.counts().1
    }

    /// Bytes that training on `batch` texts of `context` tokens takes: weights, gradients, two moments and what the
    /// backward keeps; half of the weights packed; and what the program takes itself. `checkpointed`: of a block only
    /// the input is kept.
    pub(crate) fn memory(&self, batch: usize, context: usize, tuning: Option<&Tuning>, checkpointed: bool) -> u64 {
        let rows = batch as f64 * context as f64;
        let row = match self {
            ModelConfig::Ngram(_) => 0.0,
            ModelConfig::Gpt2(c) => {
                let (width, inner) = (c.width as f64, c.inner.map_or(4.0 * c.width as f64, |n| n as f64));
                let block = 8.0 * width + 2.0 * inner;
                let blocks = c.layers as f64 * if checkpointed { width } else { block + width };
                let one = if checkpointed { block } else { 0.0 };
                blocks + one + 5.0 * width + inner.max(3.0 * width) + c.vocab as f64
            }
            ModelConfig::Lstm(c) => {
                // Dropped inputs and outputs, and of each round of the Mogrifier its gates and what came of them.
                let (hidden, input) = (c.hidden as f64, c.embed as f64);
                let layers = c.layers as f64 * (7.0 + 2.0 * c.mogrifier as f64) + 6.0;
                layers * hidden.max(if c.mogrifier > 0 { input } else { 0.0 }) + 2.0 * input + c.vocab as f64
            }
        };
        let program = f64::from(32 << 20);
        let all = self.counts().0;
        let trained = match (self, tuning) {
            (ModelConfig::Gpt2(c), Some(Tuning { lora: Some(lora), .. })) => lora.num_params(c) as f64,
            (ModelConfig::Gpt2(c), Some(Tuning { frozen, .. })) => all - frozen.num_params(c) as f64,
            _ => all,
        };
        (program + 4.0 * (1.5 * all + 3.0 * trained + rows * row)) as u64
    }

    /// `config.json` as Hugging Face has it, the LSTM's in the same manner.
    pub(crate) fn to_json(&self, eot: u32) -> Value {
        match self {
            ModelConfig::Ngram(c) => json!({
                "model_type": "penwright_ngram", "vocab_size": c.vocab, "order": c.order,
                "bos_token_id": eot, "eos_token_id": eot
            }),
            ModelConfig::Gpt2(c) => hf::config::to_json(c, eot),
            ModelConfig::Lstm(c) => {
                let mut json = json!({
                    "model_type": "penwright_lstm", "vocab_size": c.vocab, "embedding_size": c.embed,
                    "hidden_size": c.hidden, "num_layers": c.layers, "tie_word_embeddings": c.tied,
                    "bos_token_id": eot, "eos_token_id": eot
                });
                if c.mogrifier > 0 {
                    json["mogrifier_rounds"] = c.mogrifier.into();
                    json["mogrifier_rank"] = c.mogrifier_rank.into();
                }
                json
            }
        }
    }

    /// Reads `config.json`, which lies at `path`.
    pub(crate) fn from_json(path: &Path, json: &Value) -> Result<Self> {
        if json["model_type"] == "gpt2" {
            return Ok(ModelConfig::Gpt2(hf::config::from_json(path, json)?));
        }
        let own = Self::from_own_json(json);
        own.ok_or_else(|| {
            let kind = &json["model_type"];
            let problem =
                format!("describes a model of type {kind}, none that Penwright knows: GPT-2, its LSTM or n-gram");
            Error::damaged(path, problem)
        })
    }

    fn from_own_json(json: &Value) -> Option<Self> {
        let size =
            |key: &str| json.get(key)?.as_u64().filter(|&n| n > 0 && n < hf::config::LARGEST).map(|n| n as usize);
        let count = |key: &str, most: u64| match json.get(key) {
            Some(value) => value.as_u64().filter(|&n| n <= most).map(|n| n as usize),
            None => Some(0),
        };
        match json.get("model_type")?.as_str()? {
            "penwright_ngram" => {
                Some(ModelConfig::Ngram(NgramConfig { vocab: size("vocab_size")?, order: size("order")? }))
            }
            "penwright_lstm" => Some(ModelConfig::Lstm(LstmConfig {
                vocab: size("vocab_size")?,
                embed: size("embedding_size")?,
                hidden: size("hidden_size")?,
                layers: size("num_layers")?,
                tied: json.get("tie_word_embeddings").and_then(Value::as_bool).unwrap_or(false),
                mogrifier: count("mogrifier_rounds", LstmConfig::MOST_ROUNDS as u64)?,
                mogrifier_rank: count("mogrifier_rank", hf::config::LARGEST)?,
            })),
            _ => None,
        }
    }
}
