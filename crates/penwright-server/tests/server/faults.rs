//! A model that fails costs the texts that are being written with it, and nothing else.

use std::sync::Arc;

use penwright::model::{DecodePrecision, LanguageModel, ModelKind, Session, TokenScore};
use penwright::{Error, Result};
use serde_json::json;

use super::support::{Served, gpt2, ngram, options, tokenizer};

/// A model that refuses one token and panics at another.
struct Faulty {
    inner: Arc<dyn LanguageModel>,
    refused: u32,
    panics: u32,
}

struct FaultySession {
    inner: Box<dyn Session>,
    refused: u32,
    panics: u32,
}

impl FaultySession {
    fn look(&self, tokens: &[u32]) -> Result<()> {
        assert!(!tokens.contains(&self.panics), "on purpose");
        match tokens.contains(&self.refused) {
            true => Err(Error::Text("refused on purpose".into())),
            false => Ok(()),
        }
    }
}

impl LanguageModel for Faulty {
    fn kind(&self) -> ModelKind {
        self.inner.kind()
    }

    fn vocab_size(&self) -> usize {
        self.inner.vocab_size()
    }

    fn context(&self) -> Option<usize> {
        self.inner.context()
    }

    fn num_params(&self) -> u64 {
        self.inner.num_params()
    }

    fn session(self: Arc<Self>, streams: usize) -> Result<Box<dyn Session>> {
        let inner = self.inner.clone().session(streams)?;
        Ok(Box::new(FaultySession { inner, refused: self.refused, panics: self.panics }))
    }

    fn with_precision(self: Arc<Self>, _: DecodePrecision) -> Result<Arc<dyn LanguageModel>> {
        Ok(self)
    }

    fn score(
        &self,
        tokens: &[u32],
        stride: Option<usize>,
        sink: &mut dyn FnMut(&[TokenScore]) -> Result<()>,
    ) -> Result<()> {
        self.inner.score(tokens, stride, sink)
    }
}

impl Session for FaultySession {
    fn streams(&self) -> usize {
        self.inner.streams()
    }

    fn feed(&mut self, stream: usize, tokens: &[u32]) -> Result<()> {
        self.look(tokens)?;
        self.inner.feed(stream, tokens)
    }

    fn step(&mut self, streams: &[usize], tokens: &[u32]) -> Result<()> {
        self.look(tokens)?;
        self.inner.step(streams, tokens)
    }

    fn log_probs(&self, stream: usize) -> &[f32] {
        self.inner.log_probs(stream)
    }

    fn copy(&mut self, from: usize, to: usize) {
        self.inner.copy(from, to);
    }

    fn select(&mut self, parents: &[usize]) {
        self.inner.select(parents);
    }

    fn reset(&mut self, stream: usize) {
        self.inner.reset(stream);
    }
}

#[test]
fn a_fault_costs_its_texts_alone() {
    let id = |text: &str| tokenizer().encode(text)[0];
    let run = gpt2(64, 16);
    let faulty = Faulty { inner: run.model.clone(), refused: id("u"), panics: id("k") };
    let run = penwright::run::Run { model: Arc::new(faulty), ..run };
    let server = Served::new(vec![("faulty".into(), run), ("well".into(), ngram())], options());
    // Neither is ever written, only read.
    let never = json!({id("u").to_string(): -100, id("k").to_string(): -100});
    let ask = |model: &str, prompt: &str| {
        server.post("/v1/completions", &json!({"model": model, "prompt": prompt, "logit_bias": never, "seed": 1}))
    };
    let before = ask("faulty", "the old").ok()["choices"].clone();
    for (prompt, words) in [("you", "refused on purpose"), ("back", "internal fault")] {
        for _ in 0..3 {
            let (status, message, _) = ask("faulty", prompt).error();
            assert!(status == 500 && message.contains(words), "{status} {message}");
        }
        assert_eq!(ask("faulty", "the old").ok()["choices"], before);
        ask("well", "back").ok();
    }
    server.get("/health").ok();
    server.wait_for("penwright_streams_busy{model=\"faulty\"}", 0.0);
}
