//! Steps in bfloat16 against those in f32, gradients against differences, bits against bits.

use super::*;
use crate::model::mean_of;

fn model(tied: bool) -> Lstm {
    Lstm::new(LstmConfig { vocab: 31, embed: 44, hidden: 70, layers: 3, tied, ..LstmConfig::default() }, 5).unwrap()
}

/// All that can be switched on.
fn regularized(tied: bool) -> Lstm {
    let mut model = model(tied);
    model.regularize(&Regularization {
        dropout_input: Some(0.3),
        dropout_embed: 0.1,
        weight_drop: 0.4,
        ar: 2.0,
        tar: 1.0,
        ..Regularization::default()
    });
    model
}

/// A Mogrifier, regularised or not.
fn mogrified(rank: usize, regularization: &Regularization) -> Lstm {
    let config = LstmConfig { layers: 2, mogrifier: 3, mogrifier_rank: rank, ..model(true).config };
    let mut model = Lstm::new(config, 6).unwrap();
    model.regularize(regularization);
    model
}

fn tokens(n: usize, seed: u64) -> Vec<u32> {
    (0..n as u64).map(|i| (crate::layers::random(seed, i) % 31) as u32).collect()
}

/// Two steps, of which the second has a carried state: the loss and the gradients of the second.
fn step(mut model: Lstm, precision: Precision, (batch, time): (usize, usize), dropout: Dropout) -> (f64, Vec<f32>) {
    model.set_precision(precision);
    let mut grads = vec![0.0; model.params.data.len()];
    let mut loss = 0.0;
    for seed in [0, 2] {
        let (x, y) = (tokens(batch * time, seed), tokens(batch * time, seed + 1));
        loss = model.train_step(&x, &y, batch, &mut grads, true, dropout);
    }
    (loss, grads)
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
}

fn relative_error(ours: &[f32], exact: &[f32]) -> f64 {
    let difference: Vec<f32> = ours.iter().zip(exact).map(|(a, b)| a - b).collect();
    (dot(&difference, &difference) / dot(exact, exact)).sqrt()
}

#[test]
fn only_forget_gates_begin_with_a_bias() {
    for (model, bias) in [(model(true), FORGET_BIAS), (model(true).with_forget_bias(0.25), 0.25)] {
        for (l, hidden) in [(0, 70), (1, 70), (2, 44)] {
            let name = format!("lstm.bias_ih_l{l}");
            let tensor = model.params.tensors.iter().find(|tensor| tensor.name == name).unwrap();
            let expected: Vec<f32> = (0..4 * hidden).map(|i| if i / hidden == 1 { bias } else { 0.0 }).collect();
            assert_eq!(model.params.data[tensor.range.clone()], expected);
        }
    }
}

#[test]
fn with_the_biases_of_unigrams_and_no_weights_it_is_the_unigram_model() {
    for tied in [true, false] {
        let vocab = model(tied).config.vocab;
        let probs: Vec<f32> = (1..=vocab).map(|n| 2.0 * n as f32 / (vocab * (vocab + 1)) as f32).collect();
        let mut model = model(tied).with_output_bias(&probs.iter().map(|p| p.ln()).collect::<Vec<_>>());
        model.params.data[model.head.weight.clone()].fill(0.0);
        let tokens = [0, 3, 1, 2];
        let mut scored = Vec::new();
        let mut keep = |scores: &[TokenScore]| {
            scored.extend(scores.iter().map(|score| score.log_prob.exp()));
            Ok(())
        };
        model.score(&tokens, None, &mut keep).unwrap();
        let expected = tokens[1..].iter().map(|&token| probs[token as usize]);
        assert!(scored.len() == 3 && scored.iter().zip(expected).all(|(p, q)| (p - q).abs() < 1e-6), "{scored:?}");
    }
}

/// A rounded factor is off by at most 2^-9 of itself, in any direction. What a product sums are many of them, and some
/// tens of products follow one another along the layers and the steps that an LSTM looks back on.
#[test]
fn bfloat16_is_f32_rounded() {
    let dropout = Dropout::new(0.2, 5, 6);
    for (model, dropout) in [
        (model(false), Dropout::OFF),
        (model(true), Dropout::OFF),
        (regularized(true), dropout),
        (mogrified(4, &regularized(true).regularization), dropout),
    ] {
        let exact = step(model.clone(), Precision::F32, (6, 60), dropout);
        let ours = step(model.clone(), Precision::Bf16, (6, 60), dropout);
        assert!((ours.0 - exact.0).abs() < 1e-3 * exact.0, "loss {} for {}", ours.0, exact.0);
        let cosine = dot(&ours.1, &exact.1) / (dot(&ours.1, &ours.1) * dot(&exact.1, &exact.1)).sqrt();
        assert!(cosine > 0.9999, "cosine {cosine}");
        for tensor in &model.params.tensors {
            let error = relative_error(&ours.1[tensor.range.clone()], &exact.1[tensor.range.clone()]);
            assert!(error < 1.0 / 64.0, "{}: {error}", tensor.name);
        }
    }
}

