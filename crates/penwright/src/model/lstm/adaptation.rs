//! Scoring with a neural cache and dynamic evaluation: [`Adaptation`].

use penwright_kernels::{Factor, chunks, chunks_mut, each, team};

use super::neural_cache::Cache;
use super::pass::Saved;
use super::{Lstm, State};
use crate::Result;
use crate::layers::{Dropout, TASK};
use crate::model::{Adaptation, Dynamic, TokenScore, Trainable, check_tokens, scores_of};

/// Tokens that are scored at once where nothing is learned from them.
const WINDOW: usize = 256;
/// Streams of a batch for the statistics of gradients, and batches at most.
const STREAMS: usize = 100;
const BATCHES: usize = 500;

impl Lstm {
    /// [`crate::model::LanguageModel::score_adapting`], in f32.
    pub(super) fn score_adapted(
        &self,
        tokens: &[u32],
        adaptation: &Adaptation,
        sink: &mut dyn FnMut(&[TokenScore]) -> Result<()>,
    ) -> Result<()> {
        adaptation.check()?;
        check_tokens(tokens, self.config.vocab)?;
        let mut model = Lstm { saved: Default::default(), carried: State::default(), ..self.clone() };
        let mut cache = adaptation.cache.map(Cache::new);
        let mut learning = match &adaptation.dynamic {
            Some(dynamic) => Some(Learning::new(&model, dynamic)?),
            None => None,
        };
        let (mut saved, mut state) = (Saved::<f32>::default(), State::new(&self.config, 1));
        let (n, window) = (tokens.len().saturating_sub(1), learning.as_ref().map_or(WINDOW, |l| l.dynamic.segment));
        for start in (0..n).step_by(window) {
            let end = (start + window).min(n);
            let (inputs, targets) = (&tokens[start..end], &tokens[start + 1..=end]);
            let scores = team(|| {
                model.forward(&mut saved, inputs, &mut state);
                let scores = model.scores(&mut saved, targets, cache.as_mut());
                if let Some(learning) = &mut learning {
                    model.gradient(&mut saved, targets, &mut learning.grads);
                    learning.step(&mut model);
                }
                scores
            });
            sink(&scores)?;
        }
        Ok(())
    }

    /// The scores after a forward pass of one text.
    fn scores<E: Factor>(&self, saved: &mut Saved<E>, targets: &[u32], cache: Option<&mut Cache>) -> Vec<TokenScore> {
        self.logits(saved, 1);
        match cache {
            Some(cache) => {
                let (logits, outputs) = self.logits_and_outputs(saved);
                cache.score(logits, outputs, targets)
            }
            None => scores_of(self.logits_and_outputs(saved).0, targets, self.config.vocab),
        }
    }
}

/// The weights on their way.
struct Learning<'a> {
    dynamic: &'a Dynamic,
    /// Where they came from.
    first: Vec<f32>,
    grads: Vec<f32>,
    /// √MS of each weight, and the mean over all.
    rms: Option<(Vec<f32>, f32)>,
}

impl<'a> Learning<'a> {
    fn new(model: &Lstm, dynamic: &'a Dynamic) -> Result<Self> {
        let rms = match &dynamic.training {
            Some(tokens) => Some(statistics(model.clone(), tokens, dynamic.segment)?),
            None => None,
        };
        let first = model.params.data.to_vec();
        Ok(Learning { dynamic, grads: vec![0.0; first.len()], first, rms })
    }

    /// One step on the weights by the gradient that is there.
    fn step(&self, model: &mut Lstm) {
        let Dynamic { lr, decay, epsilon, .. } = *self.dynamic;
        let params = &mut model.params_mut().data[..];
        let parts = (chunks_mut(params, TASK), chunks(&self.grads, TASK), chunks(&self.first, TASK));
        let rms = self.rms.as_ref();
        each(parts, |task, (params, grads, first)| {
            let weights = params.iter_mut().zip(grads).zip(first);
            match rms {
                None => weights.for_each(|((w, g), first)| *w += decay * (first - *w) - lr * g),
                Some((rms, mean)) => {
                    for (((w, g), first), rms) in weights.zip(&rms[task * TASK..]) {
                        let back = (decay * rms / mean).min(1.0);
                        *w += back * (first - *w) - lr * g / (rms + epsilon);
                    }
                }
            }
        });
    }
}

