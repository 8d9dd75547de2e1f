//! Training an n-gram model: counting, no steps.

use std::path::Path;
use std::time::Instant;

use super::metrics::Metrics;
use super::trainer::forget;
use super::{Data, Event, Outcome};
use crate::Result;
use crate::model::{LanguageModel, ModelKind, Ngram, NgramConfig, mean_score};
use crate::run::{self, ModelConfig};
use crate::tokenizer::Tokenizer;

/// Counts the training tokens, scores the held-out ones and writes the run directory.
pub(super) fn train(
    config: &NgramConfig,
    tokenizer: &Tokenizer,
    data: &Data,
    out: &Path,
    on_event: &mut dyn FnMut(&Event),
) -> Result<Outcome> {
    let started = Instant::now();
    forget(out)?;
    run::create(out, &ModelConfig::Ngram(config.clone()), tokenizer)?;
    let mut metrics = Metrics::open(out, 0)?;
    let mut emit = |event: Event| {
        on_event(&event);
        metrics.add(&event)
    };
    let tokens = data.train.len() as u64;
    let model = Ngram::train(config.clone(), &data.train, tokenizer.eot())?;
    model.save(out)?;
    emit(Event::Plan {
        model: ModelKind::Ngram.to_string(),
        params: model.num_params(),
        trained_params: None,
        train_tokens: tokens,
        val_tokens: data.val.len() as u64,
        steps: Some(1),
        memory_bytes: 16 * model.num_params(),
        flops_per_token: 0.0,
        resumed_at: 0,
        reasons: Vec::new(),
    })?;
    let (val_loss, _) = mean_score(&model, &data.val, None)?;
    let bits = data.val_bits(val_loss);
    emit(Event::Eval {
        step: 1,
        elapsed_s: started.elapsed().as_secs_f64(),
        val_loss,
        val_bits_per_char: bits,
        temperature: None,
    })?;
    emit(Event::Done {
        run: out.display().to_string(),
        reason: Outcome::Finished.reason().into(),
        steps: 1,
        tokens,
        elapsed_s: started.elapsed().as_secs_f64(),
        best_val_loss: Some(val_loss),
        best_val_bits_per_char: Some(bits),
        params: model.num_params(),
    })?;
    Ok(Outcome::Finished)
}
