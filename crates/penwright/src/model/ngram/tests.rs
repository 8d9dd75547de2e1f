use proptest::prelude::*;

use super::*;

fn trained(vocab: usize, order: usize, tokens: &[u32]) -> Arc<Ngram> {
    Arc::new(Ngram::train(NgramConfig { vocab, order }, tokens, 0).unwrap())
}

fn scores(model: &Ngram, tokens: &[u32]) -> Vec<TokenScore> {
    let mut all = Vec::new();
    let mut sink = |scores: &[TokenScore]| {
        all.extend_from_slice(scores);
        Ok(())
    };
    model.score(tokens, None, &mut sink).unwrap();
    all
}

/// Two documents of `1 2` and one of `2`, order 3. The text is too small for estimated discounts: D = 1/2, 1, 3/2, so
/// that γ is 1/2 everywhere.
///
/// Length 1, by what stands before: 0 after {2}, 1 after {0}, 2 after {0, 1}; four in all. Uniform: 1/3.
///   p(0) = p(1) = (1 − 1/2)/4 + 1/2 · 1/3 = 7/24        p(2) = (2 − 1)/4 + 1/6 = 10/24
/// Length 2: `0 1` twice and `0 2` once (they begin a document: occurrences), `1 2` after {0}, `2 0` after {1}.
///   p(1|0) = (2 − 1)/3 + 1/2 · 7/24 = 23/48              p(2|0) = (1 − 1/2)/3 + 1/2 · 10/24 = 18/48
///   p(2|1) = 1/2 + 1/2 · 10/24 = 17/24                   p(0|2) = 1/2 + 1/2 · 7/24 = 31/48
/// Length 3: `0 1 2` twice, `1 2 0` twice; nothing reaches over the 0 of a new document.
///   p(2|0 1) = (2 − 1)/2 + 1/2 · 17/24 = 41/48           p(0|1 2) = 1/2 + 1/2 · 31/48 = 79/96
#[test]
fn by_hand() {
    let tokens = [0, 1, 2, 0, 1, 2, 0, 2];
    let model = trained(3, 3, &tokens);
    assert_eq!(model.discounts(), [[0.5, 1.0, 1.5]; 3]);
    assert_eq!(model.counts(), [3, 4, 2]);
    let expected = [23.0 / 48.0, 41.0 / 48.0, 79.0 / 96.0, 23.0 / 48.0, 41.0 / 48.0, 79.0 / 96.0, 18.0 / 48.0];
    for (score, p) in scores(&model, &tokens).iter().zip(expected) {
        assert!((f64::from(score.log_prob).exp() - p).abs() < 1e-6, "{score:?}, not {p}");
    }
    // Unknown contexts: p(1|1) is γ p(1); after `1 1`, of which only `1` is known, p(2) is p(2|1).
    let unseen = scores(&model, &[0, 1, 1, 2]);
    assert!((f64::from(unseen[1].log_prob).exp() - 0.5 * 0.5 * 7.0 / 24.0).abs() < 1e-6);
    assert!((f64::from(unseen[2].log_prob).exp() - 17.0 / 24.0).abs() < 1e-6);
    let lowest = trained(3, 1, &tokens);
    // Occurrences: 0 twice as a prediction, 1 twice, 2 three times.
    let p = (2.0 - 1.0) / 7.0 + 0.5 / 3.0;
    assert!((f64::from(lowest.unigrams[0]).exp() - p).abs() < 1e-6);
}

/// Discounts where the counts of counts allow them: n1 = 4, n2 = 3, n3 = 2, n4 = 1; Y = 4/(4 + 6).
#[test]
fn discounts_by_hand() {
    let mut tokens = vec![0];
    for (token, times) in [(1, 1), (2, 1), (3, 1), (4, 1), (5, 2), (6, 2), (7, 2), (8, 3), (9, 3), (10, 4), (0, 9)] {
        tokens.extend(vec![token; times]);
    }
    let model = trained(11, 1, &tokens);
    let y = 4.0 / 10.0;
    let d = [1.0 - 2.0 * y * 3.0 / 4.0, 2.0 - 3.0 * y * 2.0 / 3.0, 3.0 - 4.0 * y * 1.0 / 2.0].map(|d: f64| d as f32);
    assert_eq!(model.discounts(), [d]);
}

fn texts() -> impl Strategy<Value = (usize, usize, Vec<u32>, Vec<u32>)> {
    (1usize..12, 1usize..=MAX_ORDER).prop_flat_map(|(vocab, order)| {
        // Squares of even numbers favour the lower ids: counts of every size.
        let token = (0..vocab * vocab).prop_map(move |i| ((i * i) / (vocab * vocab * vocab).max(1)) as u32);
        let text = prop::collection::vec(token, 1..300).prop_map(|mut text| {
            text.insert(0, 0);
            text
        });
        (Just(vocab), Just(order), text, prop::collection::vec(0..vocab as u32, 2..40))
    })
}

