use super::*;
use proptest::prelude::*;

fn logs(probs: &[f32]) -> Vec<f32> {
    probs.iter().map(|p| p.ln()).collect()
}

fn plain() -> Sampling {
    Sampling { temperature: 1.0, ..Sampling::default() }
}

fn survivors(sampling: &Sampling, log_probs: &[f32], history: &[u32]) -> Vec<u32> {
    let mut scratch = Scratch::default();
    Sampler::new(sampling, log_probs.len(), &[]).prepare(&mut scratch, log_probs, history, 0);
    let best = scratch.candidates.iter().map(|c| c.score).fold(f32::NEG_INFINITY, f32::max);
    scratch.filter(sampling, best);
    scratch.candidates.iter().map(|c| c.id).collect()
}

/// The stages as the papers write them, with full sorts, in f64.
fn reference(s: &Sampling, log_probs: &[f32], history: &[u32]) -> Vec<u32> {
    let mut left: Vec<(usize, f64)> = log_probs.iter().map(|&l| f64::from(l)).enumerate().collect();
    for (id, score) in &mut left {
        if history.contains(&(*id as u32)) {
            *score *= f64::from(s.repetition_penalty);
        }
    }
    if s.no_repeat_ngram > 0 {
        left.retain(|&(id, _)| {
            let text = [history, &[id as u32]].concat();
            let grams: Vec<_> = text.windows(s.no_repeat_ngram).collect();
            grams.last().is_none_or(|new| !grams[..grams.len() - 1].contains(new))
        });
    }
    let normalised = |left: &[(usize, f64)]| {
        let total: f64 = left.iter().map(|(_, score)| score.exp()).sum();
        left.iter().map(|&(id, score)| (id, score - total.ln())).collect::<Vec<_>>()
    };
    let take = |left: &[(usize, f64)], mass: f64| {
        let mut sum = 0.0;
        let fits = left.iter().take_while(|(_, score)| {
            let before = sum;
            sum += score.exp();
            mass == 1.0 || before < mass - 1e-9
        });
        fits.count()
    };
    left.iter_mut().for_each(|(_, score)| *score /= f64::from(s.temperature));
    left.sort_by(|a, b| b.1.total_cmp(&a.1));
    left.truncate(if s.top_k == 0 { usize::MAX } else { s.top_k });
    left = normalised(&left);
    left.truncate(take(&left, s.top_p.into()));
    let most = left[0].1.exp();
    left.retain(|(_, score)| score.exp() >= f64::from(s.min_p) * most - 1e-9);
    left = normalised(&left);
    let entropy: f64 = left.iter().map(|(_, score)| -score * score.exp()).sum();
    left.sort_by(|a, b| (-a.1 - entropy).abs().total_cmp(&(-b.1 - entropy).abs()));
    left.truncate(take(&left, s.typical.into()));
    let mut ids: Vec<u32> = left.iter().map(|l| l.0 as u32).collect();
    ids.sort_unstable();
    ids
}

proptest! {
    #[test]
    fn every_stage_equals_its_definition(
        raw in prop::collection::vec(0.0f32..9.0, 2..300),
        history in prop::collection::vec(0u32..6, 0..12),
        temperature in 0.3f32..2.0, top_k in 0usize..400, top_p in 0.1f32..1.0, min_p in 0.0f32..0.5,
        typical in 0.2f32..1.0, penalty in 0.7f32..1.6, ngram in 0usize..4, stage in 0..7
    ) {
        let total: f32 = raw.iter().map(|x| x.exp()).sum();
        let log_probs: Vec<f32> = raw.iter().map(|x| x - total.ln()).collect();
        let mut s = plain();
        // One stage at a time, and all of them together.
        if stage == 0 || stage == 6 { s.repetition_penalty = penalty; }
        if stage == 1 || stage == 6 { s.no_repeat_ngram = if log_probs.len() > 6 { ngram } else { 0 }; }
        if stage == 2 || stage == 6 { s.top_k = top_k; }
        if stage == 3 || stage == 6 { s.top_p = top_p; }
        if stage == 4 || stage == 6 { s.min_p = min_p; }
        if stage == 5 || stage == 6 { s.typical = typical; }
        s.temperature = temperature;
        prop_assert_eq!(survivors(&s, &log_probs, &history), reference(&s, &log_probs, &history));
    }

    #[test]
    fn a_filter_that_removes_nothing_changes_nothing(raw in prop::collection::vec(0.0f32..5.0, 2..90), n: u64) {
        let log_probs: Vec<f32> = raw.iter().map(|x| x - 9.0).collect();
        let choose = |s: Sampling| {
            Sampler::new(&s, log_probs.len(), &[]).choose(&mut Scratch::default(), &log_probs, &[], 3, n)
        };
        let some = choose(plain());
        prop_assert_eq!(choose(Sampling { top_k: log_probs.len(), ..plain() }), some);
        prop_assert_eq!(choose(Sampling { top_k: usize::MAX, min_p: 1e-9, ..plain() }), some);
    }
}

