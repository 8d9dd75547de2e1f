//! Validation: on the held-out text, or on an excerpt of it where the whole takes too long.

use super::trainer::Trainer;
use super::{Average, Averaging, Event, Length};
use crate::Result;

/// What validations may take of the time that a given number of steps takes.
const OF_STEPS: f64 = 0.5;
/// Tokens of an excerpt at least.
const EXCERPT: usize = 2048;
/// A step on a token takes as long as scoring so many.
pub(super) const SCORED: f64 = 3.0;

impl Trainer<'_> {
    /// Scores the validation text, or the excerpt of it, and keeps the weights, or their average, when they are the best so far.
    pub(super) fn evaluate(&mut self) -> Result<()> {
        let val_loss = self.averaged(Self::validate)?;
        self.progress.validated = Some(self.progress.step);
        self.relay();
        if self.options.average == Averaging::Triggered && self.average.is_none() {
            let triggered = self.progress.validations.triggers(val_loss);
            self.average = triggered.then(|| Average::even(self.model.params().data.to_vec()));
        }
        Ok(())
    }

    fn validate(&mut self) -> Result<f64> {
        let before = self.elapsed();
        let excerpt = self.progress.excerpt.map(|tokens| self.data.excerpt(tokens));
        let temperatures = self.options.temperatures();
        let losses = self.model.validate_at(excerpt.as_deref().unwrap_or(&self.data.val), temperatures)?;
        let of = losses.into_iter().zip(temperatures).min_by(|a, b| a.0.total_cmp(&b.0));
        let (val_loss, &temperature) = of.unwrap_or((f64::NAN, &1.0));
        let bits = self.data.val_bits(val_loss);
        let step = self.progress.step;
        if !val_loss.is_finite() {
            return Err(self.options.diverged("validation loss", val_loss as f32, step, &self.out));
        }
        if self.progress.best.is_none_or(|best| val_loss < best.0) {
            self.save_at(temperature)?;
            (self.progress.best, self.progress.since_best) = (Some((val_loss, bits)), 0);
        } else {
            self.progress.since_best += 1;
        }
        self.progress.validation = self.elapsed() - before;
        self.progress.validating += self.progress.validation;
        self.progress.temperature = temperature;
        let temperature = self.options.calibrate.then_some(temperature);
        self.emit(Event::Eval { step, elapsed_s: self.elapsed(), val_loss, val_bits_per_char: bits, temperature })?;
        Ok(val_loss)
    }

    /// Saves the model with its logits divided by a temperature; the weights that are trained stay as they are.
    fn save_at(&mut self, temperature: f32) -> Result<()> {
        if temperature == 1.0 {
            return self.start.save(&self.out, self.model.params());
        }
        let scales = self.model.logit_scales();
        let weights = &mut self.model.params_mut().data;
        let kept: Vec<Vec<f32>> = scales.iter().map(|part| weights[part.clone()].to_vec()).collect();
        scales.iter().flat_map(|part| part.clone()).for_each(|i| weights[i] /= temperature);
        let saved = self.start.save(&self.out, self.model.params());
        let weights = &mut self.model.params_mut().data;
        scales.into_iter().zip(kept).for_each(|(part, values)| weights[part].copy_from_slice(&values));
        saved
    }

    /// Where the number of steps is given, but not how often to validate, validations take no longer than half of the time of
    /// the steps: by the tokens of both, not by the clock, as [`shorten_validation`](Self::shorten_validation) does for a
    /// budget.
    pub(super) fn fit_validation(&mut self) -> Result<()> {
        let options = self.options;
        let budget = matches!(options.length, Length::Budget(_));
        let (Some(total), None, false) = (self.progress.total, options.eval_every, budget) else { return Ok(()) };
        if self.progress.step > 0 || self.progress.excerpt.is_some() {
            return Ok(()); // resumed
        }
        let of_step = options.batch as f64 * options.context as f64 * options.accumulate as f64;
        let steps = SCORED * of_step * total as f64;
        let validations = total.div_ceil(self.progress.eval_every).max(1) as f64;
        self.validate_on((OF_STEPS * steps / validations) as usize, None)?;
        Ok(())
    }

    /// Validates on an excerpt from now on if the whole text takes longer than `allowed`; the seconds of a validation then.
    pub(super) fn shorten_validation(&mut self, whole: f64, allowed: f64) -> Result<f64> {
        let of = self.data.val.len() as f64;
        if whole <= allowed {
            return Ok(whole);
        }
        let tokens = self.validate_on((of * allowed / whole) as usize, Some(whole))?;
        Ok(whole * tokens as f64 / of)
    }

    /// Validates on so many tokens from now on, if the text has more, or on a few thousand where those are fewer; how many
    /// they are.
    fn validate_on(&mut self, tokens: usize, whole_s: Option<f64>) -> Result<usize> {
        let (tokens, of) = (tokens.max(EXCERPT), self.data.val.len());
        if tokens >= of {
            return Ok(of);
        }
        self.progress.excerpt = Some(tokens);
        let part = self.data.excerpt(tokens).len();
        self.emit(Event::Excerpt { tokens: part as u64, of: of as u64, whole_s })?;
        Ok(part)
    }
}
