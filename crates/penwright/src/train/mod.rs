//! Training: batches, loss, gradients, optimizer, validation, best checkpoint.

mod batches;
mod optimizer;
mod schedule;

pub use batches::Batches;
pub use optimizer::{AdamW, global_norm};
pub use schedule::Schedule;

use std::path::Path;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::layers::Dropout;
use crate::model::mean_score;
use crate::run::{self, ModelConfig};
use crate::tokenizer::Tokenizer;
use crate::{Error, Result};

/// How long to train.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Length {
    /// A number of optimizer steps.
    Steps(u64),
    /// A time; the learning rate falls with the clock.
    Budget(Duration),
}

/// The settings of a training run beside the model's shape.
#[derive(Clone, Debug)]
pub struct TrainOptions {
    /// How long.
    pub length: Length,
    /// Texts side by side.
    pub batch: usize,
    /// Tokens of each text a step.
    pub context: usize,
    /// Peak learning rate.
    pub lr: f32,
    /// Form of the learning rate.
    pub schedule: Schedule,
    /// Steps of linear warm-up.
    pub warmup: u64,
    /// Weight decay on matrices.
    pub weight_decay: f32,
    /// Largest global norm of the gradient.
    pub clip: f32,
    /// Dropout rate.
    pub dropout: f32,
    /// Seed of weights, batches and dropout.
    pub seed: u64,
    /// Steps between validations.
    pub eval_every: u64,
}

/// What happens as training goes, for progress and records.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub enum Event {
    /// Training begins.
    Plan {
        /// Number of parameters.
        params: u64,
        /// Training tokens.
        train_tokens: u64,
        /// Validation tokens.
        val_tokens: u64,
    },
    /// A step was taken; reported every ten.
    Step {
        /// Steps taken.
        step: u64,
        /// Tokens trained on so far.
        tokens: u64,
        /// Passes over the training text so far.
        epoch: f64,
        /// Seconds since the start.
        elapsed_s: f64,
        /// Loss of the step, nats a token.
        train_loss: f64,
        /// Learning rate of the step.
        lr: f32,
        /// Global norm of the gradient before clipping.
        grad_norm: f32,
        /// Tokens a second since the start, validation not counted.
        tokens_per_s: f64,
    },
    /// The validation text was scored.
    Eval {
        /// Steps taken.
        step: u64,
        /// Seconds since the start.
        elapsed_s: f64,
        /// Nats a token.
        val_loss: f64,
        /// Bits a character.
        val_bits_per_char: f64,
    },
    /// Training is over.
    Done {
        /// The run directory.
        run: String,
        /// Steps taken.
        steps: u64,
        /// Tokens trained on.
        tokens: u64,
        /// Seconds in all.
        elapsed_s: f64,
        /// The lowest validation loss, nats a token.
        best_val_loss: f64,
        /// The same in bits a character.
        best_val_bits_per_char: f64,
        /// Number of parameters.
        params: u64,
    },
}

/// Documents as one stream of tokens, each begun by the end-of-text token.
pub fn token_stream(tokenizer: &Tokenizer, texts: &[&str]) -> Vec<u32> {
    texts.iter().flat_map(|text| std::iter::once(tokenizer.eot()).chain(tokenizer.encode(text))).collect()
}

