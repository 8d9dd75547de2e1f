//! From the model's log-probabilities to the next token.
//!
//! The order is that of Hugging Face's transformers: first what changes or forbids single tokens, then the temperature,
//! then the filters from coarse to fine, each on the renormalised rest of the one before, then the draw:
//!
//! 1. suppressed ids (never generated);
//! 2. repetition penalty, presence and frequency penalties, biases of single tokens;
//! 3. no repeated n-gram;
//! 4. temperature (0: the likeliest token, and the rest is skipped);
//! 5. top-k; 6. top-p; 7. min-p; 8. typical;
//! 9. one draw, its random number a function of seed, sample and token alone.

use std::cmp::Ordering;
use std::sync::Arc;

use penwright_kernels::temper;

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
    /// Taken from the log-probability of each token that has been written, the prompt not included; 0 for none.
    pub presence_penalty: f32,
    /// The same, times as often as the token has been written; 0 for none.
    pub frequency_penalty: f32,
    /// Added to the log-probability of single tokens, by id; −100 or less forbids the token.
    pub logit_bias: Vec<(u32, f32)>,
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
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            logit_bias: Vec::new(),
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
        rule("repetition-penalty", r, r.is_finite() && r > 0.0, "a number above 0; 1 changes nothing, try 1.1")?;
        let of_written = [("presence-penalty", self.presence_penalty), ("frequency-penalty", self.frequency_penalty)];
        for (name, x) in of_written.into_iter().chain(self.logit_bias.iter().map(|&(_, x)| ("logit-bias", x))) {
            rule(name, x, x.is_finite(), "a number; 0 changes nothing")?;
        }
        Ok(())
    }

    /// Whether every token that is not forbidden may be drawn.
    fn keeps_all(&self) -> bool {
        self.top_k == 0 && self.top_p >= 1.0 && self.min_p <= 0.0 && self.typical >= 1.0
    }

    /// Whether no log-probability is changed and no token forbidden before the temperature.
    fn is_plain(&self) -> bool {
        let penalties = [self.presence_penalty, self.frequency_penalty];
        self.repetition_penalty == 1.0
            && penalties == [0.0; 2]
            && self.logit_bias.is_empty()
            && self.no_repeat_ngram == 0
    }
}

/// The bias from which on a token is forbidden.
const FORBIDDEN: f32 = -100.0;

/// A token that may still be chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Candidate {
    id: u32,
    /// Log-probability, penalised; after the temperature, divided by it and shifted so that the best has 0.
    score: f32,
    /// `exp(score)`.
    weight: f32,
}

/// Chooses tokens by one [`Sampling`].
#[derive(Clone)]
pub(crate) struct Sampler {
    sampling: Sampling,
    /// Whether an id may be generated at all, and those that may not.
    allowed: Arc<[bool]>,
    suppressed: Arc<[u32]>,
}

/// The memory that choosing takes; it may serve one text after another, of any sampler.
#[derive(Default)]
pub struct Scratch {
    /// The round in which a token was last met in the text, so that it is penalised once.
    met: Vec<u64>,
    round: u64,
    /// How often a token has been written; all zero between two choices.
    counts: Vec<u32>,
    banned: Vec<u32>,
    candidates: Vec<Candidate>,
    scores: Vec<f32>,
    weights: Vec<f32>,
    sums: Vec<f64>,
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
        let suppressed = (0..).zip(&allowed).filter(|(_, allowed)| !**allowed).map(|(id, _)| id).collect();
        Sampler { sampling: sampling.clone(), allowed: allowed.into(), suppressed }
    }

    /// The tokens that may follow `history`, by id, with their log-probabilities after the first three stages; the last
    /// `written` tokens of the history are not of the prompt.
    pub(crate) fn penalised<'a>(
        &self,
        scratch: &'a mut Scratch,
        log_probs: &[f32],
        history: &[u32],
        written: usize,
    ) -> impl Iterator<Item = (u32, f32)> + use<'a> {
        self.prepare(scratch, log_probs, history, written);
        scratch.candidates.iter().map(|c| (c.id, c.score))
    }

    /// Stages 1 to 3: fills `candidates`, by id.
    fn prepare(&self, scratch: &mut Scratch, log_probs: &[f32], history: &[u32], written: usize) {
        let Sampling { repetition_penalty, presence_penalty, frequency_penalty, logit_bias, .. } = &self.sampling;
        scratch.ban_repeats(history, self.sampling.no_repeat_ngram);
        scratch.met.resize(self.allowed.len().max(scratch.met.len()), 0);
        if *repetition_penalty != 1.0 {
            scratch.meet(history);
        }
        let ids = log_probs.iter().zip(&*self.allowed).zip(&scratch.met).zip(0..);
        let round = scratch.round;
        scratch.candidates.clear();
        scratch.candidates.extend(ids.filter(|(((_, allowed), _), _)| **allowed).map(|(((&score, _), &met), id)| {
            let penalised = *repetition_penalty != 1.0 && met == round;
            let score = if penalised { score * repetition_penalty } else { score };
            Candidate { id, score, weight: 0.0 }
        }));
        if [*presence_penalty, *frequency_penalty] != [0.0; 2] {
            let written = &history[history.len().saturating_sub(written)..];
            scratch.penalise(written, *presence_penalty, *frequency_penalty);
        }
        let Scratch { candidates, banned, .. } = scratch;
        for (id, bias) in logit_bias {
            if let Ok(at) = candidates.binary_search_by_key(id, |c| c.id) {
                candidates[at].score += bias;
            }
            if *bias <= FORBIDDEN {
                banned.push(*id);
            }
        }
        banned.sort_unstable();
        if !banned.is_empty() {
            candidates.retain(|c| banned.binary_search(&c.id).is_err());
        }
    }

    /// Chooses token `n` of the text `sample` with these log-probabilities, after `history`, whose last `n` tokens are
    /// those written; `None` when every token is forbidden.
    pub(crate) fn choose(
        &self,
        scratch: &mut Scratch,
        log_probs: &[f32],
        history: &[u32],
        sample: u64,
        n: u64,
    ) -> Option<u32> {
        let log_probs = &log_probs[..self.allowed.len().min(log_probs.len())];
        if self.sampling.is_plain()
            && let Some(best) = likeliest(log_probs).filter(|&id| self.allowed[id as usize])
        {
            if self.sampling.temperature == 0.0 {
                return Some(best);
            }
            if self.sampling.keeps_all() {
                let point = uniform(self.sampling.seed, sample, n);
                return Some(self.draw(scratch, log_probs, log_probs[best as usize], point));
            }
        }
        self.prepare(scratch, log_probs, history, n as usize);
        let best = scratch.candidates.iter().copied().reduce(|a, b| if b.score > a.score { b } else { a })?;
        if self.sampling.temperature == 0.0 {
            return Some(best.id);
        }
        scratch.filter(&self.sampling, best.score);
        let candidates = &scratch.candidates;
        let total: f64 = candidates.iter().map(|c| f64::from(c.weight)).sum();
        let point = uniform(self.sampling.seed, sample, n) * total;
        let mut sum = 0.0;
        let drawn = candidates.iter().find(|c| {
            sum += f64::from(c.weight);
            point < sum
        });
        drawn.or(candidates.last()).map(|c| c.id)
    }
}

