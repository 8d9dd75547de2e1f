//! Forward, loss, every gradient and the optimizers against PyTorch's numbers (fixtures/make_fixtures.py and
//! make_optimizers.py).

use std::path::Path;
use std::sync::Arc;

use penwright::layers::Dropout;
use penwright::model::{Gpt2, Gpt2Config, LanguageModel, Lstm, LstmConfig, Params, Regularization, Trainable};
use penwright::train::{AdamW, Muon, Optimizer, Sgd};
use penwright_kernels::Bf16;
use safetensors::SafeTensors;

struct Fixture(Vec<u8>);

impl Fixture {
    fn open(name: &str) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/{name}.safetensors"));
        Fixture(std::fs::read(path).unwrap())
    }

    fn floats(&self, name: &str) -> Vec<f32> {
        let file = SafeTensors::deserialize(&self.0).unwrap();
        let data = file.tensor(name).unwrap().data().to_vec();
        data.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
    }

    fn ids(&self, name: &str) -> Vec<u32> {
        self.floats(name).iter().map(|x| x.to_bits()).collect()
    }

    fn load(&self, params: &mut Params) {
        for tensor in params.tensors.clone() {
            params.data[tensor.range].copy_from_slice(&self.floats(&tensor.name));
        }
    }
}

/// Each value within 1e-4 of itself. What is nearly nothing beside the tensor's largest value is the rounded rest of
/// sums of f32 numbers, and may differ by a millionth of that value.
fn close(what: &str, ours: &[f32], theirs: &[f32]) {
    assert_eq!(ours.len(), theirs.len(), "{what}");
    let size = theirs.iter().fold(0f32, |m, x| m.max(x.abs()));
    for (i, (a, b)) in ours.iter().zip(theirs).enumerate() {
        assert!((a - b).abs() <= 1e-4 * b.abs() + 1e-6 * size, "{what}[{i}]: {a} and {b}, the largest being {size}");
    }
}

fn check_step(mut model: Box<dyn Trainable>, fixture: &Fixture, batch: usize, dropout: Dropout) {
    fixture.load(model.params_mut());
    let tensors = model.params().tensors.clone();
    let mut grads = vec![0.0; model.params().data.len()];
    let (tokens, targets) = (fixture.ids("input.tokens"), fixture.ids("input.targets"));
    let loss = model.train_step(&tokens, &targets, batch, &mut grads, true, dropout);
    close("loss", &[loss as f32], &fixture.floats("output.loss"));
    for tensor in &tensors {
        close(&tensor.name, &grads[tensor.range.clone()], &fixture.floats(&format!("grad.{}", tensor.name)));
    }
}

/// The session, fed token by token, says what PyTorch's forward says; and so does `score`.
fn check_decoding(model: Arc<dyn LanguageModel>, fixture: &Fixture, batch: usize, first: Option<Vec<u32>>) {
    let (tokens, vocab) = (fixture.ids("input.tokens"), model.vocab_size());
    let time = tokens.len() / batch;
    let logits = fixture.floats("output.logits");
    let mut session = model.clone().session(batch).unwrap();
    for b in 0..batch {
        if let Some(first) = &first {
            session.feed(b, &first[b * time..][..time]).unwrap();
        }
    }
    let streams: Vec<usize> = (0..batch).collect();
    for t in 0..time {
        let step: Vec<u32> = streams.iter().map(|b| tokens[b * time + t]).collect();
        session.step(&streams, &step).unwrap();
        for b in 0..batch {
            let mut expected = logits[(b * time + t) * vocab..][..vocab].to_vec();
            penwright::layers::log_softmax(&mut expected);
            close(&format!("text {b}, step {t}"), session.log_probs(b), &expected);
        }
    }
    if first.is_none() {
        let mut scores = Vec::new();
        model
            .score(&tokens[..time], None, &mut |s| {
                scores.extend_from_slice(s);
                Ok(())
            })
            .unwrap();
        for t in 0..time - 1 {
            let mut expected = logits[t * vocab..][..vocab].to_vec();
            penwright::layers::log_softmax(&mut expected);
            close("score", &[scores[t].log_prob], &[expected[tokens[t + 1] as usize]]);
        }
    }
}

