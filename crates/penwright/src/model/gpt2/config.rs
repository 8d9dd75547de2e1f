//! The shape of a GPT-2 and its variants, as Hugging Face's `GPT2Config` has them.

use serde::{Deserialize, Serialize};

use crate::layers::Activation;
use crate::{Error, Result};

/// The shape of a GPT-2. The default is the published model of 124 million parameters; the fields below `width` have
/// another value than the default's in odd configurations only.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Gpt2Config {
    /// Number of token ids, V.
    pub vocab: usize,
    /// Longest window in tokens.
    pub context: usize,
    /// Number of blocks.
    pub layers: usize,
    /// Attention heads a block.
    pub heads: usize,
    /// Width of the embedding, C.
    pub width: usize,
    /// Width of a block's wide layer; 4 · C where it is not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inner: Option<usize>,
    /// Non-linearity of the wide layer.
    #[serde(default)]
    pub activation: Activation,
    /// Added to the variance in layer normalisation.
    #[serde(default = "epsilon")]
    pub epsilon: f32,
    /// Whether attention scores are divided by √(C / heads).
    #[serde(default = "yes")]
    pub scale_by_width: bool,
    /// Whether attention scores are divided by the number of the layer, counted from one.
    #[serde(default)]
    pub scale_by_layer: bool,
    /// Whether the output layer is the token embedding.
    #[serde(default = "yes")]
    pub tied: bool,
}

fn epsilon() -> f32 {
    1e-5
}

fn yes() -> bool {
    true
}

impl Default for Gpt2Config {
    fn default() -> Self {
        Gpt2Config {
            vocab: 50257,
            context: 1024,
            layers: 12,
            heads: 12,
            width: 768,
            inner: None,
            activation: Activation::default(),
            epsilon: epsilon(),
            scale_by_width: true,
            scale_by_layer: false,
            tied: true,
        }
    }
}

impl Gpt2Config {
    /// Width of a block's wide layer.
    pub fn inner(&self) -> usize {
        self.inner.unwrap_or(4 * self.width)
    }

    /// The factor of the attention scores in a layer, counted from zero.
    pub(crate) fn attention_scale(&self, layer: usize) -> f32 {
        let width = if self.scale_by_width { ((self.width / self.heads.max(1)) as f32).sqrt() } else { 1.0 };
        1.0 / width / if self.scale_by_layer { (layer + 1) as f32 } else { 1.0 }
    }

    /// Whether the model differs from the published ones in size alone, as other programs than Hugging Face's expect;
    /// else what is different, by Hugging Face's name.
    pub fn oddity(&self) -> Option<&'static str> {
        let plain = Gpt2Config::default();
        [
            (self.activation != plain.activation, "activation_function"),
            (!self.scale_by_width, "scale_attn_weights"),
            (self.scale_by_layer, "scale_attn_by_inverse_layer_idx"),
        ]
        .into_iter()
        .find_map(|(odd, name)| odd.then_some(name))
    }

    /// Names and shapes of all parameters, as Hugging Face has them; matrices of blocks are `[inputs, outputs]`.
    pub(crate) fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        let (c, inner) = (self.width, self.inner());
        let mut tensors = vec![
            ("transformer.wte.weight".into(), vec![self.vocab, c]),
            ("transformer.wpe.weight".into(), vec![self.context, c]),
        ];
        for layer in 0..self.layers {
            let mut add = |part: &str, weight: Vec<usize>| {
                let outputs = weight[weight.len() - 1];
                tensors.push((format!("transformer.h.{layer}.{part}.weight"), weight));
                tensors.push((format!("transformer.h.{layer}.{part}.bias"), vec![outputs]));
            };
            add("ln_1", vec![c]);
            add("attn.c_attn", vec![c, 3 * c]);
            add("attn.c_proj", vec![c, c]);
            add("ln_2", vec![c]);
            add("mlp.c_fc", vec![c, inner]);
            add("mlp.c_proj", vec![inner, c]);
        }
        tensors.push(("transformer.ln_f.weight".into(), vec![c]));
        tensors.push(("transformer.ln_f.bias".into(), vec![c]));
        if !self.tied {
            tensors.push(("lm_head.weight".into(), vec![self.vocab, c]));
        }
        tensors
    }

    /// # Errors
    /// When the shape is impossible.
    pub(crate) fn check(&self) -> Result<()> {
        let Gpt2Config { context, layers, heads, width, .. } = *self;
        for (name, value) in [("context", context), ("layers", layers), ("heads", heads), ("width", width)] {
            if value == 0 {
                return Err(Error::setting(name, "must be at least 1"));
            }
        }
        if !width.is_multiple_of(heads) {
            let problem = format!("{width} is not divisible by --heads {heads}; try {}", width.next_multiple_of(heads));
            return Err(Error::setting("width", problem));
        }
        Ok(())
    }
}