#[test]
fn frequencies_follow_the_probabilities() {
    let log_probs = logs(&[0.7, 0.2, 0.1]);
    let (sampler, mut scratch) = (Sampler::new(&plain(), 3, &[2]), Scratch::default());
    let mut counts = [0; 3];
    for n in 0..20_000 {
        counts[sampler.choose(&mut scratch, &log_probs, &[], n % 7, n).unwrap() as usize] += 1;
    }
    assert!(counts[2] == 0 && (4_200..4_700).contains(&counts[1]), "{counts:?} is not 7 to 2");
}

#[test]
fn greedy_ties_and_nothing_left() {
    let log_probs = logs(&[0.2, 0.4, 0.4]);
    let greedy = Sampling { temperature: 0.0, no_repeat_ngram: 1, ..plain() };
    let (sampler, mut scratch) = (Sampler::new(&greedy, 3, &[]), Scratch::default());
    assert_eq!(sampler.choose(&mut scratch, &log_probs, &[], 0, 0), Some(1));
    assert_eq!(sampler.choose(&mut scratch, &log_probs, &[1], 0, 0), Some(2));
    assert_eq!(sampler.choose(&mut scratch, &log_probs, &[1, 2, 0], 0, 0), None);
}

/// The scores are those of the formula: c is how often a token was written, b its bias.
#[test]
fn penalties_of_what_was_written_and_biases() {
    let log_probs = logs(&[0.4, 0.3, 0.2, 0.1]);
    let sampling = Sampling {
        presence_penalty: 0.5,
        frequency_penalty: 0.25,
        logit_bias: vec![(3, 1.5), (0, -100.0), (9, 4.0)],
        ..plain()
    };
    let (sampler, mut scratch) = (Sampler::new(&sampling, 4, &[]), Scratch::default());
    // The first 2 is of the prompt.
    let expected = [(1, log_probs[1] - 0.5 - 2.0 * 0.25), (2, log_probs[2]), (3, log_probs[3] - 0.75 + 1.5)];
    for _ in 0..2 {
        let scores: Vec<_> = sampler.penalised(&mut scratch, &log_probs, &[2, 1, 3, 1, 0], 4).collect();
        assert_eq!(scores.iter().map(|s| s.0).collect::<Vec<_>>(), [1, 2, 3]);
        assert!(scores.iter().zip(expected).all(|(a, b)| (a.1 - b.1).abs() < 1e-6), "{scores:?} {expected:?}");
    }
    let greedy = Sampler::new(&Sampling { temperature: 0.0, ..sampling }, 4, &[]);
    assert_eq!(greedy.choose(&mut scratch, &log_probs, &[2, 1, 3, 1, 0], 0, 4), Some(3));
}

#[test]
fn impossible_values_name_their_flag() {
    let refused = |sampling: Sampling, flag: &str| {
        let error = sampling.check().unwrap_err().to_string();
        assert!(error.starts_with(&format!("--{flag}: ")), "{error}");
    };
    for x in [f32::NAN, -0.5, f32::INFINITY] {
        refused(Sampling { temperature: x, ..plain() }, "temperature");
        refused(Sampling { repetition_penalty: x, ..plain() }, "repetition-penalty");
    }
    refused(Sampling { repetition_penalty: 0.0, ..plain() }, "repetition-penalty");
    for x in [f32::NAN, f32::INFINITY] {
        refused(Sampling { presence_penalty: x, ..plain() }, "presence-penalty");
        refused(Sampling { frequency_penalty: x, ..plain() }, "frequency-penalty");
        refused(Sampling { logit_bias: vec![(0, x)], ..plain() }, "logit-bias");
    }
    for x in [f32::NAN, -0.5, 1.5] {
        refused(Sampling { top_p: x, ..plain() }, "top-p");
        refused(Sampling { min_p: x, ..plain() }, "min-p");
        refused(Sampling { typical: x, ..plain() }, "typical");
    }
    refused(Sampling { top_p: 0.0, ..plain() }, "top-p");
    refused(Sampling { typical: 0.0, ..plain() }, "typical");
    for fine in [
        Sampling { temperature: 0.0, ..plain() },
        Sampling { min_p: 1.0, ..plain() },
        Sampling { temperature: 1e-30, top_k: 1, ..plain() },
    ] {
        fine.check().unwrap();
        let log_probs = logs(&[0.2, 0.5, 0.3]);
        let sampler = Sampler::new(&fine, 3, &[]);
        assert_eq!(sampler.choose(&mut Scratch::default(), &log_probs, &[], 0, 9), Some(1));
    }
}