proptest! {
    /// After any context, seen or not, probabilities sum to one, and session and score agree on all of it.
    #[test]
    fn a_distribution_everywhere((vocab, order, text, probe) in texts()) {
        let model = trained(vocab, order, &text);
        for tokens in [&text, &probe] {
            let scores = scores(&model, tokens);
            let mut session = model.clone().session(2).unwrap();
            for (i, score) in scores.iter().enumerate() {
                session.step(&[0], &[tokens[i]]).unwrap();
                let row = session.log_probs(0);
                let sum: f64 = row.iter().map(|&p| f64::from(p).exp()).sum();
                prop_assert!((sum - 1.0).abs() < 1e-6, "{sum} after {:?}", &tokens[..=i]);
                let (target, best) = (row[tokens[i + 1] as usize], row.iter().fold(f32::MIN, |a, &b| a.max(b)));
                prop_assert!(target.is_finite() && (target - score.log_prob).abs() < 1e-6 * target.abs().max(1.0));
                let close = (best - target).abs() < 1e-6 * best.abs().max(1.0);
                prop_assert!(score.top1 == (target == best) || close, "{score:?}, best {best}");
            }
            session.feed(1, &tokens[..scores.len()]).unwrap();
            prop_assert_eq!(session.log_probs(0), session.log_probs(1));
        }
    }

    /// Whatever bytes are changed, loading answers; and what it accepts can be used.
    #[test]
    fn damage_is_refused((vocab, order, text, probe) in texts(), place in any::<usize>(), byte in any::<u8>(), cut in any::<bool>()) {
        let dir = tempfile::tempdir().unwrap();
        let model = trained(vocab, order, &text);
        model.save(dir.path()).unwrap();
        let (path, config) = (dir.path().join("model.safetensors"), model.config().clone());
        let loaded = Ngram::load(dir.path(), config.clone()).unwrap();
        prop_assert_eq!(&loaded.levels, &model.levels);
        prop_assert_eq!(scores(&loaded, &probe), scores(&model, &probe));
        let mut raw = std::fs::read(&path).unwrap();
        // Without the checksum's name, its guard is off.
        let at = raw.windows(8).position(|w| w == b"checksum").unwrap();
        raw[at] = b'C';
        let place = place % raw.len();
        if cut { raw.truncate(place) } else { raw[place] = byte }
        std::fs::write(&path, raw).unwrap();
        if let Ok(model) = Ngram::load(dir.path(), config) {
            prop_assert!(scores(&model, &probe).iter().all(|s| s.log_prob.is_finite()));
            Arc::new(model).session(1).unwrap().feed(0, &probe).unwrap();
        }
        let other = NgramConfig { vocab: vocab + 1, order };
        prop_assert!(Ngram::load(dir.path(), other).is_err());
    }
}

/// Long enough for several parts of work; among them, in the first documents, groups larger than a part.
#[test]
fn threads_make_no_difference() {
    let mut tokens = vec![0];
    for i in 0..300_000u64 {
        let dice = crate::layers::random(1, i) % 1000;
        tokens.push(if dice == 0 { 0 } else { 1 + (dice % 7 * dice % 5) as u32 });
    }
    let train = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| trained(6, 9, &tokens))
    };
    let (one, three) = (train(1), train(3));
    assert!(one.counts()[8] > 1 << 17, "{:?}", one.counts());
    assert_eq!(one.levels, three.levels);
}

#[test]
fn impossible_requests_are_errors() {
    let train = |vocab, order, tokens: &[u32]| Ngram::train(NgramConfig { vocab, order }, tokens, 0).unwrap_err();
    for (error, word) in [
        (train(3, 0, &[0, 1]), "--order"),
        (train(3, 13, &[0, 1]), "--order"),
        (train(3, 2, &[0, 3]), "vocabulary"),
        (train(3, 2, &[1, 2]), "begin"),
        (train(3, 2, &[0]), "empty"),
        (train(0, 2, &[0]), "vocabulary"),
    ] {
        assert!(error.to_string().contains(word), "{error}");
    }
}

proptest! {
    /// The likeliest token is the one that the distribution says, in every context.
    #[test]
    fn the_likeliest_is_the_likeliest((vocab, order, text, probe) in texts()) {
        let model = trained(vocab, order, &text);
        let mut session = model.clone().session(1).unwrap();
        let mut context = Context::default();
        for &token in text.iter().chain(&probe) {
            session.step(&[0], &[token]).unwrap();
            context = model.after(&context, token);
            let (likeliest, p) = model.likeliest(&context);
            let row = session.log_probs(0);
            let best = row.iter().fold(f32::MIN, |a, &b| a.max(b));
            prop_assert!((row[likeliest as usize] - best).abs() < 1e-6 * best.abs().max(1.0), "{likeliest} of {row:?}");
            prop_assert!((p.ln() - best).abs() < 1e-5 * best.abs().max(1.0), "{p} and {best}");
        }
    }
}