/// √MS of the gradients over a text, and its mean over the weights; of streams side by side that carry their state on.
fn statistics(mut model: Lstm, tokens: &[u32], segment: usize) -> Result<(Vec<f32>, f32)> {
    check_tokens(tokens, model.config.vocab)?;
    let targets = tokens.len() - 1;
    let segment = segment.min(targets);
    let streams = STREAMS.min(targets / segment).max(1);
    let stream = targets / streams;
    let batches = (stream / segment).min(BATCHES);
    model.regularize(&Default::default());
    let mut grads = vec![0.0; model.params.data.len()];
    let mut squares = vec![0.0; grads.len()];
    for batch in 0..batches {
        let of = |shift: usize| {
            let part = move |b: usize| &tokens[b * stream + batch * segment + shift..][..segment];
            (0..streams).flat_map(part).copied().collect::<Vec<u32>>()
        };
        model.step_in::<f32>((&of(0), &of(1)), streams, (&mut grads, true), Dropout::OFF);
        each((chunks_mut(&mut squares, TASK), chunks(&grads, TASK)), |_, (squares, grads)| {
            squares.iter_mut().zip(grads).for_each(|(s, g)| *s += g * g);
        });
    }
    squares.iter_mut().for_each(|s| *s = (*s / batches as f32).sqrt());
    let tensors = model.params.tensors.iter();
    let sum: f64 = tensors.flat_map(|tensor| &squares[tensor.range.clone()]).map(|&s| f64::from(s)).sum();
    Ok((squares, ((sum / model.params.count() as f64) as f32).max(f32::MIN_POSITIVE)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{LanguageModel, LstmConfig, NeuralCache};
    use std::sync::Arc;

    fn model(tied: bool) -> Lstm {
        let mut model =
            Lstm::new(LstmConfig { vocab: 13, embed: 9, hidden: 11, layers: 2, tied, ..LstmConfig::default() }, 5)
                .unwrap();
        model.params.data.iter_mut().for_each(|w| *w *= 2.0);
        model
    }

    fn text(n: usize) -> Vec<u32> {
        (0..n as u64).map(|i| (crate::layers::random(7, i / 3) % 13) as u32).collect()
    }

    fn scores(model: &Lstm, tokens: &[u32], adaptation: &Adaptation) -> Vec<TokenScore> {
        let mut scores = Vec::new();
        let sink = &mut |part: &[TokenScore]| {
            scores.extend_from_slice(part);
            Ok(())
        };
        model.score_adapting(tokens, adaptation, sink).unwrap();
        scores
    }

    #[test]
    fn without_adaptation_it_is_score() {
        let (model, tokens) = (model(true), text(400));
        let plain = crate::model::mean_score(&model, &tokens, None).unwrap();
        let ours = scores(&model, &tokens, &Adaptation::default());
        let nats: f64 = ours.iter().map(|score| -f64::from(score.log_prob)).sum();
        assert!((nats / 399.0 - plain.0).abs() < 1e-5, "{nats}");
        assert_eq!(ours.iter().filter(|score| score.top1).count(), (plain.1 * 399.0).round() as usize);
    }

    /// By the definition, token by token: distributions from a session, outputs from the state.
    #[test]
    fn the_cache_is_as_defined() {
        let (model, tokens) = (Arc::new(model(false)), text(300));
        for (size, theta, lambda) in [(1000, 0.5, 0.3), (40, 2.0, 0.1), (1, 1.0, 0.9)] {
            let cache = Some(NeuralCache { size, theta, lambda });
            let ours = scores(&model, &tokens, &Adaptation { cache, dynamic: None });
            let mut session = model.clone().session(1).unwrap();
            let (mut saved, mut state) = (Saved::<f32>::default(), State::new(&model.config, 1));
            let mut past: Vec<(Vec<f32>, usize)> = Vec::new();
            for (t, score) in ours.iter().enumerate() {
                session.step(&[0], &[tokens[t]]).unwrap();
                model.forward(&mut saved, &tokens[t..=t], &mut state);
                let now = state.hidden[1].clone();
                let mut p: Vec<f64> = session.log_probs(0).iter().map(|x| f64::from(*x).exp()).collect();
                let seen = &past[past.len().saturating_sub(size)..];
                if !seen.is_empty() {
                    let dot = |h: &[f32]| h.iter().zip(&now).map(|(a, b)| f64::from(a * b)).sum::<f64>();
                    let weights: Vec<f64> = seen.iter().map(|(h, _)| (f64::from(theta) * dot(h)).exp()).collect();
                    let total: f64 = weights.iter().sum();
                    p.iter_mut().for_each(|p| *p *= 1.0 - f64::from(lambda));
                    seen.iter().zip(&weights).for_each(|((_, w), x)| p[*w] += f64::from(lambda) * x / total);
                }
                let expected = p[tokens[t + 1] as usize];
                assert!((f64::from(score.log_prob) - expected.ln()).abs() < 1e-4, "token {t}, cache of {size}");
                let clear = p.iter().all(|other| (other - expected).abs() > 1e-5 || *other == expected);
                assert!(!clear || score.top1 == p.iter().all(|other| *other <= expected));
                past.push((now, tokens[t + 1] as usize));
            }
        }
    }

    /// The rules written out over training steps of the same segments.
    #[test]
    fn dynamic_evaluation_is_as_defined() {
        for training in [None, Some(text(150))] {
            let (tokens, first) = (text(101), model(true));
            let (lr, decay, epsilon) = (if training.is_some() { 1e-3 } else { 0.3 }, 0.02, 1e-3);
            let dynamic = Dynamic { lr, decay, segment: 7, epsilon, training: training.clone() };
            let ours = scores(&first, &tokens, &Adaptation { cache: None, dynamic: Some(dynamic) });
            assert_eq!(ours.len(), 100);
            let n = first.params.data.len();
            let rms = training.map(|training| {
                // 149 targets: 21 streams of 7.
                let (mut model, mut grads) = (first.clone(), vec![0.0; n]);
                let part =
                    |shift: usize| (0..21).flat_map(|b| training[b * 7 + shift..][..7].to_vec()).collect::<Vec<_>>();
                model.train_step(&part(0), &part(1), 21, &mut grads, true, Dropout::OFF);
                grads.iter().map(|g| g.abs()).collect::<Vec<f32>>()
            });
            let mean = rms.as_ref().map(|rms| rms.iter().sum::<f32>() / first.params.count() as f32);
            let (mut model, mut grads) = (first.clone(), vec![0.0; n]);
            for (segment, ours) in ours.chunks(7).enumerate() {
                let (start, len) = (7 * segment, ours.len());
                let (x, y) = (&tokens[start..start + len], &tokens[start + 1..=start + len]);
                let loss = model.train_step(x, y, 1, &mut grads, true, Dropout::OFF);
                let mine = ours.iter().map(|score| -f64::from(score.log_prob)).sum::<f64>() / len as f64;
                assert!((mine - loss).abs() < 2e-4 * loss, "segment {segment}: {mine} for {loss}");
                for i in 0..n {
                    let (w, g, home) = (model.params.data[i], grads[i], first.params.data[i]);
                    let change = match (&rms, mean) {
                        (Some(rms), Some(mean)) => {
                            (decay * rms[i] / mean).min(1.0) * (home - w) - lr * g / (rms[i] + epsilon)
                        }
                        _ => decay * (home - w) - lr * g,
                    };
                    model.params.data[i] += change;
                }
            }
            assert!(model.params.data.iter().zip(&*first.params.data).any(|(a, b)| (a - b).abs() > 1e-3));
        }
    }

    #[test]
    fn what_cannot_work_is_said() {
        let cache = |size, lambda| Adaptation { cache: Some(NeuralCache { size, theta: 1.0, lambda }), dynamic: None };
        for (adaptation, flag) in [(cache(0, 0.1), "cache"), (cache(10, 1.0), "cache-lambda")] {
            let error = model(false).score_adapting(&[1, 2], &adaptation, &mut |_| Ok(())).unwrap_err().to_string();
            assert!(error.contains(flag), "{error}");
        }
    }
}
