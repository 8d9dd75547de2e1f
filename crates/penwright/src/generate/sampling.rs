//! From the model's log-probabilities to the next token.
//!
//! The order is that of Hugging Face's transformers: first what changes or forbids single tokens, then the temperature,
//! then the filters from coarse to fine, each on the renormalised rest of the one before, then the draw:
//!
//! 1. suppressed ids (never generated);
//! 2. repetition penalty;
//! 3. no repeated n-gram;
//! 4. temperature (0: the likeliest token, and the rest is skipped);
//! 5. top-k; 6. top-p; 7. min-p; 8. typical;
//! 9. one draw, its random number a function of seed, sample and token alone.

use std::cmp::Ordering;

use penwright_kernels::exp;

use crate::layers::random;
use crate::{Error, Result};

/// How the next token is chosen.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampling {
    /// Divides the log-probabilities; 0 takes the likeliest token always.
    pub temperature: f32,
    /// Only the `k` likeliest tokens; 0, or more than there are, for all.
    pub top_k: usize,
    /// Only the likeliest tokens that together have this probability (Holtzman et al. 2020); 1 for all.
    pub top_p: f32,
    /// Only tokens at least this fraction as likely as the likeliest (Nguyen et al. 2024); 0 for all.
    pub min_p: f32,
    /// Only the tokens whose surprisal `−ln p` is nearest to the expected one, the entropy, and that together have
    /// this probability (locally typical sampling, Meister et al. 2023); 1 for all.
    pub typical: f32,
    /// Tokens that the text has already, prompt included, have their log-probability multiplied by this (Keskar et
    /// al. 2019, who divide positive logits; a log-probability is never positive); 1 for none.
    pub repetition_penalty: f32,
    /// No sequence of this many tokens comes twice in the text, prompt included; 0 for no such rule.
    pub no_repeat_ngram: usize,
    /// Seed; the same seed gives the same text.
    pub seed: u64,
}

impl Default for Sampling {
    fn default() -> Self {
        Sampling {
            temperature: 0.8,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            typical: 1.0,
            repetition_penalty: 1.0,
            no_repeat_ngram: 0,
            seed: 0,
        }
    }
}

impl Sampling {
    /// # Errors
    /// [`Error::Setting`] with the flag's name when a value cannot work.
    pub fn check(&self) -> Result<()> {
        let rule = |name, value: f32, holds: bool, what: &str| match holds {
            true => Ok(()),
            false => Err(Error::setting(name, format!("{value} is not {what}"))),
        };
        let t = self.temperature;
        rule("temperature", t, t.is_finite() && t >= 0.0, "a number from 0 (always the likeliest) up; try 0.8")?;
        let p = self.top_p;
        rule("top-p", p, p > 0.0 && p <= 1.0, "above 0 and at most 1 (all tokens); try 0.95")?;
        rule("min-p", self.min_p, (0.0..=1.0).contains(&self.min_p), "from 0 (all tokens) to 1; try 0.05")?;
        let p = self.typical;
        rule("typical", p, p > 0.0 && p <= 1.0, "above 0 and at most 1 (all tokens); try 0.95")?;
        let r = self.repetition_penalty;
        rule("repetition-penalty", r, r.is_finite() && r > 0.0, "a number above 0; 1 changes nothing, try 1.1")
    }
}

/// A token that may still be chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Candidate {
    id: u32,
    /// Log-probability, penalised; after the temperature, divided by it and shifted so that the best has 0.
    score: f32,
    /// `exp(score)`.
    weight: f32,
}

/// Chooses tokens; keeps its memory from token to token.
pub(crate) struct Sampler {
    sampling: Sampling,
    /// Whether an id may be generated at all.
    allowed: Vec<bool>,
    /// The round in which a token was last met in the text, so that it is penalised once.
    met: Vec<u64>,
    round: u64,
    banned: Vec<u32>,
    candidates: Vec<Candidate>,
}

impl Sampler {
    /// A sampler over ids below `vocab`, without those in `suppressed`.
    pub(crate) fn new(sampling: &Sampling, vocab: usize, suppressed: &[u32]) -> Self {
        let mut allowed = vec![true; vocab];
        for &id in suppressed {
            if let Some(allowed) = allowed.get_mut(id as usize) {
                *allowed = false;
            }
        }
        let (sampling, met) = (sampling.clone(), vec![0; vocab]);
        Sampler { sampling, allowed, met, round: 0, banned: Vec::new(), candidates: Vec::new() }
    }

    /// The tokens that may follow `history`, by id, with their log-probabilities after the first three stages.
    pub(crate) fn penalised(&mut self, log_probs: &[f32], history: &[u32]) -> impl Iterator<Item = (u32, f32)> {
        self.prepare(log_probs, history);
        self.candidates.iter().map(|c| (c.id, c.score))
    }

