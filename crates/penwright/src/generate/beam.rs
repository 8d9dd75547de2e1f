//! Beam search: the likeliest whole texts instead of the likeliest token at each place.
//!
//! As in transformers with a length penalty of 1 and `early_stopping=False`: of all continuations of the `N` beams by
//! one token the `2N` of the highest total log-probability are looked at, in order. One that ends the text (end-of-text,
//! a stop string, the last unit asked for) is finished if it is among the first `N`; of the others the first `N` are
//! the next beams. A finished text's score is its log-probability divided by its number of tokens, end-of-text
//! included. The search ends when `N` texts are finished and none of the beams, at its present score by its present
//! length, is better than the worst of them; at the last token allowed all beams are finished. Repetition penalty and
//! the n-gram rule change the log-probabilities that are summed. Nothing is drawn, and ties go to the better beam,
//! then the lower id, so the result is always the same.

use std::cmp::Ordering;

use super::{Ending, FinishReason, OnText, Prompt, Sample, Scratch};
use crate::Result;
use crate::model::Session;

#[derive(Clone)]
struct Beam {
    /// The prompt's tokens and those written.
    tokens: Vec<u32>,
    /// Sum of the penalised log-probabilities.
    score: f64,
    /// Sum of the model's own.
    log_prob: f64,
    /// Bytes of the written tokens' text that `ending` has got.
    read: usize,
    ending: Ending,
}

/// A continuation of beam `parent` by one token.
struct Candidate {
    score: f64,
    parent: usize,
    id: u32,
}

struct Finished {
    /// Log-probability per token.
    score: f64,
    beam: Beam,
    reason: FinishReason,
}

/// Stream 0 has read the prompt, and all streams of the session are copies of it.
pub(super) fn search(
    prompt: &Prompt,
    samples: usize,
    session: &mut dyn Session,
    on_text: OnText<'_>,
) -> Result<Vec<Sample>> {
    let (mut scratch, width) = (Scratch::default(), session.streams());
    let ending = prompt.ending.clone();
    let mut beams = vec![Beam { tokens: prompt.tokens.clone(), score: 0.0, log_prob: 0.0, read: 0, ending }];
    let (mut finished, mut candidates) = (Vec::new(), Vec::new());
    let (mut parents, mut tokens): (Vec<usize>, Vec<u32>) = ((0..width).collect(), Vec::new());
    let streams: Vec<usize> = (0..width).collect();
    for length in 1..=prompt.most {
        candidates.clear();
        for (parent, beam) in beams.iter().enumerate() {
            let from = candidates.len();
            let log_probs = session.log_probs(parent);
            let next = prompt.sampler.penalised(&mut scratch, log_probs, &beam.tokens, length - 1);
            candidates.extend(next.map(|(id, log)| Candidate { score: beam.score + f64::from(log), parent, id }));
            keep_best(&mut candidates, from, 2 * width);
        }
        keep_best(&mut candidates, 0, 2 * width);
        candidates.sort_unstable_by(better);
        let mut next = Vec::with_capacity(width);
        for (rank, candidate) in candidates.iter().enumerate() {
            let log_prob = f64::from(session.log_probs(candidate.parent)[candidate.id as usize]);
            let (beam, over) = beams[candidate.parent].continued(candidate, log_prob, prompt);
            if !over {
                parents[next.len()] = candidate.parent;
                next.push(beam);
            } else if rank < width {
                finished.push(Finished::new(beam, length, FinishReason::Stop));
            }
            if next.len() == width {
                break;
            }
        }
        beams = next;
        keep_finished(&mut finished, width);
        let Some(best) = beams.first() else { break };
        let worst = finished.last().filter(|_| finished.len() == width).map(|f| f.score);
        if worst.is_some_and(|worst| worst >= best.score / length as f64) {
            beams.clear();
            break;
        }
        if on_text(0, "").is_break() {
            finished.extend(beams.drain(..).map(|beam| Finished::new(beam, length, FinishReason::Cancelled)));
            break;
        }
        if length == prompt.most {
            break;
        }
        // Streams without a beam stay what they are.
        (beams.len()..width).for_each(|i| parents[i] = i);
        session.select(&parents);
        tokens.clear();
        tokens.extend(beams.iter().filter_map(|beam| beam.tokens.last()));
        session.step(&streams[..tokens.len()], &tokens)?;
    }
    finished.extend(beams.into_iter().map(|beam| Finished::new(beam, prompt.most, FinishReason::Length)));
    keep_finished(&mut finished, samples);
    let mut texts = Vec::new();
    for (i, mut done) in finished.into_iter().enumerate() {
        done.beam.ending.finish();
        if on_text(i, done.beam.ending.fresh()).is_break() {
            done.reason = FinishReason::Cancelled;
        }
        texts.push(Sample {
            text: done.beam.ending.text().into(),
            tokens: done.beam.tokens.len() - prompt.tokens.len(),
            finish_reason: done.reason,
            log_prob: done.beam.log_prob,
        });
    }
    Ok(texts)
}

fn better(a: &Candidate, b: &Candidate) -> Ordering {
    b.score.total_cmp(&a.score).then(a.parent.cmp(&b.parent)).then(a.id.cmp(&b.id))
}

/// Keeps the `n` best of the candidates from `from` on.
fn keep_best(candidates: &mut Vec<Candidate>, from: usize, n: usize) {
    if candidates.len() - from > n {
        candidates[from..].select_nth_unstable_by(n - 1, better);
        candidates.truncate(from + n);
    }
}

/// Keeps the `n` best, best first; of equals, the one finished first.
fn keep_finished(finished: &mut Vec<Finished>, n: usize) {
    finished.sort_by(|a, b| b.score.total_cmp(&a.score));
    finished.truncate(n);
}

impl Finished {
    fn new(beam: Beam, length: usize, reason: FinishReason) -> Self {
        Finished { score: beam.score / length.max(1) as f64, beam, reason }
    }
}

impl Beam {
    /// The beam with one more token, and whether its text has ended.
    fn continued(&self, candidate: &Candidate, log_prob: f64, prompt: &Prompt) -> (Beam, bool) {
        let mut beam = Beam { score: candidate.score, ..self.clone() };
        if candidate.id == prompt.tokenizer.eot() {
            return (beam, true);
        }
        beam.tokens.push(candidate.id);
        beam.log_prob += log_prob;
        let text = whole_characters(&prompt.tokenizer.decode_bytes(&beam.tokens[prompt.tokens.len()..]));
        let over = text.get(beam.read..).is_some_and(|new| beam.ending.push(new));
        beam.read = text.len();
        (beam, over)
    }
}

/// The text of the bytes without a character that is not complete yet; what can be no character becomes U+FFFD.
pub(super) fn whole_characters(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    let mut chunks = bytes.utf8_chunks().peekable();
    while let Some(chunk) = chunks.next() {
        text.push_str(chunk.valid());
        let open = chunks.peek().is_none() && str::from_utf8(chunk.invalid()).is_err_and(|e| e.error_len().is_none());
        if !chunk.invalid().is_empty() && !open {
            text.push(char::REPLACEMENT_CHARACTER);
        }
    }
    text
}
