//! GPT-2 (Radford et al. 2019): embeddings, then blocks `x += attention(norm(x)); x += mlp(norm(x))`, a last
//! norm, and the token embedding again as the output layer. Tensors are named as Hugging Face names them.

mod config;
mod lora;
mod pass;
mod session;

use std::ops::Range;
use std::sync::Arc;

use penwright_kernels::{Bf16, Factor, team};
use serde::{Deserialize, Serialize};

use super::{
    DecodePrecision, LanguageModel, Memory, ModelKind, Params, Precision, Session, TokenScore, Trainable, add_losses,
    check_tokens, losses_of, scores_of,
};
use crate::layers::{Dropout, LayerNorm, Layout, Linear};
use crate::{Error, Result};
pub use config::Gpt2Config;
pub use lora::{Lora, LoraConfig};
use pass::{Keep, Saved};
use session::OwnDecoding;

/// Positions that scoring computes at once, and of them those whose logits are there at once.
const SCORE_ROWS: usize = 1024;
const LOGIT_ROWS: usize = 128;

#[derive(Clone)]
struct Block {
    norm1: LayerNorm,
    qkv: Linear,
    attention_out: Linear,
    norm2: LayerNorm,
    up: Linear,
    down: Linear,
}

/// What training leaves as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frozen {
    /// The first blocks.
    pub layers: usize,
    /// Token and position embeddings; with them a tied output layer.
    pub embeddings: bool,
}

impl Frozen {
    /// Whether a tensor is left as it is, by its name.
    fn covers(&self, name: &str) -> bool {
        let Some(part) = name.strip_prefix("transformer.") else { return false };
        let layer =
            part.strip_prefix("h.").and_then(|rest| rest.split_once('.')).and_then(|(layer, _)| layer.parse().ok());
        let embedding = part.starts_with("wte.") || part.starts_with("wpe.");
        self.embeddings && embedding || layer.is_some_and(|layer: usize| layer < self.layers)
    }

    /// Number of parameters that are left as they are.
    pub fn num_params(&self, config: &Gpt2Config) -> u64 {
        let covered = config.tensors().into_iter().filter(|(name, _)| self.covers(name));
        covered.map(|(_, shape)| shape.iter().product::<usize>() as u64).sum()
    }

    /// # Errors
    /// When there are not so many blocks.
    pub(crate) fn check(&self, config: &Gpt2Config) -> Result<()> {
        if self.layers > config.layers {
            let problem = format!("{} is more than the model's {} blocks", self.layers, config.layers);
            return Err(Error::setting("freeze-layers", problem));
        }
        Ok(())
    }
}

/// How a model that is there is trained on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Tuning {
    /// Adapters beside the frozen weights, instead of the weights themselves.
    pub lora: Option<LoraConfig>,
    /// What is left as it is.
    pub frozen: Frozen,
}

/// A GPT-2 with its weights.
#[derive(Clone)]
pub struct Gpt2 {
    config: Gpt2Config,
    params: Params,
    token_embedding: Range<usize>,
    position_embedding: Range<usize>,
    blocks: Vec<Block>,
    last_norm: LayerNorm,
    head: Linear,
    lora: Option<Box<Lora>>,
    frozen: Frozen,
    keep: Keep,
    precision: Precision,
    saved: Memory,
    own: OwnDecoding,
}

