//! Gradients against differences of the loss, where no PyTorch fixture reaches: with dropout, whose mask is a function
//! of counters and so the same at each evaluation, and with tied weights.

use super::*;

fn gradients_equal_differences<M: Trainable + Clone>(model: &M, dropout: Dropout) {
    let (tokens, targets) = ([1, 2, 3, 4, 5, 6], [2, 3, 4, 5, 6, 0]);
    let loss = |model: &M, grads: &mut [f32]| model.clone().train_step(&tokens, &targets, 2, grads, false, dropout);
    let mut grads = vec![0.0; model.params().data.len()];
    loss(model, &mut grads);
    let mut largest = 0.0;
    for tensor in &model.params().tensors {
        for i in tensor.range.clone() {
            let at = |shift: f32| {
                let mut moved = model.clone();
                moved.params_mut().data[i] += shift;
                loss(&moved, &mut vec![0.0; grads.len()])
            };
            let difference = (at(2e-3) - at(-2e-3)) / 4e-3;
            let error = (difference - f64::from(grads[i])).abs();
            assert!(error < 1e-3 * (1.0 + difference.abs()), "{}: {difference} and {}", tensor.name, grads[i]);
            largest = difference.abs().max(largest);
        }
    }
    assert!(largest > 0.05, "nothing was compared");
}

#[test]
fn lstm_tied_and_with_dropout() {
    for (tied, rate) in [(true, 0.0), (true, 0.4), (false, 0.4)] {
        let config = LstmConfig { vocab: 7, embed: 5, hidden: 6, layers: 2, tied, ..LstmConfig::default() };
        let model = Lstm::new(config, 3).unwrap();
        assert_eq!(model.params().find("lstm.weight_ih_l1").unwrap().shape[1], 6);
        gradients_equal_differences(&model, Dropout::new(rate, 1, 2));
    }
}

#[test]
fn gpt2_with_dropout() {
    let mut model =
        Gpt2::new(Gpt2Config { vocab: 7, context: 3, layers: 2, heads: 2, width: 8, ..Gpt2Config::default() }, 3)
            .unwrap();
    // Larger weights, so that attention is not the same everywhere and a small shift of an embedding is small beside it.
    for tensor in model.params().tensors.clone() {
        let factor = if tensor.name.contains(".wte.") || tensor.name.contains(".wpe.") { 20.0 } else { 2.0 };
        model.params_mut().data[tensor.range].iter_mut().for_each(|w| *w *= factor);
    }
    let dropout = Dropout::new(0.3, 1, 2);
    gradients_equal_differences(&model, dropout);
    let mut grads = vec![0.0; model.params().data.len()];
    let mut loss = |dropout| model.clone().train_step(&[1, 2, 3], &[2, 3, 4], 1, &mut grads, false, dropout);
    assert!(loss(dropout) != loss(Dropout::OFF));
}
