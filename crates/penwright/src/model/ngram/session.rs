//! Writing with an n-gram model: the known contexts of the last tokens are all of the past.

use std::sync::Arc;

use super::{Context, Ngram};
use crate::Result;
use crate::model::decode::check_memory;
use crate::model::{Session, check_tokens};

pub(super) struct NgramSession {
    model: Arc<Ngram>,
    /// Each stream's context and the distribution after it, `[V]`.
    streams: Vec<(Context, Vec<f32>)>,
}

impl NgramSession {
    pub(super) fn new(model: Arc<Ngram>, streams: usize) -> Result<Self> {
        check_memory(streams, stream_bytes(&model))?;
        let stream = (Context::default(), model.unigrams.clone());
        Ok(NgramSession { streams: vec![stream; streams], model })
    }
}

fn stream_bytes(model: &Ngram) -> u64 {
    (size_of::<Context>() + model.unigrams.len() * size_of::<f32>()) as u64
}

impl Session for NgramSession {
    fn streams(&self) -> usize {
        self.streams.len()
    }

    fn stream_bytes(&self) -> u64 {
        stream_bytes(&self.model)
    }

    fn feed(&mut self, stream: usize, tokens: &[u32]) -> Result<()> {
        check_tokens(tokens, self.model.config.vocab)?;
        let (context, log_probs) = &mut self.streams[stream];
        // What lies further back has no influence.
        for &token in &tokens[tokens.len().saturating_sub(self.model.config.order)..] {
            *context = self.model.step(context, token).1;
        }
        if !tokens.is_empty() {
            self.model.distribution(context, log_probs);
        }
        Ok(())
    }

    fn step(&mut self, streams: &[usize], tokens: &[u32]) -> Result<()> {
        check_tokens(tokens, self.model.config.vocab)?;
        streams.iter().zip(tokens).try_for_each(|(&s, &t)| self.feed(s, &[t]))
    }

    fn log_probs(&self, stream: usize) -> &[f32] {
        &self.streams[stream].1
    }

    fn copy(&mut self, from: usize, to: usize) {
        if from != to {
            self.streams[to] = self.streams[from].clone();
        }
    }

    fn select(&mut self, parents: &[usize]) {
        self.streams = parents.iter().map(|&p| self.streams[p].clone()).collect();
    }

    fn reset(&mut self, stream: usize) {
        self.streams[stream] = (Context::default(), self.model.unigrams.clone());
    }
}