impl Gpt2 {
    /// A new model with GPT-2's initialisation: normal of 0.02, residual projections by 1/√(2 · layers) less. GPT-2 is
    /// at least 768 wide; the matrices of a narrower model begin larger by √(768 / C), so that the sums over C inputs
    /// keep their size. (At width 128 this lowers the loss after 2,000 steps by 0.09 nats; see docs/training-notes.md.)
    ///
    /// # Errors
    /// When the shape is impossible.
    pub fn new(config: Gpt2Config, seed: u64) -> Result<Self> {
        config.check()?;
        let params = Params::zeros(config.tensors());
        let std = 0.02 * (768.0 / config.width as f32).max(1.0).sqrt();
        let residual = std / (2.0 * config.layers as f32).sqrt();
        let mut model = Self::with_params(config, params)?;
        let p = &mut model.params;
        p.fill_normal(&model.token_embedding, 0.02, seed);
        p.fill_normal(&model.position_embedding, 0.02, seed);
        for block in &model.blocks {
            p.fill_normal(&block.qkv.weight, std, seed);
            p.fill_normal(&block.attention_out.weight, residual, seed);
            p.fill_normal(&block.up.weight, std, seed);
            p.fill_normal(&block.down.weight, residual, seed);
            p.data[block.norm1.gain.clone()].fill(1.0);
            p.data[block.norm2.gain.clone()].fill(1.0);
        }
        p.data[model.last_norm.gain.clone()].fill(1.0);
        if !model.config.tied {
            p.fill_normal(&model.head.weight, 0.02, seed);
        }
        Ok(model)
    }

    /// A model of weights that are there, named as Hugging Face names them.
    ///
    /// # Errors
    /// When the shape is impossible, or a tensor is missing or has another shape.
    pub fn with_params(config: Gpt2Config, params: Params) -> Result<Self> {
        config.check()?;
        let Gpt2Config { vocab, layers, width, epsilon, .. } = config;
        let inner = config.inner();
        let find = |name: &str, shape: &[usize]| {
            let tensor = params.find(name).filter(|tensor| tensor.shape == shape);
            let problem = || Error::Unsupported(format!("the weights have no {name} of the shape {shape:?}"));
            tensor.map(|tensor| tensor.range.clone()).ok_or_else(problem)
        };
        let norm = |name: &str| -> Result<LayerNorm> {
            let [gain, bias] = [find(&format!("{name}.weight"), &[width])?, find(&format!("{name}.bias"), &[width])?];
            Ok(LayerNorm { gain, bias, epsilon })
        };
        let linear = |name: &str, inputs: usize, outputs: usize| -> Result<Linear> {
            let weight = find(&format!("{name}.weight"), &[inputs, outputs])?;
            let bias = Some(find(&format!("{name}.bias"), &[outputs])?);
            Ok(Linear { weight, bias, inputs, outputs, layout: Layout::InOut })
        };
        let token_embedding = find("transformer.wte.weight", &[vocab, width])?;
        let position_embedding = find("transformer.wpe.weight", &[config.context, width])?;
        let blocks = (0..layers).map(|l| {
            let name = |part: &str| format!("transformer.h.{l}.{part}");
            Ok(Block {
                norm1: norm(&name("ln_1"))?,
                qkv: linear(&name("attn.c_attn"), width, 3 * width)?,
                attention_out: linear(&name("attn.c_proj"), width, width)?,
                norm2: norm(&name("ln_2"))?,
                up: linear(&name("mlp.c_fc"), width, inner)?,
                down: linear(&name("mlp.c_proj"), inner, width)?,
            })
        });
        let blocks = blocks.collect::<Result<_>>()?;
        let last_norm = norm("transformer.ln_f")?;
        let weight = if config.tied { token_embedding.clone() } else { find("lm_head.weight", &[vocab, width])? };
        let head = Linear { weight, bias: None, inputs: width, outputs: vocab, layout: Layout::OutIn };
        Ok(Gpt2 {
            config,
            params,
            token_embedding,
            position_embedding,
            blocks,
            last_norm,
            head,
            lora: None,
            frozen: Frozen::default(),
            keep: Keep::All,
            precision: Precision::F32,
            saved: Memory::default(),
            own: OwnDecoding::default(),
        })
    }

    /// The shape.
    pub fn config(&self) -> &Gpt2Config {
        &self.config
    }

    /// Leaves some parts as they are when the rest is trained.
    ///
    /// # Errors
    /// When there are not so many blocks.
    pub fn freeze(&mut self, frozen: Frozen) -> Result<()> {
        frozen.check(&self.config)?;
        self.frozen = frozen;
        for tensor in &mut self.params.tensors {
            tensor.frozen = frozen.covers(&tensor.name);
        }
        Ok(())
    }

