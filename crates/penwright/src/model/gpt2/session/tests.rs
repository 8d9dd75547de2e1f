use super::*;
use crate::model::{DecodePrecision, Gpt2, LanguageModel, Lora, LoraConfig};

fn model(context: usize) -> Arc<Gpt2> {
    let config = Gpt2Config { vocab: 11, context, layers: 2, heads: 2, width: 12, ..Gpt2Config::default() };
    let mut model = Gpt2::new(config, 5).unwrap();
    // Weights large enough for the past to matter.
    model.params.data.iter_mut().for_each(|w| *w *= 6.0);
    Arc::new(model)
}

fn token(i: usize) -> u32 {
    (i * i % 7 + i % 5) as u32
}

fn far(a: &[f32], b: &[f32]) -> bool {
    a.iter().zip(b).any(|(a, b)| (a - b).abs() > 2e-4)
}

/// Where the text begins after `n` tokens: where the documentation of the module says.
fn beginning(n: usize, context: usize) -> usize {
    let delay = context - context / 2;
    let mut begin = 0;
    while n - begin > context {
        begin += delay;
    }
    begin
}

#[test]
fn sliding_equals_computing_again_from_the_later_half() {
    for context in [1, 2, 3, 4, 7, 8] {
        let model = model(context);
        let mut slides = model.clone().session(1).unwrap();
        for n in 1..40 {
            slides.step(&[0], &[token(n - 1)]).unwrap();
            let mut fresh = model.clone().session(1).unwrap();
            for i in beginning(n, context)..n {
                fresh.step(&[0], &[token(i)]).unwrap();
            }
            assert_eq!(slides.log_probs(0), fresh.log_probs(0), "context {context}, {n} tokens");
        }
    }
}

#[test]
fn prompts_of_any_length_in_any_pieces() {
    for context in [1, 2, 5, 16] {
        let model = model(context);
        for (first, second) in [(0, 1), (1, 3), (3, 16), (9, 9), (16, 1), (16, 8), (16, 9), (16, 60), (40, 7)] {
            let tokens: Vec<u32> = (0..first + second).map(token).collect();
            let mut session = model.clone().session(2).unwrap();
            session.feed(1, &tokens[..first]).unwrap();
            session.feed(1, &tokens[first..]).unwrap();
            let mut stepped = model.clone().session(1).unwrap();
            tokens.iter().for_each(|&t| stepped.step(&[0], &[t]).unwrap());
            for i in 0..2 * context {
                let (a, b) = (session.log_probs(1), stepped.log_probs(0));
                assert_eq!(a, b, "context {context}, {first} + {second} + {i}");
                session.step(&[1], &[token(i + 3)]).unwrap();
                stepped.step(&[0], &[token(i + 3)]).unwrap();
            }
        }
    }
}

#[test]
fn agrees_with_scoring() {
    let model = model(24);
    let tokens: Vec<u32> = (0..25).map(token).collect();
    let mut expected = Vec::new();
    let sink = &mut |scores: &[crate::model::TokenScore]| {
        expected.extend(scores.iter().map(|score| score.log_prob));
        Ok(())
    };
    model.score(&tokens, None, sink).unwrap();
    let mut session = model.session(1).unwrap();
    let stepped: Vec<f32> = (0..24)
        .map(|i| {
            session.step(&[0], &tokens[i..=i]).unwrap();
            session.log_probs(0)[tokens[i + 1] as usize]
        })
        .collect();
    assert!(!far(&stepped, &expected), "{stepped:?} {expected:?}");
}

/// The scores of a text in a precision: by `score`, which must be those of single steps, to the bit.
fn scored(model: &Arc<Gpt2>, precision: DecodePrecision, tokens: &[u32], stride: Option<usize>) -> Vec<f32> {
    let model = model.clone().with_precision(precision).unwrap();
    let mut scores = Vec::new();
    let sink = &mut |part: &[TokenScore]| {
        scores.extend(part.iter().map(|score| score.log_prob));
        Ok(())
    };
    model.score(tokens, stride, sink).unwrap();
    let mut session = model.clone().session(1).unwrap();
    for (i, pair) in tokens.windows(2).take(model.context().unwrap()).enumerate() {
        session.step(&[0], &pair[..1]).unwrap();
        assert_eq!(session.log_probs(0)[pair[1] as usize], scores[i], "{precision:?}, token {i}");
    }
    scores
}