    /// Stages 1 to 3: fills `candidates`, by id.
    fn prepare(&mut self, log_probs: &[f32], history: &[u32]) {
        self.ban_repeats(history);
        let penalty = self.sampling.repetition_penalty;
        if penalty != 1.0 {
            self.round += 1;
            for &id in history {
                if let Some(met) = self.met.get_mut(id as usize) {
                    *met = self.round;
                }
            }
        }
        let ids = log_probs.iter().zip(&self.allowed).zip(&self.met).zip(0..);
        self.candidates.clear();
        self.candidates.extend(ids.filter(|(((_, allowed), _), _)| **allowed).map(|(((&score, _), &met), id)| {
            let score = if penalty != 1.0 && met == self.round { score * penalty } else { score };
            Candidate { id, score, weight: 0.0 }
        }));
        if !self.banned.is_empty() {
            self.candidates.retain(|c| self.banned.binary_search(&c.id).is_err());
        }
    }

    /// The ids that would complete an n-gram which the history has already.
    fn ban_repeats(&mut self, history: &[u32]) {
        self.banned.clear();
        let n = self.sampling.no_repeat_ngram;
        if n == 0 || history.len() < n {
            return;
        }
        let last = &history[history.len() - (n - 1)..];
        self.banned.extend(history.windows(n).filter(|gram| gram[..n - 1] == *last).map(|gram| gram[n - 1]));
        self.banned.sort_unstable();
    }

    /// Chooses token `n` of the text `sample` with these log-probabilities, after `history`; `None` when every token
    /// is forbidden.
    pub(crate) fn choose(&mut self, log_probs: &[f32], history: &[u32], sample: u64, n: u64) -> Option<u32> {
        let Sampling { temperature, repetition_penalty, no_repeat_ngram, .. } = self.sampling;
        if temperature == 0.0 && repetition_penalty == 1.0 && no_repeat_ngram == 0 {
            let best = likeliest(&log_probs[..self.allowed.len().min(log_probs.len())]);
            if best.is_some_and(|id| self.allowed[id as usize]) {
                return best;
            }
        }
        self.prepare(log_probs, history);
        let best = self.candidates.iter().copied().reduce(|a, b| if b.score > a.score { b } else { a })?;
        if self.sampling.temperature == 0.0 {
            return Some(best.id);
        }
        self.filter(best.score);
        let total: f64 = self.candidates.iter().map(|c| f64::from(c.weight)).sum();
        let point = uniform(self.sampling.seed, sample, n) * total;
        let mut sum = 0.0;
        let drawn = self.candidates.iter().find(|c| {
            sum += f64::from(c.weight);
            point < sum
        });
        drawn.or(self.candidates.last()).map(|c| c.id)
    }

    /// Stages 4 to 8: leaves the candidates that may be drawn, by id.
    fn filter(&mut self, best: f32) {
        let Sampling { temperature, top_k, top_p, min_p, typical, .. } = self.sampling;
        let all = &mut self.candidates;
        for c in all.iter_mut() {
            c.score = ((c.score - best) / temperature).max(-87.0); // below that, no weight is left
            c.weight = exp(c.score);
        }
        if top_k > 0 && top_k < all.len() {
            all.select_nth_unstable_by(top_k - 1, likelier);
            all.truncate(top_k);
        }
        if top_p < 1.0 {
            by_id(all); // so that no sum depends on how a selection left the order
            keep_mass(all, top_p, likelier);
        }
        if min_p > 0.0 {
            all.retain(|c| c.weight >= min_p);
        }
        if typical < 1.0 {
            by_id(all);
            keep_typical(all, typical);
        }
        if top_k > 0 || top_p < 1.0 || typical < 1.0 {
            by_id(all);
        }
    }
}

/// The first of the greatest.
fn likeliest(log_probs: &[f32]) -> Option<u32> {
    const PART: usize = 512;
    let (mut best, mut part) = (f32::NEG_INFINITY, None);
    for (i, values) in log_probs.chunks(PART).enumerate() {
        let mut greatest = [f32::NEG_INFINITY; 8];
        for values in values.chunks(8) {
            greatest.iter_mut().zip(values).for_each(|(a, &b)| *a = if b > *a { b } else { *a });
        }
        let greatest = greatest.into_iter().fold(f32::NEG_INFINITY, f32::max);
        if greatest > best {
            (best, part) = (greatest, Some(i * PART));
        }
    }
    let first = part?;
    log_probs[first..].iter().position(|&x| x == best).map(|at| (first + at) as u32)
}

/// A number in [0, 1), a function of its three counters alone.
fn uniform(seed: u64, sample: u64, n: u64) -> f64 {
    (random(random(seed ^ 0x7E87, sample), n) >> 11) as f64 / (1u64 << 53) as f64
}