    fn is_frozen(&self, layer: usize) -> bool {
        layer < self.frozen.layers
    }

    fn trains_embeddings(&self) -> bool {
        self.lora.is_none() && !self.frozen.embeddings
    }

    fn trains_head(&self) -> bool {
        self.lora.is_none() && !(self.config.tied && self.frozen.embeddings)
    }

    /// The first block that a gradient must reach.
    fn first_trained(&self) -> usize {
        if self.lora.is_none() && self.frozen.embeddings { self.frozen.layers } else { 0 }
    }

    /// Shows `f` the logits and targets of as many positions as there are targets, the last of those just computed, a part
    /// at a time.
    fn each_logits<E: Factor>(
        &self,
        saved: &mut Saved<E>,
        targets: &[u32],
        mut f: impl FnMut(&mut [f32], &[u32]) + Send,
    ) {
        let first = saved.rows() - targets.len();
        for (i, targets) in targets.chunks(LOGIT_ROWS).enumerate() {
            team(|| f(self.logits(saved, first + i * LOGIT_ROWS, targets.len()), targets));
        }
    }
}

impl Gpt2 {
    /// [`LanguageModel::score`] in the kind of number E.
    fn score_in<E: Factor>(
        &self,
        tokens: &[u32],
        stride: Option<usize>,
        sink: &mut dyn FnMut(&[TokenScore]) -> Result<()>,
    ) -> Result<()> {
        let vocab = self.config.vocab;
        self.each_window(tokens, stride, |saved: &mut Saved<E>, targets| {
            let mut scores = Vec::with_capacity(targets.len());
            self.each_logits(saved, targets, |logits, targets| scores.extend(scores_of(logits, targets, vocab)));
            sink(&scores)
        })
    }

    /// [`Trainable::validate_at`] in the kind of number E.
    fn validate_in<E: Factor>(&self, tokens: &[u32], temperatures: &[f32]) -> Result<Vec<f64>> {
        let vocab = self.config.vocab;
        let mut nats = vec![0.0; temperatures.len()];
        self.each_window(tokens, None, |saved: &mut Saved<E>, targets| {
            self.each_logits(saved, targets, |logits, targets| {
                let losses = losses_of(logits, targets, vocab, temperatures);
                losses.chunks_exact(temperatures.len()).for_each(|losses| add_losses(&mut nats, losses));
            });
            Ok(())
        })?;
        Ok(nats.iter().map(|nats| nats / tokens.len().saturating_sub(1).max(1) as f64).collect())
    }

    /// Shows `f` what was computed of each window of a text, and the targets of the positions that are new in it.
    fn each_window<E: Factor>(
        &self,
        tokens: &[u32],
        stride: Option<usize>,
        mut f: impl FnMut(&mut Saved<E>, &[u32]) -> Result<()>,
    ) -> Result<()> {
        check_tokens(tokens, self.config.vocab)?;
        let context = self.config.context;
        let stride = stride.unwrap_or(context).clamp(1, context);
        let (mut saved, mut done, n) = (Saved::<E>::default(), 0, tokens.len().saturating_sub(1));
        team(|| self.pack_head(&mut saved));
        let side_by_side = (SCORE_ROWS / context).max(1) * context;
        // Windows that do not overlap are texts of one batch.
        while stride == context && done + side_by_side <= n {
            let end = done + side_by_side;
            let batch = side_by_side / context;
            team(|| self.forward(&mut saved, &tokens[done..end], batch, Dropout::OFF, Keep::Nothing));
            f(&mut saved, &tokens[done + 1..=end])?;
            done = end;
        }
        while done < n {
            // The window ends `stride` new tokens on and reaches back as far as the context allows.
            let end = if done == 0 { context.min(n) } else { (done + stride).min(n) };
            let start = end.saturating_sub(context).min(done);
            team(|| self.forward(&mut saved, &tokens[start..end], 1, Dropout::OFF, Keep::Nothing));
            f(&mut saved, &tokens[done + 1..=end])?;
            done = end;
        }
        Ok(())
    }