impl Sampler {
    /// Draws from all tokens, without a list of candidates; `point` is in [0, 1). The weights are summed a part at a time.
    fn draw(&self, scratch: &mut Scratch, log_probs: &[f32], best: f32, point: f64) -> u32 {
        const PART: usize = 64;
        let Scratch { weights, sums, .. } = scratch;
        weights.resize(log_probs.len(), 0.0);
        temper(log_probs, best, self.sampling.temperature, weights);
        for &id in &*self.suppressed {
            if let Some(weight) = weights.get_mut(id as usize) {
                *weight = 0.0;
            }
        }
        sums.clear();
        sums.extend(weights.chunks(PART).map(sum));
        let point = point * sums.iter().sum::<f64>();
        let (mut part, mut before) = (0, 0.0);
        // Of what rounding leaves over, the last token that has a weight.
        let last = weights.iter().rposition(|&weight| weight > 0.0).unwrap_or_default();
        while part < last / PART && before + sums[part] <= point {
            before += sums[part];
            part += 1;
        }
        let first = part * PART;
        let within = weights[first..=last].iter().position(|&weight| {
            before += f64::from(weight);
            point < before
        });
        within.map_or(last, |at| first + at) as u32
    }
}

/// The sum in eight interleaved parts.
fn sum(weights: &[f32]) -> f64 {
    let mut sums = [0.0f64; 8];
    for weights in weights.chunks(8) {
        sums.iter_mut().zip(weights).for_each(|(sum, &weight)| *sum += f64::from(weight));
    }
    sums.iter().sum()
}

impl Scratch {
    /// The ids that would complete an n-gram which the history has already.
    fn ban_repeats(&mut self, history: &[u32], n: usize) {
        self.banned.clear();
        if n == 0 || history.len() < n {
            return;
        }
        let last = &history[history.len() - (n - 1)..];
        self.banned.extend(history.windows(n).filter(|gram| gram[..n - 1] == *last).map(|gram| gram[n - 1]));
    }

    /// Begins a round in which these tokens were met.
    fn meet(&mut self, history: &[u32]) {
        self.round += 1;
        for &id in history {
            if let Some(met) = self.met.get_mut(id as usize) {
                *met = self.round;
            }
        }
    }

    /// Takes the penalties from the scores of the tokens written.
    fn penalise(&mut self, written: &[u32], presence: f32, frequency: f32) {
        self.counts.resize(self.met.len(), 0);
        for &id in written {
            if let Some(count) = self.counts.get_mut(id as usize) {
                *count += 1;
            }
        }
        for &id in written {
            let Some(count) = self.counts.get_mut(id as usize).map(std::mem::take).filter(|&count| count > 0) else {
                continue;
            };
            if let Ok(at) = self.candidates.binary_search_by_key(&id, |c| c.id) {
                self.candidates[at].score -= presence + frequency * count as f32;
            }
        }
    }

    /// Stages 4 to 8: leaves the candidates that may be drawn, by id.
    fn filter(&mut self, sampling: &Sampling, best: f32) {
        let &Sampling { temperature, top_k, top_p, min_p, typical, .. } = sampling;
        let Scratch { candidates: all, scores, weights, .. } = self;
        scores.clear();
        scores.extend(all.iter().map(|c| c.score));
        weights.resize(all.len().max(weights.len()), 0.0);
        temper(scores, best, temperature, weights);
        for (c, &weight) in all.iter_mut().zip(&*weights) {
            c.score = ((c.score - best) / temperature).max(-87.0); // below that, no weight is left
            c.weight = weight;
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
mod tests;