#[test]
fn gpt2_equals_transformers() {
    for (name, vocab, context, layers, heads, width, batch) in
        [("gpt2", 29, 16, 2, 4, 32, 3), ("gpt2_odd", 31, 11, 3, 3, 24, 2)]
    {
        let fixture = Fixture::open(name);
        let mut model =
            Gpt2::new(Gpt2Config { vocab, context, layers, heads, width, ..Gpt2Config::default() }, 0).unwrap();
        check_step(Box::new(model.clone()), &fixture, batch, Dropout::OFF);
        fixture.load(model.params_mut());
        check_decoding(Arc::new(model), &fixture, batch, None);
    }
}

#[test]
fn lstm_equals_torch() {
    for (name, vocab, embed, hidden, layers, tied, batch) in [
        ("lstm", 17, 12, 20, 2, false, 3),
        ("lstm_one_layer", 29, 9, 16, 1, false, 2),
        ("lstm_tied", 17, 12, 20, 2, true, 3),
    ] {
        let fixture = Fixture::open(name);
        let mut model =
            Lstm::new(LstmConfig { vocab, embed, hidden, layers, tied, ..LstmConfig::default() }, 0).unwrap();
        fixture.load(model.params_mut());
        let first = fixture.ids("input.first");
        let mut carried = model.clone();
        let mut unused = vec![0.0; carried.params().data.len()];
        carried.train_step(&first, &first, batch, &mut unused, true, Dropout::OFF);
        check_step(Box::new(carried), &fixture, batch, Dropout::OFF);
        check_decoding(Arc::new(model), &fixture, batch, Some(first));
    }
}

/// What the fixtures call everything, beside a rate of 0.3.
fn everything() -> Regularization {
    Regularization {
        dropout_input: Some(0.4),
        dropout_hidden: Some(0.25),
        dropout_embed: 0.2,
        weight_drop: 0.5,
        ar: 2.0,
        tar: 1.0,
        ..Regularization::default()
    }
}

/// The fixtures know the masks of seed 3: of the first window in step 1, of the second in step 2.
#[test]
fn regularized_lstm_equals_torch() {
    let words = Regularization { dropout_embed: 0.3, weight_drop: 0.4, tar: 3.0, ..Regularization::default() };
    let inputs = Regularization { dropout_input: Some(0.5), ar: 3.0, ..Regularization::default() };
    for (name, layers, tied, rate, regularization) in [
        ("lstm_regularized", 3, true, 0.3, everything()),
        ("lstm_dropped_words", 2, false, 0.0, words),
        ("lstm_dropped_inputs", 1, false, 0.0, inputs),
    ] {
        let fixture = Fixture::open(name);
        let mut model =
            Lstm::new(LstmConfig { vocab: 17, embed: 12, hidden: 20, layers, tied, ..LstmConfig::default() }, 0)
                .unwrap();
        fixture.load(model.params_mut());
        model.regularize(&regularization);
        let (first, mut unused) = (fixture.ids("input.first"), vec![0.0; model.params().data.len()]);
        model.train_step(&first, &first, 3, &mut unused, true, Dropout::new(rate, 3, 1));
        check_step(Box::new(model), &fixture, 3, Dropout::new(rate, 3, 2));
    }
}

#[test]
fn mogrifier_equals_its_cell_in_torch() {
    let fixture = Fixture::open("lstm_mogrifier");
    let config = LstmConfig { vocab: 17, embed: 12, hidden: 20, layers: 2, mogrifier: 5, ..LstmConfig::default() };
    let mut model = Lstm::new(config.clone(), 0).unwrap();
    fixture.load(model.params_mut());
    let first = fixture.ids("input.first");
    let (mut carried, mut unused) = (model.clone(), vec![0.0; model.params().data.len()]);
    carried.train_step(&first, &first, 3, &mut unused, true, Dropout::OFF);
    check_step(Box::new(carried), &fixture, 3, Dropout::OFF);
    check_decoding(Arc::new(model), &fixture, 3, Some(first.clone()));

    let fixture = Fixture::open("lstm_mogrifier_low_rank");
    let config = LstmConfig { layers: 3, tied: true, mogrifier: 4, mogrifier_rank: 3, ..config };
    let mut model = Lstm::new(config, 0).unwrap();
    fixture.load(model.params_mut());
    model.regularize(&everything());
    let (first, mut unused) = (fixture.ids("input.first"), vec![0.0; model.params().data.len()]);
    model.train_step(&first, &first, 3, &mut unused, true, Dropout::new(0.3, 3, 1));
    check_step(Box::new(model), &fixture, 3, Dropout::new(0.3, 3, 2));
}