    fn step_in<E: Factor>(
        &mut self,
        (tokens, targets): (&[u32], &[u32]),
        batch: usize,
        grads: (&mut [f32], bool),
        dropout: Dropout,
    ) -> f64 {
        let mut saved: Box<Saved<E>> = self.saved.take();
        let loss = team(|| {
            self.forward(&mut saved, tokens, batch, dropout, self.keep);
            let loss = self.loss(&mut saved, targets);
            self.backward(&mut saved, tokens, batch, grads, dropout);
            loss
        });
        self.saved.keep(saved);
        loss / tokens.len() as f64
    }
}

impl LanguageModel for Gpt2 {
    fn kind(&self) -> ModelKind {
        ModelKind::Gpt2
    }

    fn vocab_size(&self) -> usize {
        self.config.vocab
    }

    fn context(&self) -> Option<usize> {
        Some(self.config.context)
    }

    fn num_params(&self) -> u64 {
        self.params.count() + self.lora.as_ref().map_or(0, |lora| lora.params.count())
    }

    fn as_gpt2(&self) -> Option<&Gpt2> {
        Some(self)
    }

    fn session(self: Arc<Self>, streams: usize) -> Result<Box<dyn Session>> {
        self.own_session(streams)
    }

    fn with_precision(self: Arc<Self>, precision: DecodePrecision) -> Result<Arc<dyn LanguageModel>> {
        Ok(self.decoder(precision)?.0)
    }

    fn score(
        &self,
        tokens: &[u32],
        stride: Option<usize>,
        sink: &mut dyn FnMut(&[TokenScore]) -> Result<()>,
    ) -> Result<()> {
        self.score_in::<f32>(tokens, stride, sink)
    }
}

impl Trainable for Gpt2 {
    fn params(&self) -> &Params {
        self.lora.as_ref().map_or(&self.params, |lora| &lora.params)
    }

    fn params_mut(&mut self) -> &mut Params {
        self.own = OwnDecoding::default();
        self.lora.as_mut().map_or(&mut self.params, |lora| &mut lora.params)
    }

    fn train_step(
        &mut self,
        tokens: &[u32],
        targets: &[u32],
        batch: usize,
        grads: &mut [f32],
        fresh: bool,
        dropout: Dropout,
    ) -> f64 {
        match self.precision {
            Precision::F32 => self.step_in::<f32>((tokens, targets), batch, (grads, fresh), dropout),
            Precision::Bf16 => self.step_in::<Bf16>((tokens, targets), batch, (grads, fresh), dropout),
        }
    }

    fn set_precision(&mut self, precision: Precision) {
        self.precision = precision;
    }

    fn checkpoint_activations(&mut self, on: bool) {
        self.keep = if on { Keep::Inputs } else { Keep::All };
    }

    fn reset_stream(&mut self, _stream: usize) {}

    fn validate_at(&self, tokens: &[u32], temperatures: &[f32]) -> Result<Vec<f64>> {
        match self.precision {
            Precision::F32 => self.validate_in::<f32>(tokens, temperatures),
            Precision::Bf16 => self.validate_in::<Bf16>(tokens, temperatures),
        }
    }

    /// Gain and bias of the last norm: the output layer that follows has no bias.
    fn logit_scales(&self) -> Vec<Range<usize>> {
        if self.lora.is_some() {
            return Vec::new();
        }
        vec![self.last_norm.gain.clone(), self.last_norm.bias.clone()]
    }

    fn snapshot(&self) -> Arc<dyn LanguageModel> {
        Arc::new(self.clone())
    }

    fn into_model(mut self: Box<Self>) -> Arc<dyn LanguageModel> {
        self.saved = Memory::default();
        Arc::new(*self)
    }
}
