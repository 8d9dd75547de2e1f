//! Writes what a model says at every position of a text, for comparison with other programs (fixtures/parity.py).
//!
//!     cargo run --release --example logits -- MODEL ids.json out.safetensors
//!
//! `ids.json` is an array of token ids. The file gets `log_probs` `[T, V]` as f32: the natural-log probabilities of the
//! next token after each, from a session in f32 that is fed one token after the other.

use std::path::Path;

use penwright::generate::Precision;
use penwright::run::Run;
use safetensors::tensor::{Dtype, TensorView};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, ids, out] = &arguments[..] else { return Err("give MODEL ids.json out.safetensors".into()) };
    let run = Run::open(Path::new(model))?;
    let ids: Vec<u32> = serde_json::from_slice(&std::fs::read(ids)?)?;
    let vocab = run.model.vocab_size();
    let mut rows: Vec<f32> = Vec::with_capacity(ids.len() * vocab);
    let mut session = run.model.clone().with_precision(Precision::F32)?.session(1)?;
    for &id in &ids {
        session.step(&[0], &[id])?;
        rows.extend_from_slice(session.log_probs(0));
    }
    let view = TensorView::new(Dtype::F32, vec![ids.len(), vocab], bytemuck::cast_slice(&rows))?;
    Ok(safetensors::serialize_to_file([("log_probs", view)], None, Path::new(out))?)
}
