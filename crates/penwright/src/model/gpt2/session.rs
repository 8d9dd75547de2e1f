//! Writing with a GPT-2: the keys and values of the past are kept, never computed again.

use std::sync::Arc;

use super::{Gpt2, Gpt2Config, add};
use crate::Result;
use crate::layers::{gelu, log_softmax};
use crate::model::{Session, check_tokens};

/// One text being written: its tokens and the keys and values of every block.
#[derive(Clone)]
struct Stream {
    tokens: Vec<u32>,
    /// `[layers][context, 2C]`: the key, then the value, of each position.
    cache: Vec<Vec<f32>>,
    log_probs: Vec<f32>,
}

impl Stream {
    fn new(config: &Gpt2Config) -> Self {
        let cache = vec![vec![0.0; config.context * 2 * config.width]; config.layers];
        Stream { tokens: Vec::new(), cache, log_probs: vec![0.0; config.vocab] }
    }
}

pub(super) struct Gpt2Session {
    model: Arc<Gpt2>,
    streams: Vec<Stream>,
}

impl Gpt2Session {
    pub(super) fn new(model: Arc<Gpt2>, streams: usize) -> Self {
        Gpt2Session { streams: vec![Stream::new(&model.config); streams], model }
    }
}

impl Gpt2 {
    /// Appends tokens that fit into the context.
    fn extend(&self, stream: &mut Stream, tokens: &[u32]) {
        let (c, n, first) = (self.config.width, tokens.len(), stream.tokens.len());
        let p = &self.params.data;
        let (mut x, mut y) = (vec![0.0; n * c], vec![0.0; n * c]);
        let (mut qkv, mut attended) = (vec![0.0; n * 3 * c], vec![0.0; n * c]);
        let (mut up, mut active) = (vec![0.0; n * 4 * c], vec![0.0; n * 4 * c]);
        self.embed(tokens, n, first, &mut x);
        for (block, cache) in self.blocks.iter().zip(&mut stream.cache) {
            block.norm1.forward(p, &x, &mut y);
            block.qkv.forward(p, &y, &mut qkv, n);
            for (i, row) in qkv.chunks_exact(3 * c).enumerate() {
                cache[(first + i) * 2 * c..][..2 * c].copy_from_slice(&row[c..]);
            }
            self.attention(0).decode(&qkv, cache, first, &mut attended);
            block.attention_out.forward(p, &attended, &mut y, n);
            add(&mut x, &y);
            block.norm2.forward(p, &x, &mut y);
            block.up.forward(p, &y, &mut up, n);
            gelu(&up, &mut active);
            block.down.forward(p, &active, &mut y, n);
            add(&mut x, &y);
        }
        self.last_norm.forward(p, &x[(n - 1) * c..], &mut y[..c]);
        self.head.forward(p, &y[..c], &mut stream.log_probs, 1);
        log_softmax(&mut stream.log_probs);
        stream.tokens.extend(tokens);
    }
}

impl Session for Gpt2Session {
    fn streams(&self) -> usize {
        self.streams.len()
    }

    fn feed(&mut self, stream: usize, mut tokens: &[u32]) -> Result<()> {
        check_tokens(tokens, self.model.config.vocab)?;
        let context = self.model.config.context;
        let stream = &mut self.streams[stream];
        while !tokens.is_empty() {
            if stream.tokens.len() == context {
                // Full: go on from the later half of the past, so that this happens once in half a context.
                let kept = stream.tokens.split_off(context - context / 2);
                stream.tokens.clear();
                if !kept.is_empty() {
                    self.model.extend(stream, &kept);
                }
            }
            let room = (context - stream.tokens.len()).min(tokens.len());
            self.model.extend(stream, &tokens[..room]);
            tokens = &tokens[room..];
        }
        Ok(())
    }

    fn step(&mut self, streams: &[usize], tokens: &[u32]) -> Result<()> {
        streams.iter().zip(tokens).try_for_each(|(&s, &t)| self.feed(s, &[t]))
    }

    fn log_probs(&self, stream: usize) -> &[f32] {
        &self.streams[stream].log_probs
    }

    fn copy(&mut self, from: usize, to: usize) {
        self.streams[to] = self.streams[from].clone();
    }

    fn select(&mut self, parents: &[usize]) {
        self.streams = parents.iter().map(|&p| self.streams[p].clone()).collect();
    }

    fn reset(&mut self, stream: usize) {
        self.streams[stream].tokens.clear();
    }
}