#[test]
fn adamw_equals_torch() {
    let fixture = Fixture::open("adamw");
    let mut params = Params::default();
    let (w, p) = (params.add("w", &[5, 7]), params.add("p", &[37]));
    fixture.load(&mut params);
    let mut optimizer = AdamW::with_betas(&params, (0.9, 0.95));
    let mut grads = vec![0.0; params.data.len()];
    for step in 0..10 {
        grads[w.clone()].copy_from_slice(&fixture.floats(&format!("grad.w.{step}")));
        grads[p.clone()].copy_from_slice(&fixture.floats(&format!("grad.p.{step}")));
        optimizer.update(&mut params.data, &grads, 1.0, 1e-2, 0.1);
        close("w", &params.data[w.clone()], &fixture.floats(&format!("after.w.{step}")));
        close("p", &params.data[p.clone()], &fixture.floats(&format!("after.p.{step}")));
    }
}

/// Follows the steps that PyTorch took and gives the largest error of each tensor as a part of its largest step.
fn follow(fixture: &Fixture, decay: f32, make: impl Fn(&Params) -> Box<dyn Optimizer>) -> Vec<(String, f32)> {
    let (c, hidden) = (22, 13);
    let mut params = Params::default();
    params.add("transformer.wte.weight", &[29, c]);
    params.add("transformer.h.0.attn.c_attn.weight", &[c, 3 * c]);
    params.add("transformer.h.0.attn.c_proj.weight", &[c, c]);
    params.add("transformer.h.0.ln_2.weight", &[c]);
    params.add("transformer.h.0.mlp.c_fc.weight", &[c, 4 * c]);
    params.add("transformer.h.0.mlp.c_proj.weight", &[4 * c, c]);
    params.add("lstm.weight_ih_l0", &[4 * hidden, 9]);
    params.add("lstm.weight_hh_l0", &[4 * hidden, hidden]);
    let tensors = params.tensors.clone();
    for tensor in &tensors {
        params.data[tensor.range.clone()].copy_from_slice(&fixture.floats(&format!("begin.{}", tensor.name)));
    }
    let mut optimizer = make(&params);
    let mut grads = vec![0.0; params.data.len()];
    let mut errors: Vec<_> = tensors.iter().map(|tensor| (tensor.name.clone(), 0f32)).collect();
    for step in 0..4 {
        for tensor in &tensors {
            let half = fixture.floats(&format!("grad.{}.{step}", tensor.name));
            // Twice the gradient and half the scale.
            grads[tensor.range.clone()].iter_mut().zip(half).for_each(|(g, half)| *g = 2.0 * half);
        }
        let before = params.data.to_vec();
        optimizer.update(&mut params.data, &grads, 0.5, 1e-2, decay);
        for (tensor, error) in tensors.iter().zip(&mut errors) {
            let theirs = fixture.floats(&format!("after.{}.{step}", tensor.name));
            let (ours, before) = (&params.data[tensor.range.clone()], &before[tensor.range.clone()]);
            let largest = |x: &[f32], y: &[f32]| x.iter().zip(y).fold(0f32, |m, (x, y)| m.max((x - y).abs()));
            error.1 = error.1.max(largest(ours, &theirs) / largest(ours, before));
        }
    }
    errors
}

#[test]
fn muon_equals_torch() {
    for (fixture, n) in [("muon", 5), ("muon_three", 3)] {
        let fixture = Fixture::open(fixture);
        for (name, error) in follow(&fixture, 0.1, |params| Box::new(Muon::<f32>::new(params, 0.95, 1.0, n))) {
            assert!(error < 1e-3, "{name} in f32, {n} iterations: {error}");
        }
        // Of a matrix's smallest singular values bfloat16 knows little, and PyTorch's own bfloat16 differs by as much.
        for (name, error) in follow(&fixture, 0.1, |params| Box::new(Muon::<Bf16>::new(params, 0.95, 1.0, n))) {
            assert!(error < 0.15, "{name} in bfloat16, {n} iterations: {error}");
        }
    }
}

#[test]
fn sgd_equals_torch() {
    for (name, decay, momentum) in [("sgd", 0.1, 0.0), ("sgd_momentum", 0.0, 0.9)] {
        for (tensor, error) in follow(&Fixture::open(name), decay, |params| Box::new(Sgd::new(params, momentum))) {
            assert!(error < 1e-3, "{name}, {tensor}: {error}");
        }
    }
}
