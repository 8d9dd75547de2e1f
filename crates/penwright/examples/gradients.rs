//! Writes the loss and the gradients of one fine-tuning step, for comparison with other programs (fixtures/parity.py).
//!
//!     cargo run --release --example gradients -- MODEL ids.json out.safetensors
//!
//! `ids.json` is an array of texts, each an array of as many token ids; every token but a text's first is a target. The
//! file gets `loss` `[1]` and the gradients of all parameters by their names.

use std::path::Path;

use penwright::layers::Dropout;
use penwright::train::Start;
use safetensors::tensor::{Dtype, TensorView};

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, ids, out] = &arguments[..] else { return Err("give MODEL ids.json out.safetensors".into()) };
    let mut model = Start::from(model, &mut |_, _, _| {})?.build(0)?;
    let texts: Vec<Vec<u32>> = serde_json::from_slice(&std::fs::read(ids)?)?;
    if texts.iter().any(|text| text.len() < 2 || text.len() != texts[0].len()) {
        return Err("texts must be of one length, two tokens at least".into());
    }
    let inputs: Vec<u32> = texts.iter().flat_map(|text| &text[..text.len() - 1]).copied().collect();
    let targets: Vec<u32> = texts.iter().flat_map(|text| &text[1..]).copied().collect();
    let mut grads = vec![0.0; model.params().data.len()];
    let loss = [model.train_step(&inputs, &targets, texts.len(), &mut grads, true, Dropout::OFF) as f32];
    let mut arrays = vec![("loss", vec![1], &loss[..])];
    for tensor in &model.params().tensors {
        arrays.push((&tensor.name, tensor.shape.clone(), &grads[tensor.range.clone()]));
    }
    let views = arrays
        .into_iter()
        .map(|(name, shape, values)| Ok((name, TensorView::new(Dtype::F32, shape, bytemuck::cast_slice(values))?)));
    let views = views.collect::<Result<Vec<_>, Failure>>()?;
    Ok(safetensors::serialize_to_file(views, None, Path::new(out))?)
}
