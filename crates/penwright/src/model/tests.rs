//! Gradients against differences of the loss, where no PyTorch fixture reaches: with dropout, whose mask is a function
//! of counters and so the same at each evaluation, and with tied weights.

use super::*;

/// Two texts, of which drafts are read ahead, against the same texts in single steps; the most that was kept of one.
/// Texts are copied amid their drafts, too.
pub(super) fn drafts_change_nothing(model: &Arc<dyn LanguageModel>) -> usize {
    let vocab = model.vocab_size() as u64;
    let token = |i: u64| (crate::layers::random(3, i) % vocab) as u32;
    let (mut ahead, mut single) = (model.clone().session(3).unwrap(), model.clone().session(3).unwrap());
    let mut most = 0;
    for session in [&mut ahead, &mut single] {
        (0..2).for_each(|stream| session.feed(stream, &[1, 2 + stream as u32]).unwrap());
    }
    for round in 0..40u64 {
        let draft = |stream: u64| (0..1 + (round + stream) % 5).map(|n| token(round * 99 + stream * 9 + n)).collect();
        let drafts: Vec<Vec<u32>> = (0..2).map(draft).collect();
        let streams = if round % 7 == 3 { vec![1] } else { vec![1, 0] };
        let next: Vec<u32> = streams.iter().map(|&stream| token(round * 99 + stream as u64 * 9 + 50)).collect();
        let room: Vec<usize> = (0..2).map(|stream| ahead.room_ahead(stream)).collect();
        let read: Vec<&[u32]> = streams.iter().map(|&stream| &drafts[stream][..]).collect();
        ahead.step_ahead(&streams, &next, &read).unwrap();
        single.step(&streams, &next).unwrap();
        for &stream in &streams {
            let read = drafts[stream].len().min(room[stream]);
            let kept = (round as usize * 5 + stream * 3) % (read + 1);
            for (n, &token) in drafts[stream][..kept].iter().enumerate() {
                assert_eq!(ahead.log_probs_ahead(stream, n), single.log_probs(stream), "round {round}, {n} ahead");
                single.step(&[stream], &[token]).unwrap();
            }
            assert_eq!(ahead.log_probs_ahead(stream, kept), single.log_probs(stream), "round {round}, {kept} ahead");
            ahead.keep(stream, kept);
            assert_eq!(ahead.log_probs(stream), single.log_probs(stream), "round {round}, {kept} kept");
            most = most.max(kept);
        }
        if round % 6 == 5 {
            [&mut ahead, &mut single].into_iter().for_each(|session| {
                session.copy(0, 2);
                session.select(&[2, 1, 0]);
            });
        }
    }
    most
}

/// Texts read in pieces together, some of a token, some long enough to slide, against the same texts alone.
pub(super) fn reading_together_changes_nothing(model: &Arc<dyn LanguageModel>) {
    let vocab = model.vocab_size() as u64;
    let mut together = model.clone().session(4).unwrap();
    let mut alone: Vec<_> = (0..4).map(|_| model.clone().session(1).unwrap()).collect();
    for round in 0..30u64 {
        let random = |i: u64| crate::layers::random(round, i);
        let streams: Vec<usize> = [2, 0, 3, 1].into_iter().filter(|&s| random(s as u64) % 4 > 0).collect();
        let length = |stream: usize| [1, 1, 3, 9, 21][(random(stream as u64 + 10) % 5) as usize];
        let piece = |&stream: &usize| (0..length(stream)).map(|i| (random(i + 99) % vocab) as u32).collect();
        let pieces: Vec<Vec<u32>> = streams.iter().map(piece).collect();
        let tokens: Vec<&[u32]> = pieces.iter().map(Vec::as_slice).collect();
        together.feed_together(&streams, &tokens).unwrap();
        for (&stream, piece) in streams.iter().zip(&pieces) {
            piece.iter().for_each(|&token| alone[stream].step(&[0], &[token]).unwrap());
            assert_eq!(together.log_probs(stream), alone[stream].log_probs(0), "round {round}, stream {stream}");
        }
    }
}

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