fn by_id(candidates: &mut [Candidate]) {
    candidates.sort_unstable_by_key(|c| c.id);
}

fn likelier(a: &Candidate, b: &Candidate) -> Ordering {
    b.score.total_cmp(&a.score).then(a.id.cmp(&b.id))
}

/// Keeps the fewest candidates, first in `order`, whose share of the whole weight reaches `mass`. Sorts only as far
/// as it must.
fn keep_mass(all: &mut Vec<Candidate>, mass: f32, order: impl Fn(&Candidate, &Candidate) -> Ordering + Copy) {
    let total: f64 = all.iter().map(|c| f64::from(c.weight)).sum();
    let (target, mut sum) = (f64::from(mass) * total, 0.0);
    let (mut sorted, mut block) = (0, 64);
    while sorted < all.len() {
        let end = (sorted + block).min(all.len());
        if end < all.len() {
            all[sorted..].select_nth_unstable_by(end - sorted - 1, order);
        }
        all[sorted..end].sort_unstable_by(order);
        for i in sorted..end {
            sum += f64::from(all[i].weight);
            if sum >= target {
                return all.truncate(i + 1);
            }
        }
        (sorted, block) = (end, block * 4);
    }
}

/// Keeps the candidates whose surprisal is nearest to the entropy. `score` becomes that distance.
fn keep_typical(all: &mut Vec<Candidate>, mass: f32) {
    let total: f64 = all.iter().map(|c| f64::from(c.weight)).sum();
    // −ln p = ln total − score; the entropy is its mean.
    let ln_total = total.ln();
    let entropy: f64 = all.iter().map(|c| f64::from(c.weight) / total * (ln_total - f64::from(c.score))).sum();
    for c in all.iter_mut() {
        c.score = (ln_total - f64::from(c.score) - entropy).abs() as f32;
    }
    keep_mass(all, mass, |a, b| a.score.total_cmp(&b.score).then(a.id.cmp(&b.id)));
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn logs(probs: &[f32]) -> Vec<f32> {
        probs.iter().map(|p| p.ln()).collect()
    }

    fn plain() -> Sampling {
        Sampling { temperature: 1.0, ..Sampling::default() }
    }

    fn survivors(sampling: &Sampling, log_probs: &[f32], history: &[u32]) -> Vec<u32> {
        let mut sampler = Sampler::new(sampling, log_probs.len(), &[]);
        sampler.prepare(log_probs, history);
        let best = sampler.candidates.iter().map(|c| c.score).fold(f32::NEG_INFINITY, f32::max);
        sampler.filter(best);
        sampler.candidates.iter().map(|c| c.id).collect()
    }

    /// The stages as the papers write them, with full sorts, in f64.
    fn reference(s: &Sampling, log_probs: &[f32], history: &[u32]) -> Vec<u32> {
        let mut left: Vec<(usize, f64)> = log_probs.iter().map(|&l| f64::from(l)).enumerate().collect();
        for (id, score) in &mut left {
            if history.contains(&(*id as u32)) {
                *score *= f64::from(s.repetition_penalty);
            }
        }
        if s.no_repeat_ngram > 0 {
            left.retain(|&(id, _)| {
                let text = [history, &[id as u32]].concat();
                let grams: Vec<_> = text.windows(s.no_repeat_ngram).collect();
                grams.last().is_none_or(|new| !grams[..grams.len() - 1].contains(new))
            });
        }
        let normalised = |left: &[(usize, f64)]| {
            let total: f64 = left.iter().map(|(_, score)| score.exp()).sum();
            left.iter().map(|&(id, score)| (id, score - total.ln())).collect::<Vec<_>>()
        };
        let take = |left: &[(usize, f64)], mass: f64| {
            let mut sum = 0.0;
            let fits = left.iter().take_while(|(_, score)| {
                let before = sum;
                sum += score.exp();
                mass == 1.0 || before < mass - 1e-9
            });
            fits.count()
        };
        left.iter_mut().for_each(|(_, score)| *score /= f64::from(s.temperature));
        left.sort_by(|a, b| b.1.total_cmp(&a.1));
        left.truncate(if s.top_k == 0 { usize::MAX } else { s.top_k });
        left = normalised(&left);
        left.truncate(take(&left, s.top_p.into()));
        let most = left[0].1.exp();
        left.retain(|(_, score)| score.exp() >= f64::from(s.min_p) * most - 1e-9);
        left = normalised(&left);
        let entropy: f64 = left.iter().map(|(_, score)| -score * score.exp()).sum();
        left.sort_by(|a, b| (-a.1 - entropy).abs().total_cmp(&(-b.1 - entropy).abs()));
        left.truncate(take(&left, s.typical.into()));
        let mut ids: Vec<u32> = left.iter().map(|l| l.0 as u32).collect();
        ids.sort_unstable();
        ids
    }

    proptest! {
        #[test]
        fn every_stage_equals_its_definition(
            raw in prop::collection::vec(0.0f32..9.0, 2..300),
            history in prop::collection::vec(0u32..6, 0..12),
            temperature in 0.3f32..2.0, top_k in 0usize..400, top_p in 0.1f32..1.0, min_p in 0.0f32..0.5,
            typical in 0.2f32..1.0, penalty in 0.7f32..1.6, ngram in 0usize..4, stage in 0..7
        ) {
            let total: f32 = raw.iter().map(|x| x.exp()).sum();
            let log_probs: Vec<f32> = raw.iter().map(|x| x - total.ln()).collect();
            let mut s = plain();
            // One stage at a time, and all of them together.
            if stage == 0 || stage == 6 { s.repetition_penalty = penalty; }
            if stage == 1 || stage == 6 { s.no_repeat_ngram = if log_probs.len() > 6 { ngram } else { 0 }; }
            if stage == 2 || stage == 6 { s.top_k = top_k; }
            if stage == 3 || stage == 6 { s.top_p = top_p; }
            if stage == 4 || stage == 6 { s.min_p = min_p; }
            if stage == 5 || stage == 6 { s.typical = typical; }
            s.temperature = temperature;
            prop_assert_eq!(survivors(&s, &log_probs, &history), reference(&s, &log_probs, &history));
        }

        #[test]
        fn a_filter_that_removes_nothing_changes_nothing(raw in prop::collection::vec(0.0f32..5.0, 2..90), n: u64) {
            let log_probs: Vec<f32> = raw.iter().map(|x| x - 9.0).collect();
            let choose = |s: Sampling| Sampler::new(&s, log_probs.len(), &[]).choose(&log_probs, &[], 3, n);
            let some = choose(plain());
            prop_assert_eq!(choose(Sampling { top_k: log_probs.len(), ..plain() }), some);
            prop_assert_eq!(choose(Sampling { top_k: usize::MAX, min_p: 1e-9, ..plain() }), some);
        }
    }

    #[test]
    fn frequencies_follow_the_probabilities() {
        let log_probs = logs(&[0.7, 0.2, 0.1]);
        let mut sampler = Sampler::new(&plain(), 3, &[2]);
        let mut counts = [0; 3];
        for n in 0..20_000 {
            counts[sampler.choose(&log_probs, &[], n % 7, n).unwrap() as usize] += 1;
        }
        assert!(counts[2] == 0 && (4_200..4_700).contains(&counts[1]), "{counts:?} is not 7 to 2");
    }

    #[test]
    fn greedy_ties_and_nothing_left() {
        let log_probs = logs(&[0.2, 0.4, 0.4]);
        let greedy = Sampling { temperature: 0.0, no_repeat_ngram: 1, ..plain() };
        let mut sampler = Sampler::new(&greedy, 3, &[]);
        assert_eq!(sampler.choose(&log_probs, &[], 0, 0), Some(1));
        assert_eq!(sampler.choose(&log_probs, &[1], 0, 0), Some(2));
        assert_eq!(sampler.choose(&log_probs, &[1, 2, 0], 0, 0), None);
    }

    #[test]
    fn impossible_values_name_their_flag() {
        let refused = |sampling: Sampling, flag: &str| {
            let error = sampling.check().unwrap_err().to_string();
            assert!(error.starts_with(&format!("--{flag}: ")), "{error}");
        };
        for x in [f32::NAN, -0.5, f32::INFINITY] {
            refused(Sampling { temperature: x, ..plain() }, "temperature");
            refused(Sampling { repetition_penalty: x, ..plain() }, "repetition-penalty");
        }
        refused(Sampling { repetition_penalty: 0.0, ..plain() }, "repetition-penalty");
        for x in [f32::NAN, -0.5, 1.5] {
            refused(Sampling { top_p: x, ..plain() }, "top-p");
            refused(Sampling { min_p: x, ..plain() }, "min-p");
            refused(Sampling { typical: x, ..plain() }, "typical");
        }
        refused(Sampling { top_p: 0.0, ..plain() }, "top-p");
        refused(Sampling { typical: 0.0, ..plain() }, "typical");
        for fine in [
            Sampling { temperature: 0.0, ..plain() },
            Sampling { min_p: 1.0, ..plain() },
            Sampling { temperature: 1e-30, top_k: 1, ..plain() },
        ] {
            fine.check().unwrap();
            let log_probs = logs(&[0.2, 0.5, 0.3]);
            assert_eq!(Sampler::new(&fine, 3, &[]).choose(&log_probs, &[], 0, 9), Some(1));
        }
    }
}
