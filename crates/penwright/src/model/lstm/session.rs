//! Writing with an LSTM: the recurrent state is all of the past.

use std::sync::Arc;

use super::{Lstm, Saved, State};
use crate::Result;
use crate::layers::{Dropout, log_softmax};
use crate::model::{Session, check_tokens};

pub(super) struct LstmSession {
    model: Arc<Lstm>,
    streams: Vec<(State, Vec<f32>)>,
    saved: Saved,
}

impl LstmSession {
    pub(super) fn new(model: Arc<Lstm>, streams: usize) -> Self {
        let stream = (State::new(&model.config, 1), vec![0.0; model.config.vocab]);
        LstmSession { streams: vec![stream; streams], model, saved: Saved::default() }
    }
}

impl Session for LstmSession {
    fn streams(&self) -> usize {
        self.streams.len()
    }

    fn feed(&mut self, stream: usize, tokens: &[u32]) -> Result<()> {
        let vocab = self.model.config.vocab;
        check_tokens(tokens, vocab)?;
        let (state, log_probs) = &mut self.streams[stream];
        if !tokens.is_empty() {
            self.model.forward(&mut self.saved, tokens, state, Dropout::OFF);
            log_probs.copy_from_slice(&self.saved.logits[(tokens.len() - 1) * vocab..]);
            log_softmax(log_probs);
        }
        Ok(())
    }

    fn step(&mut self, streams: &[usize], tokens: &[u32]) -> Result<()> {
        streams.iter().zip(tokens).try_for_each(|(&s, &t)| self.feed(s, &[t]))
    }

    fn log_probs(&self, stream: usize) -> &[f32] {
        &self.streams[stream].1
    }

    fn copy(&mut self, from: usize, to: usize) {
        self.streams[to] = self.streams[from].clone();
    }

    fn select(&mut self, parents: &[usize]) {
        self.streams = parents.iter().map(|&p| self.streams[p].clone()).collect();
    }

    fn reset(&mut self, stream: usize) {
        self.streams[stream].0 = State::new(&self.model.config, 1);
    }
}