/// Along the gradient the loss rises by the gradient's square, with dropout as without.
#[test]
fn gradients_are_slopes() {
    let mogrified = mogrified(0, &Regularization { weight_drop: 0.2, ..Regularization::default() });
    for (model, rate) in [(model(false), 0.0), (model(false), 0.3), (model(true), 0.3), (mogrified, 0.2)] {
        let (shape, dropout) = ((5, 60), Dropout::new(rate, 3, 4));
        let (_, grads) = step(model.clone(), Precision::F32, shape, dropout);
        let size = dot(&grads, &grads);
        let loss = |by: f64| {
            // The carried state is that of the weights before.
            let mut moved = model.clone();
            moved.precision = Precision::F32;
            let (mut unused, n) = (vec![0.0; grads.len()], shape.0 * shape.1);
            moved.train_step(&tokens(n, 0), &tokens(n, 1), shape.0, &mut unused, true, dropout);
            moved.params.data.iter_mut().zip(&grads).for_each(|(x, g)| *x += (by * f64::from(*g)) as f32);
            moved.train_step(&tokens(n, 2), &tokens(n, 3), shape.0, &mut unused, true, dropout)
        };
        let by = 0.01 / size.sqrt();
        let slope = (loss(by) - loss(-by)) / (2.0 * by);
        assert!((slope - size).abs() < 1e-3 * size, "{:?}, dropout {rate}: {slope} for {size}", model.config);
    }
}

#[test]
fn any_number_of_threads_gives_the_same_bits() {
    let dropout = Dropout::new(0.2, 1, 1);
    for precision in [Precision::F32, Precision::Bf16] {
        // As many rows as make several windows and chunks.
        for model in [model(false), regularized(true), mogrified(0, &regularized(true).regularization)] {
            let run = |threads| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                pool.install(|| step(model.clone(), precision, (40, 50), dropout))
            };
            let one = run(1);
            for threads in [2, 3] {
                assert!(run(threads) == one, "{precision:?}, {threads} threads");
            }
        }
    }
}

#[test]
fn fresh_gradients_overwrite_and_others_add() {
    let cases = [
        ("untied", model(false), Precision::F32),
        ("tied", model(true), Precision::F32),
        ("untied", model(false), Precision::Bf16),
        ("regularized", regularized(false), Precision::F32),
        ("regularized", regularized(true), Precision::Bf16),
        ("mogrified", mogrified(0, &Regularization::default()), Precision::Bf16),
        ("mogrified", mogrified(4, &regularized(true).regularization), Precision::F32),
    ];
    for (name, model, precision) in cases {
        let gradients = |before: f32, fresh: bool| {
            let mut model = model.clone();
            model.set_precision(precision);
            let mut grads = vec![before; model.params.data.len()];
            model.train_step(&tokens(1800, 0), &tokens(1800, 1), 30, &mut grads, fresh, Dropout::new(0.0, 8, 9));
            let values = model.params.tensors.iter().flat_map(|tensor| grads[tensor.range.clone()].to_vec());
            values.collect::<Vec<f32>>()
        };
        let (fresh, added) = (gradients(1.0, true), gradients(1.0, false));
        assert!(fresh == gradients(0.0, true), "{name}, {precision:?}");
        for (fresh, added) in fresh.iter().zip(&added) {
            assert!((added - 1.0 - fresh).abs() < 1e-5, "{name}, {precision:?}: {added} for {fresh}");
        }
    }
}

#[test]
fn validation_is_in_the_precision_of_training() {
    let (mut model, text) = (model(false), tokens(2000, 7));
    let exact = model.validate(&text).unwrap();
    model.set_precision(Precision::Bf16);
    let ours = model.validate(&text).unwrap();
    assert!(ours != exact && (ours - exact).abs() < 2e-3 * exact, "{ours} for {exact}");
    let sealed: Box<dyn Trainable> = Box::new(model);
    assert_eq!(mean_of(|sink| sealed.into_model().score(&text, None, sink)).unwrap().0, exact);
}
