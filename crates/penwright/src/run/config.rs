//! The shape of a model: `config.json`, its size and its cost.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::memory::free_memory;
use crate::model::{Gpt2, Gpt2Config, Lstm, LstmConfig, NgramConfig, Trainable};
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

    /// Number of parameters and of those in products (a multiplication and an addition a token each); in floating
    /// point, which no size overflows.
    fn counts(&self) -> (f64, f64) {
        match self {
            ModelConfig::Ngram(_) => (0.0, 0.0),
            ModelConfig::Gpt2(c) => {
                let [vocab, context, layers, width] = [c.vocab, c.context, c.layers, c.width].map(|n| n as f64);
                let block = 12.0 * width * width;
                let params = (vocab + context + 2.0) * width + layers * (block + 13.0 * width);
                // Scores and weighted values of attention, over half the context on average.
                (params, vocab * width + layers * (block + context * width))
            }
            ModelConfig::Lstm(c) => {
                let [vocab, embed, hidden, layers] = [c.vocab, c.embed, c.hidden, c.layers].map(|n| n as f64);
                let last = if c.tied { embed } else { hidden };
                let layer = |inputs: f64, width: f64| 4.0 * width * (inputs + width);
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
    /// backward keeps; three times the weights for a checkpoint on its way to the disk; half of them packed; and what
    /// the program takes itself.
    pub fn memory(&self, batch: usize, context: usize) -> u64 {
        let rows = batch as f64 * context as f64;
        let row = match self {
            ModelConfig::Ngram(_) => 0.0,
            ModelConfig::Gpt2(c) => (16.0 * c.layers as f64 + 12.0) * c.width as f64 + c.vocab as f64,
            ModelConfig::Lstm(c) => (7.0 * c.layers as f64 + 5.0) * c.hidden as f64 + (c.embed + c.vocab) as f64,
        };
        let program = f64::from(32 << 20);
        (program + 4.0 * (7.5 * self.counts().0 + rows * row)) as u64
    }

    /// # Errors
    /// When training needs more memory than is free.
    pub(crate) fn check_memory(&self, batch: usize, context: usize) -> Result<()> {
        let (needed, free) = (self.memory(batch, context), free_memory());
        if needed > free {
            let what = "training".to_string();
            return Err(Error::Memory { what, needed, free, remedy: "--batch, --context, --width or --layers" });
        }
        Ok(())
    }

    /// `config.json` as Hugging Face has it, the LSTM's in the same manner.
    pub(super) fn to_json(&self, eot: u32) -> Value {
        match self {
            ModelConfig::Ngram(c) => json!({
                "model_type": "penwright_ngram", "vocab_size": c.vocab, "order": c.order,
                "bos_token_id": eot, "eos_token_id": eot
            }),
            ModelConfig::Gpt2(c) => json!({
                "model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "vocab_size": c.vocab,
                "n_positions": c.context, "n_ctx": c.context, "n_embd": c.width, "n_layer": c.layers,
                "n_head": c.heads, "activation_function": "gelu_new", "layer_norm_epsilon": 1e-5,
                "bos_token_id": eot, "eos_token_id": eot, "tie_word_embeddings": true, "torch_dtype": "float32"
            }),
            ModelConfig::Lstm(c) => json!({
                "model_type": "penwright_lstm", "vocab_size": c.vocab, "embedding_size": c.embed,
                "hidden_size": c.hidden, "num_layers": c.layers, "tie_word_embeddings": c.tied, "bos_token_id": eot, "eos_token_id": eot
            }),
        }
    }

    pub(super) fn from_json(json: &Value) -> Option<Self> {
        // Sizes beyond these are damage, not models; the bound keeps products from overflowing.
        let size = |key: &str| json.get(key)?.as_u64().filter(|&n| n > 0 && n < 1 << 24).map(|n| n as usize);
        match json.get("model_type")?.as_str()? {
            "gpt2" => Some(ModelConfig::Gpt2(Gpt2Config {
                vocab: size("vocab_size")?,
                context: size("n_positions")?,
                layers: size("n_layer")?,
                heads: size("n_head")?,
                width: size("n_embd")?,
            })),
            "penwright_ngram" => {
                Some(ModelConfig::Ngram(NgramConfig { vocab: size("vocab_size")?, order: size("order")? }))
            }
            "penwright_lstm" => Some(ModelConfig::Lstm(LstmConfig {
                vocab: size("vocab_size")?,
                embed: size("embedding_size")?,
                hidden: size("hidden_size")?,
                layers: size("num_layers")?,
                tied: json.get("tie_word_embeddings").and_then(Value::as_bool).unwrap_or(false),
            })),
            _ => None,
        }
    }
}