/// Trains a new model on `train`, validates on `val`, and keeps the best weights in the directory `out`.
///
/// # Errors
/// When a setting or text cannot work, the loss is not finite, or writing fails.
pub fn train(
    config: &ModelConfig,
    tokenizer: &Tokenizer,
    train: &[&str],
    val: &[&str],
    options: &TrainOptions,
    out: &Path,
    on_event: &mut dyn FnMut(&Event),
) -> Result<()> {
    let mut model = config.build(options.seed)?;
    let train_tokens = token_stream(tokenizer, train);
    let val_tokens = token_stream(tokenizer, val);
    if val_tokens.len() < 2 {
        return Err(Error::Text("the validation part is empty; use a longer text".into()));
    }
    let val_chars: usize = val.iter().map(|text| text.chars().count()).sum();
    let batches = Batches::new(&train_tokens, options.batch, options.context, model.kind(), options.seed)?;
    options.check()?;
    run::create(out, config, tokenizer)?;

    let params = model.num_params();
    on_event(&Event::Plan { params, train_tokens: train_tokens.len() as u64, val_tokens: val_tokens.len() as u64 });
    let mut optimizer = AdamW::new(model.params());
    let mut grads = vec![0.0; model.params().data.len()];
    let (mut inputs, mut targets) = (Vec::new(), Vec::new());
    let (start, mut validating, mut best, mut step) =
        (Instant::now(), Duration::ZERO, (f64::INFINITY, f64::INFINITY), 0);
    let step_tokens = (options.batch * options.context) as u64;
    loop {
        let progress = options.progress(step, start.elapsed());
        let last = progress >= 1.0;
        if last || (step > 0 && step.is_multiple_of(options.eval_every)) {
            let began = Instant::now();
            let (val_loss, _) = mean_score(&*model, &val_tokens, None)?;
            let bits = val_loss * (val_tokens.len() - 1) as f64 / val_chars as f64 / std::f64::consts::LN_2;
            if !val_loss.is_finite() {
                return Err(options.diverged("validation loss", val_loss as f32, step, out));
            }
            if val_loss < best.0 {
                best = (val_loss, bits);
                run::save_weights(out, model.params())?;
            }
            validating += began.elapsed();
            on_event(&Event::Eval {
                step,
                elapsed_s: start.elapsed().as_secs_f64(),
                val_loss,
                val_bits_per_char: bits,
            });
        }
        if last {
            break;
        }
        if batches.begins_pass(step) {
            model.reset_streams();
        }
        batches.get(step, &mut inputs, &mut targets);
        grads.fill(0.0);
        let dropout = Dropout::new(options.dropout, options.seed, step);
        let loss = model.train_step(&inputs, &targets, options.batch, &mut grads, dropout);
        let norm = global_norm(&grads);
        step += 1;
        for (what, value) in [("loss", loss as f32), ("gradient norm", norm)] {
            if !value.is_finite() {
                return Err(options.diverged(what, value, step, out));
            }
        }
        let warm = (step as f64 / options.warmup.max(1) as f64).min(1.0);
        let lr = options.lr * (warm * options.schedule.factor(progress)) as f32;
        let scale = if norm > options.clip { options.clip / norm } else { 1.0 };
        optimizer.update(&mut model.params_mut().data, &grads, scale, lr, options.weight_decay);
        if step.is_multiple_of(10) {
            let elapsed = start.elapsed();
            let tokens = step * step_tokens;
            on_event(&Event::Step {
                step,
                tokens,
                lr,
                epoch: tokens as f64 / train_tokens.len() as f64,
                elapsed_s: elapsed.as_secs_f64(),
                train_loss: loss,
                grad_norm: norm,
                tokens_per_s: tokens as f64 / (elapsed - validating).as_secs_f64(),
            });
        }
    }
    on_event(&Event::Done {
        run: out.display().to_string(),
        steps: step,
        tokens: step * step_tokens,
        params,
        elapsed_s: start.elapsed().as_secs_f64(),
        best_val_loss: best.0,
        best_val_bits_per_char: best.1,
    });
    Ok(())
}

impl TrainOptions {
    fn check(&self) -> Result<()> {
        let positive = |name, value: f32| {
            if value > 0.0 && value.is_finite() {
                Ok(())
            } else {
                Err(Error::setting(name, format!("{value} is not a positive number")))
            }
        };
        positive("lr", self.lr)?;
        positive("clip", self.clip)?;
        if !(0.0..1.0).contains(&self.dropout) {
            return Err(Error::setting("dropout", format!("{} is not at least 0 and below 1", self.dropout)));
        }
        if self.weight_decay.is_nan() || self.weight_decay < 0.0 {
            return Err(Error::setting("weight-decay", format!("{} is negative", self.weight_decay)));
        }
        if self.eval_every == 0 {
            return Err(Error::setting("eval-every", "must be at least 1"));
        }
        Ok(())
    }

    fn progress(&self, step: u64, elapsed: Duration) -> f64 {
        match self.length {
            Length::Steps(steps) => step as f64 / steps.max(1) as f64,
            // The first step is always taken: a model must come of it.
            Length::Budget(_) if step == 0 => 0.0,
            Length::Budget(budget) => elapsed.as_secs_f64() / budget.as_secs_f64().max(1e-9),
        }
    }

    fn diverged(&self, what: &'static str, value: f32, step: u64, run: &Path) -> Error {
        Error::Diverged { what, value, step, run: run.to_path_buf() }
    }
}