#[test]
fn fewer_bits_are_close() {
    let config = Gpt2Config { vocab: 40, context: 70, layers: 2, heads: 2, width: 96, ..Gpt2Config::default() };
    let lora = LoraConfig { rank: 2, alpha: 2.0, targets: vec!["c_attn".into()], rank_stabilized: false };
    let mut adapters = Lora::new(lora, &config, 3).unwrap();
    adapters.params.data.iter_mut().enumerate().for_each(|(i, w)| *w += (i % 5) as f32 * 0.02);
    let plain = Gpt2::new(config, 5).unwrap();
    let tokens: Vec<u32> = (0..200).map(|i| token(i) * 3).collect();
    for model in [Arc::new(plain.clone()), Arc::new(plain.with_lora(adapters))] {
        for stride in [None, Some(50)] {
            let mut exact = Vec::new();
            let sink = &mut |part: &[TokenScore]| {
                exact.extend(part.iter().map(|score| score.log_prob));
                Ok(())
            };
            model.score(&tokens, stride, sink).unwrap();
            let mut last = 0.0;
            for (precision, most) in [
                (DecodePrecision::F32, 1e-4),
                (DecodePrecision::Bf16, 0.03),
                (DecodePrecision::Int8, 0.06),
                (DecodePrecision::Int4, 0.5),
            ] {
                let scores = scored(&model, precision, &tokens, stride);
                assert_eq!(scores.len(), exact.len());
                let worst = scores.iter().zip(&exact).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                assert!(worst < most && worst > last, "{precision:?}: {worst}");
                last = worst / 4.0; // each is really another
            }
        }
    }
}

#[test]
fn neither_other_streams_nor_copies_change_a_bit() {
    for precision in [DecodePrecision::F32, DecodePrecision::Bf16, DecodePrecision::Int8, DecodePrecision::Int4] {
        streams_are_alone(&model(6).with_precision(precision).unwrap());
    }
}

fn streams_are_alone(model: &Arc<dyn LanguageModel>) {
    // Streams that come and go, are copied and selected, against each text written alone.
    let mut session = model.clone().session(4).unwrap();
    let mut texts: Vec<Vec<u32>> = vec![vec![1], vec![], vec![], vec![]];
    session.feed(0, &[1]).unwrap();
    for to in 1..4 {
        session.copy(0, to);
        texts[to] = texts[0].clone();
    }
    for round in 0..30 {
        if round % 5 == 4 {
            let parents = [[3, 1, 1, 0], [0, 0, 0, 0], [2, 1, 0, 3]][round / 5 % 3];
            session.select(&parents);
            texts = parents.iter().map(|&p| texts[p].clone()).collect();
        }
        if round == 17 {
            session.reset(2);
            texts[2].clear();
        }
        let active: Vec<usize> = (0..4).filter(|s| (round + s) % 3 > 0 || (round == 17 && *s == 2)).collect();
        let tokens: Vec<u32> = active.iter().map(|s| token(round + 2 * s)).collect();
        session.step(&active, &tokens).unwrap();
        for (&s, &t) in active.iter().zip(&tokens) {
            texts[s].push(t);
        }
        for (s, text) in texts.iter().enumerate() {
            let mut alone = model.clone().session(1).unwrap();
            text.iter().for_each(|&t| alone.step(&[0], &[t]).unwrap());
            assert_eq!(session.log_probs(s), alone.log_probs(0), "round {round}, stream {s}");
        }
    }
}

#[test]
fn more_streams_than_memory_are_refused() {
    let mut session = model(64).session(1 << 40);
    let error = session.as_mut().ok().and_then(|s| s.feed(0, &[1]).err()).map(|e| e.to_string()).unwrap_or_default();
    assert!(error.contains("--samples"), "{error}");
}

/// Whatever is drafted and however much of it is kept: the texts are those of single steps, to the bit.
#[test]
fn drafts_change_nothing() {
    for precision in [DecodePrecision::F32, DecodePrecision::Bf16, DecodePrecision::Int8, DecodePrecision::Int4] {
        // Contexts so short that there is never room for a draft, or seldom for a long one.
        for (context, least) in [(1, 0), (2, 0), (7, 3), (12, 5)] {
            let most = crate::model::tests::drafts_change_nothing(&model(context).with_precision(precision).unwrap());
            assert!(most >= least, "{precision:?}, context {context}: {most}");
        }
    }
}

#[test]
fn reading_together_changes_nothing() {
    for context in [1, 2, 7, 24] {
        for precision in [DecodePrecision::F32, DecodePrecision::Int8] {
            let model = model(context).with_precision(precision).unwrap();
            crate::model::tests::reading_together_changes_nothing(&model);
        }
    }
}
